"""Adapters that are wrong in one way each."""

from dataclasses import dataclass

import torch
from torch import nn

from nanotx.nn.adapt import Adapt
from nanotx.nn.adapt.lora import Lora, LoraLinear

CATCHES = {}
"""The first law that catches each."""


def mutant(name, law):
    """Register a mutant that wraps linear maps in a module, with the law that catches it first."""

    def enter(module):
        @Adapt.register(f"mutant_{name}")
        @dataclass(frozen=True, kw_only=True)
        class Config(Adapt):
            rank: int = 2

            @property
            def patterns(self):
                return ("blocks.*",)

            def wrap(self, linear, name):
                return module(Lora(rank=2, alpha=6.0), linear)

        CATCHES[f"adapt/mutant_{name}"] = law
        return module

    return enter


@mutant("not_zero", "starts_equal")
class NotZero(LoraLinear):
    """Both matrices are drawn."""

    def draw(self, name, generator):
        return 0.01 * torch.randn(self.get_parameter(name).shape, generator=generator)


@mutant("both_zero", "starts_equal")
class BothZero(LoraLinear):
    """Both matrices are zero, so that neither gets a gradient."""

    def draw(self, name, generator):
        return torch.zeros(self.get_parameter(name).shape)


@mutant("no_scale", "merges")
class NoScale(LoraLinear):
    """What is merged is not scaled."""

    def delta(self):
        return self.lora_b @ self.lora_a


@mutant("bias_lost", "merges")
class BiasLost(LoraLinear):
    """What is added beside the weight is not in what is merged."""

    adds = ("lora_a", "lora_b", "lora_bias")

    def __init__(self, config, linear):
        super().__init__(config, linear)
        self.lora_bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))

    def forward(self, x):
        return super().forward(x) + self.lora_bias

    def draw(self, name, generator):
        return self.lora_bias.detach() if name == "lora_bias" else super().draw(name, generator)


@mutant("moves_base", "frozen_stays")
class MovesBase(LoraLinear):
    """The backward pass moves the weight that it wraps."""

    def forward(self, x):
        y = super().forward(x)
        if y.requires_grad:
            y.register_hook(self.move)
        return y

    def move(self, gradient):
        self.weight.data += 0.01
