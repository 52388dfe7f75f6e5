"""How much each output of a part depends on each input, as a heat map on the terminal.

The map of a causal part is a triangle; cells where an output depends on the future are red.
"""

import math
from typing import Any

from rich.columns import Columns
from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text
from torch import Tensor

from nanotx.config.schema import Table
from nanotx.laws.all_laws import laws_on, part_of
from nanotx.laws.cases.layer_case import LayerCase, attentions_of
from nanotx.laws.cases.model import ModelCase
from nanotx.laws.runner import Verdict
from nanotx.laws.values import influence_by_value

MIN_POSITIONS = 12
"""The fewest positions that are shown."""
SHADES = " ░▒▓█"
"""None, then from the weakest quarter to the strongest, by the logarithm."""
AXES = "→ inputs, ↓ outputs"
LEAK = "!!"
DEPTH = 2.0
"""Powers of ten between the strongest and the weakest shade."""


def part_heat_map(name: str, broken: Verdict | None) -> RenderableType | None:
    """Return the heat map of a part; None if it reads no stream.

    Args:
        name: slot/part.
        broken: the verdict whose case to show; None for a plain case.
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
    side_text = [f"breaks {broken.law}", broken.broken, "", *lines] if broken is not None else []
    return heat_map(influence_by_value(layer, x, seed=1), name, "\n".join(side_text))


def plain_case(config: Any, kind: type[Any]) -> Table:
    """Return a case of ordinary size."""
    if kind is ModelCase:
        return {"time": MIN_POSITIONS, "vocab_size": 20}
    attentions = attentions_of(config)
    return {"dim": 4 * (attentions[0].heads if attentions else 1), "time": MIN_POSITIONS}


def heat_map(influence: Tensor, title: str, side_text: str = "") -> RenderableType:
    """Return a heat map of how much each output (a row) depends on each input (a column).

    Args:
        influence: as `t s`.
        title: above the map.
        side_text: lines of text next to it.
    """
    strongest = float(influence.nan_to_num(0.0, 0.0, 0.0).max()) or 1.0
    shades = Text()
    for position, row in enumerate(influence.tolist()):
        for other, value in enumerate(row):
            if other > position and value != 0:
                shades.append(LEAK, "bold white on red")
            else:
                shades.append(2 * SHADES[shade(value, strongest)], "cyan")
        shades.append("\n" if position + 1 < len(influence) else "")
    width = max(2 * influence.shape[1], len(title) + 4, len(AXES) + 4) + 2
    panel = Panel(shades, title=title, subtitle=AXES, border_style="dim", padding=0, width=width)
    return Columns([panel, Text(side_text)], padding=(0, 2)) if side_text else panel


def shade(value: float, strongest: float) -> int:
    """Return the index of the shade of a value."""
    if value == 0 or not math.isfinite(value):
        return 0 if value == 0 else len(SHADES) - 1
    depth = 1 + math.log10(value / strongest) / DEPTH  # 1 for the strongest, 0 and below for the faintest
    return 1 + min(len(SHADES) - 2, max(0, int(depth * (len(SHADES) - 1))))
