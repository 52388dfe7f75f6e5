"""A mixture of small experts: a router chooses a few for each token, and no other expert reads it.

y = sum of p_i E_i(x) over the chosen experts i, those of the greatest p = softmax(W x). The p_i are not made to sum
to one, so that the router learns where a single expert is chosen too. No expert is ever full and no token goes
without, so what becomes of a token depends on no other.

In the shared layout the experts are one wide `mlp`: their hidden layers stand side by side.

Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538, equation 1;
Fedus et al. 2021, Switch Transformers, https://arxiv.org/abs/2101.03961, equations 1, 2 and 4 to 6
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import at_least, at_most
from nanotx.errors import ConfigError
from nanotx.nn.canonical import OwnLayout, Tensors
from nanotx.nn.ffn.base import Ffn, Sparse
from nanotx.nn.hooks import Penalised
from nanotx.nn.linear import Linear
from nanotx.nn.shapes import Stream

Rows = Float[Tensor, "n d"]
"""The stream at n positions, in any order."""
Probabilities = Float[Tensor, "n e"]
"""For each of n positions, how much each of e experts is its expert."""
Choice = Bool[Tensor, "n e"]
"""True where an expert is chosen."""
SHARED = {
    "to_hidden.weight": ("f d", "(e f) d"),
    "to_hidden.bias": ("f", "(e f)"),
    "to_out.weight": ("d f", "d (e f)"),
    "to_out.bias": ("d", "(e d)"),
}
"""The axes of an expert's weights, and of all experts' in the shared layout."""


@Ffn.register("moe")
@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts(Ffn):
    """Small experts, of which each token meets a few."""

    experts: int = 4  # how many there are
    chosen: int = 2  # how many of them a token meets
    width: int | None = None  # of an expert's hidden layer; None is 4 * dim / chosen, rounded up
    balance: float = 0.01  # weight of the penalty on an uneven load
    bias: bool = False  # in both maps of an expert

    def __post_init__(self) -> None:
        at_least(self, 1, "experts", "chosen", "width")
        at_least(self, 0, "balance")
        at_most(self, 4096, "experts")
        at_most(self, 2**24, "width")
        if self.chosen > self.experts:
            raise ConfigError(f"chosen: expected at most experts={self.experts}, got {self.chosen}; have more experts.")

    def build(self, dim: int) -> nn.Module:
        return MixtureOfExpertsFfn(self, dim)


class Expert(nn.Module):
    """Wide, bent, narrow."""

    def __init__(self, config: MixtureOfExperts, dim: int) -> None:
        super().__init__()
        width = -(-4 * dim // config.chosen) if config.width is None else config.width
        self.to_hidden = Linear(dim, width, bias=config.bias)
        self.to_out = Linear(width, dim, bias=config.bias)

    def forward(self, x: Rows) -> Rows:
        return self.to_out(F.gelu(self.to_hidden(x)))


class MixtureOfExpertsFfn(OwnLayout, Penalised, Sparse):
    """A router, and experts that read what it gives them."""

    def __init__(self, config: MixtureOfExperts, dim: int) -> None:
        super().__init__()
        self.config = config
        self.router = Linear(dim, config.experts, bias=False)
        self.experts = nn.ModuleList(Expert(config, dim) for _ in range(config.experts))
        self.owed = torch.zeros(())

    def forward(self, x: Stream) -> Stream:
        rows = rearrange(x, "b t d -> (b t) d")
        probabilities, choice = self.route(rows)
        y = torch.zeros_like(rows)
        for index, expert in enumerate(self.experts):
            (mine,) = choice[:, index].nonzero(as_tuple=True)
            weight = rearrange(probabilities[mine, index], "n -> n 1")
            y = y.index_add(0, mine, (weight * expert(rows[mine])).type_as(y))
        self.owed = self.config.balance * imbalance(probabilities, choice) if self.training else torch.zeros(())
        return rearrange(y, "(b t) d -> b t d", b=x.shape[0])

    def route(self, rows: Rows) -> tuple[Probabilities, Choice]:
        """Who is asked; in float32 whatever the dtype of the mathematics, so that it does not hang on rounding."""
        with torch.autocast(rows.device.type, enabled=False):
            scores = F.linear(rows.float(), self.router.weight.float())
        nobody = torch.zeros_like(scores, dtype=torch.bool)
        return scores.softmax(dim=-1), nobody.scatter(-1, scores.topk(self.config.chosen).indices, True)

    def penalty(self) -> Tensor:
        return self.owed

    @property
    def unmet(self) -> int:
        one = sum(layer.weight.numel() for layer in self.experts[0].modules() if isinstance(layer, nn.Linear))
        return one * (self.config.experts - self.config.chosen)

    def shared(self, own: Tensors) -> Tensors:
        shared = {key: tensor for key, tensor in own.items() if not key.startswith("experts.")}
        for name, (one, every) in SHARED.items():
            if f"experts.0.{name}" in own:
                parts = [own[f"experts.{index}.{name}"] for index in range(self.config.experts)]
                shared[name] = rearrange(parts, f"e {one} -> {every}")
        return shared

    def own(self, shared: Tensors) -> Tensors:
        own = {key: tensor for key, tensor in shared.items() if key not in SHARED}
        for name in shared.keys() - own.keys():
            one, every = SHARED[name]
            parts = rearrange(shared[name], f"{every} -> e {one}", e=self.config.experts)
            own |= {f"experts.{index}.{name}": part for index, part in enumerate(parts)}
        return own


def imbalance(probabilities: Probabilities, choice: Choice) -> Float[Tensor, ""]:
    """How uneven the load is: one where it is even, and as many as there are experts where one of them has it all.

    Each expert's share of the choices times its mean probability, summed, times the number of experts. Only the
    probabilities have a gradient. Where the paper chooses one expert for a token, a token's choices share its vote.
    """
    votes, wishes = choice.float().mean(dim=0), probabilities.mean(dim=0)
    return choice.shape[1] * einsum(votes / votes.sum(), wishes, "e, e ->")
