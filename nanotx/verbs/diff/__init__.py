"""nanotx diff RUN RUN [--step N]: the first step, and the first tensor, in which two runs differ by a bit."""

import dataclasses
from functools import partial
from pathlib import Path

import tyro

from nanotx.config import at_least
from nanotx.errors import RunError
from nanotx.figures import write_figures
from nanotx.flags import parse
from nanotx.folder import RunFolder
from nanotx.recipe_flags import read_options
from nanotx.recorded import Record
from nanotx.registry import load_file
from nanotx.verbs.diff._recipes import check_shapes
from nanotx.verbs.diff._telling import plain, say, tell_course, tell_recipes
from nanotx.verbs.diff._walk import Found, search
from nanotx.verified import while_saved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Names the first step, and the first tensor in the model's order, in which two runs differ by a bit.

    First it tells in what their recipes, corpora and tokenizers differ. Then it takes both again side by side, from the
    newest checkpoints that are equal, or else from the initial weights, and compares all weights after each step.

    Leaves with 0 where no bit differs: of the weights taken again, of the checkpoints of a step that both have, of the
    losses and gradient norms in metrics.jsonl. Leaves with 4 where one does, or where the two cannot be compared.
    """

    runs: tyro.conf.Positional[tuple[str, str]]  # the two runs' folders
    step: int | None = None  # look no further than this step; without it, as far as both are recorded
    json: str = ""  # write what was found into this file
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them


def run(words: list[str]) -> int:
    """Compare."""
    flags = parse(Flags, words, "nanotx diff")
    at_least(flags, 1, "step")
    for file in read_options(words).load:
        load_file(file)
    folders = [RunFolder(Path(folder)).checkpoints for folder in flags.runs]
    one, other = while_saved(partial(opened, flags), *folders)
    for record in (one, other):
        record.check(flags.step or 1)
        for reason in record.passed:
            say(f"passed over: {reason}")
    tell_recipes(one, other)
    check_shapes(one, other)
    last = flags.step or min(one.last, other.last)

    def look() -> Found:
        held = all(path.exists() for record in (one, other) for path in record.checkpoints.values())
        return search(*((one, other) if held else opened(flags)), last)

    found = while_saved(look, *folders)
    tell_course(one, other, found)
    if flags.json:
        write_figures(flags.json, plain(one, other, found))
    return 0 if found.equal else RunError.exit_code


def opened(flags: Flags) -> tuple[Record, Record]:
    """Both runs, read."""
    one, other = (Record(folder) for folder in flags.runs)
    return one, other
