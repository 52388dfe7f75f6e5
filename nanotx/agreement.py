"""Whether what is wished for now agrees with the run that is to go on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from nanotx.attention import Attention
from nanotx.config import to_table
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe

FREE = {"device", "dtype", "threads", "compile", "deterministic"} | {
    f"train.{name}"
    for name in ("steps", "eval_every", "eval_tokens", "sample_every", "sample_tokens", "checkpoint_every")
}


def settled(saved: Recipe, wished: Recipe) -> Recipe:
    """What is wished for, where it leaves to the machine what the run that lies there has settled already."""
    micro = saved.train.micro_batch if wished.train.micro_batch == "auto" else wished.train.micro_batch
    compiled = saved.compile if wished.compile == "auto" else wished.compile
    return replace(wished, train=replace(wished.train, micro_batch=micro), compile=compiled)


def check_agreement(saved: Recipe, wished: Recipe) -> None:
    """Raise ConfigError where flags or files wish for another run than the one that lies there.

    Free to change: a longer `train.steps`, how often it is looked at, the machine, and among attentions that are
    one function, the writing, with the fields that one writing alone has.
    """
    found = [*differences(saved, wished), *fewer_steps(saved, wished)]
    if found:
        raise ConfigError(
            f"--resume: the run was begun otherwise: {'; '.join(found)}. "
            "Leave these out to go on with it, begin a new run with another --run, or go on otherwise by --changed."
        )


def differences(saved: Recipe, wished: Recipe) -> list[str]:
    """In what two recipes differ that a resumed run may not change, a phrase for each."""
    old, new = dict(leaves(to_table(saved))), dict(leaves(to_table(wished)))
    return [
        f"{key} was {was!r}, not {wish!r}"
        for key, was, wish in changes(saved, wished)
        if key not in FREE and not is_writing(key, old, new)
    ]


def fewer_steps(saved: Recipe, wished: Recipe) -> list[str]:
    """The same, of a run that is to end earlier."""
    fewer = wished.train.steps < saved.train.steps
    return [f"train.steps was {saved.train.steps}, and {wished.train.steps} is fewer"] * fewer


def changes(saved: Recipe, wished: Recipe) -> list[tuple[str, Any, Any]]:
    """Every field in which two recipes differ, by its dotted name, with its two values; None where it is not there."""
    old, new = dict(leaves(to_table(saved))), dict(leaves(to_table(wished)))
    keys = sorted(old.keys() | new.keys())
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def is_writing(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a key that differs says only how an attention writes its function."""
    place, _, field = key.rpartition(".")
    parts = [leaves.get(f"{place}.part") for leaves in (old, new)]
    if not place.endswith("attention") or None in parts or parts[0] == parts[1]:
        return False
    one, other = (Attention.find(str(part)).function for part in parts)
    return one == other != "" and (field == "part" or None in (old.get(key), new.get(key)))


def leaves(table: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of a table under dotted names."""
    if isinstance(table, dict):
        for key, item in table.items():
            yield from leaves(item, f"{at}.{key}" if at else key)
    elif isinstance(table, list) and any(isinstance(item, dict) for item in table):
        for index, item in enumerate(table):
            yield from leaves(item, f"{at}.{index}")
    else:
        yield at, table
