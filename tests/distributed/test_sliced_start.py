"""Ranks besides rank 0 begin with slices: what they get is rank 0's to the bit, and they never have a whole model."""

import weakref
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from mutated import mutated
from ranks_helper import together
from test_same_bits import MACHINE
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.distributed.slices import Slices
from nanotx.hardware.device import Machine
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.loss.multi_token import MultiToken
from nanotx.nn.position.sinusoidal import Sinusoidal
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.state import device_of
from nanotx.recipe import Recipe, Train
from nanotx.runs import followers
from nanotx.runs.followers import follow, lead
from nanotx.training.dataset import load_dataset
from nanotx.training.live_tensors import LiveTensors
from nanotx.training.signals import Stop
from nanotx.training.trainer import Trainer

DEEP = Recipe(
    corpus=Playhouse(size=20_000),
    model=Model(dim=64, layers=4, context=16, position=Sinusoidal(), block=PreNorm()),
    loss=MultiToken(ahead=2),
    optimizer=AdamW(lr=0.01),
    freeze=("blocks.0.*",),
    train=Train(steps=9, batch_size=4, micro_batch_size=1),
    device="cpu",
    dtype="float32",
    threads=1,
    compile=False,
    reduce="fast",
    seed=3,
)


def led(recipe, ranks, steps=1):
    """Rank 0: its state before the others get theirs."""
    texts = load_dataset(recipe)
    made = Trainer(recipe, recipe.model.build(texts.codec.vocab_size, recipe.seed), texts.windows, MACHINE)
    for _ in range(steps):
        made.train_step()
    before = {name: tensor.clone() for name, tensor in saved(made).items()}
    lead(ranks, made, texts, Stop())
    return made, before


def saved(made):
    """What a checkpoint would hold."""
    weights, state, _, averages = made.saved_state()
    return {**weights, **state, **{f"average of {name}": average for name, average in averages.items()}}


def checkpointed(recipe, ranks):
    """Whether a checkpoint right after the start holds what rank 0 had before it."""
    ranks.parallel = "fsdp"
    if ranks.rank:
        return follow(ranks, Stop())
    made, before = led(recipe, ranks)
    after = saved(made)
    ranks.order("end")
    assert list(after) == list(before)
    assert isinstance(made.slices, Slices)
    return [name for name in after if not torch.equal(after[name], before[name])]


CASES = {
    "tied, frozen, with tables of positions and maps of the loss": DEEP,
    "untied": replace(
        DEEP, model=replace(DEEP.model, tied=False, head_bias=True), freeze=(), train=replace(DEEP.train, ema_decay=0.9)
    ),
}


@pytest.mark.parametrize(
    ("name", "size"), [("tied, frozen, with tables of positions and maps of the loss", 2), ("untied", 3)]
)
def test_checkpoint_after_the_start_has_every_bit_that_rank_0_had(tmp_path, name, size):
    results = together(tmp_path / "ranks", size, lambda ranks: checkpointed(CASES[name], ranks))
    assert results == [[], *[0] * (size - 1)]


def test_slices_that_are_not_set_change_the_checkpoint(tmp_path):
    with mutated("nanotx.runs.followers:Follower.incoming", "slices.own[name].detach().copy_(tensor)", "tensor"):
        results = together(tmp_path / "ranks", 2, lambda ranks: checkpointed(DEEP, ranks))
    assert isinstance(results[0], list)
    assert len(results[0]) > 10


class Alive(TorchDispatchMode):
    """The bytes of tensors that have memory; FSDP2 gives memory up while tensors still know of it."""

    def __init__(self, tensors=()):
        super().__init__()
        self.storages, self.most = {}, 0
        self.add(tensors)

    def add(self, tensors):
        for tensor in tensors:
            if type(tensor) in (torch.Tensor, torch.nn.Parameter) and not tensor.is_meta:
                storage = tensor.untyped_storage()
                self.storages[storage._cdata] = weakref.ref(storage)

    def now(self):
        alive = {key: ref() for key, ref in self.storages.items()}
        self.storages = {key: self.storages[key] for key, storage in alive.items() if storage is not None}
        return sum(storage.nbytes() for storage in alive.values() if storage is not None)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.add(tree_leaves(result))
        self.most = max(self.most, self.now())
        return result


class Allocated(LiveTensors):
    """The bytes of tensors that have memory."""

    def add(self, tensors, kind):
        super().add([tensor for tensor in tensors if not (tensor.is_meta or isinstance(tensor, DTensor))], kind)


def most_alive(recipe, ranks, steps):
    """On another rank than 0 the most bytes of tensors that were alive at once; on rank 0 those of its state."""
    ranks.parallel = "fsdp"
    if ranks.rank == 0:
        _, before = led(recipe, ranks, steps)
        ranks.order("end")
        return sum(tensor.nbytes for tensor in before.values())
    live = Allocated(shapes=set(), vocab_size=0)
    with live:
        follow(ranks, Stop())
    return live.peak.total()


EIGHT = replace(DEEP, model=replace(DEEP.model, layers=8), freeze=())


@pytest.mark.parametrize(("steps", "share"), [(0, 0.7), (1, 0.6)])
def test_other_rank_never_has_a_whole_model_nor_whole_state_at_the_start(tmp_path, steps, share):
    whole, most = together(tmp_path / "ranks", 2, lambda ranks: most_alive(EIGHT, ranks, steps))
    assert whole > 1_000_000
    assert 0.5 * whole < most < share * whole


def test_rank_that_builds_the_whole_model_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "build_empty", lambda model, vocab_size: model.build(vocab_size))
    monkeypatch.setattr(followers, "empty_weights", nullcontext)
    whole, most = together(tmp_path / "ranks", 2, lambda ranks: most_alive(EIGHT, ranks, 0))
    assert most > 0.9 * whole


def begun(ranks):
    """On rank 0 the bytes of the weights before the start, the most while it begins, and those that are alive then."""
    ranks.parallel = "fsdp"
    if ranks.rank:
        return follow(ranks, Stop())
    texts = load_dataset(EIGHT)
    model = EIGHT.model.build(texts.codec.vocab_size, EIGHT.seed)
    made = Trainer(EIGHT, model, texts.windows, MACHINE, in_slices=True)
    alive = Alive(made.model.parameters())
    whole = alive.now()
    with alive:
        lead(ranks, made, texts, Stop())
    ranks.order("end")
    return [whole, alive.most, alive.now()]


def test_rank_0_gives_its_whole_model_up_block_by_block(tmp_path):
    (whole, most, left), _ = together(tmp_path / "ranks", 2, begun)
    assert whole > 1_000_000
    assert most < 1.2 * whole
    assert left < 0.6 * whole


def test_whole_model_that_something_holds_is_noticed(tmp_path):
    with mutated(
        "nanotx.training.slicing:take_slices",
        "del trainer.optimizer, trainer.state_codec, trainer.ema",
        "held = trainer.optimizer",
    ):
        (whole, most, _), _ = together(tmp_path / "ranks", 2, begun)
    assert most > 1.3 * whole


def test_model_for_slices_stays_in_the_memory_of_the_cpu():
    texts = load_dataset(DEEP)
    for in_slices, device in ((True, "cpu"), (False, "meta")):
        model = DEEP.model.build(texts.codec.vocab_size, DEEP.seed)
        machine = Machine(device=torch.device("meta"), dtype=torch.float32, threads=1)
        made = Trainer(DEEP, model, texts.windows, machine, in_slices)
        assert {tensor.device.type for tensor in (*made.model.parameters(), *made.model.buffers())} == {device}
        assert made.windows.device.type == "meta"


@pytest.mark.parametrize("flags", [{}, {"capturable": True}, {"fused": True}])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_state_of_slices_is_where_pytorch_puts_what_it_loads(device, flags):
    parameter = nn.Parameter(torch.empty(3, 2, device=device))
    optimizer = torch.optim.AdamW([parameter])
    optimizer.param_groups[0] |= flags
    state = {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3, 2), "exp_avg_sq": torch.zeros(3, 2)}
    optimizer.load_state_dict({"state": {0: state}, "param_groups": optimizer.state_dict()["param_groups"]})
    for key, tensor in optimizer.state[parameter].items():
        assert tensor.device == device_of(key, parameter, optimizer.param_groups[0])
