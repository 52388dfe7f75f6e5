"""A training step is the one that is written out in `nanotx.laws.training_step`, to the bit, whatever the recipe."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mutants.training import STEP
from mutated import mutated

from nanotx.config.schema import fields
from nanotx.data.batches import Windows, step_seed
from nanotx.errors import ConfigError, Diverged, LawBroken
from nanotx.hardware.device import Machine
from nanotx.laws.strategies import any_part_of
from nanotx.laws.training_step import adamw_step, dropout_seed, matches_training_step, training_step
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding import Embedding
from nanotx.nn.ffn import Ffn
from nanotx.nn.loss.cross_entropy import CrossEntropy
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer, ParamGroup
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.optim.schedules import Schedule
from nanotx.optim.schedules.cosine import Cosine
from nanotx.recipe import Recipe, Train
from nanotx.training.trainer import Trainer

VOCAB = 11
DTYPES = ("float32", "bfloat16", "float16")


def trainer(recipe, dtype="float32", scale=65536.0, clean=0, vocab=VOCAB):
    """A trainer of a recipe on random ids, on the CPU."""
    ids = np.random.default_rng(recipe.seed).integers(0, vocab, size=70)
    windows = Windows(ids=ids, context=recipe.model.context, seed=recipe.seed)
    machine = Machine(device=torch.device("cpu"), dtype=getattr(torch, dtype), threads=1)
    made = Trainer(recipe, recipe.model.build(vocab, recipe.seed), windows, machine)
    if dtype == "float16":
        made.scaler.load_state_dict(made.scaler.state_dict() | {"scale": scale, "_growth_tracker": clean})
    return made


ATTENTIONS = [part for part in map(Attention.find, Attention.names()) if "cpu" in part.trains_on]
SMALL = {"kv_heads": 1, "window": 3, "block": 2, "chunk": 2}
"""Fields of some attentions."""
shares = st.sampled_from([0.0, 0.3])


@st.composite
def blocks(draw):
    """Any block of any attention, ffn and norm, a seldom one around another."""
    part = draw(st.sampled_from(ATTENTIONS))
    small = {name: value for name, value in SMALL.items() if name in fields(part)}
    dropout = 0.0 if part.part == "linear" else draw(shares)  # it has no weights to drop
    attention = part(heads=draw(st.sampled_from([1, 2, 4])), dropout=dropout, bias=draw(st.booleans()), **small)
    inside = {
        "attention": attention,
        "ffn": draw(any_part_of(Ffn)),
        "norm": draw(any_part_of(Norm)),
        "dropout": draw(shares),
    }
    block = Block.find(draw(st.sampled_from(["prenorm", "postnorm", "sandwich", "parallel"])))(**inside)
    return draw(st.sampled_from([block, block, Block.find("token_shift")(block=block)]))


GROUPS = (ParamGroup(match="blocks.0.*.weight", lr_scale=0.5), ParamGroup(match="embedding.*", weight_decay=0.3))
"""Groups of a recipe; the first holds matrices and perhaps norms."""


@st.composite
def optimizers(draw):
    """AdamW or Muon, large rates among them, so that a wrong step shows."""
    betas = draw(st.sampled_from([(0.9, 0.99), (0.5, 0.9), (0.0, 0.8)]))
    decay, eps = draw(st.sampled_from([0.0, 0.1, 0.5])), draw(st.sampled_from([1e-8, 1e-3]))
    lr = draw(st.sampled_from([1e-3, 3e-2]))
    groups = draw(st.sampled_from([(), (), GROUPS]))
    if draw(st.booleans()):
        return AdamW(lr=lr, betas=betas, weight_decay=decay, eps=eps, groups=groups)
    momentum, iterations = draw(st.sampled_from([0.0, 0.95])), draw(st.sampled_from([1, 5]))
    rest = {"betas": betas, "eps": eps, "momentum": momentum, "iterations": iterations, "groups": groups}
    return Muon(lr=lr, weight_decay=decay, adamw_lr=draw(st.sampled_from([1e-3, 1e-2])), **rest)


@st.composite
def recipes(draw):
    """Any parts, any optimizer and schedule, any way to cut a batch."""
    model = Model(
        dim=draw(st.sampled_from([8, 16, 24])),
        context=draw(st.integers(2, 9)),
        dropout=draw(st.sampled_from([0.0, 0.2])),
        tied=draw(st.booleans()),
        head_bias=draw(st.booleans()),
        softcap=draw(st.sampled_from([0.0, 5.0])),
        embedding=draw(any_part_of(Embedding)),
        position=draw(any_part_of(Position)),
        norm=draw(any_part_of(Norm)),
        layers=(layers := draw(st.integers(1, 2))),
        share=draw(st.sampled_from([1, layers])),
        block=draw(blocks()),
    )
    try:
        model.check("cpu")
    except ConfigError:
        assume(False)
    batch, micro = draw(st.sampled_from([1, 2, 4, 6])), draw(st.sampled_from([0, 0, 1, 2]))
    train = {
        "grad_accum_steps": draw(st.sampled_from([number for number in (1, 2, 3) if batch % number == 0]))
        if not micro
        else 1,
        "micro_batch_size": micro if batch % max(micro, 1) == 0 else 0,
        "activation_checkpointing": draw(st.booleans()),
        "loss_chunk_size": draw(st.sampled_from([0, 0, 1, 3, 7, 99])),
        "ema_decay": draw(st.sampled_from([0.0, 0.05, 0.3, 0.99])),
        "grad_clip": draw(st.sampled_from([0.0, 0.01, 1.0, 100.0])),
    }
    return Recipe(
        model=model,
        optimizer=draw(optimizers()),
        schedule=draw(any_part_of(Schedule)),
        loss=CrossEntropy(z_loss=draw(st.sampled_from([0.0, 1e-3, 0.3]))),
        train=Train(steps=draw(st.integers(3, 9)), batch_size=batch, **train),
        seed=draw(st.integers(0, 2**62)),
    )


@given(recipe=recipes(), dtype=st.sampled_from(DTYPES), scale=st.sampled_from([1.0, 2.0**16, 2.0**50]))
def test_trainer_takes_the_reference_steps_to_the_bit(recipe, dtype, scale):
    try:
        matches_training_step(trainer(recipe, dtype, scale, clean=1998), 3)
    except Diverged:
        assume(False)


# Recipes that have something of everything, and bugs that their steps show.

PART = Attention.find("sdpa")(heads=2, dropout=0.3, bias=True)
MODEL = Model(
    dim=16, layers=1, context=6, dropout=0.2, norm=Norm.find("layernorm")(), block=PreNorm(attention=PART, dropout=0.3)
)
ADAMW = AdamW(lr=0.02, betas=(0.5, 0.9), weight_decay=0.5, eps=1e-3)
OVERLAPPING = (ParamGroup(match="*norm.weight", lr_scale=0.5), ParamGroup(match="*.weight", weight_decay=0.1))
TRAIN = Train(steps=4, batch_size=4, grad_accum_steps=2, grad_clip=1.0, ema_decay=0.3)
PLAIN = Recipe(
    model=MODEL, optimizer=ADAMW, schedule=Cosine(warmup=2), loss=CrossEntropy(z_loss=0.1), train=TRAIN, seed=3
)
GRAMS = Embedding.find("ngrams")(max_n=3, buckets=64, resets=2, dropout=0.2)
MOE = replace(MODEL, layers=2, block=PreNorm(attention=PART, ffn=Ffn.find("moe")(experts=4, aux_loss_weight=0.5)))
WITH_MUON = replace(
    PLAIN,
    model=replace(MODEL, embedding=GRAMS, tied=False),
    optimizer=Muon(lr=0.05, weight_decay=0.5, adamw_lr=0.01, eps=1e-3),
)


def with_library_dropout():
    """A trainer of a model in which a part of a user's draws from PyTorch's generator."""
    made = trainer(PLAIN)
    made.model.norm = torch.nn.Sequential(made.model.norm, torch.nn.Dropout(0.3))
    return made


RECIPES = {
    "library dropout": with_library_dropout,
    "plain": partial(trainer, PLAIN),
    "bfloat16": partial(trainer, PLAIN, dtype="bfloat16"),
    "float16": partial(trainer, PLAIN, dtype="float16", clean=1998),
    "float16 muon": partial(trainer, WITH_MUON, dtype="float16", scale=2.0**50),
    "penalties": partial(trainer, replace(PLAIN, model=MOE)),
    "chunks": partial(trainer, replace(PLAIN, train=replace(TRAIN, loss_chunk_size=5))),
    "loose": partial(trainer, replace(PLAIN, train=replace(TRAIN, grad_clip=100.0))),
    "activation_checkpointing": partial(trainer, replace(PLAIN, train=replace(TRAIN, activation_checkpointing=True))),
    "muon": partial(trainer, WITH_MUON),
    "groups": partial(trainer, replace(PLAIN, optimizer=replace(ADAMW, groups=OVERLAPPING))),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_of_the_mutants_takes_the_reference_steps(name):
    matches_training_step(RECIPES[name](), 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate parameters")
@pytest.mark.parametrize("bug", STEP)
def test_bug_in_a_step_is_caught_by_the_reference_steps(bug):
    name, place, old, new = STEP[bug]
    with mutated(place, old, new), pytest.raises(LawBroken, match="step: "):
        matches_training_step(RECIPES[name](), 4)


def test_seed_of_a_steps_dropout_is_its_own():
    steps = [dropout_seed(7, step) for step in range(50)]
    assert steps == [step_seed(7, step) for step in range(50)] and len({*steps}) == 50
    assert dropout_seed(8, 0) not in steps and min(steps) >= 0 and max(steps) < 2**63


@given(steps=st.integers(1, 5), lr=st.sampled_from([1e-3, 0.1]), decay=st.sampled_from([0.0, 0.5]))
def test_kernel_of_adamw_follows_the_formula_in_its_docstring(steps, lr, decay):
    generator, betas, eps = torch.Generator().manual_seed(steps), (0.7, 0.95), 1e-4
    weight, moments = torch.randn(3, 5, generator=generator), {"step": torch.zeros(())}
    wanted, mean, square = weight.double(), torch.zeros(3, 5).double(), torch.zeros(3, 5).double()
    for t in range(1, steps + 1):
        gradient = torch.randn(3, 5, generator=generator)
        moments["step"] += 1
        adamw_step(weight, gradient, moments, lr, betas, eps, decay)
        wanted -= lr * decay * wanted
        mean += (1 - betas[0]) * (gradient - mean)
        square += (1 - betas[1]) * (gradient**2 - square)
        wanted -= lr * (mean / (1 - betas[0] ** t)) / ((square / (1 - betas[1] ** t)).sqrt() + eps)
    torch.testing.assert_close(weight, wanted.float(), atol=1e-6, rtol=1e-5)


def test_reference_step_of_an_unknown_optimizer_is_refused_by_name():
    other = type("Other", (Optimizer,), {"lr": 0.1, "part": "other", "build": ADAMW.build})()
    recipe, made = replace(PLAIN, optimizer=other), trainer(PLAIN)
    with pytest.raises(ConfigError, match=r"optimizer other: a step is written out for adamw and muon alone\."):
        training_step(recipe, made.model, made.windows, 0, {}, torch.float32)
