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
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from harness.gpt2 import CHECKOUT, LIBRARIES, Library, NanoGpt, copy_weights
from harness.recipes import changed
from harness.report import known_names
from harness.timing import seconds
from nanotx.data.batches import step_seed
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
from nanotx.training.dataset import Dataset
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
    default = (name for name, contender in CONTENDERS.items() if contender.default)
    wanted = {BASELINE, *known_names("--contenders", names or ",".join(default), (*CONTENDERS, "all"))}
    if "all" in wanted:  # nanoGPT needs a checkout
        wanted |= {name for name, who in CONTENDERS.items() if who.library != NanoGpt.name or os.environ.get(CHECKOUT)}
    return tuple(name for name, who in CONTENDERS.items() if name in wanted and (peers or not who.library))


def require_packages(names: Sequence[str]) -> None:
    """Raise ConfigError where the package of a contender is not installed."""
    for name in names:
        if library := CONTENDERS[name].library:
            LIBRARIES[library].require()


def with_attention(recipe: Recipe, attention: str) -> Recipe:
    """Return the recipe with an equivalent attention; itself for no name."""
    return changed(recipe, {"model": {"block": {"attention": attention}}}) if attention else recipe


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
        return PeerLearner(LIBRARIES[who.library], recipe, data, machine, who.best and compiling != "off")
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


class PlainLoop(Learner):
    """A good plain training loop, with any module that gives logits: the recipe's batches and rates."""

    def __init__(self, recipe: Recipe, model: nn.Module, data: Dataset, machine: Machine, compiled: bool) -> None:
        """With `compiled`, the model and its loss are compiled together, so that as much as possible is fused."""
        self.recipe, self.windows, self.machine, self.done = recipe, data.windows, machine, 0
        self.compiled, self.reason = compiled, "whole, with its loss" if compiled else "not asked for"
        self.model = model.to(machine.device).train()
        self.optimizer = recipe.optimizer.build(self.model.named_parameters())
        self.loss_of = torch.compile(self.loss, dynamic=False) if compiled else self.loss

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of a batch."""
        return F.cross_entropy(rearrange(self.model(x), "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"))

    def step(self) -> float:
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
        """Return to step 0, with the batches of another seed; the weights stay."""
        self.recipe, self.windows = replace(self.recipe, seed=seed), replace(self.windows, seed=seed)
        self.optimizer.state.clear()
        self.done = 0


class PeerLearner(PlainLoop):
    """Another library's model in a plain loop."""

    def __init__(self, library: Library, recipe: Recipe, data: Dataset, machine: Machine, compiled: bool) -> None:
        self.library, self.vocab_size = library, data.codec.vocab_size
        super().__init__(recipe, library.build(recipe, self.vocab_size), data, machine, compiled)
        self.draw_weights(recipe.seed)

    def draw_weights(self, seed: int) -> None:
        """Give it the weights that a seed draws for ours."""
        copy_weights(self.recipe.model.build(self.vocab_size, seed), self.model, self.library)

    def restart(self, seed: int) -> None:
        self.draw_weights(seed)
        super().restart(seed)


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
