"""Repeat a step of a run to the bit and inspect it."""

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import write_json
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import LawBroken, printable
from nanotx.runs.folder import RunFolder, is_pack, not_a_run
from nanotx.runs.loaded_files import naming_edits
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import NUMBERS, Change, Observed, Replay, Window, by_layer, counting, observe, same
from nanotx.runs.trainer_state import strict
from nanotx.runs.valid import while_saved

USAGE = "RUN --step N"
GROUP = "Check a run"
ORDER = 31

MAX_TEXT = 4
"""Windows in the table; a file of --json holds them all."""

MAX_WIDTH = 72
"""Characters of a window's text in the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Repeat a step of a run, and show its batch, its loss and gradient, and how it changed each layer.

    The steps before it are repeated from the newest checkpoint, or from the initial weights. On the machine of the run
    and with the same torch, all numbers are equal to the bit; loss and gradient norm are compared with metrics.jsonl.

    Exits with 0 where those of every repeated step are equal, and with 1 where they differ.

        nanotx replay runs/shakespeare_char-1 --step 200
        nanotx replay runs/shakespeare_char-1 --step 200 --by parameter
    """

    folder: str = argument("RUN")  # folder of the run
    step: int = option("N", dataclasses.MISSING)  # step to repeat, numbered as in metrics.jsonl from 1
    by: Literal["layer", "parameter"] = "layer"  # granularity of the table of weights
    json: str = option("FILE")  # write all figures to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "step")


def run(argv: list[str]) -> int:
    """Repeat the step, print it, return the exit code."""
    flags = parse(Flags, argv, "nanotx replay", stray="--step")
    for file in flags.load:
        load_file(file)
    if is_pack(Path(flags.folder)):
        raise not_a_run(flags.folder)
    record, begin, replayed = while_saved(partial(open_replay, flags), RunFolder(Path(flags.folder)).checkpoints)
    for reason in record.skipped:
        print_line(f"skipped: {reason}")
    with counting(flags.step) as show_step:
        replayed.go_to(flags.step - 1, show_step)
        show_step(flags.step)
        replayed.ready()
        observed = observe(replayed.trainer, replayed.segment.codec)
    origin = f"the checkpoint of step {begin}" if begin else "the initial weights"
    print_line(f"{flags.folder}, step {flags.step} of {record.last} recorded, repeated from {origin}")
    recorded = record.steps[flags.step]
    mismatch = replayed.first_mismatch or (None if bit_equal(observed, recorded) else flags.step)
    edited = record.edits_between(begin, flags.step)
    for line in edited:
        print_line(line)
    if mismatch:
        why = "" if edited else f": {OTHER_CAUSES}"
        print_line(
            f"step {mismatch} differs from metrics.jsonl, so what follows is not to the bit what the run did{why}"
        )
    print_tables(observed, recorded, flags.by, replayed.trainer.recipe.train.grad_clip)
    if flags.json:
        head = {"run": flags.folder, "step": flags.step, "from_step": begin, "first_mismatch": mismatch}
        write_json(flags.json, head | to_json(observed, recorded))
    return LawBroken.exit_code if mismatch else 0


OTHER_CAUSES = (
    "it had another machine, torch, nanotx or text, a GPU without --deterministic, a callback that changed weights, or "
    "its record was changed"
)
"""Why a repeated step may differ, where no file has been edited."""


def bit_equal(observed: Observed, recorded: dict[str, Any]) -> bool:
    """Return whether loss and gradient norm of a repeated step equal the recorded ones to the bit."""
    return all(same(getattr(observed, key), recorded.get(key)) for key in NUMBERS)


def open_replay(flags: Flags) -> tuple[RunRecord, int, Replay]:
    """Return the run's record, the step of its newest checkpoint before the requested step, and a replay from there."""
    record = RunRecord(flags.folder)
    record.check(flags.step)
    begin = record.newest(flags.step - 1)
    with naming_edits(record.edits_between(begin, flags.step)):
        return record, begin, Replay(record, begin)


def print_line(line: str) -> None:
    """Print a line without folding it."""
    Console(highlight=False).print(Text(printable(line)), soft_wrap=True)


def print_tables(observed: Observed, recorded: dict[str, Any], by: str, clip: float) -> None:
    """Print the tables: the step's numbers, its windows, and the changes of the weights."""
    console, terminal = Console(highlight=False), sys.stdout.isatty()
    cells = [("", "now", "recorded", "")]
    for key, name in zip(NUMBERS, ("loss", "gradient norm"), strict=True):
        now, then = getattr(observed, key), recorded.get(key)
        cells.append((name, f"{now!r}", f"{then!r}", "equal" if same(now, then) else "differs"))
    tables.print_table(console, "", cells, terminal, ("differs",))
    clipped = f"; the gradient was clipped to a norm of {clip:g}" if 0 < clip < observed.grad_norm else ""
    print_line(f"learning rate {observed.lr:.4g}{clipped}\n")
    few = observed.windows[:MAX_TEXT]
    more = f"; the first {MAX_TEXT}" if len(few) < len(observed.windows) else ""
    title = f"Its batch: {len(observed.windows)} windows of the training text{more}:"
    tables.print_table(console, title, [("text", "begins at token", "loss"), *map(window_cells, few)], terminal)
    changes = by_layer(observed.changes) if by == "layer" else observed.changes
    header = (by, "numbers", "weight norm", "gradient norm", "update norm", "update/weight")
    tables.print_table(console, "Its update:", [header, *map(change_cells, changes)], terminal)


def window_cells(window: Window) -> tuple[str, str, str]:
    """Return the row of a window."""
    text = printable(window.text).replace("\n", "\\n").replace("\t", "\\t")
    text = text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + "..."
    return text, f"{window.token:,}", f"{window.loss:.4f}"


def change_cells(change: Change) -> tuple[str, ...]:
    """Return the row of a change."""
    ratio = "-" if change.ratio is None else f"{change.ratio:.2e}"
    norms = (f"{norm:.4g}" for norm in (change.weight, change.gradient, change.update))
    return change.name, f"{change.numbers:,}", *norms, ratio


def to_json(observed: Observed, recorded: dict[str, Any]) -> dict[str, Any]:
    """Return all figures as plain values."""
    keys = (*NUMBERS, "lr")
    return {
        **strict({key: getattr(observed, key) for key in keys}),
        "recorded": strict({key: recorded.get(key) for key in keys}),
        "bit_equal": bit_equal(observed, recorded),
        "windows": [strict(dataclasses.asdict(window)) for window in observed.windows],
        "layers": [change_to_json(change) for change in by_layer(observed.changes)],
        "parameters": [change_to_json(change) for change in observed.changes],
    }


def change_to_json(change: Change) -> dict[str, Any]:
    """Return a change as plain values."""
    return strict(dataclasses.asdict(change) | {"ratio": change.ratio})
