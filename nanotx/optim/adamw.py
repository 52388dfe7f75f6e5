"""Adam with decoupled weight decay, applied to matrices alone.

Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101, algorithm 2
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError
from nanotx.hardware.lazy_compiler import undecorated
from nanotx.optim.base import Named, Optimizer


@Optimizer.register("adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    separable: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    lr: float = 1e-3  # peak learning rate, before the factor of the schedule
    betas: tuple[float, float] = (0.9, 0.99)  # decay rates of the averages of the gradient and of its square
    weight_decay: float = 0.1  # fraction, times lr, by which a step shrinks matrices; biases and norms are not shrunk
    eps: float = 1e-8  # small number added to the root of the mean square gradient

    def __post_init__(self) -> None:
        check_min(self, 0, "lr", "weight_decay", "eps")
        check_max(self, 1_000_000, "lr", "weight_decay", "eps")
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


class LightAdamW(torch.optim.AdamW):
    """PyTorch's AdamW, whose first step does not import the compiler."""

    add_param_group = undecorated(torch.optim.AdamW.add_param_group)
    zero_grad = undecorated(torch.optim.AdamW.zero_grad)
    state_dict = undecorated(torch.optim.AdamW.state_dict)
    load_state_dict = undecorated(torch.optim.AdamW.load_state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients."""
        return undecorated(torch.optim.AdamW.step)(self, closure)
