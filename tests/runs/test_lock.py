"""One process at a time works on a run; and a stream that is lost stops nobody."""

import io
import os
import subprocess
import sys

import pytest
from helpers import ROOT

from nanotx.cli.console import SafeStream
from nanotx.errors import RunError
from nanotx.runs.folder import locked

OTHER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from nanotx.runs.folder import locked
with locked(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_process_names_the_first_and_a_killed_process_leaves_no_lock(tmp_path):
    command = [sys.executable, "-c", OTHER, str(ROOT), str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=rf"process {child.pid} of .*, since .*, is using this run"), locked(tmp_path):
        pass
    child.kill()
    child.communicate()
    with locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".owner").read_text(encoding="utf-8")
    assert not (tmp_path / ".owner").exists()


class Failing(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")

    def fileno(self):
        raise OSError


def test_what_cannot_be_shown_is_not_shown():
    outlet = SafeStream(Failing())
    assert outlet.write("words") == 5
    assert outlet.broken and not outlet.isatty()
    assert outlet.write("more") == 4


def test_what_can_be_shown_is_shown_whole():
    stream = io.StringIO()
    SafeStream(stream).write("é" * 5000)
    assert stream.getvalue() == "é" * 5000


@pytest.mark.skipif(sys.platform == "win32", reason="Windows asks sockets alone whether they are ready")
def test_unread_pipe_blocks_no_command():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        outlet = SafeStream(stream)
        outlet.patience = 0.01
        for _ in range(200):  # some 200 KiB; a pipe takes 64
            outlet.write("x" * 1000)
        os.set_blocking(reader, False)
        assert len(os.read(reader, 1 << 20)) < 200_000
        outlet.write("again")
        assert os.read(reader, 1 << 20).endswith(b"again")
    os.close(reader)
