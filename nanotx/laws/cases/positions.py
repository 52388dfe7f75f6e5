"""The laws of positions, on random configs, sizes and queries."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.laws import positions as position_laws
from nanotx.laws.fields import fields_matter, gets_gradient, has_fields, untried
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.strategies import Drawn, batches, configs, seeds, times
from nanotx.laws.weights import seeded
from nanotx.nn.position import PositionalEncoding
from nanotx.nn.shapes import Stream

CONTEXTS = (258, 513, 2050, 9000, 40_000, 140_000)
"""bfloat16 counts to 256, float16 to 2,048, and has no number beyond 65,504."""


@dataclass(frozen=True, kw_only=True)
class PositionCase(Case):
    """A position, and random queries, keys and a stream for it."""

    heads: int = 1
    width: int = 2  # of a head
    batch: int = 1
    time: int = 1
    seed: int = 0
    start: int = 0  # where the end of the text begins
    shift: int = 0  # how far all is moved

    def position(self, config: Any = None) -> PositionalEncoding:
        """Return the module, its table (if it has one) drawn from the seed."""
        return self.first if config is None else self.another(config)

    @cached_property
    def first(self) -> PositionalEncoding:
        """The module with default arguments, built once: building it also shows whether the case fits."""
        return self.another(self.config)

    def another(self, config: Any) -> PositionalEncoding:
        """Return a new module."""
        with seeded(self.seed):
            built: PositionalEncoding = config.build(self.heads * self.width, self.heads, self.time)
        return built.eval()

    def fits(self) -> None:
        assert self.first

    def x(self) -> Stream:
        """Return a stream."""
        return self.draw(self.time, self.heads * self.width)

    def q(self, shift: int = 0) -> Float[Tensor, "b h t k"]:
        """Return queries or, with a shifted seed, keys."""
        return self.draw(self.heads, self.time, self.width, shift=shift)

    def draw(self, *shape: int, shift: int = 0) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(self.batch, *shape, generator=torch.Generator().manual_seed(self.seed + shift))


@st.composite
def positions(draw: Drawn, part: type[Any], where: Where, least: int = 1) -> PositionCase:
    """Draw a position of this part, for texts of at least so many tokens, in heads of at least twice as many axes."""
    time = draw(times.filter(lambda time: time >= least))
    config = draw(configs(part))
    pairs = math.ceil(config.least_width / 2)
    return PositionCase(
        config=config,
        heads=draw(st.integers(1, 4)),
        width=2 * pairs * draw(st.sampled_from([n for n in (1, 2, 3, 4) if n >= least])),
        batch=draw(batches),
        time=time,
        seed=draw(seeds),
        start=draw(st.integers(0, time - 1)),
        shift=draw(st.integers(0, 1000)),
    )


def several(part: type[Any], where: Where) -> st.SearchStrategy[PositionCase]:
    """Draw texts of at least two tokens: a single token has no other position."""
    return positions(part, where, least=2)


def long(part: type[Any], where: Where) -> st.SearchStrategy[PositionCase]:
    """Draw one text of any length, often beyond the integers that a 16-bit format represents."""
    contexts = times | st.sampled_from(CONTEXTS)
    case = st.builds(
        PositionCase, config=configs(part), heads=st.integers(1, 3), width=st.just(4), time=contexts, seed=seeds
    )
    return case


def shifted(part: type[Any], where: Where) -> st.SearchStrategy[PositionCase]:
    """Draw texts that are shifted by any distance, beyond any context too."""
    moved = st.sampled_from(CONTEXTS) | st.integers(0, max(CONTEXTS))
    return st.builds(lambda case, shift: replace(case, shift=shift), positions(part, where), moved)


LAWS = LawBook()


def configs_with_another_number(config: Any) -> list[Any]:
    """Return configs that differ in a single number, which is not None by default: that one may have no effect."""
    defaults = vars(type(config)())
    numbers = {name: value for name, value in vars(config).items() if type(defaults[name]) in (int, float)}
    others = []
    for name, value in numbers.items():
        with suppress(ConfigError):
            others.append(replace(config, **{name: value * 3}))
    return [other for other in others if other != config]


def has_numbers(part: type[Any]) -> bool:
    """Return whether a part has a number in which two configs can differ."""
    return bool(configs_with_another_number(part()))


@LAWS.law("position", draw=positions)
def local(case: PositionCase) -> None:
    """A token at its position is treated the same whatever is next to it."""
    position_laws.local(case.position(), case.x(), case.q(), case.start)


@LAWS.law("position", draw=positions)
def relative(case: PositionCase) -> None:
    """Scores depend on the distance of query and key, and not on their positions."""
    position_laws.relative(case.position(), case.q(), case.q(shift=1), case.shift)


@LAWS.law("position", draw=positions)
def norm_preserving(case: PositionCase) -> None:
    """Queries and keys keep their norms, up to the `attention_scale` that is stated."""
    position_laws.norm_preserving(case.position(), case.q(), case.shift)


@LAWS.law("position", draw=several, fits=lambda part: part.part != "none", unless="it tells nothing")
def informative(case: PositionCase) -> None:
    """The position of a token makes a difference."""
    position_laws.informative(case.position(), case.x(), case.q(), case.q(shift=1))


@LAWS.law("position", draw=several, fits=has_numbers, unless="it has no number")
def distinct(case: PositionCase) -> None:
    """Another value of a number gives another encoding."""
    for other in configs_with_another_number(case.config):
        position_laws.distinct(case.position(), case.position(other), case.x(), case.q(), torch.arange(case.time))


@LAWS.law("position", draw=positions)
def out_of_range(case: PositionCase) -> None:
    """A position beyond the table is refused, and never that of another token."""
    position_laws.out_of_range(case.position(), case.x()[:, :1], case.time)


@LAWS.law("position", draw=long, most=20)
def cast_close(case: PositionCase) -> None:
    """Cast to bfloat16 or float16, it tells positions apart up to the end of any context."""
    for dtype in (torch.bfloat16, torch.float16):
        position_laws.positions_survive_cast(case.position(), case.x(), case.q(), dtype)


@LAWS.law("position", draw=positions, most=10)
def adds_bias(case: PositionCase) -> None:
    """It adds to the scores if it states `adds_bias`, and otherwise not."""
    position_laws.adds_bias(case.position(), case.config.adds_bias, torch.arange(case.time))


@LAWS.law("position", draw=shifted, fits=lambda part: part.relative, unless="it states places of its own")
def shift_invariant(case: PositionCase) -> None:
    """If it states `relative`, shifting all tokens together changes nothing, however far."""
    position_laws.shift_invariant(case.position(), case.x(), case.q(), case.q(shift=1), case.shift)


@LAWS.law("position", draw=positions, name="gets_gradient")
def gets_gradient_of_position(case: PositionCase) -> None:
    """Every parameter of an ordinary case gets a gradient."""
    position, positions = case.position(), torch.arange(case.time)
    bias = position.bias(positions, positions)
    encodings = [
        position.embed(case.x(), positions),
        *position.rotate(case.q(), case.q(shift=1), positions),
        *([] if bias is None else [bias]),
    ]
    gets_gradient([(position, torch.cat([encoding.flatten() for encoding in encodings]))])


@LAWS.law(
    "position",
    draw=several,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=untried,
    most=10,
)
def position_fields_matter(case: PositionCase) -> None:
    """Every field changes something, or the part lists it in `cost_only`."""
    default = replace(case, heads=2, width=4 * case.config.least_width, time=24)
    fields_matter(case.config, lambda config: outputs(case, config), lambda config: outputs(default, config))


def outputs(case: PositionCase, config: Any) -> dict[str, Tensor]:
    """Return all that a position computes for a text."""
    position, positions = case.position(config), torch.arange(case.time)
    q, k = position.rotate(case.q(), case.q(shift=1), positions)
    bias = position.bias(positions, positions)
    return {"embedding": position.embed(case.x(), positions), "queries": q, "keys": k} | (
        {} if bias is None else {"bias": bias}
    )
