"""The sampler: from logits to the next id, by temperature, penalties, top-k, top-p and other logits processors.

Beyond the context: when it is full, its newer half is recomputed as a new window, and sampling continues.

First logits are changed: biases, the penalties for what was said already, bans. Then the temperature divides them. Then
tokens are left out, by top-k, top-p, min-p and typical in this order, each by the probabilities of those that the one
before it left.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from reprlib import repr as brief
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from nanotx.config.schema import INT_LIMIT, check_fraction, in_range, is_number
from nanotx.errors import ConfigError, Diverged
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer

NextLogits = Float[Tensor, "b v"]
NextIds = Int[Tensor, " b"]

MAX_ADJUSTMENT = 1_000_000
"""Of a number that changes logits; a larger one does what a ban or the likeliest token does already."""
RANGES: dict[str, tuple[int | float, int | float]] = {
    "temperature": (0, MAX_ADJUSTMENT),
    "repetition_penalty": (1 / MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "frequency_penalty": (-MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "presence_penalty": (-MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "bias": (-MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "max_new_tokens": (0, 10**9),
    "draft_tokens": (1, 1000),
}
"""From the least to the most of each number, for Python and for the command line."""
MIN_TEMPERATURE = 1e-37
"""A temperature below it takes the best token always, as 0 does: float32 cannot divide by it."""


@runtime_checkable
class LanguageModel(Protocol):
    """The interface of a model that the sampler uses."""

    @property
    def context(self) -> int:
        """Return the maximal number of tokens of a window."""

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> NextLogits:
        """Logits of the token after the last of `ids`, which follow what `cache` has read."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling config; the module docstring states the order of the logits processors."""

    temperature: float = 0.8  # logits are divided by it; 0 takes the best token always
    top_k: int | None = None  # keep only the k best tokens
    top_p: float = 1.0  # keep the fewest best tokens whose probabilities reach this sum
    min_p: float = 0.0  # keep the tokens that are at least this share as likely as the best one
    typical: float = 1.0  # keep those whose surprise is nearest to the expected one, until they reach this sum
    repetition_penalty: float = 1.0  # logits of tokens in the text so far are divided by it, those below 0 multiplied
    frequency_penalty: float = 0.0  # taken off a token's logit for each time that it was drawn
    presence_penalty: float = 0.0  # taken off a token's logit once it was drawn
    banned_tokens: tuple[int, ...] = ()  # ids that are never drawn
    bias: tuple[tuple[int, float], ...] = ()  # ids, and what is added to the logit of each
    seed: int = 0  # of the first row's random numbers; each row after it has the next seed

    def __post_init__(self) -> None:
        for name in ("temperature", "repetition_penalty", "frequency_penalty", "presence_penalty"):
            in_range(name, getattr(self, name), *RANGES[name])
        for name in ("top_p", "min_p", "typical"):
            is_number(name, getattr(self, name))
        check_fraction(self, "min_p")
        for name in ("top_p", "typical"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a share above 0 and up to 1, got {brief(getattr(self, name))}.")
        if self.top_k is not None:
            in_range("top_k", self.top_k, 1, INT_LIMIT - 1, whole=True)
        in_range("seed", self.seed, 0, INT_LIMIT - 1, whole=True)
        for one in self.banned_tokens:
            is_number("banned_tokens", one, whole=True)
        for one, value in self.bias:
            is_number("bias", one, whole=True)
            check_bias(f"id {one}", value)

    def with_banned(self, ids: Collection[int]) -> "Sampling":
        """Return a copy that also bans these ids, such as the undefined ids of a tokenizer."""
        more = sorted(set(ids) - set(self.banned_tokens))
        return replace(self, banned_tokens=(*self.banned_tokens, *more)) if more else self

    @property
    def temperature_only(self) -> bool:
        """Return whether no logits processor but the temperature is active."""
        others = (field for field in fields(self) if field.name not in ("temperature", "seed"))
        return all(getattr(self, field.name) == field.default for field in others)


def check_bias(token: str, value: float) -> None:
    """Raise ConfigError where what is to be added to a token's logit is out of range; the token is told as it came."""
    try:
        in_range(f"bias: {token}", value, *RANGES["bias"])
    except ConfigError as error:
        raise ConfigError(f"{str(error).removesuffix('.')}; ban a token to leave it out.") from None


def check_max_new_tokens(max_new_tokens: int) -> None:
    """Raise ConfigError if max_new_tokens is out of range."""
    in_range("max_new_tokens", max_new_tokens, *RANGES["max_new_tokens"], whole=True)


def check_seeds(sampling: Sampling, rows: int) -> None:
    """Raise ConfigError if the seed of the last row, seed + rows - 1, is out of range."""
    if rows > 1:
        in_range(f"seed: that of the last of {rows} texts", int(sampling.seed) + rows - 1, 0, INT_LIMIT - 1, whole=True)


def generate(
    model: Transformer, ids: Tokens, max_new_tokens: int, sampling: Sampling | None = None
) -> Int[Tensor, "b grown"]:
    """Return prompts with their generated continuations, one per row.

    Args:
        model: the model; it is switched to evaluation mode during the call.
        ids: the prompts, at least one token each.
        max_new_tokens: the number of ids to sample per row.
        sampling: the sampling config; the default is `Sampling()`.
    """
    check_max_new_tokens(max_new_tokens)
    training = model.training
    model.eval()
    sampling = (sampling or Sampling()).with_banned(model.undefined_ids)
    drawn = next_ids(model, ids, sampling, max_new_tokens=max_new_tokens)
    ids = torch.stack([*ids.unbind(1), *(row for row, _ in zip(drawn, range(max_new_tokens), strict=False))], dim=1)
    model.train(training)
    return ids


def next_ids(
    model: LanguageModel, ids: Tokens, sampling: Sampling, use_cache: bool = True, max_new_tokens: int | None = None
) -> Iterator[NextIds]:
    """Yield the next id of each row, without end.

    Args:
        model: what gives the logits.
        ids: the prompts, at least one token each; only the newest `context` of them are read.
        sampling: how to choose.
        use_cache: whether to keep what was read; without it every token is read anew, to the same effect.
        max_new_tokens: how many will be drawn, if that is known; no more room is then made.
    """
    state, sampler = DecodeState(model, ids, use_cache, max_new_tokens), Sampler(sampling, ids.tolist())
    while True:
        with torch.inference_mode():
            drawn = sampler.draw(state.next_logits())
        yield drawn
        state.append(drawn)


class DecodeState:
    """Decode state of a batch of texts of one length: the window, its KV cache, and the tokens not yet read."""

    def __init__(
        self, model: LanguageModel, ids: Tokens, use_cache: bool = True, max_new_tokens: int | None = None
    ) -> None:
        self.model, self.use_cache = model, use_cache
        self.window = self.pending = ids[:, -model.context :]
        longest = model.context if max_new_tokens is None else self.window.shape[1] + max_new_tokens
        self.cache = KVCache(min(model.context, longest))

    def next_logits(self) -> NextLogits:
        """Return the logits of the next token of each row."""
        if not self.use_cache:
            return self.model.next_logits(self.window)
        return self.model.next_logits(self.pending, self.cache)

    def append(self, ids: NextIds) -> None:
        """Append the next token of each row."""
        context, self.pending = self.model.context, rearrange(ids, "b -> b 1")
        if full := self.window.shape[1] == context:
            self.window, self.cache = self.window[:, context - context // 2 :], self.cache.new_like()
        self.window = torch.cat([self.window, self.pending], dim=1)
        self.pending = self.window if full else self.pending


class Sampler:
    """Sample the next token of each row, with a random generator per row, so that rows are independent."""

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]]) -> None:
        self.sampling, self.processors = sampling, None
        check_seeds(sampling, len(prompts))
        self.generators = [torch.Generator().manual_seed(int(sampling.seed) + row) for row in range(len(prompts))]
        if not sampling.temperature_only:
            self.processors = LogitsProcessors(sampling, prompts)

    def draw(self, logits: NextLogits) -> NextIds:
        """Sample one id per row."""
        ids = draw(self.probabilities(logits), self.generators)
        if self.processors is not None:
            self.processors.record(ids)
        return ids

    def probabilities(self, logits: NextLogits) -> NextLogits:
        """Return the probability of each id after all logits processors; a masked id has 0."""
        logits = logits.float()
        if not logits.amax(dim=-1).isfinite().all():  # NaN, infinity, or minus infinity for all
            raise Diverged("sample: the model's logits are not numbers; sample from an earlier checkpoint by --step.")
        logits = logits if self.processors is None else self.processors.adjust(logits)
        logits = logits - logits.amax(dim=-1, keepdim=True)
        if self.sampling.temperature < MIN_TEMPERATURE:
            return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
        logits = logits / self.sampling.temperature
        return (logits if self.processors is None else self.processors.truncate(logits)).softmax(dim=-1)


def draw(weights: NextLogits, generators: Sequence[torch.Generator]) -> NextIds:
    """Sample one id per row in proportion to its weight, by inverse transform sampling in float64."""
    exact = weights.cpu() if weights.device.type == "mps" else weights  # Apple's GPU has no float64
    reached = exact.double().cumsum(dim=-1)
    shares = torch.stack([torch.rand(1, dtype=torch.float64, generator=one) for one in generators])
    ids = torch.searchsorted(reached, shares.to(exact.device) * reached[:, -1:], right=True)
    return ids[:, 0].to(weights.device)


Counts = Int[Tensor, "b v"]
FLOAT32_RANGE = (torch.finfo(torch.float32).min, torch.finfo(torch.float32).max)
"""What a logit of the model is kept within while it is changed; no change makes an infinite logit of a finite one."""


class LogitsProcessors:
    """The logits processors of a sampling config, with the token counts of each row."""

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]]) -> None:
        self.sampling, self.prompted = sampling, [dict.fromkeys(prompt, 1) for prompt in prompts]
        self.drawn: list[Counter[int]] = [Counter() for _ in prompts]  # in each row, how often each id
        self.size = 0  # of the vocabulary that the ids were checked against

    def record(self, ids: Int[Tensor, " b"]) -> None:
        """Count the sampled ids."""
        for drawn, one in zip(self.drawn, ids.tolist(), strict=True):
            drawn[one] += 1

    def forget(self, ids: Iterable[int], row: int = 0) -> None:
        """Subtract rejected draft tokens of a row from its counts."""
        self.drawn[row].subtract(ids)

    def adjust(self, logits: NextLogits) -> NextLogits:
        """Apply the processors before the temperature: biases, penalties, bans.

        Raises:
            ConfigError: a banned or biased id is outside the vocabulary, or all ids are banned.
        """
        sampling, size = self.sampling, logits.shape[-1]
        if size != self.size:
            self.check_ids(size)
            self.size = size
        if sampling.bias:
            ids, values = (torch.tensor(one, device=logits.device) for one in zip(*sampling.bias, strict=True))
            logits = logits.index_add(-1, ids, rearrange(values.float(), "n -> 1 n").expand(len(logits), -1))
        if sampling.repetition_penalty != 1:
            met = [prompt | +drawn for prompt, drawn in zip(self.prompted, self.drawn, strict=True)]
            seen = token_counts(met, size).to(logits.device) > 0
            bounded = penalize_repetition(logits, seen, sampling.repetition_penalty).clamp(*FLOAT32_RANGE)
            logits = torch.where(logits.isfinite(), bounded, logits)
        if sampling.frequency_penalty or sampling.presence_penalty:
            drawn = token_counts(self.drawn, size).to(logits.device)
            logits = logits - sampling.frequency_penalty * drawn - sampling.presence_penalty * (drawn > 0)
        if sampling.banned_tokens:
            logits = logits.index_fill(-1, torch.tensor(sampling.banned_tokens, device=logits.device), -torch.inf)
        return logits

    def check_ids(self, size: int) -> None:
        """Raise ConfigError for an id outside the vocabulary, or if every id is banned."""
        biased = tuple(token for token, _ in self.sampling.bias)
        for name, ids in {"banned_tokens": self.sampling.banned_tokens, "bias": biased}.items():
            for one in ids:
                if not 0 <= one < size:
                    raise ConfigError(f"{name}: expected ids from 0 to {size - 1}, got {one}.")
        if len(set(self.sampling.banned_tokens)) == size:
            raise ConfigError(f"banned_tokens: expected to leave one of {size} ids at least, got all of them.")

    def truncate(self, logits: NextLogits) -> NextLogits:
        """Apply the processors after the temperature; the logits of masked tokens are minus infinity."""
        sampling = self.sampling
        if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
            logits = logits.masked_fill(~top_k_mask(logits, sampling.top_k), -torch.inf)
        if sampling.top_p < 1:
            logits = logits.masked_fill(~top_p_mask(logits.softmax(dim=-1), sampling.top_p), -torch.inf)
        if sampling.min_p > 0:
            logits = logits.masked_fill(~min_p_mask(logits.softmax(dim=-1), sampling.min_p), -torch.inf)
        if sampling.typical < 1:
            logits = logits.masked_fill(~typical_mask(logits.softmax(dim=-1), sampling.typical), -torch.inf)
        return logits


def token_counts(rows: Sequence[Mapping[int, int]], size: int) -> Counts:
    """Return the count of each id in each row."""
    counts = torch.zeros(len(rows), size, dtype=torch.long)
    for row, found in enumerate(rows):
        counts[row, list(found)] = torch.tensor(list(found.values()), dtype=torch.long)
    return counts


def penalize_repetition(logits: NextLogits, seen: Bool[Tensor, "b v"], penalty: float) -> NextLogits:
    """Return logits, with those of seen tokens divided by the penalty, or multiplied if negative.

    Source: Keskar et al. 2019, CTRL, https://arxiv.org/abs/1909.05858, section 4.1. The paper divides all of them,
    which raises those below zero; here no penalty above one raises any.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def top_k_mask(logits: NextLogits, count: int) -> Bool[Tensor, "b v"]:
    """Mask of the `count` largest logits of each row; ties go to the lower ids.

    Source: Fan et al. 2018, https://arxiv.org/abs/1805.04833, section 5.4
    """
    order = logits.argsort(dim=-1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, True)


def top_p_mask(probabilities: NextLogits, share: float) -> Bool[Tensor, "b v"]:
    """Mask of the smallest set of most probable tokens whose probabilities sum to `share`; never empty.

    Source: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751, section 3.1
    """
    return cumulative_mask(probabilities, -probabilities, share)


def min_p_mask(probabilities: NextLogits, share: float) -> Bool[Tensor, "b v"]:
    """Mask of the tokens whose probability is at least `share` times the largest one.

    Source: Nguyen et al. 2024, https://arxiv.org/abs/2407.01082, section 3
    """
    return probabilities >= share * probabilities.amax(dim=-1, keepdim=True)


def typical_mask(probabilities: NextLogits, share: float) -> Bool[Tensor, "b v"]:
    """Mask of the smallest set that sums to `share`, by distance of surprisal from entropy; never empty.

    Source: Meister et al. 2022, https://arxiv.org/abs/2202.00666, equation 10
    """
    surprise = -probabilities.log()
    expected = torch.special.entr(probabilities).sum(dim=-1, keepdim=True)
    return cumulative_mask(probabilities, (surprise - expected).abs(), share)


def cumulative_mask(probabilities: NextLogits, keys: NextLogits, share: float) -> Bool[Tensor, "b v"]:
    """Mask of the first tokens by rising keys that sum to `share`; at least one, and none of probability 0."""
    order = keys.argsort(dim=-1, stable=True)
    ranked = probabilities.gather(-1, order)
    kept = (ranked.cumsum(dim=-1) - ranked < share) & (ranked > 0)
    kept = kept | (rearrange(torch.arange(kept.shape[-1], device=kept.device), "v -> 1 v") == 0)
    return torch.zeros_like(kept).scatter(-1, order, kept)
