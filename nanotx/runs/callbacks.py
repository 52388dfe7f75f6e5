"""The callbacks that write a run's folder and show it: metrics log, samples, display, checkpoints."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nanotx.errors import RunError, shell_quoted
from nanotx.files import read_regular, write_atomic
from nanotx.hardware.contention import Contention
from nanotx.runs import checkpoint
from nanotx.runs.folder import RunFolder
from nanotx.runs.metrics_log import MetricsLog, copy_aside, read
from nanotx.training.callbacks.base import Callback
from nanotx.training.loop import TrainingRun, failure
from nanotx.training.trainer import Row

SEPARATOR = "\n\n----\n\n"
"""The separator between two texts of samples.txt."""


@runtime_checkable
class Display(Protocol):
    """Where a run is shown: a dashboard, or nothing at all."""

    def say(self, text: str) -> None:
        """Print a line."""

    def shout(self, text: str, title: str) -> None:
        """Print a panel that cannot be missed."""

    def note(self, text: str) -> None:
        """Show a line beside the figures, until the next one."""

    def doing(self, what: str, text: str = "") -> None:
        """Show what the run does until the next row, and its text so far."""

    def recall(self, rows: list[Row]) -> None:
        """Show the earlier rows of a run that is resumed."""

    def show(self, row: Row) -> None:
        """Show a row of the metrics log."""

    def __enter__(self) -> Any:
        """Begin to show rows."""

    def __exit__(self, *_: object) -> None:
        """Show no more rows."""


class Guarded:
    """A display that cannot harm a run: what it raises is kept as `failure`, and not raised.

    The first failure ends the dashboard, and plain lines follow; after the second, only messages are printed.
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.failure = ""  # the first one
        self.failures = 0

    def say(self, text: str) -> None:
        """Print a line."""
        self.attempt(self.display.say, text)

    def shout(self, text: str, title: str) -> None:
        """Print a panel."""
        self.attempt(self.display.shout, text, title)

    def note(self, text: str) -> None:
        """Show a line beside the figures."""
        self.attempt(self.display.note, text)

    def doing(self, what: str, text: str = "") -> None:
        """Show what the run does until the next row."""
        if self.failures < 2:
            self.attempt(self.display.doing, what, text)

    def recall(self, rows: Iterable[Row]) -> None:
        """Show the earlier rows of a run that is resumed."""
        self.attempt(lambda: self.display.recall([*rows]))

    def show(self, row: Row) -> None:
        """Show a row."""
        if self.failures < 2:
            self.attempt(self.display.show, row)

    def __enter__(self) -> "Guarded":
        self.attempt(self.display.__enter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.attempt(self.display.__exit__, None, None, None)

    def attempt(self, call: Callable[..., object], *args: object) -> None:
        """Call a method of the display, and keep what it raises."""
        try:
            call(*args)
        except Exception as error:  # a display must not harm the run, whatever it raises
            self.failure, self.failures = self.failure or failure(error), self.failures + 1
            with suppress(Exception):
                if self.failures == 1:
                    self.display.__exit__(None, None, None)


class Shown(Callback):
    """Show every row on a display; if that fails, warn once."""

    def __init__(self, display: Guarded) -> None:
        self.display, self.warned = display, False

    def on_row(self, run: TrainingRun, row: Row) -> None:
        if row["event"] == "resume":
            self.display.recall(earlier for earlier in run.rows() if earlier != row)
        self.display.show(row)
        if self.display.failure and not self.warned:
            self.warned = True
            run.warn(f"the dashboard: {self.display.failure} Training continues without it.")


class BusyMachine(Callback):
    """Say once what to try, if other programs leave the threads of a run too little of the processor.

    The threads of a run wait for each other several hundred times in a step. Where one of them has to queue for a
    processor, so do all, and fewer threads are then faster.
    """

    STRETCH = 10.0  # seconds over which waiting is measured
    WAITING = 0.5  # threads that wait, on average, from which it is said

    def __init__(self, say: Callable[[str], None], threads: int, contention: Contention | None = None) -> None:
        """Prepare to watch.

        Args:
            say: prints a line.
            threads: of the run.
            contention: measures how many of them wait; begins with the first step if it is not given.
        """
        self.say, self.threads, self.contention, self.done = say, threads, contention, threads == 1

    def on_step(self, run: TrainingRun, row: Row) -> None:
        if self.done:
            return
        self.contention = self.contention or Contention()
        if run.under_way:  # its thread waits too, and makes others wait
            self.contention.waiting_threads()
            return
        if self.contention.seconds < self.STRETCH:
            return
        waiting = self.contention.waiting_threads()
        if waiting >= self.WAITING:
            self.done = True
            self.say(
                f"other programs use this processor: on average {waiting:.1f} of the run's {self.threads} threads "
                "waited for it. One thread may be much faster now: stop with Ctrl-C, and "
                f"nanotx resume {shell_quoted(run.folder)} --threads 1"
            )


class Checkpoints(Callback):
    """Write a checkpoint after a run's first step, every `train.checkpoint_every` steps, and when one is requested.

    The first shows at once whether the state of every part can be saved. With `checkpoint_every` 0 that is checked too,
    and nothing is written.
    """

    def after_step(self, run: TrainingRun) -> None:
        every, first = run.recipe.train.checkpoint_every, run.step == 1
        if run.due(every) or (first and every) or run.stop.save_requested:
            run.save()
        elif first:
            run.trainer.optimizer_state()


class RunFiles(Callback):
    """Write every row to metrics.jsonl, and every sample to samples.txt too.

    While the disk refuses a file, what it lacks is kept in memory, and the run continues.
    """

    def __init__(self, folder: RunFolder, log: MetricsLog, check_place: Any, checkpoint_size: int) -> None:
        """Prepare to write.

        Args:
            folder: of the run.
            log: its metrics log.
            check_place: raises where the folder is another run's by now.
            checkpoint_size: the bytes that a checkpoint takes at least.
        """
        self.folder, self.log, self.check_place = folder, log, check_place
        self.checkpoint_size = checkpoint_size
        self.samples = [row["text"] for row in read(folder.metrics) if row["event"] == "sample"]
        self.unwritten: set[Path] = set()  # files that lack what could not be written

    def on_row(self, run: TrainingRun, row: Row) -> None:
        """Write a row to the metrics log, which is restored if it was removed."""
        self.check_place()
        restored = self.log.restore()
        error = self.log.write(row)
        if restored:
            run.warn(restored)
        self.note_written(run, self.folder.metrics, error)
        if row["event"] == "sample":
            self.samples.append(row["text"])
            self.write_samples(run)

    def write_samples(self, run: TrainingRun) -> None:
        """Publish all texts so far."""
        error = None
        try:
            write_atomic(self.folder.samples, join(self.samples))
        except OSError as refused:
            error = refused
        self.note_written(run, self.folder.samples, error)

    def note_written(self, run: TrainingRun, path: Path, error: OSError | None) -> None:
        """Warn where a file cannot be written, once until it can be again."""
        if error is None:
            self.unwritten.discard(path)
        elif path not in self.unwritten:
            self.unwritten.add(path)
            run.warn(
                f"step {run.step}: {path}: cannot be written: {error.strerror or error}. "
                f"{checkpoint.room(self.folder.checkpoints, self.checkpoint_size)} Training continues; what the "
                "file lacks is kept in memory, and written as soon as the disk takes it."
            )

    @contextmanager
    def synced(self) -> Iterator[None]:
        """Context in which all rows so far are on the disk, and another thread that has a row to write waits.

        Raises:
            RunError: the disk refuses them.
        """
        with self.log.lock:
            try:
                self.log.sync()
            except OSError as error:
                raise RunError(f"{self.folder.metrics}: cannot be flushed: {error.strerror or error}.") from None
            yield

    def finish(self) -> None:
        """Ask the disk once more for what could not be written.

        Raises:
            OSError: it still refuses.
        """
        if self.unwritten:
            if self.folder.samples in self.unwritten:
                write_atomic(self.folder.samples, join(self.samples))
            self.flush()

    def flush(self) -> None:
        """Write all rows that are kept.

        Raises:
            OSError: the disk refuses them.
        """
        if error := self.log.flush():
            raise error


def keep_samples(folder: RunFolder) -> list[str]:
    """Copy samples.txt aside where the metrics log has lost some of its texts; return what to say of that."""
    path = folder.samples
    if not path.exists():
        return []
    texts = [row["text"] for row in read(folder.metrics) if row["event"] == "sample"]
    try:
        known = join(texts).encode("utf-8").startswith(read_regular(path).removesuffix(b"\n"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; move it away, and resume again.") from None
    if known:
        return []
    return [f"{path}: holds texts that {folder.metrics.name} does not; a copy is {copy_aside(path)}."]


def join(samples: list[str]) -> str:
    """Return the content of samples.txt; a lone surrogate that a foreign tokenizer gave is a question mark."""
    return (SEPARATOR.join(samples) + "\n").encode("utf-8", "replace").decode("utf-8")
