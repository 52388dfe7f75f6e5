"""What a picture of a part shows: the case that breaks its laws, or a plain one."""

from typing import Any

from torch import Tensor

from nanotx.config.schema import Table
from nanotx.laws.cases.layer_case import LayerCase, attentions_of
from nanotx.laws.cases.model import ModelCase
from nanotx.laws.registry import laws_on, part_of
from nanotx.laws.runner import Verdict
from nanotx.laws.values import influence_by_value

MIN_POSITIONS = 12
"""Positions that are shown at least."""
PartInfluence = tuple[Tensor, str, str]
"""Who feels whom, as `t s`; a title; what stands beside it."""


def part_influence(name: str, broken: Verdict | None) -> PartInfluence | None:
    """The picture of a part; None where it reads no stream.

    Args:
        name: slot/part.
        broken: the verdict whose case is to be shown; None for a plain case.
    """
    part, laws = part_of(name), laws_on(name, on_request=True)
    law = next(law for law in laws if broken is None or law.name == broken.law)
    kind = law.case
    if kind not in (LayerCase, ModelCase):
        return None
    table: Table = broken.case if broken is not None and broken.case is not None else plain_case(part(), kind)
    case: Any = law.case.of(part, table | {"time": max(MIN_POSITIONS, table.get("time", 1))})
    layer, x = (case.layer(), case.x()) if isinstance(case, LayerCase) else (case.model(), case.ids())
    lines = [f"{key} = {value!r}" for key, value in table.items()] if broken is not None else []
    beside = [f"breaks {broken.law}", broken.broken, "", *lines] if broken is not None else []
    return influence_by_value(layer, x, seed=1), name, "\n".join(beside)


def plain_case(config: Any, kind: type[Any]) -> Table:
    """A case of ordinary size."""
    if kind is ModelCase:
        return {"time": MIN_POSITIONS, "vocab_size": 20}
    attentions = attentions_of(config)
    return {"dim": 4 * (attentions[0].heads if attentions else 1), "time": MIN_POSITIONS}
