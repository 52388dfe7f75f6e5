"""Names at the ends of lines, in place of a legend."""

import math
from dataclasses import dataclass

from matplotlib.axes import Axes

GAP = 0.055
"""How far apart two names are at least, in heights of a panel."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One part in one panel."""

    colour: str
    points: list[tuple[int, float]]  # contexts, and microseconds a token


def name_lines(panel: Axes, lines: dict[str, Line]) -> None:
    """Each name at the end of its line, or as near as the other names let it."""
    low, high = (math.log(limit) for limit in panel.get_ylim())
    ends = {name: (math.log(line.points[-1][1]) - low) / (high - low) for name, line in lines.items()}
    for name, height in apart(ends, GAP).items():
        panel.annotate(
            name,
            xy=lines[name].points[-1],
            xytext=(1.05, height),
            textcoords="axes fraction",
            color=lines[name].colour,
            fontsize=8.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": lines[name].colour, "lw": 0.5, "shrinkA": 1, "shrinkB": 3},
        )


def apart(heights: dict[str, float], gap: float) -> dict[str, float]:
    """Heights in the same order, at least so far apart, and each group of near ones about its middle."""
    groups: list[list[str]] = []
    middle = {}
    for name in sorted(heights, key=lambda name: heights[name]):
        groups.append([name])
        middle[name] = heights[name]
        while len(groups) > 1 and touching(groups[-2], groups[-1], middle, gap):
            last = groups.pop()
            groups[-1] += last
            middle[groups[-1][0]] = sum(heights[one] for one in groups[-1]) / len(groups[-1])
    return {
        name: middle[group[0]] + gap * (index - (len(group) - 1) / 2)
        for group in groups
        for index, name in enumerate(group)
    }


def touching(lower: list[str], upper: list[str], middle: dict[str, float], gap: float) -> bool:
    """Whether two groups of names would lie on one another."""
    return middle[upper[0]] - middle[lower[0]] < gap * (len(lower) + len(upper)) / 2
