"""A model, its optimizer and its data: all that changes while it learns, and the step that changes it.

Everything random in a step (its windows, its dropout) is a pure function of seed and step, so a run that goes on
from a checkpoint is the run it would have been, whatever else happened between its steps.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

import nanotx
from nanotx.data import Windows, step_seed
from nanotx.device import Machine, check_compiler
from nanotx.errors import Diverged
from nanotx.layout import to_shared
from nanotx.model import Transformer
from nanotx.penalty import Penalised
from nanotx.recipe import Recipe

Row = dict[str, Any]
"""A line of metrics.jsonl: what happened (`event`), at which `step`, and its numbers."""


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; the numbers of it that a checkpoint keeps beside the tensors."""

    step: int = 0  # steps done
    train_seconds: float = 0.0  # spent on steps
    earlier: float = 0.0  # wall-clock seconds of the processes before this one
    scores: Row = field(default_factory=dict)  # the last evaluation
    best: Row = field(default_factory=dict)  # the one with the lowest validation loss

    @property
    def wall_seconds(self) -> float:
        """Since the start of the process, and in all processes before it."""
        return self.earlier + time.perf_counter() - nanotx.started


class Trainer:
    """All that changes while a model learns, and the step that changes it."""

    def __init__(self, recipe: Recipe, model: Transformer, windows: Windows, machine: Machine) -> None:
        self.recipe, self.windows, self.machine = recipe, windows, machine
        self.model = model.to(machine.device).train()
        self.penalised = [module for module in self.model.modules() if isinstance(module, Penalised)]
        self.optimizer = recipe.optimizer.build(self.model.named_parameters())
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.dtype is torch.float16)
        self.progress = Progress()
        self.forward: Callable[[Tensor], Tensor] = self.model
        if recipe.compile:
            check_compiler(machine.device)
            self.forward = torch.compile(self.model)

    def advance(self) -> Row:
        """Take one step.

        Raises:
            Diverged: the gradient is no longer finite; the weights are still those before the step.
        """
        began, step, plan = time.perf_counter(), self.progress.step, self.recipe.train
        factor = self.recipe.schedule.factor(step, plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(step_seed(self.recipe.seed, step))
        loss = self.backward(*self.windows.batch(step, plan.batch))
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip or math.inf)
        numbers = {"loss": loss.item(), "grad_norm": norm.item()}
        if not math.isfinite(numbers["loss"] + (0.0 if self.scaler.is_enabled() else numbers["grad_norm"])):
            raise Diverged(
                f"step {step}: the loss is {numbers['loss']:g} and the gradient's norm {numbers['grad_norm']:g}; "
                f"the step was not taken. Try a lower --optimizer.lr than {self.recipe.optimizer.lr:g}."
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        self.progress.step += 1
        self.progress.train_seconds += seconds
        speed = plan.batch * self.model.context / seconds
        numbers |= {"lr": self.optimizer.param_groups[0]["lr"], "tokens_per_second": speed}
        return {"event": "step", "step": step + 1, **numbers}

    def backward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the gradient of the mean loss over a step's windows, micro-batch by micro-batch; returns the loss.

        Penalties are each micro-batch's own, and add to the gradient alone.
        """
        device, parts = self.machine.device, self.recipe.train.accumulate
        total = torch.zeros((), device=device)
        for inputs, targets in zip(x.chunk(parts), y.chunk(parts), strict=True):
            with self.machine.autocast():
                logits = rearrange(self.forward(inputs.to(device)), "b t v -> (b t) v")
                loss = F.cross_entropy(logits, rearrange(targets.to(device), "b t -> (b t)")) / parts
            penalty = sum(module.penalty() for module in self.penalised) / parts
            self.scaler.scale(loss + penalty).backward()
            total += loss.detach()
        return total

    # What a checkpoint keeps, by name, in the shared layout.

    def weights(self) -> dict[str, Tensor]:
        """The model's weights; tied ones once."""
        return to_shared(self.model, {name: one.detach() for name, one in self.model.named_parameters()})

    def averages(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The optimizer's state: tensors under `<parameter>/<key>`, and the numbers that all parameters share."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        state = self.optimizer.state
        for key in sorted({key for one in state.values() for key in one}):
            values = {names[parameter]: one[key] for parameter, one in state.items() if key in one}
            if all(isinstance(value, Tensor) and value.ndim for value in values.values()):
                shared = to_shared(self.model, values)
                tensors |= {f"{name}/{key}": tensor for name, tensor in shared.items()}
            else:
                numbers[key] = float(next(iter(values.values())))
        return tensors, numbers
