"""A plan of several ranks, made by one, is what the tensors of a rank take at the peak of a step."""

import gc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from mutated import mutated
from ranks_helper import together

from nanotx.data.batches import Windows
from nanotx.distributed.simulated import simulated_ranks
from nanotx.experiments.allocated import most_allocated
from nanotx.hardware.device import Machine
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.position.learned import Learned
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.recipe import Recipe, Train
from nanotx.training.live_tensors import LiveTensors
from nanotx.training.memory_plan import bytes_of, plan_step, tensors_in
from nanotx.training.trainer import Trainer

WINDOWS = 2
BASE = Recipe(
    model=Model(dim=48, layers=3, context=32), train=Train(steps=9), optimizer=AdamW(), reduce="fast", compile=False
)
HEAVY = replace(BASE, model=replace(BASE.model, dim=96, context=4))
"""Its weights take more than its activations."""
HEAVIER = "weights beside few activations"
CASES = {  # the recipe, and the micro-batches of a rank
    HEAVIER: (HEAVY, 1),
    "micro-batches": (HEAVY, 8),
    "activations": (BASE, 1),
    "untied, with a bias": (replace(HEAVY, model=replace(HEAVY.model, tied=False, head_bias=True)), 1),
    "exact sums": (replace(HEAVY, reduce="exact"), 6),
    "tables of n-grams": (
        replace(HEAVY, optimizer=Muon(), model=replace(HEAVY.model, embedding=Ngrams(buckets=64))),
        2,
    ),
    "checkpointing, average": (
        replace(HEAVY, train=replace(HEAVY.train, activation_checkpointing=True, ema_decay=0.9)),
        4,
    ),
    "frozen block, learned positions": (
        replace(HEAVY, model=replace(HEAVY.model, position=Learned()), freeze=("blocks.0.*",)),
        1,
    ),
    "muon": (replace(HEAVY, optimizer=Muon()), 1),
    "muon, rows of a table": (replace(HEAVY, optimizer=Muon(), model=replace(HEAVY.model, tied=False)), 1),
    "bfloat16, loss in chunks": (replace(BASE, dtype="bfloat16", train=replace(BASE.train, loss_chunk_size=16)), 1),
}
VOCAB_SIZE = 99


@cache
def plan(name, ranks):
    """The plan of a case."""
    recipe, micro_batches = CASES[name]
    dtype = torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32
    return plan_step(recipe, VOCAB_SIZE, WINDOWS, dtype, ranks, micro_batches)


def planned(name, wrapper, ranks):
    """The bytes that the plan of a case names."""
    return plan(name, ranks).wrappers[wrapper].memory.total


def joined(name, ranks):
    """A trainer that has taken a step with others, and the tensors that it holds."""
    recipe, micro_batches = CASES[name]
    ranks.reduce = recipe.reduce
    count = micro_batches * ranks.size
    recipe = replace(recipe, train=replace(recipe.train, batch_size=WINDOWS * count, grad_accum_steps=count))
    dtype = torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32
    machine = Machine(device=torch.device("cpu"), dtype=dtype, threads=1)
    windows = Windows(ids=np.arange(999) % VOCAB_SIZE, context=recipe.model.context, seed=1)
    trainer = Trainer(recipe, recipe.model.build(VOCAB_SIZE, 1), windows, machine)
    trainer.join(ranks)
    step(trainer)
    own = trainer.slices.own.values() if trainer.slices else trainer.model.parameters()
    held = [*own, *trainer.model.buffers(), *tensors_in(trainer.optimizer.state)]
    return trainer, [*held, *(trainer.ema.averages.values() if trainer.ema else ())]


def step(trainer):
    """Take a step, which rank 0 orders."""
    if trainer.ranks.rank:
        trainer.ranks.next_order()
    trainer.train_step()


def most_alive(name, wrapper, ranks):
    """The most bytes of tensors that are alive at once in a step of this rank."""
    ranks.parallel = wrapper
    trainer, held = joined(name, ranks)
    live = LiveTensors(shapes=set(), vocab_size=0)
    live.add(held, "weights")
    with live:
        step(trainer)
    return live.peak.total()


QUICK = [(HEAVIER, "fsdp"), ("micro-batches", "fsdp"), ("micro-batches", "owner")]
SLOW = [(name, "fsdp") for name in CASES if name != "tables of n-grams"]
SLOW += [
    (name, wrapper)
    for name in (HEAVIER, "micro-batches", "muon", "exact sums", "tables of n-grams", "checkpointing, average")
    for wrapper in ("replicas", "owner")
]
slow = [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK]


@pytest.mark.parametrize(("name", "wrapper"), [*QUICK, *slow])
def test_plan_is_within_a_tenth_of_what_the_fullest_of_two_ranks_has_alive(tmp_path, name, wrapper):
    alive = together(tmp_path / "ranks", 2, lambda ranks: most_alive(name, wrapper, ranks))
    assert max(alive) == pytest.approx(planned(name, wrapper, 2), rel=0.1)
    if wrapper == "fsdp":  # slices are alike, but for the matrices that Muon makes orthogonal on each
        assert min(alive) == pytest.approx(planned(name, wrapper, 2), rel=0.1)


@pytest.mark.parametrize(
    "name", [HEAVIER, *(pytest.param(name, marks=pytest.mark.slow) for name, wrapper in SLOW[1:] if wrapper == "fsdp")]
)
def test_plan_of_eight_ranks_is_within_a_tenth_of_what_a_real_step_of_one_allocates(name):
    with simulated_ranks(8, "fsdp") as ranks:  # tensors have data, and gloo's threads free none of them
        trainer, held = joined(name, ranks)
        gc.collect()
        allocated = bytes_of(held) + most_allocated(lambda: step(trainer))
    assert planned(name, "fsdp", 8) == pytest.approx(allocated, rel=0.1)


def test_gradients_of_slices_are_freed_after_a_step():
    with simulated_ranks(2, "fsdp") as ranks:
        trainer, _ = joined("micro-batches", ranks)
        assert all(param.grad is None for param in (*trainer.slices.own.values(), *trainer.model.parameters()))


def test_gathered_weights_that_are_never_freed_are_noticed():
    right = planned(HEAVIER, "fsdp", 8)
    plan.cache_clear()
    with mutated("nanotx.training.live_tensors:LiveTensors.__torch_dispatch__", "name == GATHER", "name is None"):
        wrong = planned(HEAVIER, "fsdp", 8)
    plan.cache_clear()
    assert wrong > 1.1 * right
