"""What a checkpoint says of itself in `trainer.json`, believed only where it has the form that `save.py` gives it."""

import math
from pathlib import Path
from typing import Any

from nanotx import verified
from nanotx.checkpoint import FORMAT
from nanotx.config import WHOLE
from nanotx.errors import RunError
from nanotx.trainer import Progress

Kinds = dict[str, type]

TABLES: Kinds = {"progress": dict, "optimizer": dict, "scaler": dict, "corpus_sha256": str, "tokenizer": dict}
TOKENIZER: Kinds = {"part": str, "sha256": str}
SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
"""What torch keeps of how losses in float16 are scaled; a run in other numbers keeps nothing."""

WHOLE_IN_SCALER = {"growth_interval", "_growth_tracker"}

SCORES = {"val_loss", "bits_per_byte"}
"""What every evaluation has."""

BEST: Kinds = {"step": int, "val_loss": float}
"""What is kept of the best evaluation."""

LARGEST_SCALE = 2.0**64
"""Beyond it no gradient in float16 is finite."""

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
    check_scaler(file, state["scaler"])
    if (scores := state["progress"].get("scores")) and (lacks := SCORES - scores.keys()):
        raise RunError(f"{file}: progress.scores.{min(lacks)} is missing.")
    best = state["progress"].get("best") or dict.fromkeys(BEST, 0)
    if wrong := [name for name, kind in BEST.items() if not fits(best.get(name), kind)]:
        raise RunError(f"{file}: progress.best.{wrong[0]}: expected a number, got {best.get(wrong[0])!r:.60}.")
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


def check_scaler(file: Path, scaler: dict[str, Any]) -> None:
    """Raise RunError unless a table is what torch keeps of how losses are scaled, or empty."""
    check_table(file, "scaler", scaler, dict.fromkeys(SCALER, float) | dict.fromkeys(WHOLE_IN_SCALER, int))
    if not scaler:
        return
    if lacks := SCALER - scaler.keys():
        raise RunError(f"{file}: scaler.{min(lacks)} is missing.")
    for name in ("scale", "growth_factor", "backoff_factor", "growth_interval"):
        if not 0 < scaler[name] <= LARGEST_SCALE:
            raise RunError(f"{file}: scaler.{name}: expected a number above 0 and up to 2**64, got {scaler[name]!r}.")


def check_table(file: Path, name: str, table: dict[str, Any], kinds: Kinds) -> None:
    """Raise RunError unless a table holds known keys alone, each with a value of its kind."""
    for key, item in table.items():
        if key not in kinds or not fits(item, kinds[key]):
            raise RunError(f"{file}: {name}.{key:.60}: {item!r:.60} is nothing that nanotx writes there.")


def fits(item: Any, kind: type) -> bool:
    """Whether a value of JSON is one of a kind; whole numbers are below 2**63, and none is negative or infinite."""
    if kind is dict:
        return isinstance(item, dict) and all(fits(one, float) or one is None for one in item.values())
    if kind in (int, float):
        if isinstance(item, bool):
            return False
        whole = isinstance(item, int) and item < WHOLE
        return (whole or (kind is float and isinstance(item, float))) and 0 <= item < math.inf
    return isinstance(item, kind)
