"""The laws of each slot, in the order in which they are checked.

Laws are registered by `@LAWS.law` in `cases/`; here they are gathered by slot.
"""

from collections.abc import Iterable
from typing import Any

from nanotx.config.registry import Slot
from nanotx.data.corpus import Corpus
from nanotx.errors import ConfigError, did_you_mean
from nanotx.laws.cases import adapters, embeddings, layers, losses, model, positions, text, training
from nanotx.laws.cases.config import CONFIG
from nanotx.laws.cases.training import Data
from nanotx.laws.law import Law
from nanotx.nn.adapt import Adapt
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.embedding import Embedding
from nanotx.nn.ffn import Ffn
from nanotx.nn.loss import Loss
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.optim.schedules import Schedule
from nanotx.tokenizers import Tokenizer

CASE_MODULES = (layers, embeddings, positions, model, losses, text, training, adapters)
LAWS = {slot: (*laws, CONFIG) for module in CASE_MODULES for slot, laws in module.LAWS.items()}

SLOTS: dict[str, type[Any]] = {
    slot.slot: slot
    for slot in (Attention, Block, Ffn, Norm, Position, Embedding, Tokenizer, Corpus, Optimizer, Schedule, Loss, Adapt)
}


NOT_IN_SLOTS: dict[str, type[Any]] = {"model": Model, "data": Data}
"""Classes with laws that are not parts of a slot."""


def part_names(word: str) -> list[str]:
    """Return the parts named by SLOT (all its parts) or SLOT/PART, as slot/part.

    Raises:
        ConfigError: there is no such slot or part; the message lists those that exist.
    """
    slot, _, name = word.partition("/")
    if slot not in LAWS:
        parts = [f"{name}/{slot}" for name, family in SLOTS.items() if name in LAWS and slot in family.names()]
        near = f" Did you mean {' or '.join(map(repr, parts))}?" if parts else did_you_mean(slot, LAWS)
        raise ConfigError(f"{word}: no laws for a slot {slot!r}.{near} Known: {', '.join(LAWS)}.")
    if name:
        part_of(word)
        return [word]
    return [f"{slot}/{name}" for name in SLOTS[slot].names()] if slot in SLOTS else [slot]


def part_of(name: str) -> type[Any]:
    """Return the class of slot/part.

    Raises:
        ConfigError: there is no such part; the message lists those that exist.
    """
    slot, _, part = name.partition("/")
    if slot not in SLOTS and name not in NOT_IN_SLOTS:
        raise ConfigError(f"{name}: expected SLOT/PART such as attention/sdpa, or one of {', '.join(NOT_IN_SLOTS)}.")
    cls: type[Any] = NOT_IN_SLOTS[slot] if slot in NOT_IN_SLOTS else SLOTS[slot].find(part)
    return cls


def laws_on(name: str, on_request: bool = False) -> list[Law]:
    """Return the laws of slot/part, in order; slow ones only on request."""
    part = part_of(name)
    return [law for law in LAWS[name.partition("/")[0]] if law.fits(part) and (on_request or not law.on_request)]


def laws_not_asked(names: Iterable[str], on_request: bool = False) -> dict[tuple[str, str], list[str]]:
    """Return the laws that do not apply to some of these parts, or to a field of one.

    Returns:
        The names of the parts, as slot/part, by the law (or `law of field`) and the reason.
    """
    skipped: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for law in LAWS[name.partition("/")[0]]:
            part = part_of(name)
            if law.on_request and not on_request:
                continue
            if not law.fits(part):
                skipped.setdefault((law.name, law.unless), []).append(name)
                continue
            for field, reason in law.left_out(part).items():
                skipped.setdefault((f"{law.name} of {field}", reason), []).append(name)
    return skipped


def part_title(part: type[Any]) -> str:
    """Return the name of a part, as slot/part."""
    if issubclass(part, Slot):
        return f"{part.slot}/{part.part}"
    return next((name for name, single in NOT_IN_SLOTS.items() if single is part), part.__name__)
