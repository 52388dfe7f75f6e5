"""What one sees of a run: a picture on a terminal, plain lines elsewhere, and nothing that commands the terminal."""

import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nanotx.cli.dashboard import Display
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import printable
from nanotx.runs.history import History, Pace, clock
from nanotx.runs.metrics_log import MetricsLog

START = {"event": "start", "step": 0, "steps": 4, "tokens_per_step": 10, "title": "a run", "floor": 1.25}
SPEED = {"lr": 0.1, "grad_norm": 1.0, "tokens_per_second": 5.0}
SCORES = {"train_loss": 1.5, "val_loss": 2.0, "bits_per_byte": 2.885, "perplexity": 7.4}
ROWS = [
    START,
    *({"event": "step", "step": n, "loss": 4.0 - n, **SPEED} for n in (1, 2)),
    {"event": "eval", "step": 2, **SCORES},
    {"event": "sample", "step": 2, "text": "ROMEO:\nAy me.\x1b[31m\n"},
]


def shown(terminal, width=90):
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=terminal, width=width, color_system=None)) as display:
        for row in ROWS:
            display.show(row)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_losses_their_gap_the_floor_the_time_left_and_the_sample_are_shown(terminal):
    text = shown(terminal)
    for told in ("a run", "2.0000", "1.5000", "+0.5000", "2.8850", "1.2500", "ROMEO:", "Ay me.\ufffd[31m"):
        assert told in text
    assert ("0:04 left" in text) == terminal and "\x1b[31m" not in text


def test_narrow_terminal_is_no_error():
    assert "ROMEO" in shown(terminal=True, width=20)


@given(st.text())
def test_what_is_printed_cannot_command_a_terminal(text):
    safe = printable(text)
    assert len(safe) == len(text)
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for c in safe if c not in "\n\t")


def test_time_is_printed_in_hours_minutes_and_seconds():
    assert [clock(s) for s in (0.0, 61.0, 3599.6, 3661.0)] == ["0:00", "1:01", "1:00:00", "1:01:01"]
    assert [clock(s) for s in (49 * 3600.0, 1e12, math.inf, math.nan)] == ["2 days 1 h", *["over 1,000 days"] * 3]


def test_finished_run_is_shown_again_and_drawn(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    for row in ROWS:
        log.write(row)
    log.close()
    assert nanotx_command(["show", str(tmp_path)]) == 0
    assert "validation loss" in capsys.readouterr().out
    assert nanotx_command(["show", str(tmp_path), "--plot", str(tmp_path / "x.svg")]) == 0
    assert (tmp_path / "x.svg").read_text(encoding="utf-8").startswith("<svg")


# How long a run still takes.


def paced(rows, **start) -> Pace:
    """The pace of a run of 100 steps of 10 tokens whose rows came at some times."""
    pace = Pace({"event": "start", "step": 0, "steps": 100, "tokens_per_step": 10, **start}, 0.0)
    for now, event, step, speed in rows:
        pace.take({"event": event, "step": step, "tokens_per_second": speed}, float(now))
    return pace


def test_first_step_of_a_process_which_is_slow_is_no_measure_of_speed():
    pace = paced([(50, "step", 1, 0.2)])
    assert pace.speed == pace.left() == 0.0
    assert paced([(50, "step", 1, 0.2), (51, "step", 2, 10.0), (53, "step", 3, 5.0)]).speed == pytest.approx(20 / 3)


def test_time_left_counts_the_steps_evaluations_samples_and_checkpoints_that_are_due():
    rows = [
        (0, "step", 9, 1.0),
        (1, "step", 10, 10.0),
        (5, "checkpoint", 10, 0),
        (8, "eval", 10, 0),
        (10, "sample", 10, 0),
    ]
    assert paced(rows, checkpoint_every=30, eval_every=10, sample_every=50).left() == 90 + 4 * 4 + 9 * 3 + 2 * 2
    assert paced(rows, checkpoint_every=0, eval_every=0, sample_every=0).left() == 90 + 4 + 3 + 2  # at the end


def test_before_the_first_evaluation_its_time_is_estimated_from_its_tokens():
    rows = [(0, "step", 1, 1.0), (1, "step", 2, 10.0)]
    assert paced(rows, eval_every=50, tokens_per_eval=300).left() == 98 + 2 * 10


def test_finished_run_has_no_time_left():
    rows = [(0, "step", 99, 1.0), (1, "step", 100, 10.0), (9, "eval", 100, 0)]
    assert paced(rows, eval_every=10, sample_every=7).left() == 0


@pytest.mark.parametrize("wrong", [-1, "many", None, [2]])
def test_log_with_other_values_is_no_error(wrong):
    assert paced([(0, "step", 1, 1.0), (1, "step", 2, 10.0)], eval_every=wrong, tokens_per_eval=wrong).left() == 98


def test_loss_says_over_how_many_steps_it_is_a_mean():
    history = History()
    for row in (START, *({"event": "step", "step": n, "loss": float(n), **SPEED} for n in range(1, 25))):
        history.take(row)
        if row["step"] == 1:
            assert history.status() == "loss 1.000  gradient norm 1  learning rate 0.1"
        if row["step"] == 2:
            assert history.status().startswith("loss 1.500 (mean of 2 steps)  gradient norm 1  learning rate 0.1")
            assert history.status().endswith("  5 tokens/s  about 0:04 left")
    assert history.status().startswith("loss 14.500 (mean of 20 steps)")


@pytest.mark.parametrize("terminal", [False, True])
def test_first_line_is_the_title_of_the_run_and_remarks_come_after_it(terminal):
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=terminal, width=90, color_system=None)) as display:
        display.show(START)
        display.say("torch.compile is off: the run is short")
    lines = [
        line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", out.getvalue()).splitlines() if line.strip()
    ]
    assert lines[:2] == ["a run", "torch.compile is off: the run is short"]
