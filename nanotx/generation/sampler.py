"""The sampler: from logits to the next id, by temperature, penalties, top-k, top-p and other logits processors.

Biases, penalties and bans change the logits; then the temperature divides them; then top-k, top-p, min-p and typical
sampling mask tokens, in this order, each by the probabilities of the tokens that the previous one kept.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from reprlib import repr as brief

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from nanotx.config.schema import INT_LIMIT, check_fraction, in_range, is_number
from nanotx.errors import ConfigError, Diverged

NextLogits = Float[Tensor, "b v"]
NextIds = Int[Tensor, " b"]

MAX_ADJUSTMENT = 1_000_000
"""Limit of numbers that change logits; beyond it a bias acts as a ban or as a certain choice."""
RANGES: dict[str, tuple[int | float, int | float]] = {
    "temperature": (0, MAX_ADJUSTMENT),
    "repetition_penalty": (1 / MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "frequency_penalty": (-MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "presence_penalty": (-MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "bias": (-MAX_ADJUSTMENT, MAX_ADJUSTMENT),
    "max_new_tokens": (0, 10**9),
    "draft_tokens": (1, 1000),
}
"""Smallest and largest value of each number, from Python and on the command line."""
MIN_TEMPERATURE = 1e-37
"""A lower temperature always takes the most likely token, as 0 does: float32 cannot divide by it."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling config; the module docstring states the order of the logits processors."""

    temperature: float = 0.8  # divides the logits; 0 always takes the most likely token
    top_k: int | None = None  # keep the k most likely tokens
    top_p: float = 1.0  # keep the fewest most likely tokens whose probabilities sum to this
    min_p: float = 0.0  # keep tokens whose probability is at least this fraction of the largest
    typical: float = 1.0  # keep tokens whose surprisal is nearest to the entropy, until they sum to this
    repetition_penalty: float = 1.0  # divides positive logits of tokens in the text so far, multiplies negative ones
    frequency_penalty: float = 0.0  # subtracted from a token's logit for each time that it was sampled
    presence_penalty: float = 0.0  # subtracted from a token's logit once it was sampled
    banned_tokens: tuple[int, ...] = ()  # ids that are never sampled
    bias: tuple[tuple[int, float], ...] = ()  # (id, number added to its logit)
    seed: int = 0  # of the first row's random numbers; row r uses seed + r

    def __post_init__(self) -> None:
        for name in ("temperature", "repetition_penalty", "frequency_penalty", "presence_penalty"):
            in_range(name, getattr(self, name), *RANGES[name])
        for name in ("top_p", "min_p", "typical"):
            is_number(name, getattr(self, name))
        check_fraction(self, "min_p")
        for name in ("top_p", "typical"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected a number above 0, at most 1, got {brief(getattr(self, name))}.")
        if self.top_k is not None:
            in_range("top_k", self.top_k, 1, INT_LIMIT - 1, whole=True)
        in_range("seed", self.seed, 0, INT_LIMIT - 1, whole=True)
        for token in self.banned_tokens:
            is_number("banned_tokens", token, whole=True)
        for token, value in self.bias:
            is_number("bias", token, whole=True)
            check_bias(f"id {token}", value)

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
    """Raise ConfigError if the bias of a token is out of range; the message names the token."""
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


class Sampler:
    """Samples the next token of each row, with a random generator per row, so that rows are independent.

    Args:
        sampling: the sampling config.
        prompts: the whole prompt of each row, which the repetition penalty counts.

    Raises:
        ConfigError: the seed of the last row is out of range.
    """

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]]) -> None:
        self.sampling, self.processors = sampling, None
        check_seeds(sampling, len(prompts))
        self.generators = [torch.Generator().manual_seed(int(sampling.seed) + row) for row in range(len(prompts))]
        if not sampling.temperature_only:
            self.processors = LogitsProcessors(sampling, prompts)

    def draw(self, logits: NextLogits) -> NextIds:
        """Sample one id per row.

        Raises:
            Diverged: the logits of a row are NaN or infinite.
            ConfigError: a banned or biased id is outside the vocabulary, or all ids are banned.
        """
        ids = draw(self.probabilities(logits), self.generators)
        self.record(ids)
        return ids

    def record(self, ids: NextIds) -> None:
        """Count the sampled id of each row, for the penalties."""
        if self.processors is not None:
            self.processors.record(ids)

    def forget(self, ids: Iterable[int], row: int = 0) -> None:
        """Subtract rejected draft tokens of a row from its counts."""
        if self.processors is not None:
            self.processors.counts[row].subtract(ids)

    def reset(self, row: int) -> None:
        """Reset a row's random generator and token counts, as if nothing had been sampled in it."""
        self.generators[row].manual_seed(int(self.sampling.seed) + row)
        if self.processors is not None:
            self.processors.counts[row].clear()

    def probabilities(self, logits: NextLogits) -> NextLogits:
        """Return the probability of each id after all logits processors; a masked id has 0."""
        logits = logits.float()
        largest = logits.amax(dim=-1, keepdim=True)
        if not all(math.isfinite(logit) for (logit,) in largest.tolist()):  # NaN, infinity, or minus infinity for all
            raise Diverged(
                "sample: the model's logits are NaN or infinite; sample from an earlier checkpoint with --step."
            )
        if self.processors is not None:
            logits = self.processors.adjust(logits)
            largest = logits.amax(dim=-1, keepdim=True)
        logits = logits - largest
        if self.sampling.temperature < MIN_TEMPERATURE:
            return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
        logits = logits / self.sampling.temperature
        return (logits if self.processors is None else self.processors.truncate(logits)).softmax(dim=-1)


def draw(weights: NextLogits, generators: Sequence[torch.Generator]) -> NextIds:
    """Sample one id per row in proportion to its weight, by inverse transform sampling in float64."""
    exact = weights.cpu() if weights.device.type == "mps" else weights  # Apple's GPU has no float64
    reached = exact.double().cumsum(dim=-1)
    shares = torch.stack([torch.rand(1, dtype=torch.float64, generator=generator) for generator in generators])
    ids = torch.searchsorted(reached, shares.to(exact.device) * reached[:, -1:], right=True)
    return ids[:, 0].to(weights.device)


Counts = Int[Tensor, "b v"]
FLOAT32_RANGE = (torch.finfo(torch.float32).min, torch.finfo(torch.float32).max)
"""Limits of a penalized logit, so that no finite logit becomes infinite."""


class LogitsProcessors:
    """The logits processors of a sampling config, with the token counts of each row."""

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]]) -> None:
        self.sampling, self.prompted = sampling, [dict.fromkeys(prompt, 1) for prompt in prompts]
        self.counts: list[Counter[int]] = [Counter() for _ in prompts]  # of the sampled ids of each row
        self.vocab_size = 0  # that the ids were checked against

    def record(self, ids: Int[Tensor, " b"]) -> None:
        """Count the sampled ids."""
        for counts, token in zip(self.counts, ids.tolist(), strict=True):
            counts[token] += 1

    def adjust(self, logits: NextLogits) -> NextLogits:
        """Apply the processors before the temperature: biases, penalties, bans.

        Raises:
            ConfigError: a banned or biased id is outside the vocabulary, or all ids are banned.
        """
        sampling, vocab_size = self.sampling, logits.shape[-1]
        if vocab_size != self.vocab_size:
            self.check_ids(vocab_size)
            self.vocab_size = vocab_size
        if sampling.bias:
            ids, values = (torch.tensor(column, device=logits.device) for column in zip(*sampling.bias, strict=True))
            logits = logits.index_add(-1, ids, rearrange(values.float(), "n -> 1 n").expand(len(logits), -1))
        if sampling.repetition_penalty != 1:
            texts = [prompt | +sampled for prompt, sampled in zip(self.prompted, self.counts, strict=True)]
            seen = token_counts(texts, vocab_size).to(logits.device) > 0
            bounded = penalize_repetition(logits, seen, sampling.repetition_penalty).clamp(*FLOAT32_RANGE)
            logits = torch.where(logits.isfinite(), bounded, logits)
        if sampling.frequency_penalty or sampling.presence_penalty:
            counts = token_counts(self.counts, vocab_size).to(logits.device)
            logits = logits - sampling.frequency_penalty * counts - sampling.presence_penalty * (counts > 0)
        if sampling.banned_tokens:
            logits = logits.index_fill(-1, torch.tensor(sampling.banned_tokens, device=logits.device), -torch.inf)
        return logits

    def check_ids(self, vocab_size: int) -> None:
        """Raise ConfigError for an id outside the vocabulary, or if every id is banned."""
        biased = tuple(token for token, _ in self.sampling.bias)
        for name, ids in {"banned_tokens": self.sampling.banned_tokens, "bias": biased}.items():
            for token in ids:
                if not 0 <= token < vocab_size:
                    raise ConfigError(f"{name}: expected ids from 0 to {vocab_size - 1}, got {token}.")
        if len(set(self.sampling.banned_tokens)) == vocab_size:
            raise ConfigError(f"banned_tokens: expected to leave one of {vocab_size} ids at least, got all of them.")

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


def token_counts(rows: Sequence[Mapping[int, int]], vocab_size: int) -> Counts:
    """Return the count of each id in each row."""
    counts = torch.zeros(len(rows), vocab_size, dtype=torch.long)
    for row, count_of in enumerate(rows):
        counts[row, list(count_of)] = torch.tensor(list(count_of.values()), dtype=torch.long)
    return counts


def penalize_repetition(logits: NextLogits, seen: Bool[Tensor, "b v"], penalty: float) -> NextLogits:
    """Return logits, with those of seen tokens divided by the penalty, or multiplied if negative.

    Source: Keskar et al. 2019, CTRL, https://arxiv.org/abs/1909.05858, section 4.1. The paper divides negative logits
    too, which raises them; here a penalty above one raises no logit.
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
    surprisal = -probabilities.log()
    entropy = torch.special.entr(probabilities).sum(dim=-1, keepdim=True)
    return cumulative_mask(probabilities, (surprisal - entropy).abs(), share)


def cumulative_mask(probabilities: NextLogits, keys: NextLogits, share: float) -> Bool[Tensor, "b v"]:
    """Mask of the first tokens by rising keys that sum to `share`; at least one, and none of probability 0."""
    order = keys.argsort(dim=-1, stable=True)
    ranked = probabilities.gather(-1, order)
    keep = (ranked.cumsum(dim=-1) - ranked < share) & (ranked > 0)
    keep = keep | (rearrange(torch.arange(keep.shape[-1], device=keep.device), "v -> 1 v") == 0)
    return torch.zeros_like(keep).scatter(-1, order, keep)
