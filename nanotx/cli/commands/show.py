"""Plot a run on the terminal or as SVG."""

import io
import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, RenderableType

from nanotx.cli.console import check_output
from nanotx.cli.dashboard import Display
from nanotx.config.flags import argument, option, parse
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, RunError
from nanotx.files import write_atomic
from nanotx.runs import packed
from nanotx.runs.folder import RunFolder, is_pack, not_a_run
from nanotx.runs.metrics_log import read

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 22


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Draw the last dashboard of a run again, from its metrics log.

    nanotx show runs/shakespeare_char-1
    nanotx show runs/shakespeare_char-1 --plot run.svg
    """

    folder: str = argument("RUN")  # folder of the run
    plot: str = option("FILE.svg")  # write the plot to this file instead of the terminal
    width: int = 100  # width of the plot in the file, in characters

    def __post_init__(self) -> None:
        check_min(self, 20, "width")
        check_max(self, 1000, "width")


def run(argv: list[str]) -> int:
    """Draw the dashboard, and return the exit code."""
    flags = parse(Flags, argv, "nanotx show")
    if flags.plot:
        check_output(flags.plot, "--plot")
        if Path(flags.plot).suffix != ".svg":
            raise ConfigError(f"--plot {flags.plot}: expected a file whose name ends in .svg, such as run.svg.")
    path = Path(flags.folder)
    with packed.opened(path) if is_pack(path) else nullcontext(path) as folder:
        picture = render_run(str(folder))
    if flags.plot:
        console = Console(record=True, width=flags.width, file=io.StringIO())
        console.print(picture)
        svg = console.export_svg(title="nanotx")
        fonts = r"@font-face \{.*?\}\s*"  # they would be fetched from the network
        try:
            write_atomic(Path(flags.plot), re.sub(fonts, "", svg, flags=re.DOTALL))
        except OSError as error:
            raise RunError(f"--plot {flags.plot}: cannot be written: {error.strerror}.") from None
    else:
        Console().print(picture)
    return 0


def render_run(folder: str) -> RenderableType:
    """Return the last dashboard of a run, drawn from its metrics log.

    Raises:
        RunError: there is no metrics log, or it has values that no run logs.
    """
    file, display = RunFolder(Path(folder)).metrics, Display(Console(file=io.StringIO()))
    if not Path(folder).is_dir():
        raise not_a_run(folder, "metrics.jsonl")
    try:
        empty = True
        for row in read(file):
            display.show(row)
            empty = False
        picture = display.picture()
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # untrusted file
        raise RunError(f"{file}: not the metrics log of a run: {error}.") from None
    if empty:
        raise not_a_run(folder, "metrics.jsonl")
    return picture
