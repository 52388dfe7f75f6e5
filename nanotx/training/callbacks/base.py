"""The callback slot: methods that are called as a run trains."""

from typing import TYPE_CHECKING, ClassVar

from nanotx.config.registry import Slot
from nanotx.training.trainer import Row

if TYPE_CHECKING:
    from nanotx.training.loop import TrainingRun


class Callback(
    Slot,
    slot="callback",
    package="nanotx.training.callbacks",
    group="nanotx.callbacks",
    shared=("base", "evaluation", "logger"),
):
    """Watch a run. Every method does nothing by default; override those that you need.

    A row is a line of metrics.jsonl. A key that a method adds to it, with a number or a text, is logged and shown like
    the others; the keys of nanotx keep their values. A callback that raises is named in a warning and not called
    again, and the run continues. A callback that only looks changes no bit of the run.

    Register one by `@Callback.register("name")` above `@dataclass`, and name it by `--callback name`; or pass an object
    to `nanotx.train(recipe, callbacks=[...])`.
    """

    decorator: ClassVar[str] = "@dataclass"

    def on_start(self, run: "TrainingRun", row: Row) -> None:
        """Begin: before the first step of a process, also of one that resumes (`row["event"]` is then "resume")."""

    def on_step(self, run: "TrainingRun", row: Row) -> None:
        """Look at a step: the weights are new, and the clipped gradients that changed them are still there."""

    def on_eval(self, run: "TrainingRun", row: Row) -> None:
        """Look at an evaluation."""

    def on_sample(self, run: "TrainingRun", row: Row) -> None:
        """Look at a sample; its text is `row["text"]`."""

    def on_checkpoint(self, run: "TrainingRun", row: Row) -> None:
        """Look at a checkpoint, which is `run.folder / "checkpoints" / f"step-{row['step']}"`.

        It is written while the run goes on, so `run.step` may be a later step.
        """

    def on_end(self, run: "TrainingRun", row: Row) -> None:
        """End: after the last step, or after the step at which the run was stopped and saved."""

    def close(self) -> None:
        """Release what is held: called once, however the run ends, after `on_end` where that is called."""

    def on_row(self, run: "TrainingRun", row: Row) -> None:
        """Take a row of any event: call the method of its event, if it has one."""
        if name := METHODS.get(row["event"]):
            getattr(self, name)(run, row)

    def after_step(self, run: "TrainingRun") -> None:
        """Do longer work when the row of a step is written; after a kill in the midst of it, do it again."""


METHODS = {
    "start": "on_start",
    "resume": "on_start",
    "step": "on_step",
    "eval": "on_eval",
    "sample": "on_sample",
    "checkpoint": "on_checkpoint",
    "end": "on_end",
}
"""The method of each event; rows of other events, such as warnings, are for `on_row` alone."""
