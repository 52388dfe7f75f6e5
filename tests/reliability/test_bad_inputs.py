"""A wrong input is answered by its exit code, the place and the remedy, and leaves nothing behind."""

import importlib
import sys
import time
from collections import Counter
from contextlib import suppress

import pytest
from reliability.bad_input import MEMORY, BadInput, attempt, having, judge
from reliability.bad_inputs import catalogue
from reliability.specimens import read_files, specimen

from nanotx.cli.main import run as nanotx_command
from nanotx.errors import NanotxError
from nanotx.selftest import Broken

CATALOGUE = catalogue()
every_input = pytest.mark.parametrize("bad", CATALOGUE, ids=[bad.name for bad in CATALOGUE])


@pytest.fixture(scope="module")
def specimens():
    """The runs that some inputs change, and all imports of the commands, made before the clock starts."""
    for name in (
        "runs.session",
        "runs.load",
        "runs.resume",
        "laws.all_laws",
        "cli.commands.eval",
        "cli.commands.sample",
        "cli.commands.tokenizer.compare",
    ):
        importlib.import_module(f"nanotx.{name}")
    specimen("char"), specimen("byte")


@pytest.fixture
def little_memory():
    """A regression must not take the machine's memory with it."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):  # macOS has no /proc, and takes no such bound
        with open("/proc/self/statm", encoding="ascii") as pages:  # noqa: PTH123
            taken = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def answer(bad, capsys):
    """The exit code in this process, the output, and the seconds of processor time, whatever else the machine does."""
    began = time.process_time()
    try:
        code = nanotx_command(list(bad.argv))
    except NanotxError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except SystemExit as end:
        code = end.code
    seconds, output = time.process_time() - began, capsys.readouterr()
    return code, output.out + output.err, seconds


@every_input
def test_bad_input_is_answered(bad, specimens, little_memory, tmp_path, monkeypatch, capsys):
    if not bad.possible():
        pytest.skip("not possible here")
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    bad.prepare(folder)
    before = read_files(folder)
    judge(bad, *answer(bad, capsys), before, read_files(folder))


@pytest.mark.slow
@every_input
def test_bad_input_is_answered_by_a_process_of_its_own(bad, specimens, tmp_path):
    if not bad.possible():
        pytest.skip("not possible here")
    folder = tmp_path / "home"
    folder.mkdir()
    attempt(bad, folder)


def test_catalogue_is_large_and_each_input_has_a_name_of_its_own():
    names = Counter(bad.name for bad in CATALOGUE)
    assert len(names) >= 80 and names.most_common(1)[0][1] == 1
    assert {bad.code for bad in CATALOGUE} == {0, 2, 3, 4}


OWED = BadInput(name="x", argv=("train",), code=2, says="expected .* such as")


@pytest.mark.parametrize(
    ("code", "output", "seconds", "after", "fault"),
    [
        (1, "Traceback (most recent call last): ...", 0.1, {}, "there was a traceback"),
        (3, "expected one such as", 0.1, {}, "the exit code 3 and not 2"),
        (None, "expected one such as", 0.1, {}, "the exit code None and not 2"),
        (2, "something is wrong", 0.1, {}, "nothing that matches 'expected .. such as'"),
        (2, "expected one such as", 9.0, {}, r"an answer after 9\.0 s"),
        (
            2,
            "expected one such as",
            0.1,
            {"run/recipe.toml": b""},
            r"something else in the folder: \['run/recipe.toml'\]",
        ),
    ],
)
def test_wrong_message_is_caught(code, output, seconds, after, fault):
    with pytest.raises(Broken, match=fault):
        judge(OWED, code, output, seconds, {}, after)


def test_good_message_may_be_framed_and_broken_into_lines():
    judge(OWED, 2, "│ expected a recipe │\n│ such as mine.toml │", 0.1, {}, {})


def test_input_may_be_tried_in_a_process_of_its_own(tmp_path):
    attempt(BadInput(name="x", argv=("train",), code=2, says="missing; expected one of", prepare=having()), tmp_path)
    with pytest.raises(Broken, match="the exit code 2 and not 3"):
        attempt(BadInput(name="x", argv=("train",), code=3, says="", prepare=having()), tmp_path)
