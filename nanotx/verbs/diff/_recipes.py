"""In what two runs were told otherwise: their recipes, their texts, their tokenizers, the shapes of their weights."""

from typing import Any

from nanotx.agreement import leaves
from nanotx.config import to_table
from nanotx.errors import RunError
from nanotx.layout import to_shared
from nanotx.recorded import Record
from nanotx.verbs.diff._bits import Tensors, misfit


def recipes(one: Record, other: Record) -> dict[str, tuple[Any, Any]]:
    """The keys of the recipes whose values differ, and both; None where a recipe has no such key."""
    mine, theirs = (dict(leaves(to_table(record.recipe))) for record in (one, other))
    return {key: (mine.get(key), theirs.get(key)) for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)}


def check_shapes(one: Record, other: Record) -> None:
    """Raise RunError unless the weights of both have the same names and shapes; takes no memory."""
    found = misfit(shapes(one), shapes(other))
    if found:
        raise RunError(
            f"{one.name} and {other.name}: their models are not of one shape, so no step of theirs can be compared: "
            f"{found}."
        )


def shapes(record: Record) -> Tensors:
    """A run's weights in the shared layout, without numbers."""
    model = record.recipe.model.outline(record.codec.vocab_size)
    return to_shared(model, dict(model.named_parameters()))


def corpora(one: Record, other: Record) -> tuple[str, str]:
    """The digests of the texts that they learned from last."""
    lasts = [(record, record.stretches[-1]) for record in (one, other)]
    mine, theirs = (stretch.corpus_sha256 or record.texts(stretch).sha256 for record, stretch in lasts)
    return mine, theirs


def tokenizers(one: Record, other: Record) -> tuple[str, str]:
    """The digests of their tokenizers."""
    return one.codec.digest, other.codec.digest
