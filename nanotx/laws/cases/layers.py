"""The laws of layers: of attention, block, ffn and norm, each on random parts, sizes, weights and inputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from nanotx.laws import documents, equality, numbers, passes, randomness, time, values
from nanotx.laws.cases.layer_case import (
    TOLERANCES,
    LayerCase,
    attentions_of,
    has_single_expert,
    has_single_numbers,
    plainest_equivalent,
    uses_store,
)
from nanotx.laws.fields import TRIES, come_of, fields_matter, gets_gradient, has_fields, rows_met, untried
from nanotx.laws.init import init_drawn_by_name
from nanotx.laws.law import LawBook, Where
from nanotx.laws.strategies import Drawn, any_part_of, batches, configs, cuts, ordinary, scales, seeds, times
from nanotx.laws.weights import redraw, seeded, share_weights
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.documents import DocumentPosition
from nanotx.nn.position import Position, PositionalEncoding
from nanotx.nn.position.none import NoPosition
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Model

# Random cases.

LONG = 320
"""Positions of a long text."""


@st.composite
def layers(
    draw: Drawn,
    part: type[Any],
    where: Where,
    inputs: st.SearchStrategy[float] = ordinary,
    *,
    widths: Sequence[int] = (4, 6, 8),
    read: bool = False,
) -> LayerCase:
    """Draw a layer of this part with such a head width; with `read`, also a cut, pieces, row lengths and a scale."""
    config = draw(configs(part))
    attentions = attentions_of(config)
    heads = attentions[0].heads if attentions else draw(st.integers(1, 2))
    length, batch = draw(times), draw(batches)
    position = draw(any_part_of(Position)) if attentions else NoPosition()
    return LayerCase(
        config=config,
        dim=heads * draw(st.sampled_from(widths)),
        batch=batch,
        time=length,
        seed=draw(seeds),
        scale=draw(inputs),
        extreme=draw(scales | st.just(0.0)) if read else 1.0,
        padding=draw(st.sampled_from([0.0, 1.0, 1e4])) if read else 0.0,
        cut=draw(st.integers(0, length - 1)) if read else 0,
        cuts=draw(cuts(length)) if read else (),
        lengths=draw(st.just(()) | st.tuples(*[st.integers(1, length)] * batch)) if read else (),
        position=position,
        device=where.device,
        dtype=where.dtype,
    )


def layer_cases(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw cases of an attention, block, ffn or norm: inputs of ordinary and of any scale, and how they are cut.

    Most laws share these cases.
    """
    return layers(part, where, read=True)


def equivalents(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw configs and text lengths for which a part is the same function as another."""
    return layers(part, where).filter(lambda case: bool(case.config.equivalent_at(case.time)))


def wide_heads(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw inputs of scale 1 for wide heads, in which a single rounding matters little."""
    return layers(part, where, st.just(1.0), widths=(16, 24)).filter(lambda case: not has_single_numbers(case))


def long(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw one text beyond position 256, up to which bfloat16 represents every integer."""
    return wide_heads(part, where).map(lambda case: replace(case, batch=1, time=LONG))


def several(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw texts of many positions, in layers without a window of one and without a single expert."""
    cases = layers(part, where, st.just(1.0)).map(lambda case: replace(case, time=max(case.time, 16), batch=1))
    return cases.filter(
        lambda case: (
            all(attention.attention_window != 1 for attention in attentions_of(case.config))
            and not has_single_expert(case.config)
        )
    )


def some(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw texts of 24 positions."""
    return layers(part, where, st.just(1.0)).map(lambda case: replace(case, time=24, batch=1))


def batches_of_rows(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Draw batches of several rows, in layers with dropout wherever they support it."""
    cases = layers(part, where, st.just(1.0))
    return cases.map(
        lambda case: replace(
            case, config=randomness.with_dropout(case.config), batch=randomness.ROWS, time=min(case.time, 24)
        )
    )


# The laws.

LAWS = LawBook()

VOCAB = 11
"""Vocabulary of the models in which layers are checked."""
WIDE = 48
"""A width that the usual numbers of heads divide."""


def shares_values(part: type[Any]) -> bool:
    """Return whether a layer of a part uses the store of a forward pass."""
    try:
        return uses_store(part().build(WIDE))
    except Exception:  # of a part that cannot be built, which breaks the other laws
        return False


def has_window(part: type[Any]) -> bool:
    """Return whether a part has a window."""
    return part().attention_window is not None


def has_equivalent(part: type[Any]) -> bool:
    """Return whether another part is the same function, at least for some texts."""
    others = (Attention.find(name) for name in Attention.names() if name != part.part)
    named = any(other.equivalent_to == part.equivalent_to for other in others if part.equivalent_to)
    return named or part.equivalent_at is not Attention.equivalent_at


@LAWS.law("attention", "block", draw=layer_cases)
def batch_independent(case: LayerCase) -> None:
    """Rows of a batch do not influence one another."""
    values.batch_independent(case.layer(), case.x(), case.seed + 1, case.tolerance)


@LAWS.law("attention", "block", draw=layer_cases)
def causal(case: LayerCase) -> None:
    """No output depends on a later input, at any scale."""
    time.causal(case.layer(), case.x(case.extreme or 1.0), seed=case.seed, alive=False)


@LAWS.law("attention", "block", draw=layer_cases)
def depends_on_past(case: LayerCase) -> None:
    """An output depends on its own input and on its past."""
    time.depends_on_past(case.layer(), case.x(), case.seed, case.attention_window)


@LAWS.law("attention", "block", draw=layer_cases)
def prefix(case: LayerCase) -> None:
    """The outputs of a prefix are the prefix of the outputs."""
    values.time_prefix(case.layer(), case.x(), case.cut, case.tolerance)


@LAWS.law("attention", "block", draw=layer_cases)
def padding(case: LayerCase) -> None:
    """Padding a text on its right changes no output before it."""
    values.right_padding(case.layer(), case.x(case.extreme or 1.0), case.x(case.padding, shift=1), case.tolerance)


@LAWS.law("attention", "block", draw=layer_cases)
def cache(case: LayerCase) -> None:
    """Read in pieces with a cache, a text has the same outputs as when it is read at once."""
    equality.cache_agrees(case.layer(), case.x(), case.cuts, case.tolerance, case.lengths)


@LAWS.law(
    "attention",
    "block",
    draw=layer_cases,
    fits=lambda part: part.supports_documents,
    unless="it refuses to keep documents apart",
)
def documents_apart(case: LayerCase) -> None:
    """Documents that share a row have the outputs that each of them has alone."""
    placed = case.layer()
    if not all(attention.supports_documents for attention in attentions_of(case.config)):
        return  # a block with an attention that refuses them

    def read(x: Tensor, numbers: Tokens | None) -> Tensor:
        place = placed.get_submodule("position")
        if numbers is not None:
            assert isinstance(place, PositionalEncoding)
            place = DocumentPosition(place, numbers)
        return placed.get_submodule("layer")(x, place)

    documents.documents_apart(read, case.x(), case.cuts, case.tolerance)


@LAWS.law("ffn", "norm", draw=layer_cases)
def position_wise(case: LayerCase) -> None:
    """Each position has the output that it has alone."""
    values.position_wise(case.layer(), case.x(), case.tolerance)


@LAWS.law(
    "attention",
    "block",
    "ffn",
    draw=layer_cases,
    fits=shares_values,
    unless="it does not use the store of a forward pass",
    most=20,
)
def one_pass(case: LayerCase) -> None:
    """A forward pass leaves nothing to the next one, and what it computes again is the same."""
    block: Block
    match case.config:
        case Block():
            block = case.config
        case Attention():
            block = PreNorm(attention=case.config)
        case ffn:
            block = PreNorm(attention=Fused(heads=1), ffn=ffn)
    config = Model(dim=case.dim, layers=3, context=case.time, position=case.position, block=block)
    model = config.build(VOCAB, case.seed)
    redraw(model, case.seed)
    generator = torch.Generator().manual_seed(case.seed)
    ids, others = torch.randint(VOCAB, (2, case.batch, case.time), generator=generator).to(case.device)
    passes.one_pass(model.to(case.device), ids, others, case.seed, 10 * TOLERANCES[case.device, "float32"])


@LAWS.law("attention", draw=layer_cases, fits=has_window, unless="it looks back all the way")
def window(case: LayerCase) -> None:
    """An output depends on the oldest input of its window, and on nothing older."""
    far = case.attention_window
    if far is not None:
        time.window(case.layer(), case.x(), far, case.seed)


@LAWS.law("attention", draw=equivalents, fits=has_equivalent, unless="it is a function of its own")
def equivalent(case: LayerCase) -> None:
    """Equivalent implementations have the same outputs and gradients."""
    layer, plain = case.layer(), case.layer(plainest_equivalent(case.config, case.time), shift=1)
    share_weights(plain, layer)
    equality.equivalent(layer, plain, case.x(), case.seed, 10 * case.tolerance)


@LAWS.law("norm", draw=layer_cases, name="depends_on_past")
def depends_on_itself(case: LayerCase) -> None:
    """A position depends on itself."""
    time.depends_on_past(case.layer(), case.x(), case.seed, window=1)


@LAWS.law("norm", draw=layer_cases, fits=lambda part: part.scale_free, unless="it keeps the scale")
def scale_invariant(case: LayerCase) -> None:
    """Scaling the input changes no output."""
    numbers.scale_invariant(case.layer(), case.x(10.0), 4.0)  # of a scale at which eps is negligible


@LAWS.law("attention", "block", "ffn", "norm", draw=wide_heads)
def bf16_close(case: LayerCase) -> None:
    """In bfloat16, outputs and gradients are close to those in float32."""
    numbers.bf16_close(case.layer(), case.x(), torch.bfloat16)


@LAWS.law("attention", "block", "ffn", "norm", draw=layer_cases)
def state_complete(case: LayerCase) -> None:
    """The state dict determines the outputs."""
    numbers.state_complete(case.layer(), case.layer(shift=1), case.x(), case.tolerance)


@LAWS.law("attention", "block", "ffn", "norm", draw=layer_cases)
def finite(case: LayerCase) -> None:
    """Outputs and gradients are finite, at any scale and at zero."""
    numbers.finite(case.layer(), case.x(case.extreme), case.seed)


@LAWS.law("attention", "block", "ffn", "norm", draw=several, name="gets_gradient")
def all_get_gradient(case: LayerCase) -> None:
    """Every parameter of an ordinary case gets a gradient."""

    def passes() -> Iterator[tuple[nn.Module, Tensor]]:
        for index in range(TRIES):
            again = replace(case, seed=case.seed + index)
            yield trained(again)

    gets_gradient(passes(), lambda: rows_met(*trained(default_layer(case))), case.parameter_of_part)


def trained(case: LayerCase) -> tuple[nn.Module, Tensor]:
    """Return the layer, and its outputs in training."""
    placed = case.layer().train()
    with seeded(case.seed):
        return placed.get_submodule("layer"), placed(case.x())


def default_layer(case: LayerCase) -> LayerCase:
    """Return the part's default config, at a width that many numbers of heads divide."""
    config = type(case.config)()
    attentions = attentions_of(config)
    return replace(case, config=config, dim=12 * (attentions[0].heads if attentions else 2), position=NoPosition())


@LAWS.law(
    "attention",
    "block",
    "ffn",
    "norm",
    draw=some,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=untried,
    most=10,
)
def all_fields_matter(case: LayerCase) -> None:
    """Every field changes something (dropout in training), or the part lists it in `cost_only`."""
    default = default_layer(case)
    fields_matter(
        case.config,
        lambda config: outputs(replace(case, config=config)),
        lambda config: outputs(replace(default, config=config)),
    )


def outputs(case: LayerCase) -> Mapping[str, Tensor]:
    """Return a layer's outcome for an input of ordinary scale, and for one so small that an epsilon matters."""
    case.fits()
    return come_of(case.layer(), case.x(), case.x(1e-3), seed=case.seed)


@LAWS.law("attention", "block", "ffn", "norm", draw=layer_cases, on_request=True)
def compiled(case: LayerCase) -> None:
    """Compiled, it is the same function."""
    numbers.compile_agrees(case.layer(), case.x(), 10 * case.tolerance, case.seed)


@LAWS.law("attention", "block", "ffn", "norm", draw=long, most=10)
def cast_close(case: LayerCase) -> None:
    """Cast to bfloat16 or float16, its outputs stay close at every position of a long text."""
    for dtype in (torch.bfloat16, torch.float16):
        numbers.cast_close(case.layer(), case.x(), dtype)


@LAWS.law("attention", "block", "ffn", "norm", draw=batches_of_rows, most=10)
def accumulates_alike(case: LayerCase) -> None:
    """In training, rows have the same outputs and masks however their batch is split."""
    randomness.accumulates_alike(case.another(case.config, 0).train(), case.x(), case.seed, case.tolerance)


@LAWS.law("attention", "block", "ffn", "norm", draw=batches_of_rows, most=10)
def masks_distinct(case: LayerCase) -> None:
    """No dropout is called twice on the same places, and no two draw the same mask."""
    randomness.masks_distinct(case.another(case.config, 0).train(), case.x(), case.seed)


@LAWS.law("attention", "block", "ffn", "norm", draw=layer_cases, name="init")
def drawn_by_name(case: LayerCase) -> None:
    """Each weight is drawn from the seed and its name, whatever was drawn before."""
    init_drawn_by_name(lambda: case.config.build(case.dim), case.seed)
