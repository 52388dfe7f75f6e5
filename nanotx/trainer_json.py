"""What a checkpoint says of itself in `trainer.json`, believed only where it has the form that `save.py` gives it."""

import math
from pathlib import Path
from typing import Any

from nanotx import verified
from nanotx.checkpoint import FORMAT
from nanotx.errors import RunError
from nanotx.trainer import Progress

Kinds = dict[str, type]

TABLES: Kinds = {"progress": dict, "optimizer": dict, "scaler": dict, "corpus_sha256": str, "tokenizer": dict}
TOKENIZER: Kinds = {"part": str, "sha256": str}
PROGRESS: Kinds = {name: type(value) for name, value in vars(Progress()).items()}


def read_state(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        RunError: it is of another nanotx, or of nobody's.
    """
    file = path / "trainer.json"
    state = verified.read_json(file)
    if (found := state.get("format")) != FORMAT:
        raise RunError(f"{path}: format {found!r:.60}; this nanotx reads {FORMAT}. {advice(found)}")
    for name, kind in TABLES.items():
        if not isinstance(state.get(name), kind):
            raise RunError(f"{file}: {name}: expected {kind.__name__}, got {state.get(name)!r:.60}.")
    check_table(file, "progress", state["progress"], PROGRESS)
    check_table(file, "tokenizer", state["tokenizer"], TOKENIZER)
    check_table(file, "optimizer", state["optimizer"], dict.fromkeys(state["optimizer"], float))
    for name in TOKENIZER.keys() - state["tokenizer"].keys():
        raise RunError(f"{file}: tokenizer.{name} is missing.")
    if f"step-{state['progress'].get('step')}" != path.name:
        raise RunError(f"{file}: it is of step {state['progress'].get('step')}, in a folder called {path.name}.")
    return state


def advice(found: Any) -> str:
    """What to do about a checkpoint of another format."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        return "No nanotx writes such a format: take another checkpoint, by --step N."
    if found > FORMAT:
        return "A newer nanotx wrote it and reads it: upgrade."
    return (
        "An older nanotx wrote it: go on with that one (its version is in the run's summary.json, under versions), or "
        "train the run's recipe.toml anew with this one."
    )


def check_table(file: Path, name: str, table: dict[str, Any], kinds: Kinds) -> None:
    """Raise RunError unless a table holds known keys alone, each with a value of its kind."""
    for key, item in table.items():
        if key not in kinds or not fits(item, kinds[key]):
            raise RunError(f"{file}: {name}.{key:.60}: {item!r:.60} is nothing that nanotx writes there.")


def fits(item: Any, kind: type) -> bool:
    """Whether a value of JSON is one of a kind; a whole number is a number, and none is below zero or without end."""
    if kind is dict:
        return isinstance(item, dict) and all(fits(one, float) or one is None for one in item.values())
    if kind in (int, float) and not isinstance(item, bool):
        return isinstance(item, int if kind is int else int | float) and 0 <= item < math.inf
    return isinstance(item, kind)
