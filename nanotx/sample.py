"""One sampler: the next id drawn from a model's scores, one after another, with what was read kept in a `Past`.

Beyond the context: when it is full, its newer half is read anew, and sampling goes on from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from nanotx.config import at_least
from nanotx.errors import ConfigError
from nanotx.past import Past
from nanotx.shapes import Tokens

Scores = Float[Tensor, "b v"]
Drawn = Int[Tensor, " b"]


@runtime_checkable
class Reader(Protocol):
    """What the sampler needs of a model."""

    @property
    def context(self) -> int:
        """How many tokens it can read at most."""

    def next_scores(self, ids: Tokens, past: Past | None = None) -> Scores:
        """Scores of the token after the last of `ids`, which follow what `past` has read."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.8  # scores are divided by it; 0 takes the best token always
    top_k: int | None = None  # keep only the k best tokens
    top_p: float = 1.0  # keep the fewest best tokens whose probabilities reach this sum
    seed: int = 0  # of the sampler's own random numbers

    def __post_init__(self) -> None:
        at_least(self, 0, "temperature", "seed")
        at_least(self, 1, "top_k")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: expected a share above 0 and up to 1, got {self.top_p!r}.")


def generate(model: Reader, ids: Tokens, sampling: Sampling, cached: bool = True) -> Iterator[Drawn]:
    """Draw one id after another for each row, without end.

    Args:
        model: what gives the scores.
        ids: the prompts, at least one token each; only the newest `context` of them are read.
        sampling: how to choose.
        cached: whether to keep what was read; without it every token is read anew, to the same effect.
    """
    generator = torch.Generator(device=ids.device).manual_seed(sampling.seed)
    window, unread, past = ids[:, -model.context :], ids[:, -model.context :], Past()
    while True:
        with torch.inference_mode():
            scores = model.next_scores(unread, past) if cached else model.next_scores(window)
            drawn = choose(scores.float(), sampling, generator)
        yield drawn
        unread = rearrange(drawn, "b -> b 1")
        if window.shape[1] == model.context:
            window = unread = torch.cat([window[:, model.context - model.context // 2 :], unread], dim=1)
            past = Past()
        else:
            window = torch.cat([window, unread], dim=1)


def choose(scores: Scores, sampling: Sampling, generator: torch.Generator) -> Drawn:
    """One id for each row of scores."""
    if sampling.temperature == 0:
        return scores.argmax(dim=-1)
    scores = scores / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        least = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    probabilities = scores.softmax(dim=-1)
    if sampling.top_p < 1:
        probabilities = nucleus(probabilities, sampling.top_p)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def nucleus(probabilities: Scores, top_p: float) -> Scores:
    """The fewest best tokens whose probabilities reach `top_p`, never none; what remains is not rescaled.

    Source: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, section 3.1
    """
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ranked.cumsum(dim=-1) - ranked
    kept = ranked.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)
