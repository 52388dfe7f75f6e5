"""Who feels whom, as a picture on the terminal: a triangle where all is right, red where the future leaks."""

import math

from rich.columns import Columns
from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text
from torch import Tensor

SHADES = " ░▒▓█"
"""Not at all, and then the weakest quarter to the strongest, by the logarithm."""
AXES = "→ inputs, ↓ outputs"
LEAK = "!!"
DEPTH = 2.0
"""Powers of ten between the strongest and the weakest shade."""


def heat_map(felt: Tensor, title: str, beside: str = "") -> RenderableType:
    """A heat map of how much each output (a row) feels each input (a column).

    Args:
        felt: as `t s`.
        title: what is shown.
        beside: lines of text that stand beside it.
    """
    strongest = float(felt.nan_to_num(0.0, 0.0, 0.0).max()) or 1.0
    map_ = Text()
    for position, row in enumerate(felt.tolist()):
        for other, value in enumerate(row):
            if other > position and value != 0:
                map_.append(LEAK, "bold white on red")
            else:
                map_.append(2 * SHADES[shade(value, strongest)], "cyan")
        map_.append("\n" if position + 1 < len(felt) else "")
    width = max(2 * felt.shape[1], len(title) + 4, len(AXES) + 4) + 2
    panel = Panel(map_, title=title, subtitle=AXES, border_style="dim", padding=0, width=width)
    return Columns([panel, Text(beside)], padding=(0, 2)) if beside else panel


def shade(value: float, strongest: float) -> int:
    """Which of the shades."""
    if value == 0 or not math.isfinite(value):
        return 0 if value == 0 else len(SHADES) - 1
    depth = 1 + math.log10(value / strongest) / DEPTH  # 1 for the strongest, 0 and below for the faintest
    return 1 + min(len(SHADES) - 2, max(0, int(depth * (len(SHADES) - 1))))
