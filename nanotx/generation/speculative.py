"""Speculative decoding: a small draft model proposes a few tokens, and the model checks them in one pass.

A token that the draft drew with probability q, and that the model would draw with p, is kept with probability
min(1, p / q). The first that is not kept is replaced by one drawn in proportion to max(0, p - q), and what was drafted
behind it is thrown away; where all are kept, one more is drawn from the model. What comes out is distributed exactly
as what the model alone draws, whatever the draft; without chance (temperature 0) it is the same text. p and q are
probabilities after all logits processors.

The rule beyond the context is the sampler's: no token is scored with another window than there.
Source: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, algorithm 1
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nanotx.config.schema import in_range
from nanotx.generation.engine import Step
from nanotx.generation.sampler import RANGES, LanguageModel, NextLogits, Sampler, Sampling, draw
from nanotx.nn.kv_cache import KVCache, RewindableKVCache
from nanotx.nn.shapes import Logits, Tokens


@runtime_checkable
class SequenceModel(LanguageModel, Protocol):
    """A model that predicts what follows each token, such as `nanotx.nn.transformer.Transformer`."""

    def __call__(self, ids: Tokens, cache: KVCache | None = None) -> Logits:
        """Logits of what follows each of `ids`, which follow what `cache` has read."""


class Window:
    """The window of a text that one of the two models has in its context."""

    def __init__(self, model: SequenceModel, text: Sequence[int], undo: int, device: torch.device | None) -> None:
        self.model, self.device = model, device
        self.ids = list(text[-model.context :])
        self.cache = RewindableKVCache(model.context, undo)

    @property
    def room(self) -> int:
        """Return how many more tokens fit."""
        return self.model.context - len(self.ids)

    def logits(self, count: int) -> NextLogits:
        """Return the logits after each of the last `count` tokens; read the pending ones first."""
        pending = torch.tensor([self.ids[self.cache.length :]], device=self.device)
        if pending.shape[1] > count:  # a prompt, of which all logits might take much memory
            self.model.next_logits(pending[:, :-count], self.cache)
        return self.model(pending[:, -count:], self.cache)[0]

    def add(self, one: int) -> None:
        """Append a token; a full window keeps its newer half, which is recomputed."""
        if not self.room:
            self.halve()
        self.ids.append(one)

    def halve(self) -> None:
        """Keep the newer half."""
        del self.ids[: self.model.context - self.model.context // 2]
        self.cache = self.cache.new_like()

    def cut(self, tokens: int) -> None:
        """Remove the newest tokens."""
        del self.ids[len(self.ids) - tokens :]
        self.cache.rewind(max(0, self.cache.length - len(self.ids)))


class SpeculativeDecoder:
    """Generate one text with a model and a draft model.

    Args:
        model: whose text it is, in evaluation mode.
        draft: the small one, of the same vocabulary, in evaluation mode.
        prompt: ids, one at least.
        sampling: how to choose.
        tokens: how many are drafted at a time.
        device: where both models are; None is the CPU.

    Raises:
        ConfigError: no token would be drafted, or too many.
    """

    def __init__(
        self,
        model: SequenceModel,
        draft: SequenceModel,
        prompt: Sequence[int],
        sampling: Sampling,
        tokens: int = 4,
        device: torch.device | None = None,
    ) -> None:
        in_range("draft_tokens", tokens, *RANGES["draft_tokens"], whole=True)
        self.sampler, self.tokens, self.device = Sampler(sampling, [prompt]), tokens, device
        self.model, self.draft = (Window(one, prompt, tokens, device) for one in (model, draft))
        self.drafted = self.accepted = 0

    def __iter__(self) -> Iterator[Step]:
        """Yield tokens without end."""
        while True:
            yield from self.round()

    @torch.inference_mode()
    def round(self) -> list[Step]:
        """Run one round; return the accepted draft tokens and one more token."""
        guesses, chances = self.guess()
        logits = self.model.logits(len(guesses) + 1)
        self.drafted += len(guesses)
        kept: list[Step] = []
        for guess, chance, logit in zip(guesses, chances, logits.split(1), strict=False):
            wanted = self.sampler.probabilities(logit)
            if self.share() * chance[0, guess] >= wanted[0, guess]:
                break
            kept.append(self.step(torch.tensor([guess], device=self.device), logit))
            self.accepted += 1
        missed = len(guesses) - len(kept)
        logit = logits[len(kept) : len(kept) + 1]
        wanted = self.sampler.probabilities(logit)
        if missed:
            rest = (wanted - chances[len(kept)]).clamp(min=0)
            wanted = rest if rest.sum() > 0 else wanted  # the two may differ by rounding alone
        last = self.step(draw(wanted, self.sampler.generators), logit)
        for window in (self.model, self.draft):
            window.cut(missed)
            window.add(int(last.ids))
        return [*kept, last]

    def guess(self) -> tuple[list[int], list[NextLogits]]:
        """Sample draft tokens, append them to both windows, and return them with their probabilities."""
        count = min(self.tokens, self.model.room)
        if count > self.draft.room:
            self.draft.halve()
        guesses: list[int] = []
        chances: list[NextLogits] = []
        for _ in range(min(count, self.draft.room) if self.draft.ids else 0):
            chances.append(self.sampler.probabilities(self.draft.logits(1)))
            ids = draw(chances[-1], self.sampler.generators)
            self.record(ids)
            guesses.append(int(ids))
            self.draft.add(guesses[-1])
            self.model.add(guesses[-1])
        if self.sampler.processors is not None:
            self.sampler.processors.forget(guesses)
        return guesses, chances

    def step(self, ids: Int[Tensor, "1"], logit: Float[Tensor, "1 v"]) -> Step:
        """Record an accepted token and return its step."""
        self.record(ids)
        return Step(ids, logit, (0,))

    def record(self, ids: Int[Tensor, "1"]) -> None:
        """Record a token for the penalties."""
        if self.sampler.processors is not None:
            self.sampler.processors.record(ids)

    def share(self) -> float:
        """Return a random number in [0, 1)."""
        return float(torch.rand(1, dtype=torch.float64, generator=self.sampler.generators[0]))
