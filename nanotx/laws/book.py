"""The book of laws: which hold for every part of a slot, in the order in which they are tried."""

from typing import Any

from nanotx.attention import Attention
from nanotx.block import Block
from nanotx.corpus import Corpus
from nanotx.errors import ConfigError, did_you_mean
from nanotx.ffn import Ffn
from nanotx.laws import book_layers, book_model, book_places, book_texts
from nanotx.laws.law import Law
from nanotx.model import Model
from nanotx.norm import Norm
from nanotx.optimizers import Optimizer
from nanotx.position import Position
from nanotx.registry import Slot
from nanotx.schedules import Schedule
from nanotx.tokenizers import Tokenizer

LAWS: dict[str, tuple[Law, ...]] = {**book_layers.LAWS, **book_places.LAWS, **book_model.LAWS, **book_texts.LAWS}

SLOTS: dict[str, type[Any]] = {
    slot.slot: slot for slot in (Attention, Block, Ffn, Norm, Position, Tokenizer, Corpus, Optimizer, Schedule)
}


def parts(slot: str) -> list[str]:
    """The names of what the laws of a slot are tried on, as slot/part; the model is the only one of its kind."""
    return [f"{slot}/{name}" for name in SLOTS[slot].names()] if slot in SLOTS else [slot]


def part_of(name: str) -> tuple[str, type[Any] | None]:
    """The slot of slot/part, and the part's class; None where a slot alone is named.

    Raises:
        ConfigError: there is none; says what there is.
    """
    slot, _, part = name.partition("/")
    if slot not in LAWS:
        raise ConfigError(f"{name}: no laws for a slot {slot!r}.{did_you_mean(slot, LAWS)} Known: {', '.join(LAWS)}.")
    if slot not in SLOTS:
        return slot, Model
    return slot, SLOTS[slot].find(part) if part else None


def title(part: type[Any]) -> str:
    """A part as slot/part."""
    return f"{part.slot}/{part.part}" if issubclass(part, Slot) else part.__name__.lower()
