"""A curve of any number of steps in bounded memory, as means over equal spans of steps."""

from collections.abc import Sequence

MOST_SPANS = 1024
"""Spans that a curve keeps; a terminal is rarely wide enough to show as many."""

Point = tuple[float, float]
"""A step, and a value."""


class Curve:
    """Means of a series over spans of steps.

    A span is one step at first; when there are too many spans, neighbours are merged and the span doubles. So adding a
    value and drawing the curve take the same time in a run of a million steps as in one of a thousand.
    """

    def __init__(self) -> None:
        self.span = 1
        self.sums: list[float] = []
        self.counts: list[float] = []

    def add(self, step: int, value: float) -> None:
        """Add the value of a step, counted from 1; steps may be missing, and need not be in order."""
        index = (max(step, 1) - 1) // self.span
        while index >= MOST_SPANS:
            self.sums, self.counts = pair_sums(self.sums), pair_sums(self.counts)
            self.span, index = 2 * self.span, index // 2
        missing = index + 1 - len(self.sums)
        self.sums += [0.0] * missing
        self.counts += [0.0] * missing
        self.sums[index] += value
        self.counts[index] += 1

    def points(self) -> list[Point]:
        """Return the middle of each span that has values, and their mean."""
        middle = (self.span + 1) / 2
        return [
            (index * self.span + middle, total / count)
            for index, (total, count) in enumerate(zip(self.sums, self.counts, strict=True))
            if count
        ]


def pair_sums(values: Sequence[float]) -> list[float]:
    """Return the sums of neighbours; a last value without a neighbour stays."""
    return [sum(values[index : index + 2]) for index in range(0, len(values), 2)]
