"""Files drawn at random and damaged at random: each is read or refused, within seconds and within bounds of memory.

A file is its own function of its kind, the seed and its number. They are read by the hundred in a process that has
little memory; one that ends the process, or keeps it, is found by its number, and the rest is read by another.
"""

import json
import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest._mutants import KINDS, write
from nanotx.selftest._reading import tried
from nanotx.selftest._tiny import Files
from nanotx.selftest.child import processes, starve

SECONDS = 5.0
"""Of work, within which a file has to be read or refused, whatever else is at work on the machine."""
PATIENCE = 60.0
"""Seconds on the clock after which a reader that does no work waits for what never comes."""
MEMORY = 1 << 30
"""Bytes that reading a file may take, beyond what nanotx has by itself."""
BATCH = 250
"""Files that a process reads, one after another."""


class Late(BaseException):
    """Reading took too long; no `except Exception` holds it up."""


def cases(seed: int, files: int) -> list[Case]:
    """A case for every few hundred of so many files of each kind."""
    return [
        Case(name=f"fuzz/{kind} {first} to {last - 1}", run=partial(batch, kind, seed, range(first, last)))
        for kind in KINDS
        for first in range(0, files, BATCH)
        for last in [min(files, first + BATCH)]
    ]


def batch(kind: str, seed: int, numbers: range, folder: Path) -> Finding:
    """Read some files; what breaks a promise is kept.

    Raises:
        Broken: something did; says what, and how to do it again.
    """
    ends, broken, first, sound = Counter[str](), list[str](), numbers.start, KINDS[kind].sound()
    while first < numbers.stop:
        report = folder / f"report-{first}"
        report.touch()
        process = processes.Process(target=work, args=(kind, seed, range(first, numbers.stop), folder, report, sound))
        process.start()
        watch(process, report)
        rows = [json.loads(line) for line in report.read_text(encoding="ascii").splitlines()]
        done = {row["number"]: row for row in rows if "ended" in row}
        for number, row in done.items():
            ends.update(row["ended"])
            broken += [f"{number}: {row['broken']}"] if "broken" in row else []
        first = max([row["number"] for row in rows], default=first)
        if first not in done:
            broken.append(f"{first}: the process ended with {process.exitcode}, or had to be ended for time")
        first += 1
        process.close()
        report.unlink()
    for one in broken:
        number = int(one.partition(":")[0])
        write(kind, seed, number, folder / f"{kind}-{seed}-{number}", sound)
    if broken:
        raise Broken(
            f"{len(broken)} of {len(numbers)} {kind} of seed {seed}, kept in {folder}: {'; '.join(broken[:5])}. Again: "
            f"from nanotx.selftest.fuzz import replay; replay({kind!r}, {seed}, {broken[0].partition(':')[0]})"
        )
    return Finding(happened=", ".join(f"{name} {count}" for name, count in ends.most_common()))


def watch(process: BaseProcess, report: Path) -> None:
    """Wait for the process; kill it where it says nothing for too long, and does not find that out itself."""
    size = -1
    while process.is_alive():
        process.join(PATIENCE * 1.5)
        if process.is_alive() and report.stat().st_size == size:
            process.kill()
            process.join()
        size = report.stat().st_size


def work(kind: str, seed: int, numbers: range, folder: Path, report: Path, sound: Files) -> None:
    """What such a process does: of each file it says that it begins, and how it ended."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    attempt(kind, seed, numbers.start, folder / "one", sound)  # imports what is imported late, while there is memory
    starve(MEMORY)
    with report.open("a", encoding="ascii") as said:
        for number in numbers:
            for row in ({"number": number}, attempt(kind, seed, number, folder / "one", sound)):
                said.write(json.dumps(row) + "\n")
                said.flush()


def attempt(kind: str, seed: int, number: int, folder: Path, sound: Files) -> dict[str, object]:
    """Write one file, and read it in all the ways there are; says how each ended, and what broke a promise."""
    ended = list[str]()
    row: dict[str, object] = {"number": number, "ended": ended}
    write(kind, seed, number, folder, sound)
    for reading in KINDS[kind].readings:
        try:
            with bounded():
                ended.append(tried(reading, folder))
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}, {last.name}"
            row["broken"] = f"{reading.__name__}: {type(error).__name__}: {str(error)[:200]} ({where})"
    return row


@contextmanager
def bounded() -> Iterator[None]:
    """Within, too much work or too long a wait is an error, where the system has clocks that interrupt."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Late(f"more than {SECONDS:g} s of work, or {PATIENCE:g} s of waiting")

    if not hasattr(signal, "setitimer"):
        yield
        return
    clocks = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, PATIENCE)}
    before = {number: signal.signal(number, ring) for number, _ in clocks.values()}
    for clock, (_, seconds) in clocks.items():
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for clock in clocks:
            signal.setitimer(clock, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def replay(kind: str, seed: int, number: int, folder: str | Path = ".") -> None:
    """Write one file again and read it here, so that what it does can be seen."""
    home = Path(folder) / f"{kind}-{seed}-{number}"
    write(kind, seed, number, home, KINDS[kind].sound())
    for reading in KINDS[kind].readings:
        tried(reading, home)
