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
from nanotx.runs.diff import Comparison, Divergence, check_shapes, corpora, loaded_files, recipes, search, tokenizers
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
    """Compare two runs, print the first difference, and return the exit code."""
    flags = parse(Flags, argv, "nanotx diff")
    for file in flags.load:
        load_file(file)
    folders = [RunFolder(Path(folder)).checkpoints for folder in flags.runs]
    first, second = while_saved(partial(open_runs, flags), *folders)
    for record in (first, second):
        record.check(flags.step or 1)
        for reason in record.skipped:
            print_line(f"skipped: {reason}")
    print_recipe_differences(first, second)
    print_code_differences(first, second)
    check_shapes(first, second)
    last = flags.step or min(first.last, second.last)

    def compare() -> Comparison:
        complete = all(path.exists() for record in (first, second) for path in record.checkpoints.values())
        return search(*((first, second) if complete else open_runs(flags)), last)

    comparison = while_saved(compare, *folders)
    print_first_difference(first, second, comparison)
    if flags.json:
        write_json(flags.json, to_json(first, second, comparison))
    return 0 if comparison.equal else LawBroken.exit_code


def open_runs(flags: Flags) -> tuple[RunRecord, RunRecord]:
    """Read the records of both runs."""
    first, second = (RunRecord(folder) for folder in flags.runs)
    return first, second


MAX_VALUE_LENGTH = 60
"""Characters of a recipe's value in the table."""


def print_line(line: str) -> None:
    """Print a line without folding it."""
    Console(highlight=False).print(Text(printable(line)), soft_wrap=True)


def print_recipe_differences(first: RunRecord, second: RunRecord) -> None:
    """Print how the recipes, corpora and tokenizers of two runs differ."""
    differing = recipes(first, second)
    if differing:
        cells = [("recipe", first.name, second.name)]
        cells += [(key, format_value(left), format_value(right)) for key, (left, right) in differing.items()]
        tables.print_table(Console(highlight=False), "", cells, sys.stdout.isatty())
    else:
        print_line("recipes: the same")
    for name, (left, right) in (("corpora", corpora(first, second)), ("tokenizers", tokenizers(first, second))):
        short = [f"{digest[:12]}..." for digest in (left, right)]
        print_line(
            f"{name}: {f'the same, SHA-256 {short[0]}' if left == right else f'SHA-256 {short[0]} and {short[1]}'}"
        )


def print_code_differences(first: RunRecord, second: RunRecord) -> None:
    """Print whether two runs were trained with the same files of the user, if one of them was trained with any."""
    left, right = loaded_files(first, second)
    if left or right:
        same = sorted(left.values()) == sorted(right.values())
        texts = [
            ", ".join(f"{name} SHA-256 {digest[:12]}..." for name, digest in each.items()) or "none"
            for each in (left, right)
        ]
        print_line(f"files of --load: {f'the same, {texts[0]}' if same else ' and '.join(texts)}")


def format_value(value: Any) -> str:
    """Return a value of a recipe as short text."""
    text = "-" if value is None else printable(str(value))
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 3] + "..."


def print_first_difference(first: RunRecord, second: RunRecord, comparison: Comparison) -> None:
    """Print the first difference, as it is recorded and as the runs are repeated."""
    names = (first.name, second.name)
    if comparison.recorded is None:
        print_line(f"metrics.jsonl: the same losses and gradient norms up to step {comparison.last}")
    else:
        rows = [record.steps.get(comparison.recorded, {}) for record in (first, second)]
        print_line(f"metrics.jsonl: they differ first at step {comparison.recorded}: {side_by_side(rows)}")
    for step, why in comparison.saved.items():
        print_line(f"checkpoints of step {step}: they differ as they were saved: {why}")
    if comparison.begin:
        print_line(f"checkpoints of step {comparison.begin}: no bit differs")
    origin = f"from the checkpoints of step {comparison.begin}" if comparison.begin else "from the initial weights"
    for line in comparison.edited:
        print_line(line)
    for name, first_mismatch in zip(names, comparison.first_mismatch, strict=True):
        if first_mismatch:
            print_line(f"{name}, repeated {origin}: step {first_mismatch} differs from its metrics.jsonl")
        elif comparison.end > comparison.begin:
            print_line(f"{name}, repeated {origin}: equal to its metrics.jsonl to the bit, up to step {comparison.end}")
    if comparison.divergence:
        print_tensor_difference(comparison.divergence)
    elif comparison.saved:
        print_line(
            f"Repeated by one process, no bit of the weights differs up to step {comparison.last}; as they were saved, "
            "they differ: sums of several processes may have had another order (--reduce fast)."
        )
    else:
        print_line(f"No bit of the weights differs up to step {comparison.last}.")


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


def to_json(first: RunRecord, second: RunRecord, comparison: Comparison) -> dict[str, Any]:
    """Return the differences as plain values."""
    divergence, difference = comparison.divergence, None
    if divergence:
        rows = [strict(row) for row in divergence.rows or ()]
        numbers = {key: [row[key] for row in rows] for key in NUMBERS}
        difference = {"step": divergence.step, **numbers, **strict(asdict(divergence.difference))}
    return {
        "runs": [first.name, second.name],
        "equal": comparison.equal,
        "recipe": {key: list(values) for key, values in recipes(first, second).items()},
        "corpus_sha256": corpora(first, second),
        "tokenizer_sha256": tokenizers(first, second),
        "loaded_files": loaded_files(first, second),
        "journal_step": comparison.recorded,
        "checkpoints": comparison.saved,
        "from_step": comparison.begin,
        "last_step": comparison.end,
        "first_mismatch": comparison.first_mismatch,
        "first": difference,
    }
