"""Check every file of a run, and evaluate it again."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import write_json
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import NanotxError, RunError, printable
from nanotx.report.check import check_report
from nanotx.runs import checkpoint
from nanotx.runs.folder import RunFolder, not_a_run
from nanotx.runs.loaded_files import edits_in
from nanotx.runs.record import valid_checkpoints
from nanotx.runs.verify import (
    Check,
    EvalMachine,
    attempt,
    check_checkpoint,
    check_copies,
    check_metrics_log,
    check_recipe,
    check_summary,
    check_tokenizer_file,
    check_val_loss,
)

USAGE = "RUN"
GROUP = "Check a run"
ORDER = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Check a run folder: recipe, tokenizer, metrics log, summary, report, and every checkpoint.

    The newest valid checkpoint whose step was evaluated is evaluated again. On the machine of the run, with its device,
    dtype and threads, the validation loss equals the recorded one to the last bit; elsewhere it may differ a little,
    and the difference is printed.

    Exits with 0 where every check holds, and with 4 where one fails or could not be made.

        nanotx verify runs/shakespeare_char-1
        nanotx verify runs/shakespeare_char-1 --device cpu --json checks.json
    """

    folder: str = argument("RUN")  # folder of the run
    json: str = option("FILE")  # write the checks to this file
    device: Literal["run", "auto", "cpu", "cuda", "mps"] = "run"  # device of the evaluation; run for that of the run
    dtype: Literal["run", "auto", "float32", "bfloat16", "float16"] = "run"  # type of the arithmetic; run as in the run
    threads: int = 0  # processor threads; 0 for as many as the run had
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "threads")


def run(argv: list[str]) -> int:
    """Check the run folder, print the checks, and return the exit code."""
    flags = parse(Flags, argv, "nanotx verify")
    for file in flags.load:
        load_file(file)
    folder = RunFolder(Path(flags.folder))
    if not folder.is_run:
        raise not_a_run(flags.folder)
    checks = list(all_checks(folder, EvalMachine(device=flags.device, dtype=flags.dtype, threads=flags.threads)))
    count = Counter(check.result for check in checks)
    console = Console(highlight=False)
    cells = [("check", "result", "detail"), *((check.name, check.result, printable(check.detail)) for check in checks)]
    tables.print_table(console, "", cells, sys.stdout.isatty(), ("fails", "not made"), left=3)
    valid = count["holds"] == len(checks)
    failures = ", ".join(f"{number} {result}" for result, number in count.items() if result != "holds")
    verdict = f"all {len(checks)} checks hold" if valid else f"of {len(checks)} checks {failures}"
    console.print(Text(f"{flags.folder}: {verdict}."), soft_wrap=True)
    if flags.json:
        write_json(flags.json, {"run": flags.folder, "sound": valid, "checks": [check.plain() for check in checks]})
    return 0 if valid else RunError.exit_code


def all_checks(folder: RunFolder, where: EvalMachine) -> Iterator[Check]:
    """Yield every check of a run folder, in order."""
    paths, valid, seen = checkpoint.steps(folder.checkpoints), list[Path](), set[Path]()
    yield check_recipe(folder, edits_in(folder.path))
    tokenizer, codec = check_tokenizer_file(folder)
    yield tokenizer
    if not paths:
        yield Check(name="checkpoints", result="fails", detail=f"{folder.checkpoints}: there is no checkpoint")
    while left := [path for path in paths.values() if path not in seen]:
        seen.add(left[0])
        checks = list(check_checkpoint(left[0], None if valid else codec))
        if not (left[0].exists() or left[0].is_symlink()):  # removed since by a process that trains the run
            paths = checkpoint.steps(folder.checkpoints)
            continue
        yield from checks
        valid += [left[0]] if {check.result for check in checks} == {"holds"} else []
    if valid and (code := check_loaded_files(folder, valid)):
        yield code
    yield check_metrics_log(folder, newest=max(checkpoint.steps(folder.checkpoints), default=0))
    if folder.summary.exists():  # a run that was killed has none
        yield check_summary(folder)
    if folder.report.exists():
        yield attempt("report.html", partial(check_report, folder.report))
    yield check_evaluation(folder, valid, where)


def check_loaded_files(folder: RunFolder, valid: list[Path]) -> Check | None:
    """Run `check_copies` on a checkpoint that the training process does not remove in the meantime."""
    while valid:
        try:
            return check_copies(folder, valid[0])
        except (NanotxError, OSError):
            if valid[0].exists():
                raise
        valid = list(valid_checkpoints(folder)[0].values())
    return None


def check_evaluation(folder: RunFolder, valid: list[Path], where: EvalMachine) -> Check:
    """Run `check_val_loss` on a checkpoint that the training process does not remove in the meantime."""
    while True:
        try:
            check = check_val_loss(folder, valid, where)
        except (NanotxError, OSError):
            if all(path.exists() for path in valid):
                raise
        else:
            if check.result == "holds" or all(path.exists() for path in valid):
                return check
        valid = list(valid_checkpoints(folder)[0].values())
