"""nanotx in a process of its own, which can be watched, starved, misled and killed."""

import multiprocessing
import os
import runpy
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHODS = multiprocessing.get_all_start_methods()
processes: Any = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
PRELOADED = ["nanotx.cli.run", "nanotx.runs.resume", "nanotx.runs.load"]

"""What is imported once for all children that are forked."""

Meddle = Callable[[], None]
"""What a child does before anything else; it is sent there, so it is a function of a module, or a partial of one."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended."""

    code: int | None  # its exit code, below zero where a signal ended it; None where it had to be killed for time
    out: str
    err: str
    seconds: float


class Child:
    """`nanotx WORDS...` as it runs. It starts in some milliseconds where the system can fork."""

    def __init__(
        self, argv: Sequence[str], folder: Path, *, meddle: Meddle | None = None, memory: int | None = None
    ) -> None:
        """Start it.

        Args:
            argv: what is typed behind `nanotx`.
            folder: where it runs; it must be there.
            meddle: what the child does first.
            memory: bytes of address space it may take beyond what it has at its start; None for no bound.
        """
        processes.set_forkserver_preload(PRELOADED)
        self.began = time.monotonic()
        self.said = folder.parent / f".{folder.name}.said.{time.monotonic_ns()}"
        self.said.mkdir()
        self.process = processes.Process(target=work, args=(list(argv), folder, self.said, meddle, memory))
        self.process.start()
        self.pid = self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.is_alive()

    def kill(self) -> None:
        """As the system does when it needs the memory: at once, unheard."""
        self.process.kill()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process.pid is not None and self.alive:
            os.kill(self.process.pid, number)

    def finish(self, seconds: float = 60.0) -> Ended:
        """Wait for its end; after so many seconds it is killed."""
        self.process.join(seconds)
        late = self.alive
        if late:
            self.process.kill()
            self.process.join()
        files = [self.said / name for name in ("out", "err")]  # one that was killed at once has none
        out, err = (file.read_text("utf-8", "replace") if file.exists() else "" for file in files)
        shutil.rmtree(self.said, ignore_errors=True)
        code = None if late else self.process.exitcode
        self.process.close()
        return Ended(code=code, out=out, err=err, seconds=time.monotonic() - self.began)


def run(argv: Sequence[str], folder: Path, *, seconds: float = 60.0, memory: int | None = None) -> Ended:
    """Run `nanotx WORDS...` to its end."""
    return Child(argv, folder, memory=memory).finish(seconds)


def work(argv: list[str], folder: Path, said: Path, meddle: Meddle | None, memory: int | None) -> None:
    """What a child does."""
    for number, name in enumerate(("in", "out", "err")):
        file = os.open(os.devnull if name == "in" else said / name, os.O_RDONLY if name == "in" else WRITING)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    if memory is not None:
        starve(memory)
    if meddle is not None:
        meddle()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  of what it now is
    sys.argv = ["nanotx", *argv]
    runpy.run_module("nanotx", run_name="__main__", alter_sys=True)


WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def starve(memory: int) -> None:
    """Let this process take no more than so many bytes beyond what it has, where the system can say so."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such bound; nor have all others /proc
        import resource

        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, resource.RLIM_INFINITY))
