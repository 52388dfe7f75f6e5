"""nanotx diff RUN RUN [--step N]: the first step, and the first tensor, in which two runs differ by a bit."""

import dataclasses
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import write_figures
from nanotx.config.flags import parse
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import RunError, printable
from nanotx.recipe import read_options
from nanotx.runs.diff import Found, Parting, check_shapes, corpora, recipes, search, tokenizers
from nanotx.runs.folder import RunFolder
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import NUMBERS
from nanotx.runs.trainer_state import strict
from nanotx.runs.valid import while_saved


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
    check_min(flags, 1, "step")
    for file in read_options(words).load:
        load_file(file)
    folders = [RunFolder(Path(folder)).checkpoints for folder in flags.runs]
    one, other = while_saved(partial(opened, flags), *folders)
    for record in (one, other):
        record.check(flags.step or 1)
        for reason in record.skipped:
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


def opened(flags: Flags) -> tuple[RunRecord, RunRecord]:
    """Both runs, read."""
    one, other = (RunRecord(folder) for folder in flags.runs)
    return one, other


LONGEST = 60
"""Characters of a recipe's value in the table."""


def say(line: str) -> None:
    """A line that is not folded."""
    Console(highlight=False).print(Text(printable(line)), soft_wrap=True)


def tell_recipes(one: RunRecord, other: RunRecord) -> None:
    """In what they were told otherwise."""
    differing = recipes(one, other)
    if differing:
        cells = [("recipe", one.name, other.name)]
        cells += [(key, cell(mine), cell(theirs)) for key, (mine, theirs) in differing.items()]
        tables.show(Console(highlight=False), "", cells, sys.stdout.isatty())
    else:
        say("recipes: the same")
    for name, (mine, theirs) in (("corpora", corpora(one, other)), ("tokenizers", tokenizers(one, other))):
        short = [f"{digest[:12]}..." for digest in (mine, theirs)]
        say(f"{name}: {f'the same, SHA-256 {short[0]}' if mine == theirs else f'SHA-256 {short[0]} and {short[1]}'}")


def cell(value: Any) -> str:
    """A recipe's value, in short."""
    text = "-" if value is None else printable(str(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def tell_course(one: RunRecord, other: RunRecord, found: Found) -> None:
    """Where they part, as they are recorded and as they are taken again."""
    names = (one.name, other.name)
    if found.journal is None:
        say(f"metrics.jsonl: the same losses and gradient norms up to step {found.last}")
    else:
        rows = [record.steps.get(found.journal, {}) for record in (one, other)]
        say(f"metrics.jsonl: they differ first at step {found.journal}: {beside(rows)}")
    for step, why in found.saved.items():
        say(f"checkpoints of step {step}: they differ as they were saved: {why}")
    if found.begin:
        say(f"checkpoints of step {found.begin}: no bit differs")
    origin = f"from the checkpoints of step {found.begin}" if found.begin else "from the initial weights"
    for name, first_mismatch in zip(names, found.first_mismatch, strict=True):
        if first_mismatch:
            say(f"{name}, taken again {origin}: step {first_mismatch} gave other numbers than its metrics.jsonl holds")
        elif found.end > found.begin:
            say(f"{name}, taken again {origin}: up to step {found.end} the numbers of its metrics.jsonl, to the bit")
    if found.parting:
        tell_parting(found.parting)
    else:
        say(f"No bit of the weights differs up to step {found.last}.")


def tell_parting(parting: Parting) -> None:
    """The step, the tensor, the numbers."""
    if parting.rows:
        say(f"step {parting.step}: {beside(parting.rows)}")
        say(f"After step {parting.step} they differ, first in {parting.difference}.")
    else:
        say(f"Before any step they differ, first in {parting.difference}.")


def beside(rows: Any) -> str:
    """The numbers of a step of both."""
    return ", ".join(
        f"{name} {rows[0].get(key)!r} and {rows[1].get(key)!r}"
        for key, name in zip(NUMBERS, ("loss", "gradient norm"), strict=True)
    )


def plain(one: RunRecord, other: RunRecord, found: Found) -> dict[str, Any]:
    """All of it, as JSON holds it."""
    parting, first = found.parting, None
    if parting:
        rows = [strict(row) for row in parting.rows or ()]
        numbers = {key: [row[key] for row in rows] for key in NUMBERS}
        first = {"step": parting.step, **numbers, **strict(asdict(parting.difference))}
    return {
        "runs": [one.name, other.name],
        "equal": found.equal,
        "recipe": {key: list(values) for key, values in recipes(one, other).items()},
        "corpus_sha256": corpora(one, other),
        "tokenizer_sha256": tokenizers(one, other),
        "journal_step": found.journal,
        "checkpoints": found.saved,
        "from_step": found.begin,
        "last_step": found.end,
        "first_mismatch": found.first_mismatch,
        "first": first,
    }
