"""One way to go wrong, and what is asked of nanotx where somebody does.

It may be tried in a process of its own or in this one; either way `judge` is told how it ended.
"""

import os
import re
import socket
from collections.abc import Callable
from contextlib import chdir, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nanotx.selftest import Broken, Case, Finding, child, small
from nanotx.selftest._tiny import Files, lay, lying

SECONDS = 5.0
"""Within which it has to be answered."""
MEMORY = 4 << 30
"""Bytes beyond which nothing that is refused may reach."""
FRAME = re.compile("[\\s\u2500-\u257f]+|\x1b\\[[0-9;]*m")
"""White space, lines drawn around a message, colours."""

Prepare = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Bad:
    """What somebody types, where, and how it must be answered."""

    name: str
    argv: tuple[str, ...]  # behind `nanotx`
    code: int  # its exit code; 0 where it is not so bad
    says: str  # a regular expression: the place, and what was wanted or what to try
    prepare: Prepare = lambda folder: None  # writes what it needs into an empty folder
    possible: Callable[[], bool] = lambda: True  # whether this machine and this user can go wrong so


def having(files: Files | None = None, **texts: str) -> Prepare:
    """Prepare by writing files: by their names, or texts under `name` + .txt; the usual text is always there."""
    every = dict(files or {}) | {f"{name}.txt": one.encode("utf-8") for name, one in texts.items()}

    def write(folder: Path) -> None:
        small.text(folder)
        lay(folder, every)

    return write


def pipe(name: str) -> Prepare:
    """Prepare by a pipe that nobody writes into, in the place of a file."""

    def make(folder: Path) -> None:
        having()(folder)
        os.mkfifo(folder / name)

    return make


def a_socket(name: str) -> Prepare:
    """Prepare by a socket in the place of a file."""

    def make(folder: Path) -> None:
        having()(folder)
        with closing(socket.socket(socket.AF_UNIX)) as made, chdir(folder):  # a socket's own path must be short
            made.bind(name)

    return make


def hidden(name: str) -> Prepare:
    """Prepare by a file that nobody may read."""

    def make(folder: Path) -> None:
        having({name: b"seed = 1"})(folder)
        (folder / name).chmod(0)

    return make


def judge(bad: Bad, code: int | None, said: str, seconds: float, before: Files, after: Files) -> None:
    """Hold how it ended against how it should have.

    Args:
        bad: what was tried.
        code: the exit code; None where it had to be ended.
        said: all that was printed, on either side.
        seconds: how long it took.
        before: what lay in its folder.
        after: what lies there now.

    Raises:
        Broken: it should have ended otherwise; says how.
    """
    plain = FRAME.sub(" ", said)
    fault = ""
    if "Traceback" in said:
        fault = "a traceback"
    elif code != bad.code:
        fault = f"the exit code {code} and not {bad.code}"
    elif not re.search(bad.says, plain):
        fault = f"nothing that matches {bad.says!r}"
    elif seconds > SECONDS:
        fault = f"an answer after {seconds:.1f} s"
    elif code and before != after:
        fault = f"something else in the folder: {sorted(name for name in after if before.get(name) != after[name])}"
    if fault:
        raise Broken(f"nanotx {' '.join(bad.argv)[:200]}: there was {fault}. It said: {plain.strip()[-1500:]}")


def attempt(bad: Bad, folder: Path) -> Finding:
    """Try it in a process of its own."""
    if not bad.possible():
        return Finding(happened="not possible here")
    bad.prepare(folder)
    before = lying(folder)
    ended = child.run(bad.argv, folder, seconds=4 * SECONDS, memory=MEMORY)
    judge(bad, ended.code, ended.out + ended.err, ended.seconds, before, lying(folder))
    said = FRAME.sub(" ", ended.err or ended.out).strip()
    return Finding(happened=f"{ended.code}: {said[:100]}")


def as_case(bad: Bad) -> Case:
    """The same as a case of the self-test."""
    return Case(name=f"input/{bad.name}", run=partial(attempt, bad))


def unprivileged() -> bool:
    """Whether files can be kept from this user."""
    return hasattr(os, "geteuid") and os.geteuid() != 0


def posix() -> bool:
    """Whether this system has pipes and sockets among its files."""
    return hasattr(os, "mkfifo")
