"""Plot a run on the terminal or as SVG."""

import io
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from rich.console import Console

from nanotx.cli.console import check_output
from nanotx.cli.dashboard import printable_row
from nanotx.cli.picture import Picture, Present
from nanotx.config.flags import argument, option, parse
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, RunError, printable, shell_quoted
from nanotx.files import write_atomic
from nanotx.runs import pack_reader
from nanotx.runs.folder import RunFolder, is_pack, not_a_run
from nanotx.runs.history import History
from nanotx.runs.metrics_log import read

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 22


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Draw the last dashboard of a run again, from its metrics log.

    nanotx show runs/shakespeare_char-1
    nanotx show runs/shakespeare_char-1 --step 400
    nanotx show runs/shakespeare_char-1 --plot run.svg
    """

    folder: str = argument("RUN")  # folder of the run
    plot: str = option("FILE.svg")  # write the plot to this file instead of the terminal
    step: int = 0  # step after which the run is drawn; 0 for the last one
    width: int = 100  # width of the plot in the file, in characters
    height: int = 40  # height of the plot in the file at most, in lines; also of a plot that is printed to no terminal

    def __post_init__(self) -> None:
        check_min(self, 0, "step")
        check_min(self, 20, "width", "height")
        check_max(self, 1000, "width", "height")


def run(argv: list[str]) -> int:
    """Draw the dashboard, and return the exit code."""
    flags = parse(Flags, argv, "nanotx show")
    if flags.plot:
        check_output(flags.plot, "--plot")
        if Path(flags.plot).suffix != ".svg":
            raise ConfigError(
                f"--plot {flags.plot}: expected a file whose name ends in .svg, such as run.svg; nanotx runs "
                f"{shell_quoted(flags.folder)} --plot curves.png draws the validation losses alone."
            )
    terminal = Console()
    height = terminal.height - 1 if terminal.is_terminal and not flags.plot else flags.height
    path = Path(flags.folder)
    with pack_reader.opened(path) if is_pack(path) else nullcontext(path) as folder:
        picture = render_run(str(folder), height, flags.step)
    if not flags.plot:
        terminal.print(picture)
        return 0
    console = Console(record=True, width=flags.width, file=io.StringIO())
    console.print(picture)
    try:
        write_atomic(Path(flags.plot), svg_of(console))
    except OSError as error:
        raise RunError(f"--plot {flags.plot}: cannot be written: {error.strerror}.") from None
    sys.stdout.write(f"{printable(flags.plot)}\n")
    return 0


def svg_of(console: Console) -> str:
    """Return what a console recorded as SVG that fetches nothing from the network."""
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="nanotx"), flags=re.DOTALL)


def render_run(folder: str, height: int = 0, step: int = 0) -> Picture:
    """Return a dashboard of a run, drawn from its metrics log.

    Args:
        folder: of the run.
        height: lines at most; 0 for those of the console.
        step: the step after which it is drawn; 0 for the last one.

    Raises:
        RunError: there is no metrics log, or it has values that no run logs.
    """
    file, history = RunFolder(Path(folder)).metrics, History()
    if not Path(folder).is_dir():
        raise not_a_run(folder, "metrics.jsonl")
    try:
        rows = takewhile(lambda row: not step or row["step"] <= step, read(file))
        history.recall(map(printable_row, rows))
        picture = Picture(history=history, present=Present(now=history.now, titled=True), height=height)
        Console(file=io.StringIO(), width=80).print(picture)  # finds values that cannot be drawn
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # untrusted file
        raise RunError(f"{file}: not the metrics log of a run: {error}.") from None
    if not (history.title or history.step or history.evals or history.sample or history.warning):
        raise not_a_run(folder, "metrics.jsonl")
    return picture
