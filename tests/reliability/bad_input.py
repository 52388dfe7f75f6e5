"""One input that is wrong, and the answer that nanotx owes its user.

It may be tried in this process or in one of its own; `judge` decides on the answer either way.
"""

import os
import re
import socket
from collections.abc import Callable
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path

from reliability.specimens import Files, read_files, write_files

from nanotx.selftest import Broken, child
from nanotx.selftest.tiny_runs import write_corpus

SECONDS = 5.0
"""Time within which an answer has to come."""
MEMORY = 4 << 30
"""Bytes that an input may take before it is refused."""
FRAME = re.compile("[\\s\u2500-\u257f]+|\x1b\\[[0-9;]*m")
"""White space, lines drawn around a message, colours."""

Prepare = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """What a user types, where, and how it must be answered."""

    name: str
    argv: tuple[str, ...]  # after `nanotx`
    code: int  # the exit code; 0 for an input that only looks wrong
    says: str  # a regular expression for the output: the place, and what was wanted or what to try
    prepare: Prepare = lambda folder: None  # writes what it needs into an empty folder
    possible: Callable[[], bool] = lambda: True  # whether this machine and this user can make the mistake


def judge(bad: BadInput, code: int | None, output: str, seconds: float, before: Files, after: Files) -> None:
    """Compare an answer with the answer that is owed.

    Args:
        bad: the input.
        code: the exit code; None for a process that had to be killed.
        output: stdout and stderr.
        seconds: time that the answer took.
        before: the files in its folder before.
        after: the files there now.

    Raises:
        Broken: the answer is another; the message names the first difference.
    """
    plain = FRAME.sub(" ", output)
    fault = ""
    if "Traceback" in output:
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
        raise Broken(f"nanotx {' '.join(bad.argv)[:200]}: there was {fault}. The output: {plain.strip()[-1500:]}")


def attempt(bad: BadInput, folder: Path) -> None:
    """Try an input in a process of its own, in an empty folder, and judge the answer."""
    bad.prepare(folder)
    before = read_files(folder)
    ended = child.run(bad.argv, folder, seconds=4 * SECONDS, memory=MEMORY)
    judge(bad, ended.code, ended.out + ended.err, ended.seconds, before, read_files(folder))


# Ways to prepare a folder.


def having(files: Files | None = None, **texts: str) -> Prepare:
    """Write the usual text.txt, files by their names, and texts under `name` + .txt."""
    every = dict(files or {}) | {f"{name}.txt": content.encode("utf-8") for name, content in texts.items()}

    def write(folder: Path) -> None:
        write_corpus(folder)
        write_files(folder, every)

    return write


def pipe(name: str) -> Prepare:
    """Put a pipe without a writer in the place of a file."""

    def make(folder: Path) -> None:
        having()(folder)
        os.mkfifo(folder / name)

    return make


def a_socket(name: str) -> Prepare:
    """Put a socket in the place of a file."""

    def make(folder: Path) -> None:
        having()(folder)
        with closing(socket.socket(socket.AF_UNIX)) as made, chdir(folder):  # a socket's own path must be short
            made.bind(name)

    return make


def unreadable(name: str) -> Prepare:
    """Write a file without permission to read it."""

    def make(folder: Path) -> None:
        having({name: b"seed = 1"})(folder)
        (folder / name).chmod(0)

    return make


def unprivileged() -> bool:
    """Return whether permissions bind this user."""
    return hasattr(os, "geteuid") and os.geteuid() != 0


def posix() -> bool:
    """Return whether this system has pipes and sockets among its files."""
    return hasattr(os, "mkfifo")
