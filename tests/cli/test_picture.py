"""The picture of a run fits into any terminal, and shows what there is to be known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nanotx.cli.chart import ASCII, UNICODE
from nanotx.cli.picture import MARKS, Present, flow, line_text, picture_lines, shortened, wrapped
from nanotx.runs.history import History

START = {
    "event": "start", "step": 0, "steps": 1000, "tokens_per_step": 100, "title": "tiny: 3 parameters", "floor": 1.25,
    "flops_per_token": 1e6, "peak_flops": 1e9, "wall_seconds": 2.0, "eval_every": 50, "sample_every": 50,
}  # fmt: skip
SCORES = {"train_loss": 1.5, "bits_per_byte": 2.885, "perplexity": 7.4, "val_stderr": 0.01}
FULL = [
    START,
    *(
        {"event": "step", "step": n, "loss": 4 - n / 50, "lr": 0.02, "grad_norm": 0.5, "tokens_per_second": 250.0}
        | {"mood": "calm", "weight_norm": 12.34567}
        for n in range(1, 101)
    ),
    *({"event": "eval", "step": n, "val_loss": loss, **SCORES} for n, loss in ((50, 3.1), (75, 2.0), (100, 2.5))),
    {"event": "warning", "step": 60, "text": "step 60: the gradient's norm is 9, and usually 1."},
    {"event": "warning", "step": 70, "kind": "reset", "text": "step 70: the tables were reset."},
    {"event": "changed", "step": 80, "changes": {}, "recipe_sha256": ""},
    {"event": "sample", "step": 100, "text": "ROMEO:\n" + "Ay me. 你好 " * 60},
]


def history_of(rows=FULL):
    history = History()
    history.recall(rows)
    return history


def picture(history, width=80, height=24, glyphs=UNICODE, **present):
    lines = picture_lines(history, Present(now=history.now, **present), width, height, glyphs)
    return "\n".join(map(line_text, lines))


def test_everything_is_on_a_terminal_of_80_by_24():
    text = picture(history_of(), memory="memory 1.50 GiB", note="1.0 s: ahead of the record")
    assert "step 100/1,000" in text and "10%" in text and "left" in text
    assert "loss 2.190 (mean of 20 steps)" in text and "gradient norm 0.5" in text and "learning rate 0.02" in text
    assert "250 tokens/s" in text and "25.0% of the machine's peak" in text and "memory 1.50 GiB" in text
    assert "★ best 2.0000 at step 75" in text and "bits per byte" in text and "1.2500" in text
    assert "weight_norm 12.35" in text and "mood calm" in text and "ahead of the record" in text
    assert "tables were reset" in text and "step 100 writes" in text and "ROMEO:" in text
    assert len(text.splitlines()) <= 24 and max(text) > "⠀" and "┊" in text


def test_each_kind_of_event_has_its_letter_on_the_axis_and_is_counted():
    skipped = {"event": "step", "step": 101, "loss": None, "lr": 0.0, "grad_norm": None, "tokens_per_second": 9.0}
    warning = {"event": "warning", "step": 101, "text": "step 101: the loss is nan; the step was not taken."}
    history = history_of([*FULL, skipped, warning, {**START, "event": "resume", "step": 101}])
    text = picture(history, 140, 40)
    assert "! warning" in text and "0 reset" in text and "C changed" in text and "R resumed" in text
    assert "S skipped step" in text and "warnings" not in text  # the warning of a skipped step is the same event
    (axis,) = (line for line in text.splitlines() if line.strip().startswith("└"))
    assert {letter for letter, _ in MARKS.values()} - set(axis) == {"S"}  # resumed at the same step
    assert "S" in picture(history_of([*FULL, skipped, warning]), 140, 40).split("└")[1].splitlines()[0]


def test_time_gone_and_time_left_count_evaluations_and_earlier_processes():
    rows = [START, *({"event": "step", "step": n, "loss": 1.0, "lr": 1, "grad_norm": 1} for n in (1, 2, 3))]
    times = [10.0, 11.0, 12.0, 13.0]
    history = History()
    for row, now in zip(rows, times, strict=True):
        history.take(row | {"tokens_per_second": 100.0}, now)
    assert "0:05" in picture(history)  # 13 - 10 seconds, and 2 before the first row
    assert "about 16:37 left" in picture(history)
    history.take({"event": "eval", "step": 3, "val_loss": 1.0, **SCORES}, 23.0)
    assert "about 19:57 left" in picture(history)  # twenty evaluations of ten seconds are still to come


@given(st.integers(1, 250), st.integers(1, 70), st.sampled_from([UNICODE, ASCII]), st.booleans())
def test_no_line_is_wider_than_the_terminal_and_there_are_no_more_than_fit(width, height, glyphs, titled):
    lines = picture(FULL_HISTORY, width, height, glyphs, titled=titled, memory="memory 1 GiB", note="n " * 90)
    assert len(lines.splitlines()) <= height
    assert max(cell_len(line) for line in lines.splitlines()) <= max(width, 2)  # a Chinese character takes two cells
    if glyphs is ASCII:
        assert lines.replace("你", "").replace("好", "").isascii()


FULL_HISTORY = history_of()


def test_sample_in_the_making_shows_its_end_and_a_finished_one_its_beginning():
    draft = "\n".join(f"line {number}" for number in range(99))
    text = picture(FULL_HISTORY, busy="sample", draft=draft)
    assert "step 100 is writing" in text and "line 98" in text and "line 0\n" not in text
    assert "ROMEO:" in picture(FULL_HISTORY) and picture(FULL_HISTORY).endswith("…")


def test_run_before_its_first_step_has_a_picture():
    text = picture(history_of([START]))
    assert "step 0/1,000" in text and "first step takes longer" in text


def test_evaluation_in_progress_is_named():
    assert "evaluation of step 100 ..." in picture(FULL_HISTORY, busy="evaluation")


def test_best_evaluation_stays_in_the_table_when_it_is_no_longer_among_the_newest():
    history = history_of(FULL)
    for step in range(101, 120):
        history.take({"event": "eval", "step": step, "val_loss": 2.9, **SCORES})
    text = picture(history)
    assert "2.0000    0.0100" in text.replace("  0.0100", "    0.0100") and "★ best" in text and "119" in text


def test_narrow_table_keeps_step_and_validation_loss():
    assert "validation loss" in picture(FULL_HISTORY, 24, 60) and "training loss" not in picture(FULL_HISTORY, 24, 60)


def test_sample_is_beside_the_evaluations_on_a_wide_terminal():
    assert any("validation loss" in line and "writes" in line for line in picture(FULL_HISTORY, 200, 50).splitlines())


def test_run_whose_loss_is_never_finite_is_drawn():
    rows = [
        {"event": "step", "step": n, "loss": None, "lr": 0, "grad_norm": None, "tokens_per_second": 1.0}
        for n in (1, 2, 3)
    ]
    text = picture(history_of([START, *rows, {"event": "eval", "step": 3, **SCORES, "val_loss": None}]))
    assert "loss nan" in text and "gradient norm not finite" in text


@pytest.mark.parametrize("width", [1, 5, 20, 79])
def test_wrapped_text_loses_nothing(width):
    text = "the quick brown fox jumps over 你好 thelazydogwithalongname  twice"
    lines = wrapped(text, width, fold=True)
    assert "".join(lines).strip() == text and max(map(cell_len, lines)) <= max(2, width)
    assert "".join(wrapped(text, width)).replace(" ", "") == text.replace(" ", "")


def test_items_are_broken_between_lines_and_not_within():
    assert [line_text(line) for line in flow(["loss 1.0", "lr 2", "norm 3"], 14)] == ["loss 1.0  lr 2", "norm 3"]


def test_shortened_text_shows_that_there_is_more():
    assert shortened(["a", "b", "c"], 2, 9, UNICODE) == ["a", "b …"] and shortened(["a"], 1, 9, UNICODE) == ["a"]
    assert shortened(["abcdefgh", "c"], 1, 9, ASCII) == ["..."]
