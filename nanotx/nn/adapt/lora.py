"""Low-rank adaptation: y = x W + (alpha / rank) x A B, where W stays as it is, and A and B are small.

B is zero at the start, so that the model computes what it did before.
Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.adapt.base import Adapt, AdaptedLinear


@Adapt.register("lora")
@dataclass(frozen=True, kw_only=True)
class Lora(Adapt):
    """A product of two thin matrices beside each of some linear maps; these stay as they are."""

    rank: int = 8  # columns of A and rows of B
    alpha: float = 16.0  # A B is multiplied by alpha / rank
    targets: tuple[str, ...] = ("blocks.*",)  # patterns of names of linear maps, such as 'blocks.*.attention.to_qkv'

    def __post_init__(self) -> None:
        check_min(self, 1, "rank")
        check_max(self, 2**20, "rank")
        if not 0 < self.alpha <= 1_000_000:
            raise ConfigError(f"alpha: expected a number above 0 and up to 1,000,000, got {self.alpha!r}.")
        if not self.targets:
            raise ConfigError("targets: expected patterns of linear maps such as 'blocks.*.attention.*', got none.")

    @property
    def patterns(self) -> tuple[str, ...]:
        return self.targets

    def wrap(self, linear: nn.Linear, name: str) -> AdaptedLinear:
        if self.rank > min(linear.in_features, linear.out_features):
            raise ConfigError(
                f"lora: rank={self.rank} is more than {name} of {linear.out_features} x {linear.in_features} can have; "
                f"try at most {min(linear.in_features, linear.out_features)}, or other targets."
            )
        return LoraLinear(self, linear)


class LoraLinear(AdaptedLinear):
    """A linear map, and a product of two thin matrices that is added to it."""

    adds: ClassVar[tuple[str, ...]] = ("lora_a", "lora_b")

    def __init__(self, config: Lora, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.config = config
        self.lora_a = nn.Parameter(linear.weight.new_zeros(config.rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, config.rank))

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.config.alpha / self.config.rank

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    def delta(self) -> Tensor:
        return self.scale * (self.lora_b @ self.lora_a)

    def draw(self, name: str, generator: torch.Generator) -> Tensor:
        if name == "lora_b":
            return torch.zeros(self.lora_b.shape)
        return torch.empty(self.lora_a.shape).normal_(std=1 / math.sqrt(self.in_features), generator=generator)
