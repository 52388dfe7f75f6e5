"""The figures of a score as rows of cells, and as plain values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nanotx.curve import Span, losses, spans
from nanotx.scoring import Account, Scored

ALL = "all"
"""What the row of the whole text is called, beside those of its scripts."""


def by_script(whole: Account, parts: Mapping[str, Account], floors: Mapping[str, float]) -> list[list[str]]:
    """A header, a row for each script, and one for all of them; the last column where a floor is known."""
    cells = [["script", "bytes", "tokens", "tokens/word", "loss", "share of bits", "bits/byte", "floor"]]
    for name, one in {**parts, ALL: whole}.items():
        fertility, loss, rate, floor = (
            "-" if figure is None else f"{figure:.4f}"
            for figure in (one.fertility, one.loss, one.bits_per_byte, floors.get(name))
        )
        share = f"{one.nats / whole.nats if whole.nats else 0.0:.1%}"
        cells.append([name, f"{one.size:,}", f"{one.tokens:,}", fertility, loss, share, rate, floor])
    return cells if floors else [row[:-1] for row in cells]


def figures(one: Account) -> dict[str, Any]:
    """All of them, as plain values."""
    rates = {"loss": one.loss, "bits_per_byte": one.bits_per_byte, "fertility": one.fertility}
    return {"bytes": one.size, "words": one.words, "tokens": one.tokens, "nats": one.nats, **rates}


def by_position(spans: Sequence[Span], learned: int) -> list[list[str]]:
    """A header and a row for each span; those beyond the windows of the training say so."""
    cells = [["position", "tokens", "loss", "in training"]]
    for one in spans:
        place = f"{one.first:,}" if one.first == one.last else f"{one.first:,}-{one.last:,}"
        cells.append([place, f"{one.tokens:,}", f"{one.loss:.4f}", "yes" if one.last <= learned else "no"])
    return cells


def plain(scored: Scored, floors: Mapping[str, float], context: int, learned: int) -> dict[str, Any]:
    """All figures, as JSON holds them."""
    return figures(scored.whole) | {
        "scripts": {
            name: figures(part) | {"floor_bits_per_byte": floors.get(name)} for name, part in scored.scripts.items()
        },
        "positions": [dataclasses.asdict(span) for span in spans(scored.nats, context, learned)],
        "loss_by_position": losses(scored.nats, context).tolist(),
    }
