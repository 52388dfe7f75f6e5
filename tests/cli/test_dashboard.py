"""What one sees of a run: a picture on a terminal, plain lines elsewhere, and nothing that commands the terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nanotx.cli.dashboard import Display, spark
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import printable
from nanotx.runs.history import clock
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
def test_the_losses_their_gap_the_floor_the_time_left_and_the_sample_are_shown(terminal):
    text = shown(terminal)
    for told in ("a run", "2.0000", "1.5000", "+0.5000", "2.8850", "1.2500", "ROMEO:", "Ay me.\ufffd[31m"):
        assert told in text
    assert ("0:04 left" in text) == terminal and "\x1b[31m" not in text


def test_a_narrow_terminal_is_no_error():
    assert "ROMEO" in shown(terminal=True, width=20)


@given(st.text())
def test_what_is_printed_cannot_command_a_terminal(text):
    safe = printable(text)
    assert len(safe) == len(text)
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for c in safe if c not in "\n\t")


@given(st.lists(st.floats(0, 10), max_size=300))
def test_a_curve_has_a_bar_for_each_share_of_the_steps(losses):
    assert len(spark(losses)) == (min(72, len(losses)) if len(losses) > 1 else 0)


def test_a_curve_falls_as_the_loss_does():
    assert spark([8.0, 4.0, 0.0]) == "█▅▁"


def test_time_is_told_in_hours_minutes_and_seconds():
    assert [clock(s) for s in (0.0, 61.0, 3599.6, 3661.0)] == ["0:00", "1:01", "1:00:00", "1:01:01"]


def test_a_finished_run_is_shown_again_and_drawn(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    for row in ROWS:
        log.write(row)
    log.close()
    assert nanotx_command(["show", str(tmp_path)]) == 0
    assert "validation loss" in capsys.readouterr().out
    assert nanotx_command(["show", str(tmp_path), "--plot", str(tmp_path / "x.svg")]) == 0
    assert (tmp_path / "x.svg").read_text(encoding="utf-8").startswith("<svg")
