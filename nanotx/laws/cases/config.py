"""The law of configs, for every part of every slot."""

from typing import Any, get_args, get_origin

from hypothesis import strategies as st

from nanotx.config.schema import fields, is_slot, without_none
from nanotx.laws.config import config_round_trip
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.random_texts import texts, with_other_fields
from nanotx.laws.strategies import Drawn, configs

whole = st.integers(-(2**62), 2**62) | st.integers(0, 3)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 1) | st.sampled_from([0.0, 1e-300, 5e22])
VALUES: dict[Any, st.SearchStrategy[Any]] = {str: texts(), int: whole, float: numbers, bool: st.booleans()}
"""Strategies of any values of the plain types; those that a part refuses are left out."""


def values(kind: Any) -> st.SearchStrategy[Any] | None:
    """Return a strategy of any values of a field's type; None if the type is not a plain one."""
    if without_none(kind) is not kind:
        inside = values(without_none(kind))
        return None if inside is None else st.none() | inside
    if get_origin(kind) is tuple:
        several = [values(inside) for inside in get_args(kind) if inside is not Ellipsis]
        known = [strategy for strategy in several if strategy is not None]
        if len(known) < len(several):
            return None
        return st.lists(known[0], max_size=3).map(tuple) if Ellipsis in get_args(kind) else st.tuples(*known)
    return None if is_slot(kind) else VALUES.get(kind)


@st.composite
def draw_any(draw: Drawn, part: type[Any], where: Where) -> Case:
    """Draw a part with any values that it accepts, also those that are slow to build."""
    config = draw(configs(part))
    for name, kind in fields(part).items():
        strategy = values(kind)
        if strategy is not None and draw(st.booleans()):
            config = with_other_fields(config, **{name: draw(strategy)})
    return Case(config=config)


LAWS = LawBook()


@LAWS.law("every slot", draw=draw_any, on_device=False)
def config(case: Case) -> None:
    """Written as a table, as TOML and as JSON and read back, it is the same value."""
    config_round_trip(case.config)


(CONFIG,) = LAWS["every slot"]
