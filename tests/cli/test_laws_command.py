"""`nanotx laws`: what it says of right parts and of wrong ones; and the laws as anybody's tests."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import python
from rich.console import Console

from nanotx.laws.report import tables
from nanotx.laws.runner import Verdict

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = "tests/mutants/attentions.py"


def nanotx(*words, **environment):
    """The command as it is typed in the checkout, where there is no GPU."""
    return python("-m", "nanotx", "laws", *words, CUDA_VISIBLE_DEVICES="-1", OMP_NUM_THREADS="1", **environment)


def test_parts_that_are_right_pass_and_one_that_cannot_train_here_does_not(tmp_path):
    out = tmp_path / "laws.json"
    done = nanotx("norm/rmsnorm", "attention/flex", "--examples", "5", "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "all hold" in done.stdout
    assert "not on cpu" in done.stdout
    output = json.loads(out.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert (output["device"], output["examples"], output["seed"]) == ("cpu", 5, 0)
    by_part = {}
    for verdict in output["verdicts"]:
        by_part.setdefault(verdict["part"], []).append(verdict)
    assert all(verdict["passed"] and verdict["cases"] == 5 for verdict in by_part["norm/rmsnorm"])
    flex = {verdict["law"]: verdict for verdict in by_part["attention/flex"]}
    assert not flex["causal"]["passed"] and flex["causal"]["skipped"] == "not on cpu" and flex["causal"]["cases"] == 0


def test_wrong_part_is_shown_with_its_smallest_case_which_can_be_replayed():
    done = nanotx("attention/mutant_peek", "--load", MUTANTS, "--show")
    assert done.returncode == 1, done.stderr
    assert "causal: outputs up to 0 feel position 1" in done.stdout
    assert "time = 2" in done.stdout and "!!" in done.stdout
    lines = done.stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("replay(") and "'causal'" in line)
    assert f"load=['{MUTANTS}']" in lines[at]
    again = python("-c", "\n".join(lines[at - 1 : at + 1]))
    assert again.returncode == 1
    assert "LawBroken: causal: outputs up to 0 feel position 1" in again.stderr


def test_picture_of_a_correct_attention_is_a_triangle():
    done = nanotx("attention/fused", "--examples", "1", "--show")
    rows = [line.strip("│ ") for line in done.stdout.splitlines() if line.startswith("│")]
    assert [len(row) for row in rows] == [2 * (t + 1) for t in range(12)]
    assert "!!" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("atention", "atention: no laws for a slot 'atention'. Did you mean 'attention'? Known: attention, block"),
        ("attention/fsued", "nanotx.attention: no part named 'fsued'. Did you mean 'fused'?"),
        ("--examples 0", "--examples: expected a number of at least 1, got 0."),
        ("--device cuda", "device: expected a CUDA GPU, and torch sees none; try --device cpu"),
        ("--exmaples 5", "--exmaples: no such flag. Did you mean '--examples'?"),
        ("norm --load nowhere.py", "nowhere.py"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(words, says):
    done = nanotx(*words.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_author_of_a_part_tests_it_in_two_lines(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        "from nanotx.laws.testing import laws_of\n"
        f"test_mine = laws_of('attention/mutant_top_left', load=[{str(ROOT / MUTANTS)!r}])\n",
        encoding="utf-8",
    )
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "cache_agrees: cuts [1]" in done.stdout and "replay(" in done.stdout
    assert "2 failed, 14 passed" in done.stdout  # it ignores its dropout, too


def test_narrow_terminal_gets_a_line_per_part():
    verdicts = [
        Verdict(part="attention/mine", law=f"law{n}", cases=9, broken="so" if n == 3 else "") for n in range(12)
    ]
    shown = {}
    for width in (160, 60):
        console = Console(width=width, file=io.StringIO())
        console.print(tables(verdicts, console))
        shown[width] = console.file.getvalue()
    assert "law11" in shown[160] and "✗9" in shown[160]
    assert "breaks law3" in shown[60] and "law11" not in shown[60]
    assert all(len(line) <= 60 for line in shown[60].splitlines())


def test_law_that_does_not_apply_to_a_part_is_named_with_the_reason(tmp_path):
    out = tmp_path / "laws.json"
    names = ("attention/fused", "norm/none", "tokenizer/tiktoken")
    done = nanotx(*names, "--examples", "1", "--jobs", "1", "--json", str(out))
    assert done.returncode == 0, done.stderr
    assert "window is not asked of attention/fused: it looks back all the way." in done.stdout
    assert "field_matters is not asked of norm/none: it has no fields." in done.stdout
    fetched = "field_matters of encoding is not asked of tokenizer/tiktoken: another would have to be fetched."
    assert fetched in done.stdout
    output = json.loads(out.read_text(encoding="utf-8"))["not_asked"]
    assert {"law": "window", "parts": ["attention/fused"], "reason": "it looks back all the way"} in output


def test_attention_that_ignores_its_dropout_breaks_field_matters():
    done = nanotx("attention/mutant_drops_nothing", "--load", MUTANTS, "--examples", "5")
    assert done.returncode == 1, done.stderr
    assert "breaks field_matters: field_matters: dropout=0.0 and dropout=0.5" in done.stdout
    assert "cost_only" in done.stdout
