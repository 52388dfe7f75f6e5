"""What one sees of a run: a picture on a terminal, plain lines elsewhere, and nothing that commands the terminal."""

import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nanotx.cli.console import SafeStream
from nanotx.cli.dashboard import Display, memory_figure
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import ConfigError, printable
from nanotx.hardware.memory import used_memory
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
    for item in ("a run", "2.0000", "1.5000", "+0.5000", "2.8850", "1.2500", "ROMEO:", "Ay me.\ufffd[31m"):
        assert item in text
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


# The live picture.


class Terminal(io.StringIO):
    """A terminal of an encoding."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self.encoding_name = encoding

    @property
    def encoding(self):
        return self.encoding_name


def live(encoding="utf-8", **environ):
    """A display on a terminal of 80 x 24, and what it has written."""
    out = Terminal(encoding)
    console = Console(file=out, force_terminal=True, width=80, height=24, _environ={"TERM": "xterm", **environ})
    return Display(console), out


def test_nothing_is_cut_by_dots_however_long_the_sample_is():
    display, out = live()
    with display:
        for row in [*ROWS, {"event": "sample", "step": 2, "text": "many\nlines\n" * 99}]:
            display.show(row)
        display.live.refresh()
        lines = display.live.render().lines
    assert len(lines) <= 23 and "\x1b[31m" not in out.getvalue()
    assert lines[-1] == []  # here the terminal prints ^C


def test_terminal_without_utf_8_gets_ascii_alone():
    display, out = live("iso-8859-1")
    with display:
        for row in [*ROWS[:-1], {"event": "eval", "step": 3, **SCORES, "val_stderr": 0.1}]:
            display.show(row)
        display.say("± 1")
        display.live.refresh()
    text = out.getvalue()
    assert text.isascii() and "+/- 1" in text and "* best" in text and "#" in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_stream_replaces_what_it_cannot_encode_and_writes_the_rest(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True, newline="\n")
    SafeStream(stream).write("loss ± ⣀\n")
    assert raw.getvalue().decode() == ("loss ± ⣀\n" if encoding == "utf-8" else "loss ? ?\n")


def test_without_colour_there_is_none():
    display, out = live(NO_COLOR="1")
    with display:
        for row in ROWS:
            display.show(row)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", out.getvalue()) and "★" in out.getvalue()


def test_dumb_terminal_gets_plain_lines():
    display, out = live(TERM="dumb")
    with display:
        for row in ROWS:
            display.show(row)
    assert "\x1b" not in out.getvalue() and "step 2/4  validation loss 2.0000" in out.getvalue()


def test_picture_that_cannot_be_drawn_is_raised_at_the_next_row_and_plain_lines_follow(monkeypatch):
    display, out = live()
    with display:
        display.show(START)
        monkeypatch.setattr("nanotx.cli.dashboard.picture_lines", lambda *given: 1 / 0)
        display.live.render()
        with pytest.raises(ZeroDivisionError):
            display.show(ROWS[1])
        display.show(ROWS[3])
        assert display.live is None
    assert "step 2/4  validation loss 2.0000" in out.getvalue() and "\x1b[?25h" in out.getvalue()  # shows the cursor


def test_terminal_of_another_size_is_cleared_and_what_was_above_is_printed_again():
    display, out = live()
    with display:
        display.show(START)
        display.say("on one core")
        display.live.refresh()
        before = len(out.getvalue())
        display.console.width = 60
        display.live.refresh()
        text = out.getvalue()[before:]
    assert "\x1b[H\x1b[2J" in text and text.index("a run") < text.index("on one core") < text.index("step 0/4")


def test_nothing_is_drawn_again_while_nothing_has_changed(monkeypatch):
    display, _ = live()
    with display:
        monkeypatch.setattr("nanotx.cli.dashboard.time.monotonic", lambda: 1e6)
        display.show(START)
        display.live.stopping.set()
        display.live.thread.join()
        drawn = []
        monkeypatch.setattr(display.live.live, "refresh", lambda: drawn.append(display.draft))
        for draft in ("", "", "R", "RO", "RO"):
            display.doing("sample", draft)
            display.live.refresh()
        assert drawn == ["", "R", "RO"]


def test_memory_of_this_process_is_read():
    process, gpu = used_memory()
    assert process > 10**7 and gpu >= 0
    assert memory_figure().startswith("memory ")


def test_run_is_shown_as_it_was_after_a_step(tmp_path, capsys):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    for row in ROWS:
        log.write(row)
    log.close()
    assert nanotx_command(["show", str(tmp_path), "--step", "1"]) == 0
    assert "step 1/4" in (first := capsys.readouterr().out) and "validation loss" not in first
    with pytest.raises(ConfigError, match="step"):
        nanotx_command(["show", str(tmp_path), "--step", "-1"])
