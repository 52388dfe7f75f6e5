"""Mixture of experts: a router selects a few small experts for each token.

y = sum of p_i E_i(x) over the `top_k` experts with the largest p = softmax(W x). The p_i are not renormalised to sum to
one, so that the router also gets a gradient with `top_k` = 1. Experts have no capacity limit and no token is dropped,
so that the output of a token does not depend on the others.

In the canonical layout the experts are one wide `mlp`: their hidden layers are concatenated.

Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538, equation 1;
Fedus et al. 2021, Switch Transformers, https://arxiv.org/abs/2101.03961, equations 1, 2 and 4 to 6
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.canonical import CustomLayout, Tensors
from nanotx.nn.ffn.base import Ffn, Sparse
from nanotx.nn.ffn.mlp import MlpFfn
from nanotx.nn.hooks import AuxLossModule
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream

Rows = Float[Tensor, "n d"]
"""The stream at n positions, in any order."""
Probabilities = Float[Tensor, "n e"]
"""Router probabilities of e experts, for each of n positions."""
Choice = Bool[Tensor, "n e"]
"""True where an expert is selected."""
CANONICAL = {
    "to_hidden.weight": ("f d", "(e f) d"),
    "to_hidden.bias": ("f", "(e f)"),
    "to_out.weight": ("d f", "d (e f)"),
    "to_out.bias": ("d", "(e d)"),
}
"""Axes of the weights of one expert, and of all experts in the canonical layout."""


@Ffn.register("moe")
@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts(Ffn):
    """Small experts, of which each token uses a few."""

    experts: int = 4  # number of experts
    top_k: int = 2  # number of experts per token
    hidden_dim: int | None = None  # width of the hidden layer of an expert; None is 4 * dim / top_k, rounded up
    aux_loss_weight: float = 0.01  # weight of the load-balancing loss
    bias: bool = False  # learn a bias in both linear maps of an expert

    def __post_init__(self) -> None:
        check_min(self, 1, "experts", "top_k", "hidden_dim")
        check_min(self, 0, "aux_loss_weight")
        check_max(self, 4096, "experts")
        check_max(self, 2**24, "hidden_dim")
        if self.top_k > self.experts:
            raise ConfigError(
                f"top_k: expected at most experts={self.experts}, got {self.top_k}; try --ffn.top-k {self.experts}, or "
                f"--ffn.experts {self.top_k}."
            )

    def build(self, dim: int) -> nn.Module:
        return MixtureOfExpertsFfn(self, dim)


class MixtureOfExpertsFfn(CustomLayout, AuxLossModule, Sparse):
    """A router and its experts."""

    def __init__(self, config: MixtureOfExperts, dim: int) -> None:
        super().__init__()
        self.config = config
        self.router = Linear(dim, config.experts, bias=False)
        hidden_dim = config.hidden_dim or -(-4 * dim // config.top_k)
        self.experts = nn.ModuleList(MlpFfn(dim, hidden_dim, F.gelu, config.bias) for _ in range(config.experts))
        self.last_aux_loss = torch.zeros(())

    def forward(self, x: Stream) -> Stream:
        rows = rearrange(x, "b t d -> (b t) d")
        probabilities, choice = self.route(rows)
        y = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            (chosen,) = choice[:, index].nonzero(as_tuple=True)
            weight = rearrange(probabilities[chosen, index], "n -> n 1")
            y = y.index_add(0, chosen, (weight * expert(rows[chosen])).type_as(y))
        self.last_aux_loss = (
            self.config.aux_loss_weight * imbalance(probabilities, choice) if self.training else torch.zeros(())
        )
        return rearrange(y, "(b t) d -> b t d", b=x.shape[0])

    def route(self, rows: Rows) -> tuple[Probabilities, Choice]:
        """Return the router probabilities and the selected experts, in float32 whatever the dtype."""
        with torch.autocast(rows.device.type, enabled=False):
            router_logits = F.linear(rows.float(), self.router.weight.float())
        choice = torch.zeros_like(router_logits, dtype=torch.bool)
        choice = choice.scatter(-1, router_logits.topk(self.config.top_k).indices, True)
        return router_logits.softmax(dim=-1), choice

    def aux_loss(self) -> Tensor:
        return self.last_aux_loss

    @property
    def inactive_params(self) -> int:
        expert = sum(layer.weight.numel() for layer in self.experts[0].modules() if isinstance(layer, nn.Linear))
        return expert * (self.config.experts - self.config.top_k)

    def to_canonical(self, tensors: Tensors) -> Tensors:
        canonical = {key: tensor for key, tensor in tensors.items() if not key.startswith("experts.")}
        for name, (expert, every) in CANONICAL.items():
            if f"experts.0.{name}" in tensors:
                parts = [tensors[f"experts.{index}.{name}"] for index in range(self.config.experts)]
                canonical[name] = rearrange(parts, f"e {expert} -> {every}")
        return canonical

    def from_canonical(self, canonical: Tensors) -> Tensors:
        tensors = {key: tensor for key, tensor in canonical.items() if key not in CANONICAL}
        for name in canonical.keys() - tensors.keys():
            expert, every = CANONICAL[name]
            parts = rearrange(canonical[name], f"{every} -> e {expert}", e=self.config.experts)
            tensors |= {f"experts.{index}.{name}": part for index, part in enumerate(parts)}
        return tensors


def imbalance(probabilities: Probabilities, choice: Choice) -> Float[Tensor, ""]:
    """Return the load imbalance: 1 where the load is even, up to the number of experts where one of them has it all.

    It is the fraction of tokens of each expert times its mean probability, summed, times the number of experts. Only
    the probabilities have a gradient. The paper selects one expert per token; here each of `top_k` counts 1 / `top_k`.
    """
    load, importance = choice.float().mean(dim=0), probabilities.mean(dim=0)
    return choice.shape[1] * einsum(load / load.sum(), importance, "e, e ->")
