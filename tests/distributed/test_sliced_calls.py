"""A model in slices that no device could hold: rank 0 samples from it while the others help to gather it."""

import time
from dataclasses import replace

import pytest
import torch
from ranks_helper import together
from test_same_bits import DENSE, trainer
from test_sliced_start import DEEP, Alive, led

from nanotx.distributed.slices import Slices
from nanotx.generation import Sampling, generate
from nanotx.nn.transformer import Transformer
from nanotx.optim.adamw import AdamW
from nanotx.runs.followers import Follower, follow
from nanotx.training import slicing
from nanotx.training.signals import EndAtOnce, Interrupted, Stop

AVERAGED = replace(DENSE, optimizer=AdamW(lr=0.3), reduce="fast", train=replace(DENSE.train, ema_decay=0.9))
PROMPT = torch.tensor([[1, 2, 3]])


def helps(ranks, made):
    """Do what rank 0 orders."""
    follower = Follower(ranks)
    follower.trainer = made
    while not ranks.lost and (order := ranks.next_order()) != "end":
        if order == "step":
            follower.step()
        elif order == "calls":
            follower.answer_calls()
        else:
            ranks.send_state(with_optimizer=order == "state")


def sampled(ranks, act, recipe=AVERAGED):
    """What rank 0 returns for a model in slices after two steps."""
    made = trainer(recipe)
    ranks.parallel, ranks.reduce = "fsdp", recipe.reduce
    made.join(ranks)
    if ranks.rank:
        return helps(ranks, made)
    made.train_step()
    made.train_step()
    try:
        return act(made, ranks)
    finally:
        ranks.order("end")


def text(made):
    with made.eval_model() as model:
        ids = generate(model, PROMPT, 12, Sampling(seed=5))
        model.eval()
        with torch.no_grad():
            logits = model.next_logits(ids[:, -4:])
            assert torch.equal(model.hidden_states(ids=PROMPT), model.hidden_states(PROMPT))
        model.train()
    return [ids.tolist(), logits.tolist()]


@pytest.fixture
def no_memory(monkeypatch):
    monkeypatch.setattr(slicing, "leaves_as_much", lambda size, device: False)


def weights_after(made):
    saved = made.saved_state()
    return {name: tensor.tolist() for name, tensor in {**saved.weights, **saved.averages}.items()}


def test_sample_of_slices_is_that_of_a_whole_copy_and_training_goes_on_alike(tmp_path, monkeypatch):
    def act(made, ranks):
        return [text(made), made.train_step()["loss"], text(made), made.train_step()["loss"], weights_after(made)]

    found = []
    for memory in (True, False):
        monkeypatch.setattr(slicing, "leaves_as_much", lambda size, device, memory=memory: memory)
        found.append(together(tmp_path / str(memory), 2, lambda ranks: sampled(ranks, act))[0])
    assert isinstance(found[0], list), found
    assert found[0] == found[1]
    assert found[0][0][1] != found[0][2][1]


def test_error_and_interruption_between_calls_leave_the_ranks_at_work(tmp_path, no_memory):
    def act(made, ranks):
        losses = []
        for error in (ValueError("of the sample"), Interrupted()):
            with pytest.raises(type(error)), made.eval_model() as model:
                generate(model, PROMPT, 2, Sampling(seed=5))
                raise error
            losses.append(made.train_step()["loss"])
        return [*losses, ranks.lost]

    results = together(tmp_path / "ranks", 2, lambda ranks: sampled(ranks, act))
    assert isinstance(results[0], list), results
    assert results[0][-1] is False
    assert results[1] is None


def text_or_error(made, ranks):
    """The error of a sample, whether the ranks are lost to each other, and how long it took."""
    began = time.monotonic()
    try:
        text(made)
    except Exception as error:
        return [str(error), ranks.lost, time.monotonic() - began]
    return "no error"


@pytest.mark.parametrize("rank", [0, 1])
def test_error_within_a_call_ends_all_ranks_at_once(tmp_path, monkeypatch, no_memory, rank):
    def act(made, ranks):
        if rank == 0:
            monkeypatch.setattr(Transformer, "_hidden_states", fails)
        return text_or_error(made, ranks)

    def fails(*_):
        raise ValueError("no such matrix")

    if rank:
        monkeypatch.setattr(Slices, "call", fails)
    results = together(tmp_path / "ranks", 2, lambda ranks: sampled(ranks, act))
    message, lost, seconds = results[0]
    assert message == ("rank 1: ValueError: no such matrix" if rank else "no such matrix")
    assert lost
    assert seconds < 20


def test_second_interruption_within_a_call_ends_all_ranks_at_once(tmp_path, monkeypatch, no_memory):
    def ends(*_):
        raise EndAtOnce(130)

    def act(made, ranks):
        monkeypatch.setattr(Transformer, "_hidden_states", ends)
        with pytest.raises(EndAtOnce):
            text(made)
        return ranks.lost

    began = time.monotonic()
    results = together(tmp_path / "ranks", 2, lambda ranks: sampled(ranks, act))
    assert results[0] is True
    assert time.monotonic() - began < 20


SIXTEEN = replace(DEEP, model=replace(DEEP.model, layers=16), freeze=())


def most_alive(ranks, act):
    """On each rank the most bytes of tensors that were alive at once while rank 0 samples; there also the model's."""
    ranks.parallel = "fsdp"
    if ranks.rank:
        with Alive() as alive:
            follow(ranks, Stop())
        return alive.most
    made, before = led(SIXTEEN, ranks, 0)
    whole = sum(tensor.nbytes for tensor in before.values())
    del before
    with Alive([*made.slices.own.values()]) as alive:
        act(made)
    ranks.order("end")
    return [whole, alive.most]


def sample(made):
    with made.eval_model() as model:
        generate(model, PROMPT, 3, Sampling(seed=5))


def test_no_rank_has_a_whole_model_for_a_sample_that_has_no_memory_for_one(tmp_path, no_memory):
    (whole, most), other = together(tmp_path / "ranks", 2, lambda ranks: most_alive(ranks, sample))
    assert whole > 3_000_000
    assert 0.5 * whole < most < 0.85 * whole
    assert 0.5 * whole < other < 0.85 * whole


def test_whole_copy_for_a_sample_is_noticed(tmp_path):
    (whole, most), other = together(tmp_path / "ranks", 2, lambda ranks: most_alive(ranks, sample))
    assert most > 1.4 * whole
    assert other < 0.85 * whole
