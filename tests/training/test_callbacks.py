"""Callbacks: what they add is logged and shown, what they break harms nothing, and a run is the same without them."""

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import answer, text, tiny

import nanotx
from nanotx.cli.dashboard import Display, Silent
from nanotx.cli.main import run as command
from nanotx.cli.run import check_callbacks, read_callback
from nanotx.config.registry import load_file
from nanotx.config.schema import from_table
from nanotx.data.corpus.file import File
from nanotx.errors import ConfigError, RunError, UnknownPart
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.training.callbacks import Callback

MINE = """
from dataclasses import dataclass
from nanotx import Callback

@Callback.register("watched")
@dataclass
class Watched(Callback):
    every: int = 1

    def on_step(self, run, row):
        if run.step % self.every == 0:
            row["weight_norm"] = sum(p.norm() for p in run.model.parameters())

    def on_eval(self, run, row):
        row["gap"] = row["val_loss"] - row["train_loss"]
"""


def recipe_in(folder) -> Recipe:
    """A run that takes a second, on a text in a folder."""
    small = replace(Recipe(), corpus=File(path=str(text(folder / "text.txt"))))
    return read_recipe(small, tiny(), "tiny")[0]


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    return recipe_in(tmp_path)


def rows(folder, event) -> list[dict]:
    lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def weights(folder) -> bytes:
    return (Path(folder) / "checkpoints/step-6/model.safetensors").read_bytes()


@dataclass
class Seen(Callback):
    """Every method that was called, with its step."""

    calls: list = field(default_factory=list)

    def on_start(self, run, row):
        self.calls.append((row["event"], run.step))

    def on_step(self, run, row):
        self.calls.append(("step", run.step))

    def on_eval(self, run, row):
        self.calls.append(("eval", run.step))

    def on_sample(self, run, row):
        self.calls.append(("sample", run.step))

    def on_checkpoint(self, run, row):
        assert (run.folder / "checkpoints" / f"step-{row['step']}" / "MANIFEST.json").is_file()
        self.calls.append(("checkpoint", row["step"]))

    def on_end(self, run, row):
        self.calls.append(("end", run.step))


def test_train_from_python_returns_the_run_and_calls_every_method(recipe, tmp_path):
    seen = Seen()
    run = nanotx.train(recipe, run=tmp_path / "run", callbacks=[seen], quiet=True)
    assert len(run.generate("a", max_new_tokens=5)) == 6 and run.step == 6
    steps = [("step", step) for step in range(1, 7)]
    assert [call for call in seen.calls if call[0] == "step"] == steps
    assert seen.calls[0] == ("start", 0) and seen.calls[-1] == ("end", 6)
    after = seen.calls[seen.calls.index(("step", 6)) + 1 :]
    after = [call for call in after if call != ("checkpoint", 4)]  # which was under way, or not any more
    assert after == [("eval", 6), ("sample", 6), ("checkpoint", 6), ("end", 6)]  # it is written meanwhile
    assert ("eval", 3) in seen.calls and ("checkpoint", 2) in seen.calls


def test_callback_may_be_named_and_loaded_by_flags_and_its_metrics_are_logged_and_shown(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    words = ["train", "shakespeare_char", *tiny(), "--corpus", str(text(tmp_path / "text.txt"))]
    words += ["--load", str(tmp_path / "mine.py"), "--callback", '{part = "watched", every = 2}']
    assert command([*words, "--run", str(tmp_path / "run")]) == 0
    steps = rows(tmp_path / "run", "step")
    assert [row["step"] for row in steps if "weight_norm" in row] == [2, 4, 6]
    assert all(row["weight_norm"] > 0 for row in steps if "weight_norm" in row)
    assert all(row["gap"] == row["val_loss"] - row["train_loss"] for row in rows(tmp_path / "run", "eval"))
    output = capsys.readouterr().out
    assert output.splitlines()[-2].endswith(
        """--callback '{part = "watched", every = 2}'"""
    )  # the command that resumes


def test_metrics_of_callbacks_are_on_the_dashboard(tmp_path):
    import io

    from rich.console import Console

    from nanotx.cli.dashboard import Display

    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    with Display(console) as shown:
        shown.show({"event": "start", "step": 0, "steps": 9, "tokens_per_step": 8, "title": "tiny"})
        step = {"event": "step", "step": 1, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 5.0}
        shown.show(step | {"weight_norm": 12.34567, "mood": "calm"})
        with console.capture() as picture:
            console.print(shown.live.render())
    assert "weight_norm 12.35  mood calm" in picture.get() and "grad_norm" not in picture.get()


BROKEN = ["show", "say", "note", "doing", "recall", "__enter__", "__exit__"]


@pytest.mark.parametrize("methods", [BROKEN, ["show"], ["doing"], ["__exit__"]], ids=["all", "show", "doing", "exit"])
def test_failing_display_is_warned_of_once_and_changes_no_bit(recipe, tmp_path, monkeypatch, methods, plain_weights):
    def fail(*given):
        raise OSError("the terminal is gone")

    monkeypatch.setattr("nanotx.cli.run.run_display", type("Failing", (Silent,), dict.fromkeys(methods, fail)))
    nanotx.train(recipe, run=tmp_path / "run", callbacks=[Noting()])
    (warning,) = rows(tmp_path / "run", "warning")
    assert warning["text"].startswith("the dashboard: OSError: the terminal is gone")
    assert weights(tmp_path / "run") == plain_weights
    assert rows(tmp_path / "run", "end")[0]["complete"] is True


class Noting(Callback):
    """Shows a line."""

    def on_step(self, run, row):
        run.note("noted")


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory):
    """The weights of the run without a display."""
    folder = tmp_path_factory.mktemp("plain")
    nanotx.train(recipe_in(folder), run=folder / "run", quiet=True)
    return weights(folder / "run")


def test_display_is_shown_the_earlier_rows_of_a_run_that_resumes_and_what_it_does_between_two(
    recipe, tmp_path, monkeypatch
):
    class Watching(Display):
        def doing(self, what, text=""):
            busy.append((what, text))

    busy, displays = list[tuple[str, str]](), list[Display]()
    monkeypatch.setattr("nanotx.cli.run.run_display", lambda: displays.append(Watching()) or displays[-1])

    class Stopping(Callback):
        def on_eval(self, run, row):
            if run.step == 3:
                run.request_stop()

    nanotx.train(recipe, run=tmp_path / "run", callbacks=[Stopping()])
    nanotx.train(recipe, run=tmp_path / "run", resume=True)
    history = displays[1].history
    assert [step for step, _ in history.curve.points()] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in history.evals] == [3, 6] and [event.kind for event in history.events] == ["resumed"]
    sample = rows(tmp_path / "run", "sample")[0]["text"]
    drafts = [text for what, text in busy if what == "sample"][: busy.index(("sample", sample)) + 1]
    assert ("evaluation", "") in busy and drafts[0] == "" and sample in drafts
    assert all(later.startswith(earlier) for earlier, later in pairwise(drafts) if later)


def test_run_is_the_same_to_the_bit_with_any_callback(recipe, tmp_path):
    class Rough(Callback):
        """Draws, evaluates, changes modes, and raises in the end."""

        def on_step(self, run, row):
            torch.manual_seed(7), torch.rand(9), np.random.seed(1)
            run.model.eval()
            if run.step == 5:
                raise ValueError("no more")

        def after_step(self, run):
            with torch.no_grad():
                run.model(torch.zeros(1, 4, dtype=torch.long))

    plain = replace(recipe, model=replace(recipe.model, dropout=0.2))
    nanotx.train(plain, run=tmp_path / "plain", quiet=True)
    nanotx.train(plain, run=tmp_path / "watched", callbacks=[Rough(), Seen()], quiet=True)
    assert weights(tmp_path / "plain") == weights(tmp_path / "watched")
    losses = [[row["loss"] for row in rows(tmp_path / name, "step")] for name in ("plain", "watched")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "method", ["on_start", "on_step", "on_eval", "on_sample", "on_checkpoint", "on_end", "after_step"]
)
def test_callback_that_raises_is_warned_of_once_and_the_run_continues(recipe, tmp_path, method):
    def failing(self, *given):
        raise OSError("the disk of the logger is full")

    broken = type("Broken", (Callback,), {method: failing})()
    nanotx.train(recipe, run=tmp_path / "run", callbacks=[broken], quiet=True)
    (warning,) = rows(tmp_path / "run", "warning")
    assert warning["text"].startswith("callback 'Broken' (") and "the disk of the logger is full" in warning["text"]
    assert "Training continues without it" in warning["text"]
    assert rows(tmp_path / "run", "end")[0]["complete"] is True
    assert command(["verify", str(tmp_path / "run")]) == 0


def test_gradients_are_there_in_on_step_and_gone_afterwards(recipe, tmp_path):
    norms = []

    class Norm(Callback):
        def on_step(self, run, row):
            grads = [param.grad.flatten() for param in run.model.parameters() if param.grad is not None]
            norms.append((float(torch.cat(grads).norm()), min(row["grad_norm"], run.recipe.train.grad_clip)))

        def after_step(self, run):
            assert all(param.grad is None for param in run.model.parameters())

    nanotx.train(recipe, run=tmp_path / "run", callbacks=[Norm()], quiet=True)
    assert len(norms) == 6 and not rows(tmp_path / "run", "warning")
    for norm, clipped in norms:
        assert norm == pytest.approx(clipped, rel=1e-4)


def test_norms_of_all_modules_make_the_norm_of_the_gradient(recipe, tmp_path):
    callback = read_callback("gradient_norms")
    loose = replace(recipe, train=replace(recipe.train, grad_clip=0.0))
    nanotx.train(loose, run=tmp_path / "run", callbacks=[callback], quiet=True)
    for row in rows(tmp_path / "run", "step"):
        norms = {key: value for key, value in row.items() if key.startswith("grad_norm/")}
        assert {"grad_norm/blocks.0", "grad_norm/embedding"} <= norms.keys()
        assert sum(norm**2 for norm in norms.values()) ** 0.5 == pytest.approx(row["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (torch.tensor(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (True, 1),
        ("calm", "calm"),
        (float("nan"), None),
        (-(2**62), -(2**62)),
    ],
    ids=str,
)
def test_metric_is_any_number_or_text(recipe, tmp_path, value, logged):
    nanotx.train(recipe, run=tmp_path / "run", callbacks=[adding("mine", value)], quiet=True)
    assert [row["mine"] for row in rows(tmp_path / "run", "step")] == [logged] * 6
    assert not rows(tmp_path / "run", "warning")


def adding(key, value) -> Callback:
    """A callback that sets a key of every step's row."""

    class Adding(Callback):
        def on_step(self, run, row):
            row[key] = value

    return Adding()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("mine", [1, 2], "'mine' is neither a number nor a text of at most"),
        ("mine", torch.zeros(2), "'mine' is neither"),
        ("mine", 2**70, "'mine' is neither"),
        ("mine", None, "'mine' is neither"),
        (7, 1.0, "7 is neither"),
        ("mine", "x" * 2**21, "'mine' is neither"),
        ("loss", 0.0, "'loss' was there before and keeps its value"),
        ("step", 99, "'step' was there before"),
        ("event", "eval", "'event' was there before"),
    ],
    ids=str,
)
def test_what_no_row_can_hold_is_warned_of_and_left_out(recipe, tmp_path, key, value, message):
    nanotx.train(recipe, run=tmp_path / "plain", quiet=True)
    nanotx.train(recipe, run=tmp_path / "run", callbacks=[adding(key, value)], quiet=True)
    times = {"tokens_per_second"}
    results, plain = (
        [{key: item for key, item in row.items() if key not in times} for row in rows(tmp_path / name, "step")]
        for name in ("run", "plain")
    )
    assert results == plain
    warnings = [row["text"] for row in rows(tmp_path / "run", "warning")]
    assert len(warnings) == 1 and message in warnings[0]


def test_key_that_counts_steps_elsewhere_may_be_any_number_in_a_step_row(recipe, tmp_path):
    nanotx.train(recipe, run=tmp_path / "run", callbacks=[adding("steps", -1)], quiet=True)
    assert [row["steps"] for row in rows(tmp_path / "run", "step")] == [-1] * 6
    assert command(["verify", str(tmp_path / "run")]) == 0


class Unreadable:
    """A value, or a key, that nothing can be done with."""

    ndim = 0

    def item(self):
        raise RuntimeError("no item")

    def __repr__(self):
        raise RuntimeError("no repr")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raising(run, row):
    raise Mute


@pytest.mark.parametrize(
    "look",
    [
        lambda run, row: row.update(mine=torch.empty((), device="meta")),
        lambda run, row: row.update(mine=Unreadable()),
        lambda run, row: row.update({Unreadable(): 1}),
        raising,
    ],
    ids=["meta tensor", "item raises", "key", "error without text"],
)
def test_nothing_that_a_callback_adds_or_raises_ends_a_run(recipe, tmp_path, look):
    callback = type("Odd", (Callback,), {"on_step": lambda self, run, row: look(run, row)})()
    assert nanotx.train(recipe, run=tmp_path / "run", callbacks=[callback], quiet=True).step == 6
    assert len(rows(tmp_path / "run", "warning")) == 1
    assert command(["verify", str(tmp_path / "run")]) == 0


def test_callback_may_warn_and_save_and_the_log_stays_in_order(recipe, tmp_path):
    class Active(Callback):
        def on_step(self, run, row):
            run.warn(f"step {run.step}")
            if run.step == 5:
                run.save()

    nanotx.train(recipe, run=tmp_path / "run", callbacks=[Active()], quiet=True)
    assert [row["text"] for row in rows(tmp_path / "run", "warning")] == [f"step {step}" for step in range(1, 7)]
    assert 5 in [row["step"] for row in rows(tmp_path / "run", "checkpoint")]
    assert command(["verify", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([Seen], r"callbacks\[0\]: .*got the class Seen; write Seen\(\)"),
        ([Seen(), "gradient_norms"], r"callbacks\[1\]: .*nanotx\.Callback, got str"),
        (Seen(), "expected a list such as"),
        (None, "got NoneType"),
        ("gradient_norms", "got str"),
    ],
    ids=["class", "name", "one", "none", "text"],
)
def test_what_is_not_a_callback_is_refused(callbacks, message):
    with pytest.raises(ConfigError, match=message):  # `train` asks this first; here, types are checked before it
        check_callbacks(callbacks)


def test_run_that_is_stopped_before_its_first_step_has_no_model_to_return(recipe, tmp_path):
    class Never(Callback):
        def on_start(self, run, row):
            run.request_stop()

    with pytest.raises(RunError, match="stopped before its first step"):
        nanotx.train(recipe, run=tmp_path / "run", callbacks=[Never()], quiet=True)
    assert nanotx.train(recipe, run=tmp_path / "run", resume=True, quiet=True).step == 6


def test_callback_that_deletes_a_key_changes_nothing(recipe, tmp_path):
    class Deleting(Callback):
        def on_step(self, run, row):
            row.clear()

    nanotx.train(recipe, run=tmp_path / "run", callbacks=[Deleting()], quiet=True)
    assert [row["step"] for row in rows(tmp_path / "run", "step")] == [1, 2, 3, 4, 5, 6]


def test_callback_may_stop_the_run_which_resumes_from_there(recipe, tmp_path):
    class Enough(Callback):
        def on_step(self, run, row):
            if run.step == 3:
                run.request_stop()

    whole = nanotx.train(recipe, run=tmp_path / "whole", quiet=True)
    stopped = nanotx.train(recipe, run=tmp_path / "run", callbacks=[Enough()], quiet=True)
    assert stopped.step == 3 and not rows(tmp_path / "run", "end")[-1]["complete"]
    resumed = nanotx.train(recipe, run=tmp_path / "run", resume=True, quiet=True)
    assert resumed.step == 6 and weights(tmp_path / "run") == weights(tmp_path / "whole")
    assert whole.generate("b", seed=1) == resumed.generate("b", seed=1)


def test_train_refuses_to_resume_another_recipe_and_a_folder_that_is_taken(recipe, tmp_path):
    nanotx.train(recipe, run=tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="already exists"):
        nanotx.train(recipe, run=tmp_path / "run", quiet=True)
    other = replace(recipe, optimizer=replace(recipe.optimizer, lr=0.5))
    with pytest.raises(ConfigError, match="lr"):
        nanotx.train(other, run=tmp_path / "run", resume=True, quiet=True)


def test_clock_of_a_run_starts_when_it_is_called(recipe, tmp_path):
    for name in ("first", "second"):
        nanotx.train(recipe, run=tmp_path / name, quiet=True)
    first, second = (
        json.loads((tmp_path / name / "summary.json").read_text(encoding="utf-8")) for name in ("first", "second")
    )
    assert 0 < second["train_seconds"] <= second["wall_seconds"] < first["wall_seconds"] + 30
    assert second["wall_seconds"] < nanotx_seconds()


def nanotx_seconds() -> float:
    import time

    return time.perf_counter() - nanotx.started


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--callback", "gradient_norm"], "no part named 'gradient_norm'. Did you mean 'gradient_norms'"),
        (
            ["--callback", '{part = "gradient_norms", evry = 2}'],
            "GradientNorms has no such field. Did you mean 'every'",
        ),
        (["--callback", '{part = "gradient_norms", every = 0}'], "every: expected a number of at least 1"),
        (["--callback", "{part = gradient_norms}"], "expected a name, or a table such as"),
        (["--callback", ""], "--callback: expected a name, got nothing"),
        (["--callback"], "--callback: expected a name, got nothing"),
        (["--callback", "evaluation"], "no part named 'evaluation'"),
    ],
)
def test_wrong_callback_is_named_before_anything_is_trained(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    with pytest.raises((ConfigError, UnknownPart)) as error:
        command(["train", "shakespeare_char", *tiny(), "--corpus", "text.txt", "--run", "run", *words])
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_callback_that_is_no_dataclass_is_refused_with_the_decorator_to_add(tmp_path):
    (tmp_path / "bare.py").write_text(
        "from nanotx import Callback\n@Callback.register('bare')\nclass Bare(Callback):\n    def __init__(self, x):\n"
        "        self.x = x\n",
        encoding="utf-8",
    )
    load_file(tmp_path / "bare.py")
    with pytest.raises(ConfigError, match="put @dataclass above the class"):
        from_table(Callback, "bare", "--callback")
    del Callback.registered["bare"]  # other tests walk all parts


def test_killed_run_with_a_callback_resumes_to_the_bit(tmp_path):
    (tmp_path / "mine.py").write_text(MINE + KILL, encoding="utf-8")
    text(tmp_path / "text.txt")
    words = ["train", "shakespeare_char", *tiny(), "--corpus", "text.txt", "--load", "mine.py"]
    assert answer(*words, "--callback", "watched", "--run", "whole", cwd=tmp_path)[0] == 0
    killed = answer(*words, "--callback", "watched", "--callback", "killing", "--run", "run", cwd=tmp_path)
    assert killed[0] == -9
    assert answer("resume", "run", "--load", "mine.py", "--callback", "watched", cwd=tmp_path)[0] == 0
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    norms = [[row["weight_norm"] for row in rows(tmp_path / name, "step")] for name in ("run", "whole")]
    assert norms[0] == norms[1] and len(norms[0]) == 6


KILL = """
import os, signal

@Callback.register("killing")
@dataclass
class Killing(Callback):
    def on_step(self, run, row):
        if run.step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""
