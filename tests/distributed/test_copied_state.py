"""What rank 0 collects for a checkpoint is in memory of its own: it is not copied again, and all else is."""

from dataclasses import replace

import pytest
import torch
from mutated import mutated
from ranks_helper import together
from test_same_bits import DENSE, trainer
from test_slices import follow

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.recipe import Recipe
from nanotx.runs.trainer_state import contents
from nanotx.training.dataset import load_dataset
from nanotx.training.live_tensors import LiveTensors
from nanotx.training.memory_plan import bytes_of

TEXTS = load_dataset(Recipe(corpus=Playhouse(size=20_000), model=Model(context=16)))
AVERAGED = replace(DENSE, train=replace(DENSE.train, ema_decay=0.9))


def named(of):
    """The tensors of a checkpoint's contents, by file and name."""
    files = {file: content for file, content in of.files.items() if not isinstance(content, str)}
    return {f"{file}: {name}": tensor for file, content in files.items() for name, tensor in content.items()}


def copied(ranks, parallel, recipe=AVERAGED):
    """Copy the state of a step on rank 0 and take another one; return what that took, and what it changed."""
    made = trainer(replace(recipe, reduce="fast" if parallel == "fsdp" else "exact"))
    ranks.parallel, ranks.reduce, ranks.dense = parallel, made.recipe.reduce, []
    made.join(ranks)
    if ranks.rank:
        follow(ranks, made)
        return None
    made.train_step()
    now = contents(made, TEXTS)
    own = [tensor for state in made.optimizer.state.values() for tensor in state.values()]
    live = [*(made.slices.own.values() if made.slices else made.model.parameters()), *made.ema.averages.values(), *own]
    counted = LiveTensors(shapes=set(), vocab_size=0)
    counted.add(named(now).values(), "before")
    with counted:
        copy = now.copied()
    before = {name: tensor.clone() for name, tensor in named(copy).items()}
    values = {name: tensor.clone() for name, tensor in named(now).items()}
    made.train_step()
    ranks.order("end")
    return {
        "taken": counted.peak.total() - counted.peak["before"],
        "announced": now.copy_nbytes,
        "whole": now.nbytes,
        "live": bytes_of(live),
        "steps": sum(tensor.nbytes for name, tensor in before.items() if name.endswith("/step")),
        "changed": sorted(name for name, tensor in named(copy).items() if not torch.equal(tensor, before[name])),
        "live changed": sorted(name for name, tensor in named(now).items() if not torch.equal(tensor, values[name])),
        "names": sorted(before),
    }


@pytest.mark.parametrize("optimizer", [AdamW(lr=0.01), Muon()], ids=lambda optimizer: optimizer.part)
def test_of_a_model_in_slices_only_numbers_of_steps_are_copied(tmp_path, optimizer):
    recipe = replace(AVERAGED, optimizer=optimizer)
    result, _ = together(tmp_path / "ranks", 2, lambda ranks: copied(ranks, "fsdp", recipe))
    assert isinstance(result, dict), result
    assert result["taken"] == result["announced"] == result["steps"] > 0
    assert result["whole"] > 100 * result["taken"]
    assert result["changed"] == []
    assert result["live changed"] == [name for name in result["names"] if name.endswith("/step")]


def test_state_that_another_rank_owns_is_not_copied(tmp_path):
    result, _ = together(tmp_path / "ranks", 2, lambda ranks: copied(ranks, "owner"))
    assert isinstance(result, dict), result
    assert result["taken"] == result["announced"] == result["live"] < 0.9 * result["whole"]
    assert result["changed"] == []
    assert {name.partition(":")[0] for name in result["live changed"]} == {
        "model.safetensors",
        "optimizer.safetensors",
        "ema.safetensors",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parallel", "old", "new"),
    [
        ("fsdp", "*state.values(), ", ""),
        ("owner", "*state.values(), ", ""),
        ("owner", "*parameters, ", ""),
        ("owner", ", *averages", ""),
    ],
)
def test_live_tensor_that_is_not_copied_is_caught(tmp_path, parallel, old, new):
    with mutated("nanotx.runs.trainer_state:live_memory", old, new):
        result, _ = together(tmp_path / "ranks", 2, lambda ranks: copied(ranks, parallel))
    assert isinstance(result, dict), result
    assert result["changed"] != []


@pytest.mark.slow
def test_second_copy_of_what_is_collected_is_caught(tmp_path):
    with mutated("nanotx.runs.checkpoint:must_copy", "address(tensor) in live", "True"):
        result, _ = together(tmp_path / "ranks", 2, lambda ranks: copied(ranks, "fsdp"))
    assert isinstance(result, dict), result
    assert result["taken"] == result["whole"]
