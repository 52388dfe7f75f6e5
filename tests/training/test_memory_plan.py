"""A plan of a step's memory, computed on tensors without data, is what the tensors of a real step take at the peak."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nanotx.cli.commands.plan import amount, rows_of_rank
from nanotx.cli.main import run as nanotx_command
from nanotx.data.batches import Windows
from nanotx.errors import ConfigError
from nanotx.experiments.costs import step_memory
from nanotx.hardware.device import Machine
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.position.learned import Learned
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.recipe import Recipe, Train
from nanotx.training.live_tensors import KINDS, Memory
from nanotx.training.memory_plan import HEADROOM, StepMemory, fullest, plan_step
from nanotx.training.trainer import Trainer

BASE = Recipe(
    model=Model(dim=48, layers=2, context=64), train=Train(steps=9, batch_size=8), optimizer=AdamW(), compile=False
)
CASES = {
    "micro-batches": (replace(BASE, train=replace(BASE.train, micro_batch_size=2)), 300),
    "large vocabulary, muon": (replace(BASE, optimizer=Muon()), 2000),
    "checkpointing, average": (
        replace(BASE, train=replace(BASE.train, activation_checkpointing=True, ema_decay=0.9)),
        65,
    ),
    "sparse tables, learned positions": (
        replace(BASE, model=replace(BASE.model, embedding=Ngrams(buckets=512), position=Learned()), optimizer=Muon()),
        65,
    ),
    "loss in chunks": (replace(BASE, train=replace(BASE.train, loss_chunk_size=64)), 2000),
}
slow = [pytest.param(name, marks=pytest.mark.slow) for name in list(CASES)[1:]]


def real_step(recipe, vocab_size):
    """The bytes that tensors take at the peak of a real step, by the allocator's own events."""
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, threads=torch.get_num_threads())
    windows = Windows(ids=np.arange(999) % vocab_size, context=recipe.model.context, seed=1)
    trainer = Trainer(recipe, recipe.model.build(vocab_size, 1), windows, machine)
    trainer.train_step()
    return step_memory(trainer)


@pytest.mark.parametrize("name", ["micro-batches", *slow])
def test_plan_is_within_a_tenth_of_the_memory_of_a_real_step(name):
    recipe, vocab_size = CASES[name]
    micro_batches = recipe.train.num_micro_batches
    windows = recipe.train.batch_size // micro_batches
    plan = plan_step(recipe, vocab_size, windows, micro_batches=micro_batches)
    model = recipe.model.build(vocab_size, 1)
    assert plan.parameters == model.parameter_count and plan.flops_per_token == model.flops_per_token
    assert plan.wrappers["replicas"].memory.total == pytest.approx(real_step(recipe, vocab_size), rel=0.1)


GB = 10**9
MADE = StepMemory(
    windows=4,
    backward=Memory(weights=4 * GB, gradients=4 * GB, optimizer=8 * GB, activations=4 * GB, logits=2 * GB),
    other_windows=8,
    other_backward=Memory(weights=4 * GB, gradients=3 * GB, optimizer=8 * GB, activations=8 * GB, logits=4 * GB),
    update=Memory(weights=4 * GB, gradients=9 * GB, optimizer=8 * GB, activations=0, logits=0),
)


def test_fullest_moment_is_of_gradients_or_of_the_step_of_the_optimizer():
    assert MADE.memory == MADE.backward
    assert replace(MADE, update=replace(MADE.update, gradients=11 * GB)).memory.gradients == 11 * GB
    assert [MADE.total(windows) for windows in (1, 4, 6, 8, 12)] == [21 * GB, 22 * GB, 24.5 * GB, 27 * GB, 32 * GB]


def test_largest_micro_batch_just_fits():
    for size in (25.0 * GB, 40.0 * GB):
        most, limit = MADE.most_windows(size), size * (1 - HEADROOM)
        assert MADE.total(most) <= limit < MADE.total(most + 1)
    assert MADE.most_windows(8.0 * GB) == 0


@pytest.mark.parametrize("windows", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_step_with_the_largest_micro_batch_takes_the_memory_of_the_device(windows):
    recipe, memory = replace(BASE, model=replace(BASE.model, dim=96, context=8)), 40e6
    plan = plan_step(recipe, 65, windows, memory=memory, ranks=2)
    for wrapper in ("replicas", "owner", "fsdp"):
        most = plan.wrappers[wrapper].most_windows(memory)
        again = plan_step(recipe, 65, most, memory=memory, ranks=2).wrappers[wrapper]
        assert again.memory.total == pytest.approx(memory * (1 - HEADROOM), rel=0.05)


def alive_sums(count, number):
    """The sums that are alive while a micro-batch is computed, written slowly: those of subtrees that are done."""
    done, numbers = [], list(range(count))
    while len(numbers) > 1:
        middle = len(numbers) // 2 if len(numbers) % 2 == 0 else len(numbers) - 1
        first, second = numbers[:middle], numbers[middle:]
        done, numbers = ([*done, first], second) if number in second else (done, first)
    return len(done)


def test_fullest_micro_batch_is_the_last_with_most_sums_before_it():
    assert [fullest(range(count)) for count in (1, 2, 3, 4, 5, 6, 8, 9)] == [0, 1, 2, 3, 3, 5, 7, 7]
    for count in range(1, 40):
        sums = [alive_sums(count, number) for number in range(count)]
        assert sums[fullest(range(count))] == max(sums) and max(sums) not in sums[fullest(range(count)) + 1 :]


def test_rows_of_a_gpu_are_its_share_in_micro_batches():
    def rows(gpus, **plan):
        return rows_of_rank(replace(BASE, train=replace(BASE.train, **plan)), gpus)

    assert rows(2) == (4, 1) and rows(2, micro_batch_size=2) == (2, 2) and rows(8, micro_batch_size=2) == (1, 1)
    assert rows(1, grad_accum_steps=4) == (2, 4) and rows(2, micro_batch_size="auto") == (4, 1)
    with pytest.raises(ConfigError, match=r"batch_size=8 windows .* among --gpus 3; try 1, 2, 4 or 8 GPUs"):
        rows(3)


@pytest.mark.parametrize(
    ("text", "number"),
    [("80GB", 80e9), ("24GiB", 24 * 2**30), ("10B", 10e9), ("989T", 989e12), ("1.5M", 1.5e6), ("7", 7)],
)
def test_amounts_are_read_in_their_units(text, number):
    assert amount("memory", text) == number


@pytest.mark.parametrize("text", ["lots", "-3GB", "0", "GB", "8 XB", "1e999"])
def test_amount_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match=r"--memory: expected a number such as 80GB or 24GiB, got"):
        amount("memory", text)


SMALL = ["plan", "shakespeare_char", "--model.dim", "32", "--model.layers", "2", "--model.context", "8"]


def test_plan_command_prints_a_row_for_each_wrapper_and_days(tmp_path, capsys):
    words = [
        *SMALL,
        "--optimizer",
        "adamw",
        "--gpus",
        "2",
        "--vocab-size",
        "65",
        "--tokens",
        "1B",
        "--price",
        "2",
        "--json",
        str(tmp_path / "x.json"),
    ]
    assert nanotx_command(words) == 0
    out, table = capsys.readouterr().out, json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert all(
        word in out for word in ("replicas", "owner", "fsdp", *KINDS, "1,000,000,000 tokens", "per hour of a GPU")
    )
    assert table["days"] == pytest.approx(1e9 * table["flops_per_token"] / (2 * 989e12 * 0.4) / 86400)
    assert table["cost"] == pytest.approx(table["days"] * 24 * 2 * 2)
    assert table["wrappers"]["fsdp"]["total"] == sum(table["wrappers"]["fsdp"][kind] for kind in KINDS)


def test_plan_command_says_why_a_recipe_is_not_divided(tmp_path, capsys):
    words = [*SMALL, "--gpus", "2", "--vocab-size", "65", "--tokens", "1M", "--optimizer", "adamw"]
    assert nanotx_command([*words, "--model.share", "2", "--json", str(tmp_path / "x.json")]) == 0
    out, table = capsys.readouterr().out, json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert list(table["wrappers"]) == ["replicas", "owner"]
    assert "not planned: --parallel fsdp: a block that several layers share" in out
    assert "try --model.share 1" in table["refused"]["fsdp"]


def test_part_that_reads_numbers_is_refused_with_another_way():
    with pytest.raises(ConfigError, match=r"reads the numbers of a tensor .*aten\.nonzero.*nanotx compare"):
        nanotx_command([*SMALL, "--vocab-size", "65", "--tokens", "1M", "--ffn", "moe"])
