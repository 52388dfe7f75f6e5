"""nanotx in a child process, which can be watched, limited in memory, disturbed and killed."""

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
PRELOADED = ["nanotx.cli.run", "nanotx.runs.resume", "nanotx.runs.load", "nanotx.recipes.shakespeare_char"]
PRELOADED += ["nanotx.report.report"]
"""Modules that the fork server imports once for all children."""

Disturbance = Callable[[], None]
"""Called in the child before nanotx starts. It is pickled, so it is a module's function or a partial of one."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended."""

    code: int | None  # its exit code, negative after a signal; None if it ran out of time and was killed
    out: str
    err: str
    seconds: float


class Child:
    """`nanotx ARGUMENTS...` as it runs. It starts within milliseconds where the system can fork."""

    def __init__(
        self, argv: Sequence[str], folder: Path, *, disturb: Disturbance | None = None, memory: int | None = None
    ) -> None:
        """Start it.

        Args:
            argv: the arguments after `nanotx`.
            folder: its working directory, which must exist.
            disturb: called in the child first.
            memory: bytes of address space it may take beyond what it has at its start; None for no limit.
        """
        processes.set_forkserver_preload(PRELOADED)
        self.began = time.monotonic()
        self.output = folder.parent / f".{folder.name}.output.{time.monotonic_ns()}"
        self.output.mkdir()
        self.process = processes.Process(target=work, args=(list(argv), folder, self.output, disturb, memory))
        self.process.start()
        self.pid = self.process.pid

    @property
    def alive(self) -> bool:
        """Return whether it still runs."""
        return self.process.is_alive()

    def kill(self) -> None:
        """Kill it at once, as the system does when memory runs out."""
        self.process.kill()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process.pid is not None and self.alive:
            os.kill(self.process.pid, number)

    def finish(self, seconds: float = 60.0) -> Ended:
        """Wait for its end; kill it after so many seconds."""
        self.process.join(seconds)
        late = self.alive
        if late:
            self.process.kill()
            self.process.join()
        files = [self.output / name for name in ("out", "err")]  # missing if it was killed at once
        out, err = (file.read_text("utf-8", "replace") if file.exists() else "" for file in files)
        shutil.rmtree(self.output, ignore_errors=True)
        code = None if late else self.process.exitcode
        self.process.close()
        return Ended(code=code, out=out, err=err, seconds=time.monotonic() - self.began)


def run(argv: Sequence[str], folder: Path, *, seconds: float = 60.0, memory: int | None = None) -> Ended:
    """Run `nanotx ARGUMENTS...` to its end."""
    return Child(argv, folder, memory=memory).finish(seconds)


def work(argv: list[str], folder: Path, output: Path, disturb: Disturbance | None, memory: int | None) -> None:
    """Run nanotx in this process, which is the child."""
    for number, name in enumerate(("in", "out", "err")):
        file = os.open(os.devnull if name == "in" else output / name, os.O_RDONLY if name == "in" else WRITING)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    if memory is not None:
        limit_memory(memory)
    if disturb is not None:
        disturb()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  the file, terminal or pipe of now
    sys.argv = ["nanotx", *argv]
    runpy.run_module("nanotx", run_name="__main__", alter_sys=True)


WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def limit_memory(memory: int) -> None:
    """Limit the address space of this process to so many bytes beyond its present size, where the system allows."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limit, and macOS no /proc
        import resource

        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, resource.RLIM_INFINITY))
