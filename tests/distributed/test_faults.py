"""What goes wrong on one rank: it is named, once, and the others stop with what was trained."""

import json
import os
import signal
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from ranks_helper import forked, free_port, launched, together
from test_same_bits import DENSE, trainer
from test_whole_runs import contents, flags, printed, train_together
from torch.distributed import TCPStore

from nanotx.cli.main import run
from nanotx.distributed.join import connect
from nanotx.errors import ConfigError, MemoryFull, RankLost, RunError
from nanotx.optim.schedules.constant import Constant
from nanotx.runs.followers import Follower
from nanotx.training.trainer import Trainer


def steps_until_error(ranks, at_step=lambda rank, step: None, recipe=DENSE, made=None):
    """Take steps until one fails; return the step, and the message that this rank has then."""
    made = made or trainer(recipe)
    made.join(ranks)
    compute, step = made.forward_loss, 0

    def forward_loss(x, y, documents=None, count=None):
        at_step(ranks.rank, step)
        return compute(x, y, documents, count)

    made.forward_loss = forward_loss
    for step in range(6):
        try:
            if ranks.rank:
                ranks.next_order()
            made.train_step()
        except Exception as error:
            return [step, f"{type(error).__name__}: {error}"]
    return [step, "nothing failed"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("moe: no such expert."), "ConfigError: rank 1: moe: no such expert."),
        (RuntimeError("[enforce fail] can't allocate memory: 9 bytes"), "MemoryFull: rank 1: memory is full: [enforce"),
        (ValueError("a bug"), "RunError: rank 1: ValueError: a bug"),
    ],
)
def test_error_of_one_rank_is_known_to_all_in_the_same_step(tmp_path, error, message):
    def at_step(rank, step):
        if rank == 1 and step == 2:
            raise error

    results = together(tmp_path / "ranks", 2, lambda ranks: steps_until_error(ranks, at_step))
    assert [step for step, _ in results] == [2, 2]
    assert results[0][1].startswith(message)
    kind = MemoryFull if "memory" in str(error) else type(error)
    assert results[1][1].startswith(kind.__name__)


def test_run_that_diverges_ends_on_all_ranks_in_the_same_step(tmp_path):
    wild = replace(DENSE, optimizer=replace(DENSE.optimizer, lr=1e6), schedule=Constant())
    results = together(tmp_path / "ranks", 2, lambda ranks: steps_until_error(ranks, recipe=wild))
    assert results[0] == results[1]
    assert results[0][1].startswith("Diverged: step ")
    assert "Rank 0 looked at its own micro-batches alone." in results[0][1]


def test_rank_that_is_killed_is_named(tmp_path):
    def at_step(rank, step):
        if rank == 2 and step == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    results = together(tmp_path / "ranks", 4, lambda ranks: steps_until_error(ranks, at_step))
    assert results[2] is None
    for rank in (0, 1, 3):
        step, message = results[rank]
        assert step == 1
        assert message.startswith("RankLost: ")
    assert "rank 2 closed the connection, while rank 0 waited" in results[0][1]


def test_rank_that_hangs_is_named_within_the_timeout(tmp_path):
    def at_step(rank, step):
        if rank == 1 and step == 1:
            time.sleep(4)

    began = time.monotonic()
    (step, message), _ = together(tmp_path / "ranks", 2, lambda ranks: steps_until_error(ranks, at_step), timeout=2)
    assert (step, message[:43]) == (1, "RankLost: rank 1 did not answer within 2 s,")
    assert time.monotonic() - began < 30


# What the agents of torchrun say of restarts: none, a failure, a change of members, an agent that joins later.
COUNTS = [(0, 0), (1, 1), (1, 1), (1, 0)]


def test_ranks_that_are_started_again_with_the_same_store_join_each_other(tmp_path, monkeypatch):
    """What torchrun does: its store still holds the addresses of the processes that are gone."""
    port = free_port()
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    for attempt, counts in enumerate(COUNTS):

        def child(rank, counts=counts):
            launched(rank, 2, port)
            os.environ["TORCHELASTIC_RESTART_COUNT"] = str(counts[rank])
            connect(rank, 2, timedelta(seconds=20)).agreement.meet(None)

        folder = tmp_path / str(attempt)
        folder.mkdir()
        assert forked(folder, 2, child) == [0, 0], printed(folder, 2)
    assert store.num_keys()


def test_rank_0_that_is_lost_once_all_have_joined_is_named(tmp_path):
    port, message = free_port(), tmp_path / "message"

    def child(rank):
        launched(rank, 2, port)
        ranks = connect(rank, 2, timedelta(seconds=3))
        if rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)  # until its store has gone, to which the watcher of errors connects
        with pytest.raises(RankLost) as error, ranks.agreement.watched():
            pass
        message.write_text(str(error.value), encoding="utf-8")

    assert forked(tmp_path, 2, child) == [-signal.SIGKILL, 0], printed(tmp_path, 2)
    assert message.read_text(encoding="utf-8").startswith(
        "rank 0, or the network to its machine, did not answer within 3"
    )


def test_rank_that_never_comes_is_named(tmp_path, monkeypatch):
    port, messages = free_port(), tmp_path / "messages"
    store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")

    def child(rank):
        launched(rank, 3, port)
        with pytest.raises(RunError) as error:
            connect(rank, 3, timedelta(seconds=2))
        (messages / f"{rank}").write_text(str(error.value), encoding="utf-8")

    messages.mkdir()
    assert forked(tmp_path, 2, child) == [0, 0], printed(tmp_path, 2)
    names = [f"rank {rank} of 3 cannot join the others at 127.0.0.1:{port}: " for rank in range(2)]
    first, second = [(messages / f"{rank}").read_text(encoding="utf-8") for rank in range(2)]
    assert first.startswith(f"{names[0]}rank 2 did not come within 2 s; start all of them")
    assert second.startswith(names[1])
    assert store.num_keys()


@pytest.mark.slow
@pytest.mark.parametrize(("eval_every", "last"), [(50, 4), (3, 3)])  # heard in the next step, or in an evaluation
def test_signal_to_one_rank_stops_all_after_the_same_step_which_is_saved(tmp_path, monkeypatch, eval_every, last):
    step = Follower.step

    def signalled(follower):
        step(follower)
        if follower.trainer.progress.step == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Follower, "step", signalled)
    folder = tmp_path / "run"
    words = flags(folder, train_steps=50, train_eval_every=eval_every)
    codes = train_together(tmp_path / "out", 2, ["train", "macbook", *words])
    assert codes == [143, 143], printed(tmp_path / "out", 2)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert max(row["step"] for row in rows) == last
    assert contents(folder, last)


@pytest.mark.slow
def test_rank_that_cannot_begin_is_reported_by_rank_0_alone(tmp_path, monkeypatch):
    def prepare(follower, data):
        raise ConfigError("its GPU is taken.")

    monkeypatch.setattr(Follower, "prepare", prepare)
    codes = train_together(tmp_path / "out", 4, ["train", "macbook", *flags(tmp_path / "run")])
    assert codes == [2, 2, 2, 2]
    message, *others = printed(tmp_path / "out", 4)
    assert "ConfigError: rank 1: its GPU is taken." in message
    assert others == ["", "", ""]


@pytest.mark.slow
def test_run_whose_ranks_are_killed_again_and_again_ends_as_if_it_were_left_alone(tmp_path, monkeypatch):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert run(["train", "macbook", *flags(alone, train_steps=12)]) == 0
    step, target = Trainer.train_step, [0, 0]

    def dying(self, keep_gradients=False):
        if self.ranks.size > 1 and [self.ranks.rank, self.progress.step] == target:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, keep_gradients)

    monkeypatch.setattr(Trainer, "train_step", dying)
    for attempt in range(3):
        target[:] = [attempt % 2, 3 * attempt + 1]
        words = ["train", "macbook", *flags(killed, train_steps=12), "--resume"]
        codes = train_together(tmp_path / f"out-{attempt}", 2, words)
        assert codes[attempt % 2] == -signal.SIGKILL, codes
        assert codes[1 - attempt % 2] == 4, codes
    target[:] = [-1, -1]
    assert train_together(tmp_path / "last", 2, ["train", "macbook", *flags(killed, train_steps=12), "--resume"]) == [
        0,
        0,
    ]
    assert contents(killed, 12) == contents(alone, 12)


@pytest.mark.parametrize("dead", [0, 2])
def test_rank_that_ends_between_two_meetings_is_named_by_the_lowest_of_the_others(tmp_path, dead):
    def work(ranks):
        ranks.agreement.meet(None)
        if ranks.rank == dead:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            with ranks.agreement.together():
                dist.all_reduce(torch.ones(1))
        except RankLost as lost:
            return [str(lost), lost.reporter]
        return "nothing is lost"

    results = together(tmp_path / "ranks", 3, work)
    lowest = min({0, 1, 2} - {dead})
    for rank in {0, 1, 2} - {dead}:
        message, reporter = results[rank]
        assert message.startswith(f"rank {dead} closed the connection, while rank {rank} waited")
        assert reporter == lowest
