"""What changes the chances of the next token, beside the temperature.

First scores are changed: biases, the penalties for what was said already, bans. Then the temperature divides them. Then
tokens are left out, by top-k, top-p, min-p and typical in this order, each by the probabilities of those that the one
before it left.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nanotx.errors import ConfigError

Scores = Float[Tensor, "b v"]
Counts = Int[Tensor, "b v"]
FINITE = (torch.finfo(torch.float32).min, torch.finfo(torch.float32).max)
"""What a score of the model is kept within while it is changed; no change makes an infinite score of a finite one."""


@runtime_checkable
class Knobs(Protocol):
    """What may be set; `nanotx.sample.Sampling` says what each means."""

    @property
    def top_k(self) -> int | None:
        """How many tokens are kept."""

    @property
    def top_p(self) -> float:
        """The share that those kept reach together."""

    @property
    def min_p(self) -> float:
        """The share of the best one's probability that each has at least."""

    @property
    def typical(self) -> float:
        """The share that the typical ones reach together."""

    @property
    def repetition_penalty(self) -> float:
        """On tokens of the text so far."""

    @property
    def frequency_penalty(self) -> float:
        """On each time that a token was drawn."""

    @property
    def presence_penalty(self) -> float:
        """On tokens that were drawn."""

    @property
    def banned(self) -> tuple[int, ...]:
        """Ids that are never drawn."""

    @property
    def bias(self) -> tuple[tuple[int, float], ...]:
        """Ids, and what is added to the score of each."""


class Shaping:
    """The knobs at work, with what they need to know of each row's text."""

    def __init__(self, knobs: Knobs, prompts: Sequence[Sequence[int]]) -> None:
        self.knobs, self.prompted = knobs, [dict.fromkeys(prompt, 1) for prompt in prompts]
        self.drawn: list[Counter[int]] = [Counter() for _ in prompts]  # in each row, how often each id
        self.size = 0  # of the vocabulary that the ids were checked against

    def note(self, ids: Int[Tensor, " b"]) -> None:
        """Count what was drawn."""
        for drawn, one in zip(self.drawn, ids.tolist(), strict=True):
            drawn[one] += 1

    def forget(self, ids: Iterable[int], row: int = 0) -> None:
        """Count no longer what was drawn in a row and will not stand there."""
        self.drawn[row].subtract(ids)

    def changed(self, scores: Scores) -> Scores:
        """Before the temperature: biases, penalties, bans.

        Raises:
            ConfigError: a banned or biased id is none of the vocabulary, or all ids are banned.
        """
        knobs, size = self.knobs, scores.shape[-1]
        if size != self.size:
            self.check_ids(size)
            self.size = size
        if knobs.bias:
            ids, values = (torch.tensor(one, device=scores.device) for one in zip(*knobs.bias, strict=True))
            scores = scores.index_add(-1, ids, rearrange(values.float(), "n -> 1 n").expand(len(scores), -1))
        if knobs.repetition_penalty != 1:
            met = [prompt | +drawn for prompt, drawn in zip(self.prompted, self.drawn, strict=True)]
            seen = table(met, size).to(scores.device) > 0
            bounded = repelled(scores, seen, knobs.repetition_penalty).clamp(*FINITE)
            scores = torch.where(scores.isfinite(), bounded, scores)
        if knobs.frequency_penalty or knobs.presence_penalty:
            drawn = table(self.drawn, size).to(scores.device)
            scores = scores - knobs.frequency_penalty * drawn - knobs.presence_penalty * (drawn > 0)
        if knobs.banned:
            scores = scores.index_fill(-1, torch.tensor(knobs.banned, device=scores.device), -torch.inf)
        return scores

    def check_ids(self, size: int) -> None:
        """Raise ConfigError where the knobs name ids that are none of so many, or leave none of them."""
        for name, ids in {"banned": self.knobs.banned, "bias": tuple(one for one, _ in self.knobs.bias)}.items():
            for one in ids:
                if not 0 <= one < size:
                    raise ConfigError(f"{name}: expected ids from 0 to {size - 1}, got {one}.")
        if len(set(self.knobs.banned)) == size:
            raise ConfigError(f"banned: expected to leave one of {size} ids at least, got all of them.")

    def limited(self, scores: Scores) -> Scores:
        """After the temperature: what is left of the tokens, the scores of all others at minus infinity."""
        knobs = self.knobs
        if knobs.top_k is not None and knobs.top_k < scores.shape[-1]:
            scores = scores.masked_fill(~best(scores, knobs.top_k), -torch.inf)
        if knobs.top_p < 1:
            scores = scores.masked_fill(~nucleus(scores.softmax(dim=-1), knobs.top_p), -torch.inf)
        if knobs.min_p > 0:
            scores = scores.masked_fill(~likely(scores.softmax(dim=-1), knobs.min_p), -torch.inf)
        if knobs.typical < 1:
            scores = scores.masked_fill(~typical(scores.softmax(dim=-1), knobs.typical), -torch.inf)
        return scores


def table(rows: Sequence[Mapping[int, int]], size: int) -> Counts:
    """How often each of so many ids stands in each row."""
    counts = torch.zeros(len(rows), size, dtype=torch.long)
    for row, found in enumerate(rows):
        counts[row, list(found)] = torch.tensor(list(found.values()), dtype=torch.long)
    return counts


def repelled(scores: Scores, seen: Bool[Tensor, "b v"], penalty: float) -> Scores:
    """Scores of tokens seen divided by the penalty, or multiplied where they are below zero.

    Source: Keskar et al. 2019, CTRL, https://arxiv.org/abs/1909.05858, section 4.1. The paper divides all of them,
    which raises those below zero; here no penalty above one raises any.
    """
    return torch.where(seen, torch.where(scores > 0, scores / penalty, scores * penalty), scores)


def best(scores: Scores, count: int) -> Bool[Tensor, "b v"]:
    """The `count` best of each row; of equal ones, those of the lower ids.

    Source: Fan et al. 2018, https://arxiv.org/abs/1805.04833, section 5.4
    """
    order = scores.argsort(dim=-1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True)


def nucleus(probabilities: Scores, share: float) -> Bool[Tensor, "b v"]:
    """The fewest best tokens whose probabilities reach the share, never none.

    Source: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, section 3.1
    """
    return fewest(probabilities, -probabilities, share)


def likely(probabilities: Scores, share: float) -> Bool[Tensor, "b v"]:
    """The tokens that are at least this share as likely as the best one.

    Source: Nguyen et al. 2024, https://arxiv.org/abs/2407.01082, section 3
    """
    return probabilities >= share * probabilities.amax(dim=-1, keepdim=True)


def typical(probabilities: Scores, share: float) -> Bool[Tensor, "b v"]:
    """The fewest tokens that reach the share, those first whose surprise is nearest to the expected one, never none.

    Source: Meister et al. 2022, https://arxiv.org/abs/2202.00666, equation 10
    """
    surprise = -probabilities.log()
    expected = torch.special.entr(probabilities).sum(dim=-1, keepdim=True)
    return fewest(probabilities, (surprise - expected).abs(), share)


def fewest(probabilities: Scores, keys: Scores, share: float) -> Bool[Tensor, "b v"]:
    """The first tokens, by rising keys, whose probabilities reach the share, never none and none that is impossible."""
    order = keys.argsort(dim=-1, stable=True)
    ranked = probabilities.gather(-1, order)
    kept = (ranked.cumsum(dim=-1) - ranked < share) & (ranked > 0)
    kept = kept | (rearrange(torch.arange(kept.shape[-1], device=kept.device), "v -> 1 v") == 0)
    return torch.zeros_like(kept).scatter(-1, order, kept)
