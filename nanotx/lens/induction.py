"""Scores of heads on random tokens that are repeated: who looks one token back, and who continues what was seen.

An induction head looks, from the second occurrence of a token, at the token after its first one, and so predicts what
followed there.
Source: Olsson et al. 2022, https://arxiv.org/abs/2209.11895, sections "induction heads" and "previous token heads"
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.lens.capture import capture
from nanotx.lens.look import head_name
from nanotx.lens.sites import sites
from nanotx.nn.transformer import Transformer

TEXTS = 16
"""Random texts over which a score is the mean."""


@dataclass(frozen=True, kw_only=True)
class HeadScore:
    """Mean attention weights of a head on repeated random tokens."""

    head: str  # such as 2.3
    induction: float  # from a token of the repetition to the one after its first occurrence
    previous: float  # from a token to the one before it


def head_scores(model: Transformer, seed: int = 0) -> list[HeadScore]:
    """Return the scores of all heads that have attention weights, the highest induction score first.

    Raises:
        ConfigError: the context is too short to repeat anything in it.
    """
    period = min(model.context // 2, 64)
    if period < 2:
        raise ConfigError(f"scores: a context of {model.context} is too short to repeat tokens in it; 4 are needed.")
    known = torch.tensor(sorted(set(range(model.vocab_size)) - set(model.undefined_ids)))
    chance = torch.Generator().manual_seed(seed)
    half = known[torch.randint(len(known), (TEXTS, period), generator=chance)]
    heads = []
    with capture(model, torch.cat([half, half], dim=1)) as c:
        for site in sites(model):
            if site.attention is None:
                continue
            try:
                weights = c[f"{site.module}.weights{site.use}"]
            except ConfigError:  # it has none
                continue
            for head in range(site.heads):
                induction, previous = scores(weights[:, head], period)
                heads.append(HeadScore(head=head_name(site, head), induction=induction, previous=previous))
    return sorted(heads, key=lambda head: -head.induction)


def scores(weights: Float[Tensor, "b t s"], period: int) -> tuple[float, float]:
    """Return the mean weight from the repetition to the token after the first occurrence, and to the token before."""
    queries = torch.arange(period, weights.shape[1], device=weights.device)
    later = torch.arange(1, weights.shape[1], device=weights.device)
    induction = weights[:, queries, queries - period + 1].mean()
    return float(induction), float(weights[:, later, later - 1].mean())
