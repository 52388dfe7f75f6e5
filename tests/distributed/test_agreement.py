"""A rank that fails in the middle of what all do together is heard at once: no other waits until its timeout."""

import time
from dataclasses import replace

import pytest
import torch
from ranks_helper import together
from test_faults import steps_until_error
from test_same_bits import DENSE, trainer
from test_shared_evaluation import TEXTS
from test_whole_runs import flags, printed, train_together

from nanotx.distributed import agreement
from nanotx.distributed.agreement import is_connection_error
from nanotx.distributed.owners import Owners
from nanotx.distributed.slices import Slices
from nanotx.errors import ConfigError
from nanotx.runs.followers import Follower
from nanotx.training.callbacks.evaluation import shared_scores
from nanotx.training.trainer import Trainer

TIMEOUT = 300.0
"""Seconds that a rank would wait for another one."""

SOON = 20.0
"""Seconds within which all have ended, on a busy machine."""

FAST = replace(DENSE, reduce="fast", model=replace(DENSE.model, layers=2))


def timed(action):
    """What an action returns, and the seconds that it took."""
    began = time.monotonic()
    result = action()
    return [result, time.monotonic() - began]


def fail(*_):
    raise ValueError("what it computes is wrong")


OWN, HEARD = "ValueError: what it computes is wrong", "RunError: rank {}: ValueError: what it computes is wrong"


def in_backward(made, step):
    """Let a model fail in the middle of a backward pass, between two of its blocks."""

    def hook(module, gradients, outputs):
        if made.progress.step == step:
            fail()

    made.model.blocks[1].register_full_backward_hook(hook)


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("parallel", ["replicas", "owner", "fsdp"])
def test_rank_that_fails_in_a_backward_pass_ends_the_step_of_all(tmp_path, parallel, failing):
    def action(ranks):
        ranks.parallel, ranks.reduce = parallel, FAST.reduce
        made = trainer(FAST)
        if ranks.rank == failing:
            in_backward(made, step=2)
        return timed(lambda: steps_until_error(ranks, made=made))

    results = together(tmp_path / "ranks", 2, action, timeout=TIMEOUT)
    assert all(isinstance(result, list) for result in results), results
    assert [result for result, _ in results] == [
        [2, OWN if rank == failing else HEARD.format(failing)] for rank in range(2)
    ]
    assert max(seconds for _, seconds in results) < SOON


@pytest.mark.parametrize(
    ("parallel", "place"), [("owner", "clip"), ("owner", "Trainer.optimizer_step"), ("fsdp", "clip")]
)
def test_rank_that_fails_between_two_meetings_is_heard(tmp_path, monkeypatch, parallel, place):
    def action(ranks):
        ranks.parallel, ranks.reduce = parallel, FAST.reduce
        made = trainer(FAST)
        if ranks.rank == 1:
            monkeypatch.setattr(f"nanotx.training.trainer.{place}", fail)
        return timed(lambda: steps_until_error(ranks, made=made))

    results = together(tmp_path / "ranks", 2, action, timeout=TIMEOUT)
    assert [result[0] for result in results] == [[0, HEARD.format(1)], [0, OWN]], results
    assert max(seconds for _, seconds in results) < SOON


def test_others_give_up_a_step_before_their_next_micro_batch(tmp_path):
    computed = []

    def at_step(rank, step):
        if rank == 1:
            raise ConfigError("it is out.")
        computed.append(step)
        time.sleep(1.5)

    def action(ranks):
        return [steps_until_error(ranks, at_step), len(computed)]

    (result, count), _ = together(tmp_path / "ranks", 2, action, timeout=TIMEOUT)
    assert result == [0, "ConfigError: rank 1: it is out."]
    assert count < DENSE.train.num_micro_batches // 2


def evaluated(ranks, spoil):
    """What an evaluation ends with on rank 0, which rank 1 follows; and the seconds."""
    made = trainer(FAST if ranks.parallel == "fsdp" else DENSE)
    made.join(ranks)
    if ranks.rank == 0:
        try:
            return timed(lambda: shared_scores(made, TEXTS) and "no error")
        except Exception as error:
            return [f"{type(error).__name__}: {error}", 0.0]
    follower = Follower(ranks)
    follower.trainer, follower.eval_texts = made, TEXTS
    spoil(made, follower)
    assert ranks.next_order() == "evaluate"
    follower.evaluate()
    return ["followed", 0.0]


@pytest.mark.parametrize("parallel", ["replicas", "fsdp"])
@pytest.mark.parametrize("failed_before", [True, False])
def test_evaluation_in_which_a_rank_cannot_take_part_ends_on_all(tmp_path, failed_before, parallel):
    def spoil(made, follower):
        if failed_before:
            follower.ranks.agreement.failure = ValueError("what it computes is wrong")
        else:
            made.use_eval_weights = fail

    def action(ranks):
        ranks.parallel = parallel
        ranks.reduce = FAST.reduce if parallel == "fsdp" else DENSE.reduce
        return evaluated(ranks, spoil)

    results = together(tmp_path / "ranks", 2, action, timeout=TIMEOUT)
    assert results == [[HEARD.format(1), 0.0], ["followed", 0.0]]


@pytest.mark.parametrize(("parallel", "kind"), [("owner", Owners), ("fsdp", Slices)])
def test_save_to_which_a_rank_cannot_send_its_state_ends_on_all(tmp_path, monkeypatch, parallel, kind):
    def action(ranks):
        ranks.parallel, ranks.reduce = parallel, FAST.reduce
        made = trainer(FAST)
        made.join(ranks)
        try:
            if ranks.rank == 0:
                return timed(lambda: made.optimizer_state() and "no error")
            monkeypatch.setattr(kind, "state", fail)
            while (order := ranks.next_order()) != "end":
                assert order == "state"
                ranks.send_state()
        except Exception as error:
            return [f"{type(error).__name__}: {error}", 0.0]

    results = together(tmp_path / "ranks", 2, action, timeout=TIMEOUT)
    assert results == [[HEARD.format(1), 0.0], [OWN, 0.0]]


def test_rank_that_has_heard_and_does_not_leave_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "LEAVING", 1.0)

    def action(ranks):
        if ranks.rank == 0:
            ranks.agreement.put_down(ValueError("no more"))
            return "left"
        time.sleep(60)
        return "woke up"

    began = time.monotonic()
    assert together(tmp_path / "ranks", 2, action, timeout=TIMEOUT) == ["left", None]
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (RuntimeError("[../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 2000ms for recv"), True),
        (torch.distributed.DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("[enforce fail] can't allocate memory: 9 bytes"), False),
        (ValueError("the connection to another rank, gloo"), False),
    ],
)
def test_error_of_a_connection_is_told_from_one_of_this_rank(error, expected):
    assert is_connection_error(error) is expected


# Whole runs.


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("parallel", ["replicas", "fsdp"])
def test_run_ends_soon_with_the_error_of_a_rank_which_is_reported_once(tmp_path, monkeypatch, parallel, failing):
    compute = Trainer.forward_loss

    def forward_loss(self, *rest):
        if self.ranks.size > 1 and [self.ranks.rank, self.progress.step] == [failing, 3]:
            raise ConfigError("what it computes is wrong.")
        return compute(self, *rest)

    monkeypatch.setattr(Trainer, "forward_loss", forward_loss)
    words = ["train", "macbook", *flags(tmp_path / "run", optimizer="adamw", reduce="fast"), "--parallel", parallel]
    began = time.monotonic()
    codes = train_together(tmp_path / "out", 2, [*words, "--rank-timeout", "300"])
    assert time.monotonic() - began < 90
    message, other = printed(tmp_path / "out", 2)
    assert codes == [2, 2], message + other
    assert message.count("what it computes is wrong.") == 1
    assert ("rank 1: what it computes" in message) == (failing == 1)
    assert other == ""


@pytest.mark.slow
def test_file_of_load_that_fails_is_reported_once(tmp_path):
    (tmp_path / "mine.py").write_text("raise ValueError('not yet')\n", encoding="utf-8")
    words = ["train", "macbook", *flags(tmp_path / "run"), "--load", str(tmp_path / "mine.py")]
    codes = train_together(tmp_path / "out", 2, words)
    message, other = printed(tmp_path / "out", 2)
    assert codes == [2, 2], message + other
    assert "not yet" in message
    assert other == ""
