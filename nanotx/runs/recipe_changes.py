"""What a resumed run changes of its checkpoint's recipe: the row of the metrics log, and the lines that are printed."""

from pathlib import Path

from nanotx.config.toml import write_toml
from nanotx.recipe import Recipe
from nanotx.runs.resume_check import changes, recipe_digest
from nanotx.training.trainer import Row


def changes_row(before: Recipe, now: Recipe, step: int) -> Row | None:
    """Return the row of what is changed from a step on; None where nothing is."""
    if before == now:
        return None
    changed = {key: [was, value] for key, was, value in changes(before, now)}
    if not changed:  # only a seed is now given explicitly, with the value that it had anyway
        return None
    digest = recipe_digest(write_toml(now).encode("utf-8"))
    return {"event": "changed", "step": step, "changes": changed, "recipe_sha256": digest}


def describe_changes(folder: Path, before: Recipe, now: Recipe, row: Row) -> list[str]:
    """Describe what is changed, and what follows for the optimizer and the learning rate.

    Args:
        folder: of the run.
        before: the checkpoint's recipe.
        now: the recipe of this process.
        row: as `changes_row` returns it.
    """
    listed = "; ".join(f"{key} {was} -> {value}" for key, (was, value) in row["changes"].items())
    lines = [f"{folder}: changed from step {row['step']} on: {listed}."]
    if before.optimizer.part != now.optimizer.part:
        parts = now.optimizer.part, before.optimizer.part
        lines.append(f"optimizer {parts[0]} starts without state; that of {parts[1]} is discarded.")
    if before.train.steps != now.train.steps:
        lines.append(describe_new_span(before, now, row["step"]))
    return lines


def describe_new_span(before: Recipe, now: Recipe, step: int) -> str:
    """Describe what the new number of steps does to the learning rate."""
    old, new = before.train.steps, now.train.steps
    was = before.schedule.factor(max(step - 1, 0), old)
    factor = now.schedule.factor(step, new)
    return (
        f"schedule {now.schedule.part} now spans {new:,} steps instead of {old:,}: the learning rate was "
        f"{was:.3g} times its base value at step {step:,}, and is {factor:.3g} times it at step {step + 1:,}."
    )
