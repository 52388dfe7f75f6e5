"""The training loop: steps, checkpoints, evaluations and samples."""

import math
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nanotx.errors import MemoryFull, RunError
from nanotx.evaluation.loss import Score
from nanotx.training.signals import EndAtOnce, Interrupted
from nanotx.training.trainer import Progress, Row, Trainer


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Callbacks of the training loop."""

    scores: Callable[[], dict[str, Score]]  # scores of the training and of the validation text
    sample: Callable[[int], str]  # a text sampled at this step
    save: Callable[[], None]  # write a checkpoint
    stop: Callable[[], bool]  # whether to end after this step
    save_requested: Callable[[], bool] = lambda: False  # whether a checkpoint was requested and is not written yet


class Saves:
    """The checkpoints of one process: the step of the newest, and the error of the last one that failed."""

    def __init__(self, progress: Progress, callbacks: Callbacks) -> None:
        self.progress, self.callbacks = progress, callbacks
        self.step = progress.step  # of the newest checkpoint
        self.error: RunError | None = None

    def save(self) -> Iterator[Row]:
        """Write a checkpoint of this step, unless there is one; yield a warning if the disk refuses it.

        The next checkpoint is tried when it is due.
        """
        if self.step == self.progress.step:
            return
        try:
            self.callbacks.save()
        except RunError as error:
            self.error = error
            said = (
                f"step {self.progress.step}: {error} Training continues; the next checkpoint is tried when it is due."
            )
            yield warning(self.progress.step, said)
        else:
            self.step, self.error = self.progress.step, None


def train(trainer: Trainer, callbacks: Callbacks) -> Iterator[Row]:
    """Train until the last step or until `stop`; yield a row for each event.

    Within a step the checkpoint comes first, then the evaluation, then the sample, which the checkpoint records as
    pending: a run that resumes from it does them first.

    Raises:
        Diverged: a number is no longer finite.
        MemoryFull: a step does not fit into memory; those before it are saved.
        RunError: the last checkpoint could not be written.
    """
    progress, plan = trainer.progress, trainer.recipe.train
    saves = Saves(progress, callbacks)
    if progress.eval_pending:
        yield from evaluate_and_sample(trainer, callbacks, saves)
    while progress.step < plan.steps and not callbacks.stop():
        try:
            row = trainer.train_step()
        except MemoryFull:
            if trainer.consistent:  # no weight was moved
                yield from saves.save()
            raise
        said = row.pop("warning", "")
        progress.eval_pending = due(trainer, plan.eval_every) or due(trainer, plan.sample_every)
        yield row
        if said:
            yield warning(progress.step, said)
        if due(trainer, plan.checkpoint_every) or callbacks.save_requested():
            yield from saves.save()
        yield from evaluate_and_sample(trainer, callbacks, saves)
    if callbacks.stop():
        yield from saves.save()
    if saves.error:
        raise saves.error


def due(trainer: Trainer, every: int) -> bool:
    """Return whether something done every `every` steps is due after this one; on the last step everything is."""
    step = trainer.progress.step
    return step == trainer.recipe.train.steps or (every > 0 and step % every == 0)


def evaluate_and_sample(trainer: Trainer, callbacks: Callbacks, saves: Saves) -> Iterator[Row]:
    """Evaluate and sample, if they are due at this step.

    After a request to stop they remain pending. After a request for a checkpoint they are abandoned, the checkpoint is
    written, and they start again.
    """
    progress, plan = trainer.progress, trainer.recipe.train
    todo: list[tuple[str, Callable[[], Row]]] = []
    if due(trainer, plan.eval_every):
        todo.append(("evaluation", lambda: evaluation(progress, callbacks.scores())))
    if due(trainer, plan.sample_every):
        todo.append(
            ("sample", lambda: {"event": "sample", "step": progress.step, "text": callbacks.sample(progress.step)})
        )
    while todo:
        name, make = todo[0]
        try:
            row = attempt(progress.step, name, make)
        except Interrupted:
            yield from saves.save()
            if callbacks.stop():
                return
        else:
            yield row
            todo.pop(0)
    progress.eval_pending = False


def attempt(step: int, name: str, make: Callable[[], Row]) -> Row:
    """Return the row that `make` returns; if it fails, a warning."""
    try:
        return make()
    except (Interrupted, EndAtOnce, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # a library written in Rust panics with a class that is no Exception
        place = traceback.extract_tb(error.__traceback__)[-1]
        return warning(
            step,
            f"step {step}: the {name} failed: {type(error).__name__}: {error!s:.500} "
            f"({place.filename}, line {place.lineno}). Training continues without it.",
        )


def warning(step: int, text: str) -> Row:
    """Return a warning row."""
    return {"event": "warning", "step": step, "text": text}


def evaluation(progress: Progress, scores: dict[str, Score]) -> Row:
    """Return the row of an evaluation, and record it as the last one and, if it is, as the best."""
    training, validation = scores["train"], scores["val"]
    progress.scores = {
        "train_loss": training.loss,
        "val_loss": validation.loss,
        "train_bits_per_byte": training.bits_per_byte,
        "bits_per_byte": validation.bits_per_byte,
        "perplexity": validation.perplexity,
        "val_stderr": validation.stderr,
        "val_tokens": validation.tokens,
        "train_tokens": training.tokens,
        "eval_tokens": validation.asked,
        "wall_seconds": progress.wall_seconds,
    }
    best = progress.best if progress.best.get("eval_tokens", 0) == validation.asked else {}  # of the same windows
    if validation.loss < best.get("val_loss", math.inf):
        progress.best = {"step": progress.step, "val_loss": validation.loss, "eval_tokens": validation.asked}
    return {"event": "eval", "step": progress.step, **progress.scores}
