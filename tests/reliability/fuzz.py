"""Read random damaged files: each is read or refused, within seconds and within bounds of memory.

A child process with little memory reads some hundred files, one after another. If it dies or hangs, its report names
the file, and the next child continues after it. `tests/fuzz.py` runs a campaign.
"""

import json
import os
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from reliability.fuzzed_files import KINDS, write
from reliability.readings import outcome
from reliability.specimens import Files

from nanotx.selftest import Broken
from nanotx.selftest.child import limit_memory, processes

SECONDS = 5.0
"""Processor time within which a file has to be read or refused, whatever else the machine does."""
PATIENCE = 60.0
"""Seconds on the clock after which a reader that uses no processor time is hanging."""
MEMORY = 1 << 30
"""Bytes that reading a file may take, beyond what nanotx has by itself."""


class Late(BaseException):
    """Reading took too long; no `except Exception` catches it."""


def batch(kind: str, seed: int, numbers: range, folder: Path) -> Counter[str]:
    """Read some files; keep in the folder those that break a promise.

    Returns:
        How many files were read, and how many were refused by each error.

    Raises:
        Broken: some broke a promise; the message names them, and how to read them again.
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
            broken.append(f"{first}: the process ended with {process.exitcode}, or had to be killed for time")
        first += 1
        process.close()
        report.unlink()
    for fault in broken:
        number = int(fault.partition(":")[0])
        write(kind, seed, number, folder / f"{kind}-{seed}-{number}", sound)
    if broken:
        raise Broken(
            f"{len(broken)} of {len(numbers)} {kind} of seed {seed}, kept in {folder}: {'; '.join(broken[:5])}. Again: "
            f"from reliability.fuzz import replay; replay({kind!r}, {seed}, {broken[0].partition(':')[0]})"
        )
    return ends


def watch(process: BaseProcess, report: Path) -> None:
    """Wait for the process; kill it when its report has not grown for too long."""
    size = -1
    while process.is_alive():
        process.join(PATIENCE * 1.5)
        if process.is_alive() and report.stat().st_size == size:
            process.kill()
            process.join()
        size = report.stat().st_size


def work(kind: str, seed: int, numbers: range, folder: Path, report: Path, sound: Files) -> None:
    """Read files in a child process; write a row to the report before each file and one after it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    attempt(kind, seed, numbers.start, folder / "one", sound)  # imports what is imported late, while there is memory
    limit_memory(MEMORY)
    with report.open("a", encoding="ascii") as lines:
        for number in numbers:
            for row in ({"number": number}, attempt(kind, seed, number, folder / "one", sound)):
                lines.write(json.dumps(row) + "\n")
                lines.flush()


def attempt(kind: str, seed: int, number: int, folder: Path, sound: Files) -> dict[str, object]:
    """Write one file, and read it in every way of its kind.

    Returns:
        A row with its number, how each reading ended, and `broken` if one of them broke a promise.
    """
    ended = list[str]()
    row: dict[str, object] = {"number": number, "ended": ended}
    write(kind, seed, number, folder, sound)
    for reading in KINDS[kind].readings:
        try:
            with bounded():
                ended.append(outcome(reading, folder))
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}, {last.name}"
            row["broken"] = f"{reading.__name__}: {type(error).__name__}: {str(error)[:200]} ({where})"
    return row


@contextmanager
def bounded() -> Iterator[None]:
    """Raise `Late` inside the block after too much work or too long a wait, on systems with interval timers."""

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
    """Write one file again and read it in this process, to debug it."""
    home = Path(folder) / f"{kind}-{seed}-{number}"
    write(kind, seed, number, home, KINDS[kind].sound())
    for reading in KINDS[kind].readings:
        outcome(reading, home)
