"""TensorBoard: event files in the folder `tensorboard` of the run; `tensorboard --logdir runs` shows them."""

from dataclasses import dataclass
from typing import ClassVar

from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.logger import LoggedRun, Logger, numbers
from nanotx.training.trainer import Row

SUFFIX = ".nanotx"
"""Ending of the event files that are ours; those of others in the same folder are left alone."""

FLUSH_SECONDS = 10
"""Seconds until TensorBoard sees a point."""


@Callback.register("tensorboard")
@dataclass(kw_only=True)
class TensorBoard(Logger):
    """Write the numbers of steps and evaluations, and the samples, to event files of TensorBoard."""

    library: ClassVar[str] = "tensorboard"

    def open_sink(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # an optional package, which takes a second

        folder = run.folder / "tensorboard"
        for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
            old.unlink()
        # A purge at step 0 makes a TensorBoard that shows the run at present drop what it has read.
        self.writer = SummaryWriter(str(folder), purge_step=0, filename_suffix=SUFFIX, flush_secs=FLUSH_SECONDS)

    def send(self, row: Row) -> None:
        for key, value in numbers(row).items():
            self.writer.add_scalar(key, value, row["step"])
        if row["event"] == "sample":  # indented: TensorBoard reads it as Markdown
            self.writer.add_text("sample", "    " + row["text"].replace("\n", "\n    "), row["step"])

    def close_sink(self) -> None:
        self.writer.close()
