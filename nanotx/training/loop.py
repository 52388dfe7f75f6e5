"""The training loop, and the callbacks that watch it.

The loop takes steps. Each step is a row, which every callback sees: first those of the user, which may add to it, then
those of nanotx, which write the row to the metrics log and show it. When the row is written, longer work is due:
a checkpoint, an evaluation, a sample. What happens there is a row too.
"""

import math
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanotx.config.registry import file_of
from nanotx.config.schema import INT_LIMIT
from nanotx.errors import MemoryFull, NanotxError, RankLost, RunError
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec
from nanotx.training.callbacks.base import Callback
from nanotx.training.saving import BackgroundSave
from nanotx.training.signals import EndAtOnce, Interrupted, Stop, ends_at_once, process_ends
from nanotx.training.trainer import Row as Row
from nanotx.training.trainer import Trainer


class TrainingRun:
    """A run as it trains: the loop, and what its callbacks look at."""

    def __init__(
        self,
        trainer: Trainer,
        *,
        callbacks: Sequence[Callback] = (),
        own: Sequence[Callback] = (),
        save: Callable[[], Callable[[], str] | None],
        stop: Stop,
        tokenizer: Codec,
        folder: Path,
        note: Callable[[str], None] = lambda text: None,
        doing: Callable[[str, str], None] = lambda what, text: None,
        rows: Callable[[], Iterable[Row]] = tuple,
    ) -> None:
        """Prepare to train.

        Args:
            trainer: the model, its optimizer and its data.
            callbacks: of the user; one that raises is left out from there on.
            own: callbacks of nanotx, called after those; what they raise ends the run.
            save: writes a checkpoint; or copies the state and returns what writes the copy, which another thread calls
                while steps are taken, and which returns a warning or "".
            stop: requests that came by signals.
            tokenizer: of the run.
            folder: of the run.
            note: shows a line beside the run's figures.
            doing: shows what the run does until the next row, such as "sample", and the text of it so far.
            rows: reads the metrics log so far; of a run that resumes, without the steps that are taken again.
        """
        self.trainer, self.callbacks, self.own = trainer, list(callbacks), list(own)
        self.tokenizer, self.folder, self.note, self.doing, self.rows = tokenizer, folder, note, doing, rows
        self.stop = stop
        self.saved = trainer.progress.step  # the step of the newest checkpoint that is published
        self.under_way: BackgroundSave | None = None  # the checkpoint that is being written
        self.refused: RunError | None = None  # why the last checkpoint could not be written
        self._write_checkpoint = save
        self._stop_requested = self._interrupted = False
        self._warned: set[tuple[int, str]] = set()  # (callback id, message) pairs already warned about
        self._asking = False  # whether a callback of the user is looking at a row that is not written yet
        self._queued: list[str] = []  # its warnings

    # What a callback looks at.

    @property
    def step(self) -> int:
        """The number of steps taken."""
        return self.trainer.progress.step

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return self.recipe.train.steps

    @property
    def recipe(self) -> Recipe:
        """The recipe, with device, dtype and batch as they were resolved."""
        return self.trainer.recipe

    @property
    def model(self) -> Transformer:
        """The model, in training mode."""
        return self.trainer.model

    # What a callback may ask for.

    def due(self, every: int) -> bool:
        """Return whether something done every `every` steps is due after this one; on the last step everything is."""
        return self.step == self.steps or (every > 0 and self.step % every == 0)

    def request_stop(self) -> None:
        """End the run after this step, with a checkpoint; it can be resumed."""
        self._stop_requested = True

    @property
    def stopping(self) -> bool:
        """Whether the run ends after this step, as a signal or a callback asked."""
        return self._stop_requested or self.stop()

    def warn(self, text: str, kind: str = "", step: int | None = None) -> None:
        """Log and show a warning about a step; a callback's comes after the row that it is looking at.

        Args:
            text: the warning.
            kind: "reset" where a module changed its own weights, which the loss shows.
            step: an earlier step that it is about; without it, this one.
        """
        if self._asking:
            self._queued.append(text)
        else:
            row = {"event": "warning", "step": self.step if step is None else step, "text": text}
            self.publish(row | ({"kind": kind} if kind else {}))

    def publish(self, row: Row) -> None:
        """Show a row to all callbacks: the user's may add to it, then it is written and shown.

        For the callbacks of nanotx; those of the user add keys to the rows that they are given.
        """
        for callback in list(self.callbacks):
            self._ask(callback, row)
        for callback in self.own:
            callback.on_row(self, row)
        queued, self._queued = self._queued, []
        for text in queued:
            self.warn(text)

    # The loop.

    def train(self) -> None:
        """Train until the last step, or until a stop is requested.

        Raises:
            Diverged: a number is no longer finite.
            MemoryFull: a step does not fit into memory; those before it are saved.
            RankLost: a process that trains with this one no longer answers; likewise, where no state went with it.
            RunError: the last checkpoint could not be written.
        """
        try:
            self.take_steps()
            self.finish_save()
        except EndAtOnce:
            self._leave_save()
            raise
        except BaseException:
            with suppress(NanotxError):  # the first error is the one to report
                self.finish_save()
            raise
        if self.refused:
            raise self.refused

    def take_steps(self) -> None:
        """Take the steps that are left, as `train` does; the last checkpoint may still be under way."""
        progress, plan = self.trainer.progress, self.recipe.train
        if progress.eval_pending:
            self.after_step()
        try:
            for row in () if self.stopping else self.trainer.rows():
                warning, kind = row.pop("warning", ""), row.pop("kind", "")
                progress.eval_pending = self.due(plan.eval_every) or self.due(plan.sample_every)
                self.publish(row)
                self.trainer.release_gradients()
                if warning:
                    self.warn(warning, kind)
                self.finish_save(wait=False)
                self.after_step()
                if self.stopping:
                    break
        except (MemoryFull, RankLost):
            if self.trainer.consistent and self.trainer.ranks.has_whole_state:  # no weight was moved
                self.save_and_wait()
            raise
        if self.stopping:
            self.save_and_wait()

    def close(self) -> None:
        """Let the user's callbacks release what they hold, however the run ended."""
        for callback in list(self.callbacks):
            self._guard(callback, callback.close)

    def after_step(self) -> None:
        """Do the longer work of this step: a checkpoint, which records the rest as pending, an evaluation, a sample.

        What a stop interrupts remains pending, and the run that resumes does it first.
        """
        for callback in list(self.callbacks):
            self._guard(callback, lambda: callback.after_step(self))  # noqa: B023  called at once
        self._interrupted = False
        for callback in self.own:
            callback.after_step(self)
            if self._interrupted:
                return
        self.trainer.progress.eval_pending = False

    def attempt(self, name: str, make: Callable[[], Row]) -> None:
        """Publish the row that `make` returns; if it fails, a warning.

        If a checkpoint is requested meanwhile, `make` is abandoned, and run again after it; if a stop is requested, it
        stays pending.
        """
        while True:
            try:
                self.doing(name, "")
                row = make()
            except Interrupted:
                self.save()
                if self.stopping:
                    self._interrupted = True
                    return
            except (EndAtOnce, KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # a library written in Rust panics with a class that is no Exception
                if self.trainer.ranks.lost:
                    raise
                self.warn(f"step {self.step}: the {name} failed: {failure(error)} Training continues without it.")
                return
            else:
                self.publish(row)
                return

    def check(self) -> None:
        """Raise Interrupted if a stop, or a checkpoint not yet written, is requested; called within longer work."""
        if self.step in (self.saved, self.step_under_way):
            self.stop.save_requested = False
        self.stop.check()

    def save(self) -> None:
        """Begin a checkpoint of this step, unless there is one; if the disk refuses it, warn.

        It is written while the next steps are taken, after the one that is under way. The next checkpoint is tried when
        it is due. A callback's request is done when the row of the step is written.
        """
        if self._asking:  # the row of this step is not written yet
            self.stop.save_requested = True
            return
        self.stop.save_requested = False
        if self.step in (self.saved, self.step_under_way):
            return
        self.finish_save()
        try:
            write = self._write_checkpoint()
        except RunError as error:
            self._refuse(self.step, error)
            return
        if write is None:
            self._saved(self.step)
        else:
            self.under_way = BackgroundSave(self.step, write)

    def save_and_wait(self) -> None:
        """Write a checkpoint of this step, unless there is one; return when it is published or refused."""
        self.finish_save()
        self.save()
        self.finish_save()

    @property
    def step_under_way(self) -> int | None:
        """The step of the checkpoint that is being written, if there is one."""
        return self.under_way.step if self.under_way else None

    def finish_save(self, wait: bool = True) -> None:
        """Report the checkpoint that is under way when it is published or refused.

        Args:
            wait: until then; otherwise it is reported only if that has come.
        """
        under_way = self.under_way
        if under_way is None or not (wait or under_way.done):
            return
        under_way.wait()
        self.under_way = None
        try:
            warning = under_way.result()
        except RunError as error:
            self._refuse(under_way.step, error)
            return
        if warning:
            self.warn(warning)
        self._saved(under_way.step)

    def _refuse(self, step: int, error: RunError) -> None:
        """Warn of a checkpoint that cannot be written; a later one may be."""
        if self.trainer.ranks.lost:
            raise error
        self.refused = error
        text = f"step {step}: {error} Training continues; the next checkpoint is tried when it is due."
        self.warn(text, step=step)

    def _saved(self, step: int) -> None:
        """Report a checkpoint that is published."""
        self.saved, self.refused = step, None
        self.publish({"event": "checkpoint", "step": step})

    def _leave_save(self) -> None:
        """Let the process end without the checkpoint that is under way; one that goes on waits for it."""
        if self.under_way is None:
            return
        if process_ends.get():
            ends_at_once.set(True)
        else:
            self.under_way.wait()

    def _ask(self, callback: Callback, row: Row) -> None:
        """Show a row to a callback of the user; keep the plain keys that it adds, and warn once about others."""
        keys = dict(row)

        def ask() -> None:
            callback.on_row(self, row)
            if (refused := restore(row, keys)) and (id(callback), refused) not in self._warned:
                self._warned.add((id(callback), refused))
                self.warn(f"{describe(callback)}: {refused}.")

        self._asking = True
        try:
            if not self._guard(callback, ask):
                row.clear()
                row |= keys
        finally:
            self._asking = False

    def _guard(self, callback: Callback, call: Callable[[], None]) -> bool:
        """Call a callback of the user; return whether it succeeds. If it raises, warn, and do not call it again."""
        try:
            with torch.no_grad():
                call()
        except (Exception, SystemExit) as error:  # it may raise anything
            self.callbacks = [other for other in self.callbacks if other is not callback]
            self.warn(f"{describe(callback)}: {failure(error)} Training continues without it.")
            return False
        finally:
            self.model.train()
        return True


LONGEST_TEXT = 1 << 20
"""Characters of a text that a callback may add to a row."""


def describe(callback: Callback) -> str:
    """Return a callback, and the file that it is from."""
    part = type(callback)
    return f"callback {part.part or part.__name__!r} ({file_of(part) or part.__module__})"


def failure(error: BaseException) -> str:
    """Return an error, and where it arose, as a sentence."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    try:
        message = f"{error!s:.500}"
    except Exception:  # of a class of the user's own
        message = "its message cannot be read"
    return f"{type(error).__name__}: {message} ({place.filename}, line {place.lineno})."


def restore(row: Row, keys: Row) -> str:
    """Restore a row's own keys, and convert added values to plain ones; return what was refused and why, or "".

    Tensors and arrays of one number become that number; what is neither number nor text is left out.
    """
    changed = [key for key, value in keys.items() if row.get(key, math.nan) is not value]
    row |= keys
    refused = [key for key in row.keys() - keys.keys() if not isinstance(key, str)]
    for key in sorted(row.keys() - keys.keys() - set(refused)):
        row[key] = plain(row[key])
        if row[key] is None:
            refused.append(key)
    for key in refused:
        del row[key]
    wrong = [f"{key!r} was there before and keeps its value" for key in changed]
    wrong += [f"{key!r} is neither a number nor a text of at most {LONGEST_TEXT:,} characters" for key in refused]
    return "; ".join(wrong)


def plain(value: Any) -> int | float | str | None:
    """Return a value as a number or a text that JSON can hold; None if it is neither."""
    if isinstance(value, Tensor):
        value = value.detach()
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):  # a tensor, or a number of NumPy
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -INT_LIMIT < value < INT_LIMIT else None
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return None
    return value if isinstance(value, float | str) else None
