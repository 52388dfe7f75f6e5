"""The one loop: steps, and now and then a look at how it goes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nanotx.evaluate import Score
from nanotx.signals import Interrupted
from nanotx.trainer import Progress, Row, Trainer


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the loop asks for between steps."""

    scores: Callable[[], dict[str, Score]]  # of the training and of the validation text
    sample: Callable[[int], str]  # a text written at this step
    save: Callable[[], None]  # publish a checkpoint
    stop: Callable[[], bool]  # whether to end after this step


def train(trainer: Trainer, looks: Looks) -> Iterator[Row]:
    """Run the recipe to its end, or until told to stop; yields a row for each thing that happens.

    At one step the evaluation comes first, then the sample, then the checkpoint, which holds both. Told to stop
    while it is evaluated, the step is saved at once, and owes its evaluation to whoever goes on.
    """
    progress, plan = trainer.progress, trainer.recipe.train
    if progress.owed:
        yield from look(trainer, looks)
    while progress.step < plan.steps and not looks.stop():
        row = trainer.advance()
        warning = row.pop("warning", "")
        progress.owed = True
        yield row
        if warning:
            yield {"event": "warning", "step": progress.step, "text": warning}
        yield from look(trainer, looks)


def look(trainer: Trainer, looks: Looks) -> Iterator[Row]:
    """What follows a step: as far as it is due, an evaluation, a sample and a checkpoint."""
    progress, plan = trainer.progress, trainer.recipe.train
    step, last = progress.step, progress.step == plan.steps

    def due(every: int) -> bool:
        return last or (every > 0 and step % every == 0)

    try:
        if due(plan.eval_every):
            yield evaluation(progress, looks.scores())
        if due(plan.sample_every):
            yield {"event": "sample", "step": step, "text": looks.sample(step)}
        progress.owed = False
    except Interrupted:
        pass
    if due(plan.checkpoint_every) or looks.stop():
        looks.save()


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
