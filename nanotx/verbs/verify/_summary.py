"""A run's figures: those of its journal."""

from nanotx.errors import RunError
from nanotx.folder import RunFolder
from nanotx.journal import read
from nanotx.verbs.verify._check import Check, attempt
from nanotx.verified import read_json


def of_summary(folder: RunFolder) -> Check:
    """Whether the figures that lie there are those that the journal holds of their step."""

    def compare() -> str:
        told = read_json(folder.summary)
        last = told.get("steps")
        if not isinstance(last, int):
            raise RunError(f"{folder.summary}: steps: expected a whole number, got {last!r:.60}.")
        rows = [row for row in read(folder.metrics) if row["step"] <= last]
        steps = sum(row["event"] == "step" for row in rows)
        losses = [row["val_loss"] for row in rows if row["event"] == "eval"] or [None]
        for key, recorded in (("steps", steps), ("val_loss", losses[-1])):
            if told.get(key) != recorded:
                raise RunError(f"{folder.summary}: {key} is {told.get(key)!r}, and metrics.jsonl holds {recorded!r}.")
        return f"validation loss {losses[-1]!r} after {steps:,} steps, as in metrics.jsonl"

    return attempt("summary.json", compare)
