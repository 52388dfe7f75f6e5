"""What a benchmark writes: figures as strict JSON for programs, and its progress for people."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from harness import Row
from nanotx.errors import ConfigError, RunError, did_you_mean

Announce = Callable[[str], None]


def known_names(flag: str, words: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return names separated by commas, each once.

    Raises:
        ConfigError: an unknown name.
    """
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    for name in names:
        if name not in known:
            raise ConfigError(f"{flag} {name}: unknown.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return names


def open_output(path: str, flag: str = "--json") -> Path | None:
    """Return the file for the figures, checked to be writable before an hour is spent on them; None for no path.

    Raises:
        RunError: it cannot be written.
    """
    if not path:
        return None
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a", encoding="utf-8").close()
    except OSError as error:
        raise RunError(f"{flag} {path}: cannot be written: {error.strerror}.") from None
    return file


def write_json(file: Path | None, machine: Row, rows: Sequence[Row], machines: Sequence[Row] = ()) -> None:
    """Write strict JSON, unknown figures as null; rows of several machines name theirs by its index."""
    if file:
        results = {
            "machine": machine,
            **({"machines": list(machines)} if len(machines) > 1 else {}),
            "rows": list(rows),
        }
        file.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def read_json(path: str) -> tuple[list[Row], list[Row]]:
    """Return the machines and the rows of a file that a benchmark wrote.

    Raises:
        RunError: it cannot be read, or holds something else.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"--merge {path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RunError(f"--merge {path}: this is not JSON: {error}.") from None
    if not isinstance(results, dict) or not {"machine", "rows"} <= results.keys():
        raise RunError(f"--merge {path}: expected what a benchmark wrote by --json, with a machine and rows.")
    return results.get("machines", [results["machine"]]), [{"machine": 0} | row for row in results["rows"]]


def merge(paths: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Return the machines of several files, each once, and all rows with the index of their machine."""
    machines, rows = list[Any](), list[Row]()
    for path in paths:
        theirs, measured = read_json(path)
        machines += [machine for machine in theirs if machine not in machines]
        rows += [row | {"machine": machines.index(theirs[row["machine"]])} for row in measured]
    return machines, rows


@contextmanager
def progress(total: int | None = None) -> Iterator[Announce]:
    """Yield a function that announces the next of `total` steps on the standard error: by a bar, or by lines."""
    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(24), TextColumn("{task.completed}/{task.total}  {task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, done = bar.add_task("", total=total), 0

        def announce(text: str) -> None:
            nonlocal done
            bar.update(task, description=text, completed=done)
            done += 1
            if bar.disable:
                console.print(Text(f"{done}/{total}  {text}" if total else f"{done}  {text}"), soft_wrap=True)

        yield announce
