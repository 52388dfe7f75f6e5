"""What a run prints when it ends: its results, and the commands that continue it or sample from it."""

from nanotx.errors import shell_quoted
from nanotx.recipe import Recipe
from nanotx.recipe_flags import Options
from nanotx.runs.folder import RunFolder
from nanotx.runs.history import error, extent, rate
from nanotx.training.trainer import Progress


def own_flags(options: Options) -> str:
    """Return the flags that import the user's files again, for a command to print."""
    return "".join(f" --load {shell_quoted(file)}" for file in options.load)


def after_stop(progress: Progress, folder: RunFolder, options: Options) -> list[str]:
    """Return the lines of a run that was stopped before it was complete; the last one is a command."""
    path, own = shell_quoted(folder.path), own_flags(options)
    lines = [
        f"Stopped at step {progress.step}, and saved. To continue, or to sample from it:"
        if progress.step
        else "Stopped. To start again:",
        f"nanotx resume {path}{own}{callback_flags(options)}",
    ]
    return [*lines, f"nanotx sample {path}{own}"] if progress.step else lines


def after_end(progress: Progress, recipe: Recipe, folder: RunFolder, options: Options, reported: bool) -> list[str]:
    """Return the lines of a run that is complete; the last one is a command.

    Args:
        progress: of the run.
        recipe: likewise.
        folder: likewise.
        options: of this process.
        reported: whether it has written report.html.
    """
    scores, path, own, lines = progress.scores, shell_quoted(folder.path), own_flags(options), list[str]()
    if progress.skipped:
        lines.append(
            f"{progress.skipped:,} of {progress.step:,} steps were skipped: their loss or gradient was not finite."
        )
    if scores.get("val_loss") is not None:
        part = "; nanotx eval reads all" if scores.get("eval_tokens") else ""
        lines.append(
            f"validation loss {scores['val_loss']:.4f}{error(scores)}, bits per byte "
            f"{rate(scores['bits_per_byte'])}{extent(scores)}{part}"
        )
    if reported:
        lines.append(f"Curves, samples and attention maps are on a page: {path}/{folder.report.name}")
    return [
        *lines,
        "To train it further, or to sample from it:",
        f"nanotx resume {path} --train.steps {2 * recipe.train.steps}{own}{callback_flags(options)}",
        f"nanotx sample {path}{own}",
    ]


def callback_flags(options: Options) -> str:
    """Return the flags that name the user's callbacks again."""
    return "".join(f" --callback {shell_quoted(text)}" for text in options.callback)
