"""Contention: what the system counts of waiting threads, and when a run says so."""

from pathlib import Path

import pytest

from nanotx.hardware.contention import TASKS, Contention, waiting_time
from nanotx.runs.callbacks import BusyMachine
from nanotx.training.loop import TrainingRun
from nanotx.training.saving import BackgroundSave


class Clock:
    """A clock and the waiting of two threads, both set by hand."""

    def __init__(self) -> None:
        self.time, self.waited = 0.0, {"1": 5.0, "2": 7.0}

    def contention(self) -> Contention:
        return Contention(lambda: dict(self.waited), lambda: self.time)


def test_system_counts_waiting_of_each_thread(tmp_path):
    for task, text in {"7": "100 2500000000 3", "8": "1 2 3 4", "9": "a b c", "10": ""}.items():
        (tmp_path / task).mkdir()
        (tmp_path / task / "schedstat").write_text(text, encoding="ascii")
    assert waiting_time(tmp_path) == {"7": 2.5}
    assert waiting_time(tmp_path / "nowhere") == {}


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux counts how long threads wait")
def test_this_process_has_threads_that_waited():
    waited = waiting_time()
    assert waited
    assert all(seconds >= 0 for seconds in waited.values())


def test_mean_number_of_waiting_threads_is_of_the_stretch_alone():
    clock = Clock()
    contention = clock.contention()
    clock.time = 4.0
    clock.waited = {"1": 8.0, "2": 7.0, "3": 1.0}  # a thread that is new, and began to wait
    assert contention.seconds == 4.0
    assert contention.waiting_threads() == 1.0
    clock.time = 6.0
    clock.waited = {"2": 8.0}  # two threads ended
    assert contention.waiting_threads() == 0.5


def watched(threads: int, waiting: float, save: BackgroundSave | None = None) -> list[str]:
    """What a run says whose threads wait, in two stretches of ten seconds; a checkpoint may be written meanwhile."""
    said: list[str] = []
    clock = Clock()
    busy = BusyMachine(said.append, threads, clock.contention())
    run = TrainingRun.__new__(TrainingRun)  # of a run it reads these alone
    run.folder, run.under_way = Path("runs/my run"), save
    for step in range(1, 41):
        clock.time, clock.waited = step * 0.5, {"1": 5.0 + step * 0.5 * waiting}
        busy.on_step(run, {})
    return said


def test_busy_machine_is_named_once_with_a_command():
    (text,) = watched(threads=2, waiting=0.8)
    assert "on average 0.8 of the run's 2 threads waited" in text
    assert text.endswith("nanotx resume 'runs/my run' --threads 1")


def test_thread_that_writes_a_checkpoint_is_no_other_program():
    assert watched(threads=2, waiting=0.8, save=BackgroundSave(4, lambda: "")) == []


@pytest.mark.parametrize(("threads", "waiting"), [(2, 0.4), (1, 0.9), (2, 0.0)])
def test_quiet_machine_and_one_thread_are_not_named(threads, waiting):
    assert watched(threads, waiting) == []
