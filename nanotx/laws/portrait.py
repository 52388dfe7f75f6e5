"""What a picture of a part shows: the case that breaks its laws, or a plain one."""

from typing import Any

from torch import Tensor

from nanotx.config.schema import Table
from nanotx.laws.book import laws_on, part_of
from nanotx.laws.book_model import ModelCase
from nanotx.laws.layer_case import LayerCase, attentions_of
from nanotx.laws.trial import Verdict
from nanotx.laws.values import changes

LENGTH = 12
"""Positions that are shown at least."""
Portrait = tuple[Tensor, str, str]
"""Who feels whom, as `t s`; a title; what stands beside it."""


def portrait(name: str, broken: Verdict | None) -> Portrait | None:
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
    table: Table = broken.case if broken is not None and broken.case is not None else plain(part(), kind)
    case: Any = law.case.of(part, table | {"time": max(LENGTH, table.get("time", 1))})
    layer, x = (case.layer(), case.x()) if isinstance(case, LayerCase) else (case.model(), case.ids())
    lines = [f"{key} = {value!r}" for key, value in table.items()] if broken is not None else []
    beside = [f"breaks {broken.law}", broken.broken, "", *lines] if broken is not None else []
    return changes(layer, x, seed=1), name, "\n".join(beside)


def plain(idea: Any, kind: type[Any]) -> Table:
    """A case of ordinary size."""
    if kind is ModelCase:
        return {"time": LENGTH, "vocab_size": 20}
    attentions = attentions_of(idea)
    return {"dim": 4 * (attentions[0].heads if attentions else 1), "time": LENGTH}
