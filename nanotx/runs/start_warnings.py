"""Warnings of a recipe and its text that a run gives before its first step; an experiment gives them for each arm."""

from nanotx.config.schema import fields
from nanotx.optim.schedules import Schedule
from nanotx.recipe import Recipe
from nanotx.training.dataset import Dataset

NOT_ROUND_TRIPPING = (
    "the tokenizer does not round-trip the validation text: it has unknown or normalised characters. Its loss in nats "
    "per token cannot be compared with that of another tokenizer."
)


def text_warnings(recipe: Recipe, texts: Dataset) -> list[str]:
    """Return warnings of a text that is too short, or that the tokenizer does not cover."""
    warnings, val = list[str](), texts.eval_texts["val"]
    if val.unknown:
        warnings.append(
            f"warning: {val.unknown:,} of the {val.tokens:,} tokens to validate on are <unk>: bits per byte cover only "
            "the other tokens, and cannot be compared with another tokenizer's."
        )
    if texts.nuls:
        warnings.append(
            f"warning: {texts.nuls:,} characters of the training text are NUL (U+0000), as in files that are no text: "
            "the model will write them; tr -d '\\000' drops them."
        )
    size, reads = len(texts.windows.ids), recipe.train.batch_size * recipe.model.context
    if size < reads:
        warnings.append(
            f"warning: the training text has {size:,} tokens, and each step reads {reads:,}: the model will memorise "
            "it; try a longer text."
        )
    return warnings


def warmup_warning(schedule: Schedule, steps: int) -> str:
    """Return a warning if the schedule's warm-up is so long that its learning rate is never reached, else ""."""
    best = max(schedule.factor(step, steps) for step in range(0, steps, max(1, steps // 1000)))
    if "warmup" not in fields(type(schedule)) or best > 0.99:
        return ""
    return (
        f"warning: schedule {schedule.part}: its warm-up is too long for {steps:,} steps: the learning rate comes to "
        f"at most {best:.2g} times optimizer.lr; try --schedule.warmup {steps // 10}, or more --train.steps."
    )
