"""A process in which chat templates run, since one of a stranger's may loop for hours or fill the memory.

Jinja's sandbox keeps a template away from Python; it bounds neither time nor memory. The process gives both up: it may
take `MEMORY` and `SECONDS`, and is ended and begun anew where a template wants more.
"""

import atexit
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from nanotx.tokenizers import template_sandbox
from nanotx.tokenizers.template_sandbox import TOO_MUCH, Refused

SECONDS = 10.0
"""After which a template is given up. One that ends takes milliseconds."""


class TemplateProcess:
    """The process, which is started by the first template. Threads take turns."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.child: subprocess.Popen[bytes] | None = None
        self.waiting = False  # for an answer, as after a question that was interrupted

    def render(self, source: str, values: Mapping[str, Any] | None = None) -> str:
        """Return what a template writes; without values it is only compiled.

        Raises:
            Refused: it is not valid, fails, reaches for Python, or takes too much time or memory.
        """
        message = f"{json.dumps({'source': source, 'values': values})}\n".encode()
        with self.lock:
            answer, is_late = self.ask(message)
        if not answer:
            raise Refused(0, f"takes more than {SECONDS:g} s, so it was stopped" if is_late else TOO_MUCH)
        table = json.loads(answer)
        if "reason" in table:
            raise Refused(table["line"], table["reason"])
        return str(table["text"])

    def ask(self, message: bytes) -> tuple[bytes, bool]:
        """Return the answer to a message, empty if the process ended over it, and whether that was for its time."""
        if self.waiting or (self.child and self.child.poll() is not None):
            self.close()
        self.child = self.child or started()
        child, late, self.waiting = self.child, False, True

        def give_up() -> None:
            nonlocal late
            late = True
            child.kill()

        timer = Timer(SECONDS, give_up)
        timer.start()
        try:
            assert child.stdin and child.stdout
            child.stdin.write(message)
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            self.close()
            return b"", late
        self.waiting = False
        return answer, False

    def close(self) -> None:
        """End the process."""
        child, self.child, self.waiting = self.child, None, False
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            with suppress(OSError):  # what was never sent to it
                if stream:
                    stream.close()


def started() -> subprocess.Popen[bytes]:
    """Return a new process; it imports Jinja and nothing of nanotx."""
    command = [sys.executable, "-I", str(Path(template_sandbox.__file__))]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin
    child.stdin.write(f"{json.dumps(sys.path)}\n".encode())
    return child


@lru_cache(maxsize=1)
def template_process() -> TemplateProcess:
    """Return the one that all templates of this process share."""
    process = TemplateProcess()
    atexit.register(process.close)
    return process
