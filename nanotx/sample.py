"""One sampler: the next id drawn from a model's scores, one after another, with what was read kept in a `Past`.

Beyond the context: when it is full, its newer half is read anew, and sampling goes on from there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nanotx.config import at_least
from nanotx.errors import Diverged
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
    """How the next token is chosen; in which order, `nanotx.choosing` says."""

    temperature: float = 0.8  # scores are divided by it; 0 takes the best token always
    top_k: int | None = None  # keep only the k best tokens
    top_p: float = 1.0  # keep the fewest best tokens whose probabilities reach this sum
    min_p: float = 0.0  # keep the tokens that are at least this share as likely as the best one
    typical: float = 1.0  # keep those whose surprise is nearest to the expected one, until they reach this sum
    repetition_penalty: float = 1.0  # scores of tokens in the text so far are divided by it, those below 0 multiplied
    frequency_penalty: float = 0.0  # taken off a token's score for each time that it was drawn
    presence_penalty: float = 0.0  # taken off a token's score once it was drawn
    banned: tuple[int, ...] = ()  # ids that are never drawn
    bias: tuple[tuple[int, float], ...] = ()  # ids, and what is added to the score of each
    seed: int = 0  # of the first row's random numbers; each row after it has the next seed

    def __post_init__(self) -> None:
        at_least(self, 0, "temperature", "seed")
        if not self.plain:
            from nanotx.choosing import check  # most samples are plain

            check(self)

    @property
    def plain(self) -> bool:
        """Whether nothing but the temperature changes the chances."""
        others = (field for field in fields(self) if field.name not in ("temperature", "seed"))
        return all(getattr(self, field.name) == field.default for field in others)


def generate(
    model: Reader, ids: Tokens, sampling: Sampling, cached: bool = True, new: int | None = None
) -> Iterator[Drawn]:
    """Draw one id after another for each row, without end.

    Args:
        model: what gives the scores.
        ids: the prompts, at least one token each; only the newest `context` of them are read.
        sampling: how to choose.
        cached: whether to keep what was read; without it every token is read anew, to the same effect.
        new: how many will be drawn, if that is known; no more room is then made.
    """
    reading, choice = Reading(model, ids, cached, new), Choice(sampling, ids.tolist())
    while True:
        with torch.inference_mode():
            drawn = choice.draw(reading.scores())
        yield drawn
        reading.feed(drawn)


class Reading:
    """Texts of one length that a model reads, and the rule beyond its context."""

    def __init__(self, model: Reader, ids: Tokens, cached: bool = True, new: int | None = None) -> None:
        self.model, self.cached = model, cached
        self.window = self.unread = ids[:, -model.context :]
        self.past = Past(model.context if new is None else min(model.context, self.window.shape[1] + new))

    def scores(self) -> Scores:
        """Those of the next token."""
        return self.model.next_scores(self.unread, self.past) if self.cached else self.model.next_scores(self.window)

    def feed(self, ids: Drawn) -> None:
        """Take in the next token of each row."""
        context, self.unread = self.model.context, rearrange(ids, "b -> b 1")
        if full := self.window.shape[1] == context:
            self.window, self.past = self.window[:, context - context // 2 :], self.past.empty()
        self.window = torch.cat([self.window, self.unread], dim=1)
        self.unread = self.window if full else self.unread


class Choice:
    """How the next token of each row is chosen: by chance of the row's own, so that it does not hang on the others."""

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]]) -> None:
        self.sampling, self.shaping = sampling, None
        self.generators = [torch.Generator().manual_seed(sampling.seed + row) for row in range(len(prompts))]
        if not sampling.plain:
            from nanotx.choosing import Shaping

            self.shaping = Shaping(sampling, prompts)

    def draw(self, scores: Scores) -> Drawn:
        """One id for each row."""
        ids = pick(self.probabilities(scores), self.generators)
        if self.shaping is not None:
            self.shaping.note(ids)
        return ids

    def probabilities(self, scores: Scores) -> Scores:
        """Of each id, after all knobs; those that were left out have none."""
        scores = scores.float() if self.shaping is None else self.shaping.changed(scores.float())
        scores = scores - scores.amax(dim=-1, keepdim=True)
        if scores.isnan().any():
            raise Diverged("sample: the model's scores are not numbers; sample from an earlier checkpoint by --step.")
        if self.sampling.temperature == 0:
            return F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).float()
        scores = scores / self.sampling.temperature
        return (scores if self.shaping is None else self.shaping.limited(scores)).softmax(dim=-1)


def pick(weights: Scores, generators: Sequence[torch.Generator]) -> Drawn:
    """An id for each row as often as its weight says: the first at which the sum of weights passes a random share."""
    exact = weights.cpu() if weights.device.type == "mps" else weights  # Apple's GPU has no float64
    reached = exact.double().cumsum(dim=-1)
    shares = torch.stack([torch.rand(1, dtype=torch.float64, generator=one) for one in generators])
    ids = torch.searchsorted(reached, shares.to(exact.device) * reached[:, -1:], right=True)
    return ids[:, 0].to(weights.device)
