"""Random configs and sizes, shared by the tests, `nanotx laws` and the benchmarks.

Every size at which a part changes its behaviour (a window, a block, a chunk) is a field of it, and fields are drawn
small, so that short texts exceed it.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args, get_origin

from hypothesis import assume
from hypothesis import strategies as st

from nanotx.config.schema import fields, is_slot, without_none
from nanotx.errors import ConfigError

Drawn = Callable[[st.SearchStrategy[Any]], Any]
"""The function that hypothesis passes to a composite strategy: it draws a value from a strategy."""
TIME = 80
"""The longest text."""
SMALL = 8
"""The largest integer drawn for a field, unless its default is larger."""

NAMES = ("<|a|>", "<|a|>b", "<|endoftext|>", "e", "\u00e9", "t l", " ", "(.*)", "<unk>")
"""Texts drawn for a field that takes several: some begin like others, or are what a text is made of."""

batches = st.integers(1, 3)
times = st.integers(1, TIME)
seeds = st.integers(0, 2**16)
scales = st.sampled_from([1.0, 1e-3, 1e-2, 1e-1, 1e1, 1e2, 1e3, 1e4])
"""Scales of the input; at the large ones a merely soft mask leaks the future."""
ordinary = st.sampled_from([1.0, 0.3, 3.0])


@st.composite
def configs(draw: Drawn, part: type[Any]) -> Any:
    """Draw configs of a part with random fields, each within its type; those that the part refuses are left out."""
    defaults = part()
    values = {name: draw(field(kind, getattr(defaults, name))) for name, kind in fields(part).items()}
    try:
        return part(**values)
    except ConfigError:
        assume(False)


@cache
def any_part_of(slot: type[Any]) -> st.SearchStrategy[Any]:
    """Draw any part of a slot that comes with the package, with random fields; "none" is the simplest.

    A user's part is checked by itself; the other parts in its block should be known to be correct.
    """
    names = sorted(slot.shipped(), key=lambda name: (name != "none", name))
    return st.sampled_from(names).flatmap(lambda name: configs(slot.find(name)))


def field(kind: Any, default: Any) -> st.SearchStrategy[Any]:
    """Draw values of one field: its default, and others of its type.

    Integers are small. Other numbers have the magnitude of the default: a fraction stays a fraction, and an epsilon
    stays tiny and never becomes zero. Tuples of strings are a few names. A string, or a value of an unknown type, keeps
    its default.
    """
    if without_none(kind) is not kind:
        ones = {int: 1, float: 1.0}
        return st.none() | field(without_none(kind), ones.get(without_none(kind)) if default is None else default)
    if is_slot(kind):
        return any_part_of(kind)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind == tuple[str, ...]:
        return st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
    if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
        return st.tuples(*(field(part, value) for part, value in zip(get_args(kind), default, strict=True)))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.sampled_from(sorted({*range(1, SMALL + 1), default}))
    if kind is float:
        return numbers(default)
    return st.just(default)


def numbers(default: float) -> st.SearchStrategy[float]:
    """Draw numbers of the magnitude of a default."""
    if default == 0:
        return st.sampled_from([0.0, 0.1, 0.5])
    if not math.isfinite(default):
        return st.just(default)
    return st.sampled_from([default, default / 2, default * 2, default / 10, default * 10])


@st.composite
def cuts(draw: Drawn, time: int) -> tuple[int, ...]:
    """Draw the starts of the pieces but the first, when a text is read in pieces: none, few, or after every token."""
    inside = range(1, time)
    if not inside:
        return ()
    if draw(st.integers(0, 3)) == 3:
        return tuple(inside)
    return tuple(sorted(draw(st.sets(st.sampled_from(inside), max_size=4))))
