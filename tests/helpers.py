"""A run that takes a second, for the tests of whole runs."""

import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Collection
from pathlib import Path

from hypothesis import settings

from nanotx.config.registry import LOADED, LOADED_FILES, Slot

ROOT = Path(__file__).resolve().parents[1]
FLAGS = {
    "model.dim": "16",
    "model.layers": "1",
    "model.context": "8",
    "attention.heads": "2",
    "train.batch-size": "2",
    "train.steps": "6",
    "train.eval-every": "3",
    "train.sample-every": "3",
    "train.sample-tokens": "12",
    "train.checkpoint-every": "2",
    "device": "cpu",
    "dtype": "float32",
    "threads": "1",
    "seed": "5",
}


def tiny(**others: object) -> list[str]:
    """The flags of a run that takes a second, some of them otherwise: `train_steps=9` is `--train.steps 9`.

    A flag whose value is None is left out.
    """
    flags = FLAGS | {name.replace("_", ".", 1).replace("_", "-"): value for name, value in others.items()}
    return [word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))]


def tiny_command(*words: str, run: str = "run", **flags: object) -> list[str]:
    """The command that trains a tiny run on text.txt, in a folder of this name."""
    corpus = ["--corpus", "file", "--corpus.path", "text.txt", "--run", run]
    return ["train", "shakespeare_char", *corpus, *tiny(**flags), *words]


def text(path: Path, size: int = 900) -> Path:
    """A file with a text of a few letters."""
    draw = random.Random(1)
    path.write_text("".join(draw.choice("abcde \n") for _ in range(size)), encoding="utf-8")
    return path


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """A child process that runs nanotx with these words."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from nanotx.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, its output, and what it said on the side."""
    out, err = child.communicate(timeout=120)
    return child.returncode, out, err


def fork(action: Callable[[], object], out: Path, err: Path) -> int:
    """Start a fork of this process that does something and ends as Python would; return its id. POSIX only.

    Args:
        action: what it does.
        out: the file that its output is appended to.
        err: the same of its messages; may be the same file.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for number, path in ((1, out), (2, err)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        action()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


def forget_loaded_files(keep: Collection[Path] = ()) -> None:
    """Make the files that --load imported, and their parts, unknown to this process; but not those to keep."""
    for path, loaded in list(LOADED_FILES.items()):
        if path in keep:
            continue
        for title in loaded.parts:
            slot, _, part = title.partition("/")
            (family,) = (family for family in Slot.__subclasses__() if family.slot == slot)
            del family.registered[part]
        for name in [name for name in sys.modules if name.startswith(LOADED)]:
            if getattr(sys.modules[name], "__file__", None) == str(path):
                del sys.modules[name]
        del LOADED_FILES[path]


def python(*words: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `python WORDS...` gives, in a fork of this process, which has imported PyTorch already.

    Only for what a program answers: what a new interpreter imports or decides at its start needs `subprocess.run`.

    Args:
        words: `-m MODULE`, `-c CODE` or a file, and its arguments.
        cwd: its working folder.
        environment: variables besides those of this process.
    """
    command = [str(word) for word in words]
    if not hasattr(os, "fork"):
        paths = [environment.get("PYTHONPATH", ""), str(ROOT)]
        env = os.environ | environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, *command]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False)

    def action() -> None:
        os.chdir(cwd)
        os.environ.update(environment)
        sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
        settings.load_profile("default")
        forget_loaded_files()
        run_as_python(command)

    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "out"), Path(folder, "err")
        _, status = os.waitpid(fork(action, *files), 0)
        out, err = (file.read_text("utf-8", "replace") if file.exists() else "" for file in files)
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), out, err)


def answer(*words: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """The exit code of `nanotx WORDS...`, its output, and its messages."""
    done = python("-m", "nanotx", *words, cwd=cwd, **environment)
    return done.returncode, done.stdout, done.stderr


def run_as_python(words: list[str]) -> None:
    """Run what the words after `python` name, as the program of this process."""
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.modules.pop(words[1], None)
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        program = types.ModuleType("__main__")
        sys.modules["__main__"] = program
        exec(words[1], vars(program))
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


class Forked:
    """`nanotx WORDS...` in a fork of this process, which has imported everything already; POSIX only."""

    def __init__(self, *words: str, cwd: Path, before: Callable[[], object] = lambda: None) -> None:
        """Start it; `before` is what it does first."""
        import nanotx.cli.run  # noqa: F401  so that the child need not

        self.said = cwd / f".said.{time.monotonic_ns()}"
        self.code: int | None = None

        def action() -> None:
            os.chdir(cwd)
            sys.argv = ["nanotx", *words]
            forget_loaded_files()
            before()
            runpy.run_module("nanotx", run_name="__main__", alter_sys=True)

        self.pid = fork(action, self.said, self.said)

    def send(self, *numbers: int) -> None:
        """Send it signals, as long as it has not been waited for."""
        for number in numbers:
            if self.code is None:
                os.kill(self.pid, number)

    def until(self, look: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until something is seen."""
        deadline = time.monotonic() + seconds
        while not look():
            if os.waitpid(self.pid, os.WNOHANG) != (0, 0) or time.monotonic() > deadline:
                raise AssertionError(f"it ended, or nothing came: {self.text()}")
            time.sleep(0.005)

    def text(self) -> str:
        """All it has printed so far."""
        return self.said.read_text(encoding="utf-8", errors="replace") if self.said.exists() else ""

    def finish(self, seconds: float = 60.0) -> tuple[int, str]:
        """Its exit code, below zero where a signal ended it, and what it printed; killed after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                return self.code, self.text()
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)
