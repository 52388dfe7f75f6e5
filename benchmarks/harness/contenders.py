"""The contenders of `training.py`: one and the same model in our and in other implementations, plain and at their best.

Plain is what nanoGPT does on a CPU: eager, in float32, with PyTorch's dropout. At its best is what a run would choose
on this machine: autocast to bfloat16 where the hardware multiplies in it, and compiled.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from harness.gpt2_peers import CHECKOUT, LIBRARIES, NanoGpt, copy_weights, gpt2_parts, with_model
from harness.timing import seconds
from nanotx.config.presets import presets
from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge, read_toml
from nanotx.data.batches import step_seed
from nanotx.data.corpus import Corpus, Unavailable
from nanotx.errors import ConfigError, did_you_mean
from nanotx.evaluation.loss import EvalText
from nanotx.hardware.device import Machine, choose_machine, measured_peak
from nanotx.hardware.memory import keep_freed_memory
from nanotx.laws.weights import share_weights
from nanotx.nn.attention.base import Bias
from nanotx.nn.attention.sdpa import SdpaAttention
from nanotx.nn.dropout import Dropout
from nanotx.nn.shapes import Keys, Queries, Values
from nanotx.recipe import Recipe
from nanotx.training.compile import plan_compile
from nanotx.training.dataset import Dataset, load_dataset
from nanotx.training.trainer import Progress, Trainer

Compile = Literal["auto", "on", "off"]
BASELINE = "nanotx_plain"
EVAL_TOKENS = 2**12
"""Tokens that are evaluated at once."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An implementation of the model, and how it is run."""

    library: str = ""  # of LIBRARIES; empty for ours
    best: bool = False  # as a run would choose on this machine; otherwise plain
    attention: str = ""  # of ours; empty for the recipe's
    default: bool = True  # whether it takes part where none are named


CONTENDERS = {
    BASELINE: Contender(),
    "nanotx": Contender(best=True),
    "nanotx_blockwise": Contender(best=True, attention="blockwise"),
    "transformers": Contender(library="transformers"),
    "transformers_compiled": Contender(library="transformers", best=True),
    "x_transformers": Contender(library="x_transformers"),
    "x_transformers_compiled": Contender(library="x_transformers", best=True, default=False),
    "torch_encoder": Contender(library="torch_encoder"),
    "torch_encoder_compiled": Contender(library="torch_encoder", best=True, default=False),
    "nanogpt": Contender(library="nanogpt", default=False),
    "nanogpt_compiled": Contender(library="nanogpt", best=True, default=False),
}


def choose_contenders(names: str, peers: bool) -> tuple[str, ...]:
    """Return the contenders with these names, separated by commas, and the baseline first; the default ones for none.

    Raises:
        ConfigError: an unknown name.
    """
    asked = [name.strip() for name in names.split(",")] if names else []
    for name in asked:
        if name not in (*CONTENDERS, "all"):
            known = ", ".join((*CONTENDERS, "all"))
            raise ConfigError(f"--contenders {name}: no such one.{did_you_mean(name, CONTENDERS)} Known: {known}.")
    wanted = {BASELINE, *asked} if asked else {name for name, contender in CONTENDERS.items() if contender.default}
    if "all" in asked:  # nanoGPT needs a checkout
        wanted |= {name for name, who in CONTENDERS.items() if who.library != NanoGpt.name or os.environ.get(CHECKOUT)}
    return tuple(name for name, who in CONTENDERS.items() if name in wanted and (peers or not who.library))


def require_packages(names: Sequence[str]) -> None:
    """Raise ConfigError where the package of a contender is not installed."""
    for name in names:
        if library := CONTENDERS[name].library:
            LIBRARIES[library].require()


# The recipe and its texts.


def read_recipe(name: str, batch: int = 0, layers: int = 0) -> Recipe:
    """Return a preset recipe, or that of a file, that is GPT-2-like; `batch` or `layers` of 0 leaves its own.

    Raises:
        ConfigError: there is no such recipe, or it is not GPT-2-like.
    """
    changes = {"train": {"batch_size": batch} if batch else {}, "model": {"layers": layers} if layers else {}}
    recipe: Recipe = from_table(Recipe, merge(Recipe, to_table(preset_recipe(name)), changes))
    gpt2_parts(recipe)
    return recipe


def preset_recipe(name: str, flag: str = "--recipe") -> Recipe:
    """Return a preset recipe, or that of a file.

    Raises:
        ConfigError: there is no such recipe.
    """
    known = sorted(path.stem for path in presets("recipes").glob("*.toml"))
    file = Path(name) if name.endswith(".toml") else presets("recipes") / f"{name}.toml"
    if not file.is_file():
        raise ConfigError(f"{flag} {name}: no such recipe.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    recipe: Recipe = from_table(Recipe, merge(Recipe, to_table(Recipe()), read_toml(file)))
    return recipe


def dataset_of(recipe: Recipe) -> Dataset:
    """Return the recipe's dataset, or where it is out of reach, that of a playhouse: a step takes as long with it."""
    try:
        return load_dataset(recipe)
    except Unavailable:
        return load_dataset(replace(recipe, corpus=Corpus.find("playhouse")()))


def with_attention(recipe: Recipe, attention: str) -> Recipe:
    """Return the recipe with an equivalent attention; itself for no name."""
    return with_model(recipe, {"block": {"attention": attention}}) if attention else recipe


# Contenders that are trained.


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where all contenders run."""

    device: str
    threads: int
    best: str  # the dtype of those that run at their best


class Learner(ABC):
    """A contender that is trained on a recipe."""

    model: nn.Module  # maps ids to logits
    machine: Machine
    compiled: bool
    reason: str  # for compiling, or against it

    @abstractmethod
    def step(self) -> float:
        """Take a training step and return its loss."""

    @abstractmethod
    def restart(self, seed: int) -> None:
        """Return to step 0, with the weights and batches of another seed."""

    def steps(self, count: int) -> float:
        """Take so many steps; return the seconds per step."""
        return seconds(self.step, count, self.machine.device)

    @torch.inference_mode()
    def evaluate(self, eval_text: EvalText, context: int) -> float:
        """Return the loss in nats per token over the whole text, as `nanotx.evaluation.loss` does for our models."""
        total, device = 0.0, self.machine.device
        self.model.eval()
        with self.machine.autocast():
            for x, y in eval_text.batches(context, max(1, EVAL_TOKENS // context)):
                logits = rearrange(self.model(x.to(device)), "b t v -> (b t) v")
                targets = rearrange(y.to(device), "b t -> (b t)")
                total += F.cross_entropy(logits.float(), targets, reduction="sum").item()
        self.model.train()
        return total / len(eval_text.ids)


def build(name: str, recipe: Recipe, data: Dataset, where: Where, compiling: Compile) -> Learner:
    """Build a contender with the weights that the recipe's seed draws.

    Raises:
        ConfigError: its package is not installed, or cannot express this model.
    """
    who = CONTENDERS[name]
    machine = choose_machine(where.device, where.best if who.best else "float32", where.threads)
    if who.library:
        return PeerLearner(who.library, recipe, data, machine, who.best and compiling != "off")
    return OurLearner(with_attention(recipe, who.attention), data, machine, who.best, compiling)


class OurLearner(Learner):
    """Ours: plain, or as a run of the recipe would have it on this machine."""

    def __init__(self, recipe: Recipe, data: Dataset, machine: Machine, best: bool, compiling: Compile) -> None:
        self.recipe, self.vocab_size, self.machine = recipe, data.codec.vocab_size, machine
        self.compiled, self.reason = False, "not asked for"
        model = recipe.model.build(self.vocab_size, recipe.seed)
        if best:
            keep_freed_memory()
            tokens = recipe.train.steps * recipe.train.batch_size * recipe.model.context
            decision = plan_compile(compiling, model, machine, tokens, measured_peak(machine))
            self.compiled, self.reason = decision.on, decision.reason
        else:
            use_torch_dropout(model)
        settled: Any = {"dtype": machine.dtype_name, "compile": self.compiled}
        self.model, self.trainer = model, Trainer(replace(recipe, **settled), model, data.windows, machine)

    def step(self) -> float:
        return float(self.trainer.train_step()["loss"])

    def restart(self, seed: int) -> None:
        trainer = self.trainer
        share_weights(self.recipe.model.build(self.vocab_size, seed), self.model)
        trainer.recipe, trainer.windows = replace(trainer.recipe, seed=seed), replace(trainer.windows, seed=seed)
        trainer.progress = Progress()
        trainer.optimizer.state.clear()


class PlainLoop:
    """The step of a good plain training loop, with any module that gives logits: the recipe's batches and rates."""

    def __init__(self, recipe: Recipe, model: nn.Module, data: Dataset, machine: Machine, compiled: bool) -> None:
        """With `compiled`, the model and its loss are compiled together, so that as much as possible is fused."""
        self.recipe, self.windows, self.machine, self.done = recipe, data.windows, machine, 0
        self.model = model.to(machine.device).train()
        self.optimizer = recipe.optimizer.build(self.model.named_parameters())
        self.loss_of = torch.compile(self.loss, dynamic=False) if compiled else self.loss

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of a batch."""
        return F.cross_entropy(rearrange(self.model(x), "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"))

    def step(self) -> float:
        """Take a step and return its loss."""
        plan, device = self.recipe.train, self.machine.device
        factor = self.recipe.schedule.factor(self.done, plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(step_seed(self.recipe.seed, self.done))
        x, y = (ids.to(device) for ids in self.windows.batch(self.done, plan.batch_size))
        self.optimizer.zero_grad(set_to_none=True)
        with self.machine.autocast():
            loss = self.loss_of(x, y)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), plan.grad_clip or math.inf)
        self.optimizer.step()
        self.done += 1
        return loss.item()

    def restart(self, seed: int) -> None:
        """Return to step 0, with the batches of another seed; the caller draws the weights."""
        self.recipe, self.windows = replace(self.recipe, seed=seed), replace(self.windows, seed=seed)
        self.optimizer.state.clear()
        self.done = 0


class PeerLearner(Learner):
    """Another library's model in a plain loop, compiled as a whole with its loss, or eager."""

    def __init__(self, library: str, recipe: Recipe, data: Dataset, machine: Machine, compiled: bool) -> None:
        self.library, self.recipe, self.vocab_size, self.machine = library, recipe, data.codec.vocab_size, machine
        self.compiled, self.reason = compiled, "whole, with its loss" if compiled else "not asked for"
        self.model = LIBRARIES[library].build(recipe, self.vocab_size)
        self.draw_weights(recipe.seed)
        self.loop = PlainLoop(recipe, self.model, data, machine, compiled)

    def draw_weights(self, seed: int) -> None:
        """Give it the weights that a seed draws for ours."""
        copy_weights(self.recipe.model.build(self.vocab_size, seed), self.model, LIBRARIES[self.library])

    def step(self) -> float:
        return self.loop.step()

    def restart(self, seed: int) -> None:
        self.draw_weights(seed)
        self.loop.restart(seed)


# PyTorch's dropout.


def use_torch_dropout(model: nn.Module) -> None:
    """Replace our dropout by PyTorch's, and in `sdpa` by the kernel's own."""
    for module in list(model.modules()):
        if isinstance(module, SdpaAttention):
            module.attend = partial(attend_in_kernel, module)  # type: ignore[method-assign]
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.fraction))


def attend_in_kernel(layer: SdpaAttention, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
    """Attend by the kernel alone, which drops weights by PyTorch's generator."""
    assert bias is None, "no contender's position adds to scores"
    p = layer.config.dropout if layer.training else 0.0
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
