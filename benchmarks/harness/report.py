"""What a benchmark is given and what it gives: flags, figures as strict JSON for programs, progress for people."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from harness import Row
from nanotx.errors import ConfigError, RunError, did_you_mean

# Flags.


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What nearly every benchmark is given."""

    device: str = "auto"  # auto, cpu, cuda or mps
    threads: int = 0  # processor threads; 0 for as many as there are cores
    json: str = ""  # write the figures into this file


def known_names(flag: str, words: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return names separated by commas, each once, in the order in which they are known.

    Raises:
        ConfigError: an unknown name.
    """
    names = [word.strip() for word in words.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{flag} {name or repr(name)}: unknown.{did_you_mean(name, known)} Known: {', '.join(known)}."
            )
    return tuple(name for name in known if name in names)


def whole_numbers(flag: str, words: str) -> tuple[int, ...]:
    """Return whole numbers separated by commas.

    Raises:
        ConfigError: one is none, or below 1.
    """
    numbers = [word.strip() for word in words.split(",")]
    for number in numbers:
        if not number.isdecimal() or int(number) < 1:
            raise ConfigError(f"{flag}: expected whole numbers from 1 on, separated by commas, got {number!r}.")
    return tuple(map(int, numbers))


# Figures for programs.


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
        several = {"machines": list(machines)} if len(machines) > 1 else {}
        results = {"machine": machine, **several, "rows": list(rows)}
        file.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8", newline="\n")


def merge(paths: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Return the machines of several files, each once, and all rows with the index of their machine.

    Raises:
        RunError: a file cannot be read, or holds something else.
    """
    machines, rows = list[Row](), list[Row]()
    for path in paths:
        results = read_json(path)
        theirs = results.get("machines", [results["machine"]])
        machines += [machine for machine in theirs if machine not in machines]
        rows += [row | {"machine": machines.index(theirs[row.get("machine", 0)])} for row in results["rows"]]
    return machines, rows


def read_json(path: str) -> Row:
    """Return what a benchmark wrote; raises as `merge`."""
    try:
        results: Row = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"--merge {path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RunError(f"--merge {path}: this is not JSON: {error}.") from None
    if not isinstance(results, dict) or not {"machine", "rows"} <= results.keys():
        raise RunError(f"--merge {path}: expected what a benchmark wrote by --json, with a machine and rows.")
    return results


# Progress.

Announce = Callable[[str], None]


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
