"""Muon: the step of a matrix is its momentum made orthogonal; all other parameters are stepped by AdamW.

It is steepest descent under the spectral norm: a polynomial in matrix products (Newton-Schulz) brings all singular
values of the momentum near 1, so that rare directions of the gradient are learned as fast as frequent ones. Matrices of
equal shape are multiplied in one batch.

Muon steps matrices and stacks of matrices, except those named `embedding` or `head`, which map from and to tokens;
AdamW, with a learning rate of its own, steps these and all vectors. Where a gradient is sparse, only the rows that it
has are stepped, without momentum.

Sources: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, whose coefficients and scale these are; with
the decoupled weight decay of Liu et al. 2025, https://arxiv.org/abs/2502.16982, section 2.2
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from nanotx.config.schema import check_fraction, check_max, check_min
from nanotx.errors import ConfigError
from nanotx.hardware.device import has_bfloat16
from nanotx.optim.adamw import LightAdamW
from nanotx.optim.base import Named, Optimizer
from nanotx.optim.matrices import MatrixOptimizer, by_shape

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
OTHERS = ("embedding", "head")


@Optimizer.register("muon")
@dataclass(frozen=True, kw_only=True)
class Muon(Optimizer):
    """Orthogonalised updates for matrices, AdamW for the rest."""

    takes_sparse: ClassVar[bool] = True
    separable: ClassVar[bool] = True
    by_matrices: ClassVar[bool] = True

    lr: float = 0.02  # peak learning rate of matrices, before the factor of the schedule
    momentum: float = 0.95  # decay rate of the average gradient of a matrix
    iterations: int = 5  # number of Newton-Schulz iterations
    weight_decay: float = 0.1  # fraction, times lr, by which a step shrinks matrices, embeddings and the head
    adamw_lr: float = 3e-3  # peak learning rate of all other parameters, before the factor of the schedule
    betas: tuple[float, float] = (
        0.9,
        0.99,
    )  # decay rates of the averages of gradient and square, for all other parameters
    eps: float = 1e-8  # small number added to the root of the mean square gradient, for all other parameters

    def __post_init__(self) -> None:
        check_min(self, 0, "lr", "weight_decay", "adamw_lr", "eps")
        check_max(self, 1_000_000, "lr", "weight_decay", "adamw_lr", "eps")
        check_min(self, 1, "iterations")
        check_max(self, 100, "iterations")
        check_fraction(self, "momentum")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas: expected two shares from 0 up to but not including 1, got {self.betas!r}.")

    def build(self, parameters: Named) -> torch.optim.Optimizer:
        groups: dict[str, list[tuple[str, torch.nn.Parameter]]] = {"matrices": [], "tables": [], "vectors": []}
        for name, parameter in parameters:
            if parameter.requires_grad:
                groups[kind_of(name, parameter)].append((name, parameter))
        rates = {"matrices": self.lr, "tables": self.adamw_lr, "vectors": self.adamw_lr}
        decays = {"matrices": self.weight_decay, "tables": self.weight_decay, "vectors": 0.0}
        return MuonOptimizer(
            [
                {"params": group, "kind": kind, "base_lr": rates[kind], "lr": rates[kind], "weight_decay": decays[kind]}
                for kind, group in groups.items()
                if group
            ],
            self,
        )

    def step_cost(self, name: str, parameter: torch.nn.Parameter) -> float:
        size = float(parameter.numel())
        if kind_of(name, parameter) != "matrices":
            return size
        return size * (1 + 4 * self.iterations * min(parameter.shape[-2:]))


def kind_of(name: str, parameter: torch.nn.Parameter) -> str:
    """Return the group of a parameter."""
    if parameter.ndim < 2:
        return "vectors"
    return "tables" if any(other in name.split(".") for other in OTHERS) else "matrices"


class MuonOptimizer(LightAdamW, MatrixOptimizer):
    """Keeps a `momentum` for each matrix; PyTorch's AdamW steps the rest, in one kernel."""

    def __init__(self, groups: list[dict[str, Any]], config: Muon) -> None:
        fused = all(param.device.type in {"cpu", "cuda"} for group in groups for _, param in group["params"])
        super().__init__(groups, betas=config.betas, eps=config.eps, fused=fused)
        # Only PyTorch's kernel checks for a gradient that overflowed, so the gradient scaler must skip the whole step.
        self._step_supports_amp_scaling = False
        self.config = config

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the parameters by their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        done: dict[Tensor, Tensor] = {}
        for group in self.param_groups:
            live = {param: param.grad for param in group["params"] if param.grad is not None}
            if group["kind"] == "matrices":
                self._orthogonal(group, live)
                done |= live
            for param, gradient in live.items():
                if gradient.is_sparse:
                    self._rows(group, param, gradient.coalesce())
                    done[param] = gradient
        for param in done:
            param.grad = None  # AdamW skips parameters without a gradient
        super().step()
        for param, gradient in done.items():
            param.grad = gradient
        return loss

    def _orthogonal(self, group: dict[str, Any], live: dict[Tensor, Tensor]) -> None:
        beta = self.config.momentum
        for params in self.matrices.groups(live):
            gradients = [live[param] for param in params]
            averages = [self._counted(param, "momentum")["momentum"] for param in params]
            torch._foreach_lerp_(averages, gradients, 1 - beta)
            ahead = torch._foreach_lerp(gradients, averages, beta)  # Nesterov's look ahead
            steps = dict(zip(params, self.matrices.apply(self._orthogonalized, params, list(ahead)), strict=True))
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for alike in by_shape(params, self.matrices.shape):
                rows, columns = self.matrices.shape(alike[0])[-2:]
                scale = math.sqrt(max(1.0, rows / columns))
                torch._foreach_add_(alike, [steps[param] for param in alike], alpha=-group["lr"] * scale)

    def _orthogonalized(self, matrices: list[Tensor]) -> list[Tensor]:
        """Return matrices made orthogonal, those of equal shape in one batch."""
        steps: dict[Tensor, Tensor] = {}
        for alike in by_shape(matrices, lambda matrix: matrix.shape):
            stack = orthogonal(torch.stack(alike), self.config.iterations).to(alike[0].dtype)
            steps |= zip(alike, stack.unbind(), strict=True)
        return [steps[matrix] for matrix in matrices]

    def _rows(self, group: dict[str, Any], table: Tensor, gradient: Tensor) -> None:
        """Step the rows of a sparse gradient by AdamW without momentum; other rows and their averages stay.

        With momentum, a row that one step met would keep moving in the steps that do not meet it, some ten times as far
        as in the first; here it moves all of that way at once, because its mean square is as young.
        """
        state = self._counted(table, "exp_avg_sq")
        rows, values, second = gradient.indices()[0], gradient.values(), self.config.betas[1]
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(values, values, value=1 - second)
        root = (square / (1 - second ** float(state["step"]))).sqrt_().add_(self.config.eps)
        new = table[rows].mul_(1 - group["lr"] * group["weight_decay"])
        table[rows] = new.addcdiv_(values, root, value=-group["lr"])
        state["exp_avg_sq"][rows] = square

    def _counted(self, param: Tensor, *averages: str) -> dict[str, Tensor]:
        """Return the state of a parameter with one step counted; its averages begin at zero."""
        state: dict[str, Tensor] = self.state[param]
        if not state:
            state |= {name: torch.zeros_like(param) for name in averages} | {"step": torch.zeros(())}
        state["step"] += 1
        return state


def orthogonal(x: Tensor, iterations: int) -> Tensor:
    """Return matrices with the same singular vectors, and singular values between about 0.7 and 1.2.

    Args:
        x: a matrix, or a stack of them, in the last two axes; zero stays zero.
        iterations: of Newton-Schulz; five are enough for a ratio of a thousand between singular values.
    """
    dtype = torch.bfloat16 if has_bfloat16(x.device.type) else torch.float32
    stacks, wide = x.shape, x.shape[-2] <= x.shape[-1]
    x = x.to(dtype).reshape(-1, *x.shape[-2:])
    x = x if wide else rearrange(x, "n i j -> n j i")
    x = x / (torch.linalg.vector_norm(x.float(), dim=(-2, -1), keepdim=True) + 1e-7).to(dtype)
    short = dtype is torch.float32 and x.shape[-1] >= 2 * x.shape[-2]
    x = by_square(x, iterations) if short else by_matrix(x, iterations)
    x = x if wide else rearrange(x, "n i j -> n j i")
    return x.reshape(stacks)


def by_matrix(x: Tensor, iterations: int) -> Tensor:
    """Iterate x = (a + b S + c S^2) x, with S = x x^T."""
    a, b, c = COEFFICIENTS
    for _ in range(iterations):
        square = torch.bmm(x, rearrange(x, "n i j -> n j i"))
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def by_square(x: Tensor, iterations: int) -> Tensor:
    """Iterate as `by_matrix`, but multiply the factors first and x last: half the work for a long x.

    All factors are polynomials of the first S, so they commute, and the next S is S times the square of a factor.
    Rounding errors grow faster than in the other order, so this is for float32 alone.
    """
    a, b, c = COEFFICIENTS
    square = torch.bmm(x, rearrange(x, "n i j -> n j i"))
    product = identity = torch.eye(x.shape[-2], device=x.device, dtype=x.dtype).expand_as(square)
    for iteration in range(iterations):
        factor = torch.baddbmm(square, square, square, beta=b, alpha=c) + a * identity
        product = torch.bmm(factor, product) if iteration else factor
        if iteration < iterations - 1:
            square = torch.bmm(factor, torch.bmm(factor, square))
    return torch.bmm(product, x)
