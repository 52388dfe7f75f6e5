"""The axes of einops patterns: their sizes, read from the shapes of the tensors on both sides."""

import math
import re
from collections.abc import Mapping, Sequence

Shape = Sequence[int]

AXIS = re.compile(r"\([^)]*\)|\S+")
"""An axis of a pattern, or several that are composed in parentheses."""


def split_axes(axes: str) -> list[str]:
    """Return the axes of one side of a pattern: "b t (h k)" has three."""
    return AXIS.findall(axes)


def axis_sizes(sides: Sequence[tuple[str, Shape]], lengths: Mapping[str, int]) -> dict[str, int]:
    """Return the size of each named axis, in the order of the pattern.

    Args:
        sides: the axes of each tensor, in and out, with its shape.
        lengths: sizes that the call states.
    """
    groups = [pair for axes, shape in sides for pair in aligned(split_axes(axes), shape)]
    names = [name for group, _ in groups for name in members(group)]
    sizes = {name: int(length) for name, length in lengths.items()}
    sizes |= {members(group)[0]: size for group, size in groups if len(members(group)) == 1}
    for group, size in groups:
        unknown = [name for name in members(group) if name not in sizes]
        if len(unknown) == 1:
            sizes[unknown[0]] = size // max(1, math.prod(sizes[name] for name in members(group) if name in sizes))
    return {name: sizes[name] for name in dict.fromkeys(names) if name in sizes}


def members(group: str) -> list[str]:
    """Return the named axes of an axis: `(h k)` has two, `1` has none."""
    return [name for name in group.strip("()").split() if name.isidentifier()]


def aligned(axes: list[str], shape: Shape) -> list[tuple[str, int]]:
    """Return each axis with its size; those that an ellipsis stands for are left out, and all where they do not fit."""
    if "..." in axes:
        place = axes.index("...")
        after = len(axes) - place - 1
        if place + after > len(shape):
            return []
        return [
            *zip(axes[:place], shape, strict=False),
            *zip(axes[place + 1 :], shape[len(shape) - after :], strict=True),
        ]
    return list(zip(axes, shape, strict=True)) if len(axes) == len(shape) else []


def with_ellipsis(left: str, right: str, known: Sequence[str]) -> str:
    """Return the right side of a pattern with the names that its ellipsis stands for.

    Args:
        left: the left side.
        right: the right side.
        known: names of the axes of what goes in; empty where they are unknown, and then nothing is replaced.
    """
    axes = split_axes(left)
    if "..." not in axes or len(known) < len(axes) - 1:
        return right
    place = axes.index("...")
    names = known[place : len(known) - (len(axes) - place - 1)]
    return " ".join(" ".join(names) if axis == "..." else axis for axis in split_axes(right))
