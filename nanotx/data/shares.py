"""The shares that texts have in a mixture, and their weights, as they are typed and checked."""

from collections.abc import Sequence
from dataclasses import dataclass

LEAST, TOLERANCE = 1e-6, 1e-4


@dataclass(frozen=True, kw_only=True)
class Share:
    """A text of a mixture."""

    name: str  # for messages
    length: int  # tokens of it
    weight: float  # the fraction of all rows that are of it; those of all texts add up to 1


def check_weights(weights: Sequence[float], texts: int) -> str:
    """Describe what is wrong with the weights of some texts; return an empty string if nothing is."""
    if len(weights) != texts:
        return f"expected a weight for each of the {texts} paths, got {len(weights)}: {listed(weights)}."
    if not all(LEAST <= weight <= 1 for weight in weights):
        return (
            f"expected weights above 0, {LEAST:g} at least, that add up to 1, got {listed(weights)}; "
            "leave a path out to read nothing of it."
        )
    if abs(sum(weights) - 1) > TOLERANCE:
        scaled = listed([float(f"{weight / sum(weights):.6f}") for weight in weights])
        return (
            f"expected weights that add up to 1, got {listed(weights)}, which add up to {sum(weights):g}; try {scaled}."
        )
    return ""


def listed(weights: Sequence[float]) -> str:
    """Return weights as they are typed."""
    return " ".join(f"{weight:g}" for weight in weights)
