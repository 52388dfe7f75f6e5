"""The checkpoints of a run as one process writes them: what is probed, copied, waited for, written and kept.

`trainer_state.py` decides what a checkpoint contains, and `checkpoint.py` writes it. Here a step goes on while its
checkpoint is written, where there is memory for a copy of the state.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nanotx.errors import is_memory_full
from nanotx.hardware.memory import GIB, leaves_as_much
from nanotx.runs import checkpoint
from nanotx.runs.callbacks import RunFiles
from nanotx.runs.folder import RunFolder
from nanotx.runs.loaded_files import RecordedFile
from nanotx.runs.trainer_state import Contents, contents, prune, publish
from nanotx.runs.valid import Proven
from nanotx.training.dataset import Dataset
from nanotx.training.loop import TrainingRun
from nanotx.training.trainer import Trainer


class CheckpointWriter:
    """Write the checkpoints of a run, and remove those that are no longer needed."""

    def __init__(self, trainer: Trainer, texts: Dataset, folder: RunFolder, check_place: Callable[[], None]) -> None:
        """Prepare to write.

        Args:
            trainer: whose state is saved.
            texts: its data.
            folder: of the run, whose lock this process holds.
            check_place: raises where the folder is another run's by now.
        """
        self.trainer, self.texts, self.folder, self.check_place = trainer, texts, folder, check_place
        self.proven = Proven()  # remembers which checkpoints verify
        self.waits = False  # training has waited for a checkpoint that there was no memory to copy
        self.kept: set[Path] = set()  # old checkpoints that are not removed, because files were added to them

    @property
    def size(self) -> int:
        """The bytes that a checkpoint takes at least: the weights, their average if there is one, and the buffers."""
        size = sum(tensor.nbytes for tensor in self.trainer.model.parameters())
        buffers = sum(tensor.nbytes for tensor in self.trainer.buffers.tensors().values())
        return (size * 2 if self.trainer.ema else size) + buffers

    def probe(self) -> None:
        """Check that a checkpoint can be written.

        Raises:
            RunError: the folder cannot be written, or the disk has too little space.
        """
        checkpoint.probe(self.folder.checkpoints, self.size)

    def clear_temporary(self) -> None:
        """Remove temporary files of checkpoints that killed processes left."""
        checkpoint.clear_temporary(self.folder.path, self.folder.checkpoints, sound=self.proven)

    def save(self, run: TrainingRun, files: RunFiles, loaded: Sequence[RecordedFile]) -> Callable[[], str] | None:
        """Copy the state of this step, and return what writes it; where there is no memory for a copy, write it here.

        The first checkpoint of a run is written here too: it shows whether the disk takes one.

        Args:
            run: warns the user.
            files: of the run; all their rows so far are on the disk before the checkpoint is.
            loaded: the files that this process imported by --load.
        """
        self.check_place()
        now = contents(self.trainer, self.texts, loaded)
        if now.step > 1 and (copied := self.copied(now, run)) is not None:
            return partial(self.write, copied, files)
        if warning := self.write(now, files):
            run.warn(warning)
        return None

    def copied(self, now: Contents, run: TrainingRun) -> Contents | None:
        """Return a copy of a checkpoint's contents; None where there is no memory for it, which is said once."""
        needed = now.copy_nbytes
        try:
            if leaves_as_much(needed):
                return now.copied()
        except (MemoryError, RuntimeError) as error:
            if not is_memory_full(error):
                raise
        if not self.waits:
            self.waits = True
            run.warn(
                f"step {now.step}: too little memory is free for a copy of {needed / GIB:,.2f} GiB, which would be "
                "written while training continues; training waits for each checkpoint."
            )
        return None

    def write(self, contents: Contents, files: RunFiles) -> str:
        """Publish a checkpoint, after all rows so far are flushed to the disk; return a warning, or ""."""
        return self.describe_kept(publish(contents, self.folder, self.proven, self.check_place, files.synced()))

    def prune(self, newest: int) -> str:
        """Remove the checkpoints that are no longer needed when the run ends; return a warning, or "".

        Args:
            newest: the step of the last one; 0 where there is none.
        """
        return self.describe_kept(prune(self.trainer, self.folder, newest, self.proven) if newest else [])

    def describe_kept(self, paths: list[Path]) -> str:
        """Return a warning about old checkpoints that are kept because they hold files that nanotx did not write.

        Each is named once; without any, it is "".
        """
        new = [path for path in paths if path not in self.kept]
        self.kept.update(new)
        if not new:
            return ""
        names = ", ".join(path.name for path in new)
        return (
            f"{self.folder.checkpoints}: {names}: no longer needed, but kept: it was changed, or holds "
            "files that nanotx did not write. Remove it, or move it to another folder."
        )
