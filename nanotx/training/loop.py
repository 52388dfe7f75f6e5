"""The one loop: steps, and now and then a look at how it goes."""

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
    """What the loop asks for between steps."""

    scores: Callable[[], dict[str, Score]]  # of the training and of the validation text
    sample: Callable[[int], str]  # a text written at this step
    save: Callable[[], None]  # publish a checkpoint
    stop: Callable[[], bool]  # whether to end after this step
    save_requested: Callable[[], bool] = lambda: False  # whether a checkpoint was asked for, and is not yet written


class Saves:
    """The checkpoints of one process: of which step the newest is, and what kept the last one from being written."""

    def __init__(self, progress: Progress, callbacks: Callbacks) -> None:
        self.progress, self.callbacks = progress, callbacks
        self.step = progress.step  # of the newest checkpoint
        self.error: RunError | None = None

    def save(self) -> Iterator[Row]:
        """Publish a checkpoint of this step, unless there is one; yields a warning where the disk refuses.

        The next one is tried when it is due: memory holds everything until then.
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
    """Run the recipe to its end, or until an end is asked for; yields a row for each thing that happens.

    At one step the checkpoint comes first, then the evaluation, then the sample. The checkpoint says that they are
    owed: a run that resumes from it begins with them. So nothing that goes wrong in them can cost it.

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
    """Whether something that comes every so many steps comes after this one; the last step has everything."""
    step = trainer.progress.step
    return step == trainer.recipe.train.steps or (every > 0 and step % every == 0)


def evaluate_and_sample(trainer: Trainer, callbacks: Callbacks, saves: Saves) -> Iterator[Row]:
    """The evaluation and the sample of a step, as far as they are due.

    Asked for an end meanwhile, the step still owes them. Asked for a checkpoint, what was begun is abandoned, the
    checkpoint written, and it is begun again.
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
    """The row that something makes; where it fails, in whatever way, a warning that says so."""
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
    """The row of something that should be known."""
    return {"event": "warning", "step": step, "text": text}


def evaluation(progress: Progress, scores: dict[str, Score]) -> Row:
    """The row of an evaluation, kept as the last one and, where it is, as the best."""
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
