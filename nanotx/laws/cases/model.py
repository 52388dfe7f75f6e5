"""The laws of the whole model, on random parts, sizes, weights and ids."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from einops import rearrange
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.errors import ConfigError
from nanotx.laws import documents, equality, numbers, randomness, time, values
from nanotx.laws.cases.layer_case import has_single_expert
from nanotx.laws.fields import TRIES, come_of, fields_matter, gets_gradient, untried
from nanotx.laws.init import init_as_stated
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.strategies import Drawn, any_part_of, batches, cuts, seeds, times
from nanotx.laws.weights import redraw, seeded
from nanotx.nn.block import Block
from nanotx.nn.block.base import max_window
from nanotx.nn.canonical import to_canonical
from nanotx.nn.embedding import Embedding
from nanotx.nn.init import Init, InitRule
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.shapes import Logits, Stream, Tokens
from nanotx.nn.transformer import Model, Transformer

TOLERANCES = {"cpu": 1e-5, "cuda": 1e-4, "mps": 1e-4}
"""The difference that logits may have, relative to the largest (or 1)."""
LONG = 320
"""Positions of a long text."""
SOME = 24
"""Positions of a text that is long enough for every part to matter."""


@dataclass(frozen=True, kw_only=True)
class ModelCase(Case):
    """A model with random weights, and random ids for it."""

    vocab_size: int = 2
    batch: int = 1
    time: int = 1
    seed: int = 0  # of the weights and of the ids
    cut: int = 0  # a position
    cuts: tuple[int, ...] = ()  # where the pieces but the first begin
    lengths: tuple[int, ...] = ()  # of the rows, where they differ
    device: str = "cpu"

    def model(self, shift: int = 0) -> Transformer:
        """Return the model, deterministic, with weights large enough for every part to matter.

        Raises:
            ConfigError: the parts do not fit one another.
        """
        return self.another(shift) if shift else self.first

    @cached_property
    def first(self) -> Transformer:
        """The model with default arguments, built once: building it also shows whether the case fits."""
        return self.another(0)

    def another(self, shift: int) -> Transformer:
        """Return a new model."""
        model = self.config.build(self.vocab_size, self.seed + shift)
        redraw(model, self.seed + shift)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 10.0 if parameter.ndim > 1 else 1.0
        return model.to(self.device).eval()

    def ids(self, shift: int = 0) -> Tokens:
        """Return the input."""
        generator = torch.Generator().manual_seed(self.seed + shift)
        return torch.randint(self.vocab_size, (self.batch, self.time), generator=generator).to(self.device)

    def fits(self) -> None:
        for attention in self.config.attentions():
            attention.check_device(self.device)
        assert self.first

    @property
    def tolerance(self) -> float:
        """The difference that logits may have, relative to the largest (or 1)."""
        return TOLERANCES[self.device]


class FromStream(nn.Module):
    """A model that reads embedded tokens in place of ids, so that gradients can be sent back to them."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Stream) -> Logits:
        ids = torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
        with_x = self.model.embedding.register_forward_hook(lambda *_: x)
        try:
            y: Tensor = self.model(ids)
        finally:
            with_x.remove()
        return y


@st.composite
def models(draw: Drawn, part: type[Model], where: Where) -> ModelCase:
    """Draw a small model of any parts, and where its text is cut."""
    length, batch = draw(times), draw(batches)
    pattern = tuple(draw(st.lists(any_part_of(Block), min_size=1, max_size=2)))
    layers = draw(st.integers(1, 2))
    config = part(
        dim=draw(st.sampled_from([8, 16, 24])),
        layers=layers,
        share=draw(st.sampled_from([1, 1, layers])),
        context=length + draw(st.integers(0, 2)),
        tied=draw(st.booleans()),
        head_bias=draw(st.booleans()),
        softcap=draw(st.sampled_from([0.0, 5.0])),
        embedding=draw(any_part_of(Embedding)),
        position=draw(any_part_of(Position)),
        norm=draw(any_part_of(Norm)),
        blocks=pattern,
    )
    return ModelCase(
        config=config,
        vocab_size=draw(st.integers(2, 20)),
        batch=batch,
        time=length,
        seed=draw(seeds),
        cut=draw(st.integers(0, length - 1)),
        cuts=draw(cuts(length)),
        lengths=draw(st.just(()) | st.tuples(*[st.integers(1, length)] * batch)),
        device=where.device,
    )


def long(part: type[Model], where: Where) -> st.SearchStrategy[ModelCase]:
    """Draw one text beyond position 256, up to which bfloat16 represents every integer, in a model of its length."""
    return models(part, where).map(
        lambda case: replace(case, batch=1, time=LONG, lengths=(), config=replace(case.config, context=LONG))
    )


def several(part: type[Model], where: Where) -> st.SearchStrategy[ModelCase]:
    """Draw one text of many tokens, in models without a window of one and without a single expert."""
    cases = models(part, where).map(
        lambda case: replace(
            case, vocab_size=20, batch=1, time=SOME, lengths=(), config=replace(case.config, context=SOME)
        )
    )
    return cases.filter(
        lambda case: (
            not any(map(has_single_expert, case.config.pattern()))
            and all(attention.attention_window != 1 for attention in case.config.attentions())
        )
    )


def batches_of_rows(part: type[Model], where: Where) -> st.SearchStrategy[ModelCase]:
    """Draw batches of several rows, in models with dropout wherever they support it."""
    return models(part, where).map(
        lambda case: replace(case, config=randomness.with_dropout(case.config), batch=randomness.ROWS, lengths=())
    )


@st.composite
def initialised(draw: Drawn, part: type[Model], where: Where) -> ModelCase:
    """Draw models with any initialisation: scales, and rules for some of their parameters."""
    case = draw(models(part, where))
    shapes = shapes_of(case)
    std, depth_scaled = draw(st.sampled_from([0.02, 0.1, 1.0])), draw(st.booleans())
    init = Init(std=std, depth_scaled=depth_scaled, rules=draw(rules_for(shapes)) if shapes else ())
    return replace(case, config=replace(case.config, init=init))


def shapes_of(case: ModelCase) -> dict[str, torch.Size]:
    """Return the shapes of a model's parameters by their canonical names; none if its parts do not fit."""
    try:
        meta_model = case.config.build_meta(case.vocab_size)
    except ConfigError:
        return {}
    return {name: p.shape for name, p in to_canonical(meta_model, dict(meta_model.named_parameters())).items()}


@st.composite
def rules_for(draw: Drawn, shapes: Mapping[str, torch.Size]) -> tuple[InitRule, ...]:
    """Draw rules for a parameter, for its like in every block, for all whose names end alike: the first one decides."""
    name = draw(st.sampled_from(sorted(shapes)))
    patterns = dict.fromkeys([name, re.sub(r"\d", "?", name), "*" + "".join(name.rpartition(".")[1:])])
    kinds = ["normal", "truncated_normal", "uniform", "constant"] + ["orthogonal"] * (len(shapes[name]) > 1)
    return tuple(
        InitRule(
            match=match,
            distribution=draw(st.sampled_from(kinds)),
            std=draw(st.sampled_from([0.02, 0.5, 2.0])),
            fan_in=draw(st.booleans()) and len(shapes[name]) > 1,
            value=draw(st.sampled_from([0.0, 0.0, 0.5])),
        )
        for match in patterns
        if draw(st.booleans())
    )


LAWS = LawBook()


def stream(case: ModelCase) -> Stream:
    """Return embedded tokens, all different."""
    x = torch.randn(case.batch, case.time, case.config.dim, generator=torch.Generator().manual_seed(case.seed))
    return x.to(case.device)


@LAWS.law("model", draw=models)
def batch_independent(case: ModelCase) -> None:
    """Rows of a batch do not influence one another."""
    values.batch_independent(case.model(), case.ids(), case.seed + 1, case.tolerance)


@LAWS.law("model", draw=models)
def causal(case: ModelCase) -> None:
    """No logits depend on a later token."""
    time.causal(FromStream(case.model()), stream(case), seed=case.seed, alive=False)


@LAWS.law("model", draw=models)
def depends_on_past(case: ModelCase) -> None:
    """Logits depend on their own token and on their past."""
    time.depends_on_past(
        FromStream(case.model()), stream(case), case.seed, max_window(b.attention_window for b in case.config.pattern())
    )


@LAWS.law("model", draw=models)
def loss_alone(case: ModelCase) -> None:
    """The loss of a document that shares a row with others is the loss that it has alone, or it is refused."""
    model = case.model()
    try:
        case.config.check_documents()
    except ConfigError:
        return

    def losses(ids: Tokens, numbers: Tokens | None) -> Tensor:
        logits = model.logits(model.hidden_states(ids, None, numbers))[:, :-1]
        return F.cross_entropy(rearrange(logits, "b t v -> b v t"), ids[:, 1:], reduction="none")

    for row in case.ids().split(1):
        documents.loss_alone(losses, row, case.cuts, case.tolerance)


@LAWS.law("model", draw=models)
def prefix(case: ModelCase) -> None:
    """The outputs of a prefix are the prefix of the outputs."""
    values.time_prefix(case.model(), case.ids(), case.cut, case.tolerance)


@LAWS.law("model", draw=models)
def padding(case: ModelCase) -> None:
    """Padding a text on its right changes no output before it."""
    values.right_padding(case.model(), case.ids(), case.ids(shift=1), case.tolerance)


@LAWS.law("model", draw=models)
def cache(case: ModelCase) -> None:
    """Read in pieces with a cache, a text has the same outputs as when it is read at once."""
    equality.cache_agrees(case.model(), case.ids(), case.cuts, case.tolerance, case.lengths)


@LAWS.law("model", draw=models)
def state_complete(case: ModelCase) -> None:
    """The state dict determines the outputs."""
    numbers.state_complete(case.model(), case.model(shift=1), case.ids(), case.tolerance)


@LAWS.law("model", draw=models)
def finite(case: ModelCase) -> None:
    """Logits and gradients are finite."""
    numbers.finite(case.model(), case.ids(), case.seed)


@LAWS.law("model", draw=several, name="gets_gradient", most=10)
def all_get_gradient(case: ModelCase) -> None:
    """Every parameter gets a gradient, with initial weights or with others."""

    def passes() -> Iterator[tuple[nn.Module, Tensor]]:
        for index in range(TRIES):
            again = replace(case, seed=case.seed + index)
            model = again.config.build(again.vocab_size, again.seed)
            model = (redraw(model, again.seed) if index % 2 else model).to(case.device).train()
            with seeded(again.seed):
                yield model, model(again.ids())

    gets_gradient(passes())


@LAWS.law("model", draw=several, name="field_matters", left_out=untried, most=3)
def all_fields_matter(case: ModelCase) -> None:
    """Every field changes the state, the logits, or how long a text may be."""
    usual = replace(type(case.config)(), dim=24, layers=1, context=case.time)
    fields_matter(case.config, lambda config: outputs(replace(case, config=config)), defaults=[usual])


def outputs(case: ModelCase) -> Mapping[str, Tensor]:
    """Return a model's outcome for a text, which may be too long for it."""
    model = case.model()
    try:
        return come_of(model, case.ids(), seed=case.seed)
    except ConfigError:
        return {f"{case.time} tokens are refused": torch.zeros(0)}


@LAWS.law("model", draw=models, on_request=True)
def compiled(case: ModelCase) -> None:
    """Compiled, it is the same function."""
    numbers.compile_agrees(case.model(), case.ids(), 10 * case.tolerance, case.seed)


@LAWS.law("model", draw=long, most=20)
def cast_close(case: ModelCase) -> None:
    """Cast to bfloat16 or float16, its outputs stay close at every position of a long text."""
    for dtype in (torch.bfloat16, torch.float16):
        numbers.cast_close(case.model(), case.ids(), dtype)


@LAWS.law("model", draw=batches_of_rows, most=10)
def accumulates_alike(case: ModelCase) -> None:
    """In training, rows have the same outputs and masks however their batch is split."""
    randomness.accumulates_alike(case.another(0).train(), case.ids(), case.seed, case.tolerance)


@LAWS.law("model", draw=batches_of_rows, most=10)
def masks_distinct(case: ModelCase) -> None:
    """No dropout is called twice on the same places, and no two draw the same mask."""
    randomness.masks_distinct(case.another(0).train(), case.ids(), case.seed)


@LAWS.law("model", draw=initialised, most=20)
def init(case: ModelCase) -> None:
    """Each weight is drawn from the seed and its name, as `init` states it; a rule reaches what it matches alone."""
    init_as_stated(case.config, case.vocab_size, case.seed)
