"""One sampler: the next id drawn from a model's scores, one after another, with what was read kept in a `Past`.

Beyond the context: when it is full, its newer half is read anew, and sampling goes on from there.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from reprlib import repr as brief
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nanotx.config import WHOLE, in_range, is_number, share
from nanotx.errors import ConfigError, Diverged
from nanotx.past import Past
from nanotx.shapes import Tokens

Scores = Float[Tensor, "b v"]
Drawn = Int[Tensor, " b"]

MOST = 1_000_000
"""Of a number that changes scores; a larger one does what a ban or the likeliest token does already."""
RANGES: dict[str, tuple[int | float, int | float]] = {
    "temperature": (0, MOST),
    "repetition_penalty": (1 / MOST, MOST),
    "frequency_penalty": (-MOST, MOST),
    "presence_penalty": (-MOST, MOST),
    "bias": (-MOST, MOST),
    "max_new_tokens": (0, 10**9),
    "draft_tokens": (1, 1000),
}
"""From the least to the most of each number, for Python and for the command line."""
COLDEST = 1e-37
"""A temperature below it takes the best token always, as 0 does: float32 cannot divide by it."""


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
        for name in ("temperature", "repetition_penalty", "frequency_penalty", "presence_penalty"):
            in_range(name, getattr(self, name), *RANGES[name])
        for name in ("top_p", "min_p", "typical"):
            is_number(name, getattr(self, name))
        share(self, "min_p")
        for name in ("top_p", "typical"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a share above 0 and up to 1, got {brief(getattr(self, name))}.")
        if self.top_k is not None:
            in_range("top_k", self.top_k, 1, WHOLE - 1, whole=True)
        in_range("seed", self.seed, 0, WHOLE - 1, whole=True)
        for one in self.banned:
            is_number("banned", one, whole=True)
        for one, value in self.bias:
            is_number("bias", one, whole=True)
            check_bias(f"id {one}", value)

    def without(self, ids: Collection[int]) -> "Sampling":
        """The same with more ids that are never drawn, such as those that stand for nothing in a tokenizer."""
        more = sorted(set(ids) - set(self.banned))
        return replace(self, banned=(*self.banned, *more)) if more else self

    @property
    def plain(self) -> bool:
        """Whether nothing but the temperature changes the chances."""
        others = (field for field in fields(self) if field.name not in ("temperature", "seed"))
        return all(getattr(self, field.name) == field.default for field in others)


def check_bias(token: str, value: float) -> None:
    """Raise ConfigError where what is to be added to a token's score is out of range; the token is told as it came."""
    try:
        in_range(f"bias: {token}", value, *RANGES["bias"])
    except ConfigError as error:
        raise ConfigError(f"{str(error).removesuffix('.')}; ban a token to leave it out.") from None


def check_length(max_new_tokens: int) -> None:
    """Raise ConfigError where so many tokens cannot be written."""
    in_range("max_new_tokens", max_new_tokens, *RANGES["max_new_tokens"], whole=True)


def check_seeds(sampling: Sampling, rows: int) -> None:
    """Raise ConfigError where there are not as many seeds as rows, of which each has the next one."""
    if rows > 1:
        in_range(f"seed: that of the last of {rows} texts", int(sampling.seed) + rows - 1, 0, WHOLE - 1, whole=True)


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
        check_seeds(sampling, len(prompts))
        self.generators = [torch.Generator().manual_seed(int(sampling.seed) + row) for row in range(len(prompts))]
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
        scores = scores.float()
        if not scores.amax(dim=-1).isfinite().all():  # NaN, infinity, or minus infinity for all
            raise Diverged("sample: the model's scores are not numbers; sample from an earlier checkpoint by --step.")
        scores = scores if self.shaping is None else self.shaping.changed(scores)
        scores = scores - scores.amax(dim=-1, keepdim=True)
        if self.sampling.temperature < COLDEST:
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
