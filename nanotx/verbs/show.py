"""nanotx show RUN [--svg PATH]: a run's course, as its live picture last stood."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console, RenderableType

from nanotx.display import Display
from nanotx.errors import RunError
from nanotx.files import publish
from nanotx.flags import parse
from nanotx.folder import RunFolder
from nanotx.journal import Row, read


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Draws the run's last picture again, from its journal."""

    folder: tyro.conf.Positional[str]  # the run's folder
    svg: str = ""  # draw it into this file, not on the terminal
    width: int = 100  # of the picture in the file, in characters


def run(words: list[str]) -> int:
    """Draw."""
    flags = parse(Flags, words, "nanotx show")
    rows = list(read(RunFolder(Path(flags.folder)).metrics))
    if not rows:
        raise RunError(f"{flags.folder}: expected a run's folder, with a metrics.jsonl in it.")
    if flags.svg:
        console = Console(record=True, width=flags.width, file=io.StringIO())
        console.print(replay(rows))
        svg = console.export_svg(title="nanotx")
        fetched = r"@font-face \{.*?\}\s*"  # a picture should need no network
        publish(Path(flags.svg), re.sub(fetched, "", svg, flags=re.DOTALL))
    else:
        Console().print(replay(rows))
    return 0


def replay(rows: list[Row]) -> RenderableType:
    """The last picture of a run, drawn from the rows of its journal."""
    display = Display(Console(file=io.StringIO()))
    for row in rows:
        display.show(row)
    return display.picture()
