"""Training: what a step does, what it depends on, and what it does not."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers import ROOT
from torch.nn import functional as F

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, Diverged, RunError
from nanotx.evaluation.loss import evaluate
from nanotx.hardware.device import choose_machine
from nanotx.nn.attention import SOFTMAX, Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import to_canonical
from nanotx.nn.ffn import Ffn
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.schedules.constant import Constant
from nanotx.optim.schedules.cosine import Cosine
from nanotx.recipe import Recipe, Train
from nanotx.runs.resume import load_state, load_weights
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

TEXTS = load_dataset(Recipe(corpus=Playhouse(size=20_000), model=Model(context=16)))
MACHINE = choose_machine("cpu", "float32", 1)

KNOWN = {name: Attention.find(name) for name in Attention.names()}
EQUIVALENTS = [name for name, part in KNOWN.items() if part.equivalent_to == SOFTMAX and "cpu" in part.trains_on]


def trainer(attention="sdpa", dropout=0.0, weights=None, ffn="swiglu", machine=MACHINE, **plan):
    part = ffn if isinstance(ffn, Ffn) else Ffn.find(ffn)()
    block = PreNorm(attention=Attention.find(attention)(heads=2, dropout=dropout), ffn=part, dropout=dropout)
    recipe = Recipe(
        model=Model(dim=16, layers=2, context=16, dropout=dropout, block=block),
        schedule=Constant(),
        train=Train(**{"steps": 50, "batch_size": 4} | plan),
    )
    model = recipe.model.build(TEXTS.codec.vocab_size, recipe.seed)
    made = Trainer(recipe, model, TEXTS.windows, machine)
    if weights is not None:
        load_weights(model, weights)
    return made


def test_training_lowers_the_loss():
    built = trainer()
    losses = [built.train_step()["loss"] for _ in range(50)]
    assert sum(losses[-5:]) < sum(losses[:5]) - 2.0


def test_equivalent_attentions_train_alike_for_fifty_steps():
    """From the weights of one loaded into the others: losses to 1e-4, outputs to 1e-5 before the first step."""
    weights = trainer("per_head").weights()
    trainers = [trainer(name, weights=weights) for name in EQUIVALENTS]
    x, _ = TEXTS.windows.batch(0, 4)
    outputs = [trainer.model.eval()(x) for trainer in trainers]
    losses = []
    for item in trainers:
        item.model.train()
        losses.append([item.train_step()["loss"] for _ in range(50)])
    for other, output in zip(losses[1:], outputs[1:], strict=True):
        torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.tensor(other), torch.tensor(losses[0]), atol=1e-4, rtol=0)


def test_micro_batches_make_the_same_step():
    whole, parts = trainer(), trainer(grad_accum_steps=4)
    assert whole.train_step()["loss"] == pytest.approx(parts.train_step()["loss"], rel=1e-5)
    for name, tensor in whole.weights().items():
        torch.testing.assert_close(parts.weights()[name], tensor, atol=1e-4, rtol=1e-4)


# Penalties: a module's own terms in what training lowers.

EVEN = Ffn.find("moe")(aux_loss_weight=0.5)
DTYPES = {"float32": MACHINE, "bfloat16": choose_machine("cpu", "bfloat16", 1)}


def slopes(trained):
    return {name: parameter.grad.clone() for name, parameter in trained.model.named_parameters()}


def by_hand(trained, batch, parts=1, penalised=True):
    """A step's loss without its penalty, and the gradient of both, micro-batch by micro-batch."""
    message = 0.0
    for x, y in zip(*(half.chunk(parts) for half in batch), strict=True):
        with trained.machine.autocast():
            loss = F.cross_entropy(trained.model(x).flatten(0, 1), y.flatten())
        owed = sum(block.ffn.aux_loss() for block in trained.model.blocks) if penalised else 0.0
        ((loss + owed) / parts).backward()
        message += loss.item() / parts
    return message, slopes(trained)


@pytest.mark.parametrize("machine", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("parts", [1, 2])
def test_aux_loss_is_in_the_gradient_of_each_micro_batch_and_never_in_the_reported_loss(machine, parts):
    first, other = (trainer(ffn=EVEN, machine=machine, grad_accum_steps=parts) for _ in range(2))
    batch = TEXTS.windows.batch(0, 4)
    message = first.backward(*batch)["loss"].item()
    loss, wanted = by_hand(other, batch, parts)
    assert message == pytest.approx(loss, rel=1e-6)
    for name, slope in slopes(first).items():
        torch.testing.assert_close(slope, wanted[name], msg=name)
    free = trainer(ffn=replace(EVEN, aux_loss_weight=0.0), machine=machine, grad_accum_steps=parts)
    assert free.backward(*batch)["loss"].item() == pytest.approx(message, rel=1e-6)
    router = "blocks.0.ffn.router.weight"
    assert not torch.allclose(slopes(free)[router], wanted[router], rtol=0.1)


def test_model_without_auxiliary_losses_has_the_gradient_of_its_loss_to_the_bit():
    first, other = trainer(), trainer()
    batch = TEXTS.windows.batch(0, 4)
    loss, wanted = by_hand(other, batch, penalised=False)
    assert first.backward(*batch)["loss"].item() == loss
    assert all(torch.equal(slope, wanted[name]) for name, slope in slopes(first).items())


def test_evaluation_has_no_auxiliary_loss():
    built, free = trainer(ffn=EVEN), trainer(ffn=replace(EVEN, aux_loss_weight=0.0))
    assert evaluate(built.model, TEXTS.eval_texts["val"], MACHINE) == evaluate(
        free.model, TEXTS.eval_texts["val"], MACHINE
    )
    assert built.model.blocks[0].ffn.aux_loss().item() == 0.0


COMPILED = """
import torch
from nanotx.nn.block.prenorm import PreNorm
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.hardware.device import choose_machine
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

model = Model(dim=16, layers=1, context=16, block=PreNorm(ffn=MixtureOfExperts(aux_loss_weight=0.5)))
recipe = Recipe(corpus=Playhouse(size=20_000), model=model)
texts, machine = load_dataset(recipe), choose_machine("cpu", "float32", 1)
plain, compiled = (Trainer(recipe, model.build(texts.codec.vocab_size), texts.windows, machine) for _ in range(2))
compiled.forward = torch.compile(compiled.model, backend="aot_eager")  # traced as ever, and no C++ compiled
for step in range(2):
    losses = [one.backward(*texts.windows.batch(step, 4)) for one in (plain, compiled)]
    torch.testing.assert_close(*losses)
for (name, one), other in zip(plain.model.named_parameters(), compiled.model.parameters(), strict=True):
    torch.testing.assert_close(one.grad, other.grad, msg=name)
"""


def test_auxiliary_loss_is_in_the_gradient_of_a_compiled_model_too():
    """In a process of its own, because the checked annotations of the tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_moe_that_is_resumed_continues_as_it_would_have():
    first, next_one = trainer(ffn=EVEN), trainer(ffn=EVEN)
    for _ in range(3):
        first.train_step()
    load_state(next_one, first.weights(), *first.optimizer_state())
    next_one.progress.step = 3
    assert next_one.train_step()["loss"] == first.train_step()["loss"]
    assert all(torch.equal(next_one.weights()[name], tensor) for name, tensor in first.weights().items())


@pytest.mark.parametrize("plan", [{}, {"grad_accum_steps": 2}, {"activation_checkpointing": True}])
def test_step_with_dropout_is_a_function_of_seed_and_step_alone(plan):
    first, other = trainer(dropout=0.3, **plan), trainer(dropout=0.3, **plan)
    for _ in range(3):
        torch.rand(7)  # whatever else draws random numbers between steps
        assert first.train_step()["loss"] == other.train_step()["loss"]
    plain = trainer(**plan)
    assert plain.train_step()["loss"] != trainer(dropout=0.3, **plan).train_step()["loss"]


@pytest.mark.parametrize("other", EQUIVALENTS)
def test_attention_continues_with_the_weights_of_an_equivalent_one(other):
    first = trainer("per_head")
    for _ in range(3):
        first.train_step()
    next_one = trainer(other)
    averages, numbers = first.optimizer_state()
    load_state(next_one, first.weights(), averages, numbers)
    next_one.progress.step = 3
    assert next_one.train_step()["loss"] == pytest.approx(first.train_step()["loss"], rel=1e-5)
    for name, tensor in first.weights().items():
        torch.testing.assert_close(next_one.weights()[name], tensor, atol=1e-4, rtol=1e-3)


def test_gradient_that_is_not_finite_stops_before_the_weights_are_touched():
    built = trainer()
    with torch.no_grad():
        built.model.blocks[0].ffn.to_out.weight[0, 0] = float("inf")
    before = {name: tensor.clone() for name, tensor in built.weights().items()}
    message = r"step 0: the loss is .*nan.* the step was not taken\..*begin at token .*Try a lower --optimizer\.lr"
    with pytest.raises(Diverged, match=message):
        built.train_step()
    assert all(torch.equal(before[name], tensor) for name, tensor in built.weights().items())


def test_decay_falls_on_matrices_alone_and_every_parameter_has_a_group():
    built = trainer()
    decayed, spared = built.optimizer.param_groups
    assert all(parameter.ndim >= 2 for parameter in decayed["params"]) and decayed["weight_decay"] == 0.1
    assert all(parameter.ndim < 2 for parameter in spared["params"]) and spared["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(spared["params"]) == len(list(built.model.parameters()))


def test_adamw_takes_the_step_of_its_paper():
    weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    optimizer = AdamW(lr=0.1, betas=(0.9, 0.99), weight_decay=0.5, eps=1e-8).build([("weight", weight)])
    gradient = torch.tensor([[0.3, -0.4]])
    weight.grad = gradient.clone()
    optimizer.step()
    want = torch.tensor([[2.0, -1.0]]) * (1 - 0.1 * 0.5) - 0.1 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(weight.detach(), want)


def test_cosine_rises_then_falls_to_its_end():
    factors = [Cosine(warmup=10, final=0.1).factor(step, 110) for step in range(111)]
    assert factors[0] == pytest.approx(1 / 11) and factors[10] == pytest.approx(1.0)
    assert factors[60] == pytest.approx(0.55) and factors[110] == pytest.approx(0.1)
    assert all(a <= b for a, b in pairwise(factors[:11]))
    assert all(a >= b for a, b in pairwise(factors[10:]))


def test_initial_weights_follow_the_rule():
    model = Model(dim=64, layers=8, context=16).build(50, seed=3)
    weights = to_canonical(model, dict(model.named_parameters()))
    for name, weight in weights.items():
        if name.endswith("to_out.weight"):
            assert weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.1)
        elif weight.ndim == 2:
            assert weight.std().item() == pytest.approx(0.02, rel=0.1)
        else:
            assert (weight == (0.0 if name.endswith("bias") else 1.0)).all()
    assert model.head.weight is model.embedding.weight


def test_parameters_and_operations_are_counted_by_hand():
    parts = PreNorm(ffn=Ffn.find("mlp")(), norm=Norm.find("layernorm")())
    position, norm = Position.find("learned")(), Norm.find("layernorm")()
    model = Model(dim=8, layers=3, context=5, position=position, norm=norm, block=parts).build(11)
    block = 4 * 8 * 8 + 2 * 8 * 32 + 2 * 2 * 8
    assert model.parameter_count == 11 * 8 + 5 * 8 + 3 * block + 2 * 8
    assert model.flops_per_token == 6 * (3 * (4 * 64 + 2 * 256) + 11 * 8) + 12 * 3 * 8 * 5


def test_weights_that_are_not_this_models_are_refused_by_name():
    built = trainer()
    weights = built.weights()
    for change, match in [
        ({"head.bias": torch.zeros(3)}, "'head.bias' is not of this model"),
        ({"norm.weight": torch.zeros(3)}, r"'norm.weight' has shape \(3,\); this model wants \(16,\)"),
    ]:
        with pytest.raises(RunError, match=match):
            load_weights(built.model, weights | change)
    weights.pop("norm.weight")
    with pytest.raises(RunError, match=r"'norm\.weight' is missing"):
        load_weights(built.model, weights)


def test_blocks_whose_heads_differ_cannot_share_a_position():
    pattern = (PreNorm(attention=Attention.find("sdpa")(heads=2)), PreNorm(attention=Attention.find("sdpa")(heads=4)))
    with pytest.raises(ConfigError, match=r"model: blocks with heads \[2, 4\] cannot share one position"):
        Model(dim=16, blocks=pattern).check()
