"""What people type wrong is answered by its exit code, the place and the remedy, and nothing is left behind."""

import importlib
import sys
import time
from collections import Counter
from contextlib import suppress

import pytest

from nanotx.cli.main import run as nanotx_command
from nanotx.errors import NanotxError
from nanotx.selftest import Broken
from nanotx.selftest._bad import MEMORY, Bad, attempt, having, judge
from nanotx.selftest._tiny import lying, specimen
from nanotx.selftest.inputs import cases, catalogue

CATALOGUE = catalogue()


@pytest.fixture(scope="module")
def specimens():
    """The runs that some of the cases spoil; made, and all imported that answers, before anybody looks at the clock."""
    for name in (
        "runs.session",
        "runs.load",
        "runs.resume",
        "laws.registry",
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


def answered(bad, capsys):
    """The exit code in this process, all that was said, and the seconds of work it took, whatever else is at work."""
    began = time.process_time()
    try:
        code = nanotx_command(list(bad.argv))
    except NanotxError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        code = error.exit_code
    except SystemExit as end:
        code = end.code
    seconds, said = time.process_time() - began, capsys.readouterr()
    return code, said.out + said.err, seconds


@pytest.mark.parametrize("bad", CATALOGUE, ids=[bad.name for bad in CATALOGUE])
def test_what_is_typed_wrong_is_answered(bad, specimens, little_memory, tmp_path, monkeypatch, capsys):
    if not bad.possible():
        pytest.skip("not possible here")
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    bad.prepare(folder)
    before = lying(folder)
    judge(bad, *answered(bad, capsys), before, lying(folder))


def test_the_catalogue_is_large_and_each_case_has_a_name_of_its_own():
    names = Counter(bad.name for bad in CATALOGUE)
    assert len(names) >= 80 and names.most_common(1)[0][1] == 1
    assert {bad.code for bad in CATALOGUE} == {0, 2, 3, 4}
    assert sorted(case.name for case in cases(1)) == sorted(f"input/{name}" for name in names)
    assert [case.name for case in cases(1)] != [case.name for case in cases(2)]


ASKED = Bad(name="x", argv=("train",), code=2, says="expected .* such as")


@pytest.mark.parametrize(
    ("code", "said", "seconds", "after", "fault"),
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
def test_an_answer_that_is_none_is_found_out(code, said, seconds, after, fault):
    with pytest.raises(Broken, match=fault):
        judge(ASKED, code, said, seconds, {}, after)


def test_a_good_answer_may_be_framed_and_broken_into_lines():
    judge(ASKED, 2, "│ expected a recipe │\n│ such as mine.toml │", 0.1, {}, {})


def test_a_case_may_be_tried_in_a_process_of_its_own(tmp_path):
    bad = Bad(name="x", argv=("train",), code=2, says="expected a recipe first", prepare=having())
    assert attempt(bad, tmp_path).happened.startswith("2: ConfigError: nanotx train: expected a recipe first")
    with pytest.raises(Broken, match="the exit code 2 and not 3"):
        attempt(Bad(name="x", argv=("train",), code=3, says="", prepare=having()), tmp_path)
