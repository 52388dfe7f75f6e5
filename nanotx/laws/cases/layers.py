"""The laws of layers: of attention, block, ffn and norm, each on random parts, sizes, weights and inputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from nanotx.errors import ConfigError
from nanotx.laws import equality, numbers, passes, randomness, time, values
from nanotx.laws.cases.layer_case import (
    TOLERANCES,
    LayerCase,
    attentions_of,
    has_single_expert,
    plainest_equivalent,
    uses_store,
)
from nanotx.laws.fields import TRIES, come_of, fields_matter, gets_gradient, has_fields, rows_met, untried
from nanotx.laws.law import Law, Where, first_sentence
from nanotx.laws.strategies import Drawn, any_part_of, batches, configs, cuts, ordinary, scales, seeds, times
from nanotx.laws.weights import redraw, seeded, share_weights
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.position import Position
from nanotx.nn.position.none import NoPosition
from nanotx.nn.transformer import Model

# Random cases.

LONG = 320
"""Positions of a long text."""

Draw = Callable[[type[Any], Where], st.SearchStrategy[LayerCase]]


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
    """A layer of this part, its heads so wide; with `read`, also a cut, pieces, lengths of rows, and another scale."""
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


def texts(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Inputs of ordinary scale and of any, and how they are cut: most laws are shown on the same cases."""
    return layers(part, where, read=True)


def equivalents(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Ideas, and lengths of text, for which a part is the same function as another."""
    return layers(part, where).filter(lambda case: bool(case.config.equivalent_at(case.time)))


def wide_heads(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Inputs of scale 1 for broad heads, in which no single rounding weighs much."""
    return layers(part, where, st.just(1.0), widths=(16, 24))


def long(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """One text beyond position 256, the last up to which bfloat16 can count."""
    return wide_heads(part, where).map(lambda case: replace(case, batch=1, time=LONG))


def several(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Texts of many positions, in layers that have something to choose: no window of one, and no lone expert."""
    cases = layers(part, where, st.just(1.0)).map(lambda case: replace(case, time=max(case.time, 16), batch=1))
    return cases.filter(
        lambda case: (
            all(one.attention_window != 1 for one in attentions_of(case.config)) and not has_single_expert(case.config)
        )
    )


def some(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Texts of 24 positions."""
    return layers(part, where, st.just(1.0)).map(lambda case: replace(case, time=24, batch=1))


def batches_of_rows(part: type[Any], where: Where) -> st.SearchStrategy[LayerCase]:
    """Batches of several rows, in layers that drop wherever they can."""
    cases = layers(part, where, st.just(1.0))
    return cases.map(
        lambda case: replace(
            case, config=randomness.with_dropout(case.config), batch=randomness.ROWS, time=min(case.time, 24)
        )
    )


# The laws.


def batch_independent(case: LayerCase) -> None:
    """Rows of a batch do not feel one another."""
    values.batch_independent(case.layer(), case.x(), case.seed + 1, case.tolerance)


def causal(case: LayerCase) -> None:
    """No output feels a later input, at any scale."""
    time.causal(case.layer(), case.x(case.extreme or 1.0), seed=case.seed, alive=False)


def depends_on_past(case: LayerCase) -> None:
    """An output feels its own input, and its past."""
    time.depends_on_past(case.layer(), case.x(), case.seed, case.attention_window)


def prefix(case: LayerCase) -> None:
    """What comes out for a beginning is the beginning of what comes out."""
    values.time_prefix(case.layer(), case.x(), case.cut, case.tolerance)


def padding(case: LayerCase) -> None:
    """What a text is padded with on its right changes nothing."""
    values.right_padding(case.layer(), case.x(case.extreme or 1.0), case.x(case.padding, shift=1), case.tolerance)


def cache(case: LayerCase) -> None:
    """Read in pieces with a cache, a text gives what it gives at once."""
    equality.cache_agrees(case.layer(), case.x(), case.cuts, case.tolerance, case.lengths)


def window(case: LayerCase) -> None:
    """An output feels the oldest of its window, and nothing older."""
    far = case.attention_window
    if far is not None:
        time.window(case.layer(), case.x(), far, case.seed)


def equivalent(case: LayerCase) -> None:
    """An implementation of a function is that function, gradients too."""
    one, plain = case.layer(), case.layer(plainest_equivalent(case.config, case.time), shift=1)
    share_weights(plain, one)
    equality.equivalent(one, plain, case.x(), case.seed, 10 * case.tolerance)


def one_pass(case: LayerCase) -> None:
    """A forward pass leaves nothing to the next one, and what it computes again is the same."""
    config, shape = case.config, {"dim": case.dim, "layers": 3, "context": case.time, "position": case.position}
    block = (
        config if isinstance(config, Block) else PreNorm(attention=config) if isinstance(config, Attention) else None
    )
    model = Model(**shape, block=block or PreNorm(attention=Fused(heads=1), ffn=config)).build(VOCAB, case.seed)
    redraw(model, case.seed)
    generator = torch.Generator().manual_seed(case.seed)
    ids, others = torch.randint(VOCAB, (2, case.batch, case.time), generator=generator).to(case.device)
    passes.one_pass(model.to(case.device), ids, others, case.seed, 10 * TOLERANCES[case.device, "float32"])


VOCAB = 11
"""Tokens of the models in which layers are tried."""


def shares_values(part: type[Any]) -> bool:
    """Whether a layer of a part uses the store of a forward pass."""
    try:
        return uses_store(part().build(WIDE))
    except ConfigError:
        return False


WIDE = 48
"""A width that the usual numbers of heads divide."""


def position_wise(case: LayerCase) -> None:
    """Each position comes out as if it stood alone."""
    values.position_wise(case.layer(), case.x(), case.tolerance)


def depends_on_itself(case: LayerCase) -> None:
    """A position feels itself."""
    time.depends_on_past(case.layer(), case.x(), case.seed, window=1)


def scale_invariant(case: LayerCase) -> None:
    """An input of another scale comes out the same."""
    numbers.scale_invariant(case.layer(), case.x(10.0), 4.0)  # of a scale at which eps is nothing


def bf16_close(case: LayerCase) -> None:
    """In bfloat16, outputs and gradients stay near those in float32."""
    numbers.bf16_close(case.layer(), case.x(), torch.bfloat16)


def cast(case: LayerCase) -> None:
    """Cast to half the bits, it stays near itself at every position of a long text."""
    for dtype in (torch.bfloat16, torch.float16):
        numbers.cast_close(case.layer(), case.x(), dtype)


def state_complete(case: LayerCase) -> None:
    """The state is all there is to a layer."""
    numbers.state_complete(case.layer(), case.layer(shift=1), case.x(), case.tolerance)


def finite(case: LayerCase) -> None:
    """Outputs and gradients are finite, at any scale and at zero."""
    numbers.finite(case.layer(), case.x(case.extreme), case.seed)


def all_get_gradient(case: LayerCase) -> None:
    """Every parameter of an ordinary case gets a gradient."""

    def passes() -> Iterator[tuple[nn.Module, Tensor]]:
        for index in range(TRIES):
            again = replace(case, seed=case.seed + index)
            yield trained(again)

    gets_gradient(passes(), lambda: rows_met(*trained(default_layer(case))), case.parameter_of_part)


def trained(case: LayerCase) -> tuple[nn.Module, Tensor]:
    """The layer, and its outputs while it trains."""
    placed = case.layer().train()
    with seeded(case.seed):
        return placed.get_submodule("layer"), placed(case.x())


def default_layer(case: LayerCase) -> LayerCase:
    """The part's default config, at a width that many numbers of heads divide."""
    config = type(case.config)()
    attentions = attentions_of(config)
    return replace(case, config=config, dim=12 * (attentions[0].heads if attentions else 2), position=NoPosition())


def all_fields_matter(case: LayerCase) -> None:
    """Every field changes something, dropout in training, or the part says that it changes the cost alone."""
    default = default_layer(case)
    fields_matter(
        case.config,
        lambda config: outputs(replace(case, config=config)),
        lambda config: outputs(replace(default, config=config)),
    )


def outputs(case: LayerCase) -> Mapping[str, Tensor]:
    """What comes of a layer, for an input of ordinary scale, and for one so small that what is added to it counts."""
    case.fits()
    return come_of(case.layer(), case.x(), case.x(1e-3), seed=case.seed)


def compiled(case: LayerCase) -> None:
    """Compiled, it is the same function."""
    numbers.compile_agrees(case.layer(), case.x(), 10 * case.tolerance, case.seed)


def accumulates_alike(case: LayerCase) -> None:
    """In training, rows come out the same however their batch is split, masks exactly."""
    randomness.accumulates_alike(case.another(case.config, 0).train(), case.x(), case.seed, case.tolerance)


def masks_distinct(case: LayerCase) -> None:
    """No dropout is called twice on the same places, and no two draw the same mask."""
    randomness.masks_distinct(case.another(case.config, 0).train(), case.x(), case.seed)


def law(name: str, draw: Draw, check: Callable[[LayerCase], None], **more: Any) -> Law:
    """A law that is shown on layers."""
    return Law(name=name, about=first_sentence(check), case=LayerCase, draw=draw, check=check, **more)


def has_window(part: type[Any]) -> bool:
    """Whether a part looks back only so far."""
    return part().attention_window is not None


def has_equivalent(part: type[Any]) -> bool:
    """Whether a part says that it is, at times, the same function as another."""
    others = (Attention.find(name) for name in Attention.names() if name != part.part)
    named = any(other.equivalent_to == part.equivalent_to for other in others if part.equivalent_to)
    return named or part.equivalent_at is not Attention.equivalent_at


ONE_PASS = law(
    "one_pass", texts, one_pass, fits=shares_values, unless="it does not use the store of a forward pass", most=20
)
CAST = law("cast_close", long, cast, most=10)
BATCH_INDEPENDENT = law("batch_independent", texts, batch_independent)
TIME = (
    law("causal", texts, causal),
    law("depends_on_past", texts, depends_on_past),
    law("prefix", texts, prefix),
    law("padding", texts, padding),
    law("cache", texts, cache),
)
NUMBERS = (
    law("bf16_close", wide_heads, bf16_close),
    law("state_complete", texts, state_complete),
    law("finite", texts, finite),
    law("gets_gradient", several, all_get_gradient),
    law(
        "field_matters", some, all_fields_matter, fits=has_fields, unless="it has no fields", left_out=untried, most=10
    ),
    law("compiled", texts, compiled, on_request=True),
)
DROPOUT = (
    law("accumulates_alike", batches_of_rows, accumulates_alike, most=10),
    law("masks_distinct", batches_of_rows, masks_distinct, most=10),
)
POSITION_WISE = law("position_wise", texts, position_wise)

LAWS = {
    "attention": (
        BATCH_INDEPENDENT,
        *TIME,
        ONE_PASS,
        law("window", texts, window, fits=has_window, unless="it looks back all the way"),
        law("equivalent", equivalents, equivalent, fits=has_equivalent, unless="it is a function of its own"),
        *NUMBERS,
        CAST,
        *DROPOUT,
    ),
    "block": (BATCH_INDEPENDENT, *TIME, ONE_PASS, *NUMBERS, CAST, *DROPOUT),
    "ffn": (POSITION_WISE, ONE_PASS, *NUMBERS, CAST, *DROPOUT),
    "norm": (
        POSITION_WISE,
        law("depends_on_past", texts, depends_on_itself),
        law("scale_invariant", texts, scale_invariant, fits=lambda part: part.scale_free, unless="it keeps the scale"),
        *NUMBERS,
        CAST,
        *DROPOUT,
    ),
}
