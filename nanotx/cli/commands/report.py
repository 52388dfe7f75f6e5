"""Write the report of a run as one HTML page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanotx.cli.console import check_output
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, RunError, printable, shell_quoted
from nanotx.files import write_atomic
from nanotx.hardware.device import choose_machine
from nanotx.report import make_report
from nanotx.runs.folder import RunFolder
from nanotx.runs.run_table import find_runs

USAGE = "RUN ..."
GROUP = "Use a run"
ORDER = 26


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Write the report of a run: one HTML page with its curves, samples, a passage, attention maps and the recipe.

    The page fetches nothing, so it can be sent to somebody. Of several runs it shows the curves together, and the
    fields in which their recipes differ; a folder of runs stands for all of them.

        nanotx report runs/shakespeare_char-1
        nanotx report runs/a runs/b --out compared.html
        nanotx report runs/shakespeare_char-1 --plots plots
    """

    folders: tuple[str, ...] = argument("RUN ...")  # folders of the runs, or folders that hold runs
    out: str = option("FILE.html")  # write the page to this file; without it, RUN/report.html, of several report.html
    plots: str = option("DIR")  # also draw the curves to .png and .svg files in this folder
    threads: int = 1  # number of processor threads
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "threads")
        check_max(self, 1024, "threads")


def run(argv: list[str]) -> int:
    """Write the page, and return the exit code."""
    flags = parse(Flags, argv, "nanotx report")
    if not flags.folders:
        raise ConfigError("RUN: expected the folder of a run, such as nanotx report runs/shakespeare_char-1.")
    if flags.out:
        check_output(flags.out, "--out")
    for file in flags.load:
        load_file(file)
    folders = find_runs(flags.folders)
    choose_machine("cpu", "float32", flags.threads)
    page, runs = make_report(folders)
    path = Path(flags.out) if flags.out else default_path(folders)
    try:
        write_atomic(path, page)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}; try --out FILE.html.") from None
    for report in runs:
        for note in report.notes:
            print_line(note if len(runs) == 1 else f"{report.name}: {note}")
    print_line(f"{shell_quoted(path)}: {len(page.encode('utf-8')):,} bytes")
    if flags.plots:
        from nanotx.report.plots import draw_plots  # imports matplotlib, which takes a second

        for plot in draw_plots(runs, Path(flags.plots)):
            print_line(str(plot))
    return 0


def default_path(folders: Sequence[str]) -> Path:
    """Return where the page is written: in the folder of a run, or where the command is run for several."""
    return RunFolder(Path(folders[0])).report if len(folders) == 1 else Path("report.html")


def print_line(text: str) -> None:
    """Print a line without control characters."""
    sys.stdout.write(printable(text) + "\n")
