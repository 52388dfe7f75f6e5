"""The step that a good plain loop takes with any module that gives logits: the recipe's batches, groups and rates."""

import math
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.data.batches import Windows, step_seed
from nanotx.hardware.device import Machine
from nanotx.recipe import Recipe


class Loop:
    """A module that learns a recipe."""

    def __init__(self, recipe: Recipe, model: nn.Module, windows: Windows, machine: Machine, compiled: bool) -> None:
        """With `compiled`, the model and its loss are compiled together, which is the most that can be fused."""
        self.recipe, self.windows, self.machine, self.step = recipe, windows, machine, 0
        self.model = model.to(machine.device).train()
        self.optimizer = recipe.optimizer.build(self.model.named_parameters())
        self.loss_of = torch.compile(self.loss, dynamic=False) if compiled else self.loss

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The cross-entropy of a batch."""
        logits = self.model(x)
        return F.cross_entropy(rearrange(logits, "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"))

    def restart(self, seed: int) -> None:
        """Back to step 0, with the batches of another seed; the weights are the caller's to draw."""
        self.recipe, self.windows = replace(self.recipe, seed=seed), replace(self.windows, seed=seed)
        self.optimizer.state.clear()
        self.step = 0

    def advance(self) -> float:
        """Take one step; returns the loss."""
        plan, device = self.recipe.train, self.machine.device
        factor = self.recipe.schedule.factor(self.step, plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(step_seed(self.recipe.seed, self.step))
        x, y = (one.to(device) for one in self.windows.batch(self.step, plan.batch_size))
        self.optimizer.zero_grad(set_to_none=True)
        with self.machine.autocast():
            loss = self.loss_of(x, y)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), plan.grad_clip or math.inf)
        self.optimizer.step()
        self.step += 1
        return loss.item()
