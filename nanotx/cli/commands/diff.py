"""Find the first step and tensor where two runs differ."""

import dataclasses
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import write_json
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import LawBroken, printable
from nanotx.runs.diff import Comparison, Divergence, check_shapes, corpora, recipes, search, tokenizers
from nanotx.runs.folder import RunFolder
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import NUMBERS
from nanotx.runs.trainer_state import strict
from nanotx.runs.valid import while_saved

USAGE = "RUN RUN"
GROUP = "Check a run"
ORDER = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Find the first step, and the first tensor in the order of the model, in which two runs differ by a bit.

    First it prints how their recipes, corpora and tokenizers differ. Then it repeats both runs side by side, from the
    newest checkpoints that are equal or else from the initial weights, and compares all weights after each step.

    Exits with 0 where no bit differs: in the repeated weights, in the checkpoints that both have, and in the losses and
    gradient norms of metrics.jsonl. Exits with 1 where one does, and with 4 where the two cannot be compared.

        nanotx diff runs/shakespeare_char-1 runs/shakespeare_char-2
        nanotx diff runs/shakespeare_char-1 runs/shakespeare_char-2 --step 100
    """

    runs: tuple[str, str] = argument("RUN RUN")  # folders of the two runs
    step: int | None = None  # last step to compare; without it, the last that both have recorded
    json: str = option("FILE")  # write the differences to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "step")


def run(argv: list[str]) -> int:
    """Compare."""
    flags = parse(Flags, argv, "nanotx diff")
    for file in flags.load:
        load_file(file)
    folders = [RunFolder(Path(folder)).checkpoints for folder in flags.runs]
    one, other = while_saved(partial(open_runs, flags), *folders)
    for record in (one, other):
        record.check(flags.step or 1)
        for reason in record.skipped:
            print_line(f"skipped: {reason}")
    print_recipe_differences(one, other)
    check_shapes(one, other)
    last = flags.step or min(one.last, other.last)

    def look() -> Comparison:
        held = all(path.exists() for record in (one, other) for path in record.checkpoints.values())
        return search(*((one, other) if held else open_runs(flags)), last)

    found = while_saved(look, *folders)
    print_first_difference(one, other, found)
    if flags.json:
        write_json(flags.json, to_json(one, other, found))
    return 0 if found.equal else LawBroken.exit_code


def open_runs(flags: Flags) -> tuple[RunRecord, RunRecord]:
    """Read the records of both runs."""
    one, other = (RunRecord(folder) for folder in flags.runs)
    return one, other


MAX_VALUE_LENGTH = 60
"""Characters of a recipe's value in the table."""


def print_line(line: str) -> None:
    """Print a line without folding it."""
    Console(highlight=False).print(Text(printable(line)), soft_wrap=True)


def print_recipe_differences(one: RunRecord, other: RunRecord) -> None:
    """Print in what recipes, corpora and tokenizers differ."""
    differing = recipes(one, other)
    if differing:
        cells = [("recipe", one.name, other.name)]
        cells += [(key, format_value(mine), format_value(theirs)) for key, (mine, theirs) in differing.items()]
        tables.print_table(Console(highlight=False), "", cells, sys.stdout.isatty())
    else:
        print_line("recipes: the same")
    for name, (mine, theirs) in (("corpora", corpora(one, other)), ("tokenizers", tokenizers(one, other))):
        short = [f"{digest[:12]}..." for digest in (mine, theirs)]
        print_line(
            f"{name}: {f'the same, SHA-256 {short[0]}' if mine == theirs else f'SHA-256 {short[0]} and {short[1]}'}"
        )


def format_value(value: Any) -> str:
    """Return a value of a recipe as short text."""
    text = "-" if value is None else printable(str(value))
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 3] + "..."


def print_first_difference(one: RunRecord, other: RunRecord, found: Comparison) -> None:
    """Print the first difference, as it is recorded and as the runs are repeated."""
    names = (one.name, other.name)
    if found.recorded is None:
        print_line(f"metrics.jsonl: the same losses and gradient norms up to step {found.last}")
    else:
        rows = [record.steps.get(found.recorded, {}) for record in (one, other)]
        print_line(f"metrics.jsonl: they differ first at step {found.recorded}: {side_by_side(rows)}")
    for step, why in found.saved.items():
        print_line(f"checkpoints of step {step}: they differ as they were saved: {why}")
    if found.begin:
        print_line(f"checkpoints of step {found.begin}: no bit differs")
    origin = f"from the checkpoints of step {found.begin}" if found.begin else "from the initial weights"
    for name, first_mismatch in zip(names, found.first_mismatch, strict=True):
        if first_mismatch:
            print_line(f"{name}, repeated {origin}: step {first_mismatch} differs from its metrics.jsonl")
        elif found.end > found.begin:
            print_line(f"{name}, repeated {origin}: equal to its metrics.jsonl to the bit, up to step {found.end}")
    if found.divergence:
        print_tensor_difference(found.divergence)
    else:
        print_line(f"No bit of the weights differs up to step {found.last}.")


def print_tensor_difference(divergence: Divergence) -> None:
    """Print the step, the tensor and the numbers."""
    if divergence.rows:
        print_line(f"step {divergence.step}: {side_by_side(divergence.rows)}")
        print_line(f"After step {divergence.step} they differ, first in {divergence.difference}.")
    else:
        print_line(f"Before any step they differ, first in {divergence.difference}.")


def side_by_side(rows: Any) -> str:
    """Return the numbers of a step of both runs."""
    return ", ".join(
        f"{name} {rows[0].get(key)!r} and {rows[1].get(key)!r}"
        for key, name in zip(NUMBERS, ("loss", "gradient norm"), strict=True)
    )


def to_json(one: RunRecord, other: RunRecord, found: Comparison) -> dict[str, Any]:
    """Return the differences as plain values."""
    divergence, first = found.divergence, None
    if divergence:
        rows = [strict(row) for row in divergence.rows or ()]
        numbers = {key: [row[key] for row in rows] for key in NUMBERS}
        first = {"step": divergence.step, **numbers, **strict(asdict(divergence.difference))}
    return {
        "runs": [one.name, other.name],
        "equal": found.equal,
        "recipe": {key: list(values) for key, values in recipes(one, other).items()},
        "corpus_sha256": corpora(one, other),
        "tokenizer_sha256": tokenizers(one, other),
        "journal_step": found.recorded,
        "checkpoints": found.saved,
        "from_step": found.begin,
        "last_step": found.end,
        "first_mismatch": found.first_mismatch,
        "first": first,
    }
