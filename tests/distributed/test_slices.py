"""FSDP2: weights, gradients and state in slices; losses as near as another order of sums, whole checkpoints."""

import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from helpers import finish, start, text, tiny_command
from mutated import mutated
from planted import planted
from ranks_helper import together
from safetensors.torch import load_file
from test_same_bits import ALL, ANOTHER_ORDER, BACKWARDS, DENSE, distance, trained, trainer
from test_shared_evaluation import TEXTS
from test_whole_runs import flags, printed, train_together
from torch import nn

from nanotx.cli.main import run
from nanotx.distributed import check_parallel
from nanotx.distributed.slices import Slices
from nanotx.errors import ConfigError
from nanotx.hardware.compiler import find_compiler
from nanotx.nn.adapt.lora import Lora
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.ffn import Ffn
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.norm import Norm
from nanotx.optim import Optimizer
from nanotx.optim.muon import Muon
from nanotx.runs.followers import check_slices
from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.evaluation import shared_scores

MLP = replace(DENSE, reduce="fast")
AVERAGED = replace(MLP, train=replace(MLP.train, ema_decay=0.9))
BY_MATRICES = replace(
    AVERAGED,
    model=replace(AVERAGED.model, block=replace(AVERAGED.model.block, ffn=MixtureOfExperts(experts=3, hidden_dim=8))),
    optimizer=Muon(lr=0.02, adamw_lr=0.01),
)
BY_ROWS = replace(BY_MATRICES, model=replace(BY_MATRICES.model, tied=False))
FEW_ROWS = replace(  # few tokens a step, so that it does not read every row
    BY_ROWS, optimizer=replace(BY_ROWS.optimizer, weight_decay=1.0), train=replace(BY_ROWS.train, batch_size=2)
)
RECIPES = {"adamw": AVERAGED, "muon": BY_MATRICES, "muon, rows of an untied embedding": BY_ROWS}
SLOW = {
    "activations computed again": replace(BY_MATRICES, train=replace(BY_MATRICES.train, activation_checkpointing=True))
}


def follow(ranks, trainer):
    """Do what rank 0 orders, up to the end of what it looks at."""
    while (order := ranks.next_order()) != "end":
        if order == "step":
            trainer.train_step()
        elif order == "evaluate":
            shared_scores(trainer, TEXTS)
        else:
            ranks.send_state(with_optimizer=order == "state")


def sliced(recipe, steps, ranks):
    """On rank 0 the rows of some steps, and the whole weights and state; how many numbers each rank has."""
    made = trainer(recipe)
    ranks.parallel, ranks.reduce = "fsdp", recipe.reduce
    made.join(ranks)
    if ranks.rank:
        follow(ranks, made)
        return numbers(made)
    rows, scores = [], []
    for step in range(steps):
        if step in (0, 5):  # the next steps see what is changed since
            scores.append(shared_scores(made, TEXTS)["val"].loss)
        rows.append(made.train_step())
    saved = made.saved_state()
    weights, state, averages = (
        {name: tensor.tolist() for name, tensor in part.items()}
        for part in (saved.weights, saved.optimizer, saved.averages)
    )
    ranks.order("end")
    return [rows, weights, state, numbers(made), scores, averages]


def numbers(made):
    weights = sum(tensor.numel() for tensor in made.slices.own.values())
    return [weights, sum(tensor.numel() for state in made.optimizer.state.values() for tensor in state.values())]


def other_order(recipe, order, expected):
    """How far another order of sums puts the losses."""
    with mutated(*order):
        return distance(trained(replace(recipe, reduce="exact"), 20)[0], expected)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for name, recipe in (RECIPES | SLOW).items()
    ],
)
def test_two_ranks_with_slices_train_what_one_process_does(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr("nanotx.optim.muon.has_bfloat16", lambda device: False)  # which rounds far more than sums do
    results = together(tmp_path / "ranks", 2, lambda ranks: sliced(recipe, 20, ranks))
    assert isinstance(results[0], list), results
    rows, weights, state, own, scores, averages = results[0]
    alone, expected, expected_scores = trainer(replace(recipe, reduce="exact")), [], []
    for step in range(20):
        if step in (0, 5):
            expected_scores.append(shared_scores(alone, TEXTS)["val"].loss)
        expected.append(alone.train_step())
    assert scores[0] == expected_scores[0]
    assert scores[1] == pytest.approx(expected_scores[1], abs=1e-4)
    other = max(other_order(recipe, order, expected) for order in (ANOTHER_ORDER, BACKWARDS))
    assert distance(rows, expected) < 4 * other < 1e-4
    for name, weight in alone.weights().items():
        assert torch.allclose(torch.tensor(weights[name]), weight, atol=1e-3), name
    for name, average in alone.eval_weights().items():
        assert torch.allclose(torch.tensor(averages[name]), average, atol=1e-3), name
        assert not torch.allclose(average, alone.weights()[name], atol=1e-3), name
    tensors = alone.optimizer_state()[0]
    assert state.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.allclose(torch.tensor(state[name]), tensor, atol=1e-3), name
    whole = sum(weight.numel() for weight in alone.weights().values())
    assert own[0] + results[1][0] == whole and max(own[0], results[1][0]) < 0.6 * whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("distributed.slices:Slices.__init__", "set_gradient_divide_factor(1.0)", "set_gradient_divide_factor(2.0)"),
        ("distributed.slices:Slices.clear_gradients", "parameter.grad = None", "pass"),
        ("distributed.group:Group.norm", "dist.all_reduce(square)", "pass"),
        ("data.batches:Windows.batch", "starts[rows.start : rows.stop]", "starts[: len(rows)]"),
    ],
)
def test_wrong_sum_of_slices_changes_losses_or_norms(tmp_path, place, old, new):
    expected = trained(DENSE, 3)[0]
    with mutated(f"nanotx.{place}", old, new):
        results = together(tmp_path / "ranks", 2, lambda ranks: sliced(MLP, 3, ranks))
    assert isinstance(results[0], list), results
    norms = [abs(row["grad_norm"] - other["grad_norm"]) for row, other in zip(results[0][0], expected, strict=True)]
    assert max(*norms, distance(results[0][0], expected)) > 1e-3


def error_of_weights(folder):
    """How far two ranks' weights of slices are from those of one process, after three steps of Muon."""
    alone = trainer(replace(FEW_ROWS, reduce="exact"))
    for _ in range(3):
        alone.train_step()
    results = together(folder, 2, lambda ranks: sliced(FEW_ROWS, 3, ranks))
    assert isinstance(results[0], list), results
    return max(
        float((torch.tensor(results[0][1][name]) - weight).abs().max()) for name, weight in alone.weights().items()
    )


MATRICES, ROWS = "distributed.matrices:SlicedMatrices", "distributed.table_rows:ReadRows"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("distributed.slices:Slices.local", "", ""),
        (f"{MATRICES}.apply", "if tensors[0].ndim > 2", "if True"),
        (f"{MATRICES}.gather", "torch.cat(rows)", "torch.cat(rows[::-1])"),
        (f"{MATRICES}.shape", "self.shapes[parameter]", "parameter.shape"),
        (f"{ROWS}.of", "dist.all_reduce(read, dist.ReduceOp.MAX)", "pass"),
        (f"{ROWS}.of", "read[rows]", "(read[rows] < 2)"),
        (f"{ROWS}.clear", "self.read.zero_()", "pass"),
    ],
    ids=[
        "right",
        "slices are made orthogonal",
        "rows are in another order",
        "the scale is that of a slice",
        "a rank steps the rows that it has read itself",
        "all rows are stepped",
        "rows of earlier steps are stepped",
    ],
)
def test_wrong_step_of_whole_matrices_or_of_rows_changes_the_weights(tmp_path, monkeypatch, place, old, new):
    monkeypatch.setattr("nanotx.optim.muon.has_bfloat16", lambda device: False)
    with mutated(f"nanotx.{place}", old, new) if old else nullcontext():
        error = error_of_weights(tmp_path / "ranks")
    assert error > 1e-5 if old else error < 1e-6


PARTS = {"attention": Attention, "ffn": Ffn, "norm": Norm, "block": Block}


def differs(module, x, ranks):
    """What a module in slices computes otherwise than the module does: nothing, or what."""
    torch.manual_seed(3)
    weights = {name: torch.randn_like(weight) * 0.2 for name, weight in module.named_parameters()}
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(weights[name])
    y = module(x)
    direction = torch.randn_like(y)
    y.backward(direction)
    gradients = {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}
    module.zero_grad()
    holder = Holder(module)
    slices = Slices(holder, [], ranks.rank, ranks.size)
    again = holder(x)
    if not torch.equal(again, y):
        return "the output"
    (again * direction).sum().backward()
    for name, parameter in slices.sliced.items():
        if (gradient := gradients.get(name.removeprefix("module."))) is None:
            continue
        expected = slices.cut(name, 2 * gradient)
        if not torch.allclose(parameter.grad.to_local(), expected, rtol=1e-5, atol=1e-6):
            return f"the gradient of {name}"
    return ""


class Holder(nn.Module):
    """A module in another one, as a block is in a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)

    def hidden_states(self, x):
        return self.module(x)


def test_part_in_slices_is_the_part(tmp_path):
    cases = [(slot, name) for slot, family in PARTS.items() for name in family.names()]

    def each(ranks):
        found = {}
        for slot, name in cases:
            part = PARTS[slot].find(name)()
            module = part.build(24).eval()
            if "cpu" in getattr(part, "trains_on", ("cpu",)) and any(
                parameter.requires_grad for parameter in module.parameters()
            ):
                found[f"{slot} {name}"] = differs(module, torch.randn(2, 5, 24), ranks)
        return found

    results = together(tmp_path / "ranks", 2, each)
    assert isinstance(results[0], dict), results
    assert len(results[0]) > 10
    assert not [name for found in results for name, what in found.items() if what], results


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "near"), [("adamw", 1e-4), ("muon", 1e-3)])
def test_run_in_slices_has_whole_checkpoints_and_is_resumed_by_replicas_in_slices_and_by_one_process(
    tmp_path, optimizer, near
):
    alone, shared, more = (
        tmp_path / "alone",
        tmp_path / "shared",
        {"optimizer": optimizer, "reduce": "fast", "train_ema_decay": 0.9},
    )
    assert run(["train", "macbook", *flags(alone, train_steps=6, **more)]) == 0
    words = ["train", "macbook", *flags(shared, train_steps=3, **more), "--parallel", "fsdp"]
    assert train_together(tmp_path / "out", 2, words) == [0, 0], printed(tmp_path / "out", 2)
    replicas = ["resume", str(shared), "--train.steps", "4"]
    assert train_together(tmp_path / "replicas", 2, replicas) == [0, 0], printed(tmp_path / "replicas", 2)
    resumed = ["resume", str(shared), "--train.steps", "5", "--parallel", "fsdp"]
    assert train_together(tmp_path / "more", 2, resumed) == [0, 0], printed(tmp_path / "more", 2)
    assert run(["resume", str(shared), "--train.steps", "6"]) == 0
    assert run(["verify", str(shared)]) == 0
    for name in ("model.safetensors", "optimizer.safetensors", "ema.safetensors"):
        ours, theirs = (load_file(folder / "checkpoints" / "step-6" / name) for folder in (shared, alone))
        assert list(ours) == list(theirs)
        assert all(torch.allclose(ours[key], theirs[key], atol=near) for key in theirs)
        sliced, whole = ((shared / "checkpoints" / step / name).read_bytes() for step in ("step-5", "step-6"))
        length = 8 + int.from_bytes(whole[:8], "little")
        assert sliced[:length] == whole[:length] and len(sliced) == len(whole)


@pytest.mark.slow
@pytest.mark.skipif(find_compiler() is None, reason="there is no compiler")
def test_compiled_run_in_slices_trains_what_one_process_does(tmp_path):
    text(tmp_path / "text.txt", 20_000)
    shape = {
        "model_layers": 2,
        "train_batch_size": 4,
        "train_micro_batch_size": 1,
        "optimizer": "muon",
        "train_steps": 6,
    }
    compiled = ["--ranks", "2", "--parallel", "fsdp", "--reduce", "fast"]
    for words in (tiny_command(run="alone", **shape), tiny_command(*compiled, run="shared", compile="true", **shape)):
        code, _, errors = finish(start(*words, cwd=tmp_path))
        assert code == 0, errors
    ours, theirs = (
        load_file(tmp_path / name / "checkpoints" / "step-6" / "model.safetensors") for name in ("shared", "alone")
    )
    assert "compile = true" in (tmp_path / "shared" / "recipe.toml").read_text(encoding="utf-8")
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-3) for key in theirs)


def test_model_that_cannot_be_in_slices_is_refused_with_the_reason(monkeypatch):
    reasons = {
        "the last bits depend on the number of processes; say so by --reduce fast": DENSE,
        "float16": replace(MLP, dtype="float16"),
        "try --model.share 1": replace(MLP, model=replace(MLP.model, layers=2, share=2)),
        "adapter": replace(MLP, model=replace(MLP.model, adapt=Lora())),
    }
    check_parallel(MLP, "fsdp")
    check_parallel(BY_ROWS, "fsdp")
    for reason, recipe in reasons.items():
        with pytest.raises(ConfigError, match=f"--parallel fsdp: .*{reason}"):
            check_parallel(recipe, "fsdp")
    monkeypatch.setattr(Muon, "by_matrices", False)
    with pytest.raises(ConfigError, match=r"fsdp: optimizer muon does not say that it steps rows .* --parallel owner"):
        check_parallel(replace(MLP, optimizer=Muon()), "fsdp")


def test_model_that_changes_itself_and_callback_that_looks_are_refused():
    made = trainer(replace(ALL, reduce="fast"))
    with pytest.raises(ConfigError, match=r"embedding.* changes its own weights between steps.* --parallel owner"):
        check_slices(made, [])
    with pytest.raises(ConfigError, match=r"callback 'Callback' .* may look at the model after any step"):
        check_slices(trainer(MLP), [Callback()])
    check_slices(trainer(MLP), [])


def test_state_that_grows_with_the_rows_of_a_slice_is_refused_before_it_is_saved(tmp_path):
    def refused(ranks):
        with planted("learning"):
            made = trainer(replace(MLP, optimizer=Optimizer.find("mutant_by_row")(lr=0.01)))
            ranks.parallel, ranks.reduce = "fsdp", "fast"
            made.join(ranks)
            if ranks.rank:
                return follow(ranks, made)
            made.train_step()
            with pytest.raises(ConfigError) as raised:
                made.saved_state()
            ranks.order("end")
            return str(raised.value)

    message, _ = together(tmp_path / "ranks", 2, refused)
    assert re.match(
        r"--parallel fsdp: the optimizer's state 'square' of .* has the shape \((\d+), 1\) for \1 of \d+ rows; .* "
        "try --parallel owner",
        message,
    ), message
