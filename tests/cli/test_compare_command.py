"""`nanotx compare`: one small experiment from the command line, and what it refuses."""

import json
import os
import signal

import pytest
from helpers import tiny

from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.errors import ConfigError, DataError, RunError, UnknownPart
from nanotx.experiments import experiment, runner

COMMAND = ["compare", "shakespeare_char", *tiny(train_steps=2), "--corpus", "playhouse", "--tokenizer", "byte",
           "--examples", "0", "--processes", "1"]  # fmt: skip
PLAIN = [*COMMAND, "--corpus.size", "6000", "--rounds", "0", "--seeds", "3"]


@pytest.fixture(autouse=True)
def known_peak(monkeypatch):
    monkeypatch.setattr("nanotx.runs.shared.peak_flops", lambda machine: 1e11)


def test_command_prints_a_page_on_stdout_and_progress_on_stderr(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([*PLAIN, "--change", "ffn=mlp", "--json", "out.json", "--validation"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("shakespeare_char: 2 steps, equal steps, 3 seeds (5 to 7)")
    assert max(map(len, out.splitlines())) <= 80 and "It was read 1 time;" in out.replace("\n  ", " ")
    assert "6 of 6 runs: ffn=mlp, seed 7" in err
    plain = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [arm["arm"] for arm in plain["arms"]] == ["baseline", "ffn=mlp"]
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("compare-shakespeare_char-")
    assert run([*PLAIN, "--change", "ffn=mlp"]) == 0
    again = capsys.readouterr()
    assert again.out.splitlines()[:8] == out.splitlines()[:8] and "of 6 runs" not in again.err


CHANGE = ["--change", "ffn=mlp"]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
@pytest.mark.parametrize("where", ["between runs", "in a run"])
def test_signal_that_stops_it_gives_the_exit_code_and_the_same_command_continues(
    tmp_path, monkeypatch, capsys, name, code, where
):
    monkeypatch.chdir(tmp_path)
    number, session = getattr(signal, name), runner.session
    before = signal.getsignal(number)

    def signalled(*args):
        os.kill(os.getpid(), number)
        return session(*args) if where == "in a run" else pytest.fail("went on")

    with monkeypatch.context() as patch:
        patch.setattr(*((runner, "session") if where == "in a run" else (experiment, "run_jobs")), signalled)
        assert exit_code(lambda: run([*PLAIN, *CHANGE])) == code
    assert "Stopped, and saved in runs/compare-shakespeare_char-" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    asked = []

    def noted(jobs, *others):
        asked.extend(jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run_jobs", noted)
    assert exit_code(lambda: run([*PLAIN, *CHANGE])) == 130
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (PLAIN, ConfigError, "at least one --change"),
        ([*PLAIN, "--change", "ffn=relu2"], ConfigError, r"equals the baseline.*add --allow-equal"),
        ([*PLAIN, "--change", "ffn=swiglo"], UnknownPart, "Did you mean 'swiglu'"),
        ([*PLAIN, "--change", "train.batch_size=4"], ConfigError, r"budgets would differ.*--equal tokens"),
        ([*COMMAND, *CHANGE, "--corpus.size", "3"], DataError, "both need some"),
        ([*COMMAND, *CHANGE, "--corpus.size", "9"], DataError, r"no window of model\.context=8"),
        ([*COMMAND, *CHANGE, "--seeds", "0"], ConfigError, "--seeds: expected a number of at least 1"),
        ([*PLAIN, *CHANGE, "--smallest", "0"], ConfigError, "--smallest: expected a number above 0"),
        ([*PLAIN, *CHANGE, "--held-out", "0.95"], ConfigError, "--held-out: expected"),
        ([*PLAIN, *CHANGE, "--until", "verdict", "--max-seeds", "3"], ConfigError, "more than --seeds 3"),
        ([*PLAIN, *CHANGE, "--until", "noon"], ConfigError, "verdict"),
        ([*PLAIN, *CHANGE, "--sed", "3"], ConfigError, "--sed: no such flag"),
        ([*PLAIN, *CHANGE, "--load", "nowhere.py"], ConfigError, r"nowhere\.py"),
        (["compare", ".", *CHANGE], ConfigError, "compared as they are; leave out --change"),
        (["compare", "."], RunError, "no runs here"),
        (["compare", "shakespear_char", *CHANGE], ConfigError, "nanotx compare .*Did you mean 'shakespeare_char'"),
        ([*PLAIN, *CHANGE, "--smalest", "1"], ConfigError, "^nanotx compare .*no such flag. Did you mean '--smallest'"),
        (
            [*PLAIN, *CHANGE, "--model.dropout", "x"],
            ConfigError,
            "^nanotx compare shakespeare_char: --model.dropout: exp",
        ),
    ],
)
def test_command_refuses_what_cannot_be_compared(tmp_path, monkeypatch, words, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        run(words)
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_command_without_a_recipe_says_what_it_needs(capsys):
    with pytest.raises(ConfigError, match="RECIPE"):
        run(["compare"])
    with pytest.raises(SystemExit):
        run(["compare", "--help"])
    assert "--until" in capsys.readouterr().out
