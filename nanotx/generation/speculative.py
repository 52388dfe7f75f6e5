"""Speculative decoding: a small draft model proposes a few tokens, and the model checks them in one pass.

A token that the draft model sampled with probability q, and that the model samples with p, is accepted with probability
min(1, p / q). The first rejected token is replaced by one sampled in proportion to max(0, p - q), and the draft tokens
after it are dropped; if all are accepted, one more is sampled from the model. The result has exactly the distribution
of the model alone, for any draft model; greedy (temperature 0) it is the same text. p and q are probabilities after all
logits processors.

Beyond the context, every token is predicted from the same window as in `DecodeState`.
Source: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, algorithm 1
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch

from nanotx.config.schema import in_range
from nanotx.generation.engine import Engine, LanguageModel, Step
from nanotx.generation.sampler import RANGES, NextIds, NextLogits, Sampler, Sampling, check_seeds, draw
from nanotx.nn.kv_cache import KVCache, RewindableKVCache
from nanotx.nn.shapes import Logits, Tokens


@runtime_checkable
class SequenceModel(LanguageModel, Protocol):
    """A language model that returns the logits after each token of a sequence."""

    def __call__(self, ids: Tokens, cache: KVCache | None = None) -> Logits:
        """Return the logits of the token after each of `ids`, which follow the tokens that `cache` holds."""


class SpeculativeEngine(Engine):
    """Samples with a model and a draft model, one text after another.

    Args:
        model: the model, in evaluation mode.
        draft: a smaller model of the same vocabulary, in evaluation mode.
        prompts: ids, at least one per prompt; each model reads the newest `context` of them.
        sampling: the sampling config; row r uses its seed plus r.
        max_new_tokens: the number of tokens to sample per row.
        draft_tokens: the number of tokens that the draft model proposes per round.
        device: of both models; None is the CPU.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        model: SequenceModel,
        draft: SequenceModel,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        max_new_tokens: int,
        *,
        draft_tokens: int = 4,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(prompts, max_new_tokens)
        in_range("draft_tokens", draft_tokens, *RANGES["draft_tokens"], whole=True)
        check_seeds(sampling, len(prompts))
        self.model, self.draft, self.sampling = model, draft, sampling
        self.draft_tokens, self.device = draft_tokens, device

    def steps(self) -> Iterator[Step]:
        for row, prompt in enumerate(self.prompts):
            sampler = Sampler(replace(self.sampling, seed=int(self.sampling.seed) + row), [prompt])
            model, draft = (Window(model, prompt, self.draft_tokens, self.device) for model in (self.model, self.draft))
            text = SpeculativeText(model, draft, sampler, self.draft_tokens)
            while self.remaining[row]:
                drafted, tokens = text.round()
                self.drafted, self.accepted = self.drafted + drafted, self.accepted + len(tokens) - 1
                yield from (Step([row], *token) for token in tokens)


NextToken = tuple[NextIds, NextLogits]
"""A token, and the logits that it was sampled from."""


class SpeculativeText:
    """One text, which grows by rounds."""

    def __init__(self, model: "Window", draft: "Window", sampler: Sampler, draft_tokens: int) -> None:
        self.model, self.draft, self.sampler, self.draft_tokens = model, draft, sampler, draft_tokens

    @torch.inference_mode()
    def round(self) -> tuple[int, list[NextToken]]:
        """Run one round; return the number of draft tokens, and the accepted ones followed by one more token."""
        drafts, draft_probabilities = self.propose()
        logits = self.model.logits(len(drafts) + 1)
        tokens: list[NextToken] = []
        for token, q, logit in zip(drafts, draft_probabilities, logits.split(1), strict=False):
            p = self.sampler.probabilities(logit)
            if self.random() * q[0, token] >= p[0, token]:
                break
            tokens.append(self.accept(torch.tensor([token], device=logits.device), logit))
        rejected = len(drafts) - len(tokens)
        logit = logits[len(tokens) : len(tokens) + 1]
        p = self.sampler.probabilities(logit)
        if rejected:
            rest = (p - draft_probabilities[len(tokens)]).clamp(min=0)
            p = rest if rest.sum() > 0 else p  # the two may differ by rounding alone
        last = draw(p, self.sampler.generators)
        for window in (self.model, self.draft):
            window.cut(rejected)
            window.add(int(last))
        return len(drafts), [*tokens, self.accept(last, logit)]

    def propose(self) -> tuple[list[int], list[NextLogits]]:
        """Sample draft tokens and append them to both windows; return them with the draft model's probabilities."""
        count = min(self.draft_tokens, self.model.room)
        if count > self.draft.room:
            self.draft.halve()
        tokens: list[int] = []
        probabilities: list[NextLogits] = []
        for _ in range(min(count, self.draft.room) if self.draft.ids else 0):
            probabilities.append(self.sampler.probabilities(self.draft.logits(1)))
            ids = draw(probabilities[-1], self.sampler.generators)
            self.sampler.record(ids)
            tokens.append(int(ids))
            self.draft.add(tokens[-1])
            self.model.add(tokens[-1])
        self.sampler.forget(tokens)
        return tokens, probabilities

    def accept(self, ids: NextIds, logit: NextLogits) -> NextToken:
        """Count a token for the penalties; return it with the logits that it was sampled from."""
        self.sampler.record(ids)
        return ids, logit

    def random(self) -> float:
        """Return a random number in [0, 1)."""
        return float(torch.rand(1, dtype=torch.float64, generator=self.sampler.generators[0]))


class Window:
    """The part of a text that is in the context of one of the two models."""

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
        if pending.shape[1] > count:  # a long prompt, whose logits would take much memory
            self.model.next_logits(pending[:, :-count], self.cache)
        return self.model(pending[:, -count:], self.cache)[0]

    def add(self, token: int) -> None:
        """Append a token; a full window keeps its newer half, which is recomputed."""
        if not self.room:
            self.halve()
        self.ids.append(token)

    def halve(self) -> None:
        """Keep the newer half."""
        del self.ids[: self.model.context - self.model.context // 2]
        self.cache = self.cache.new_like()

    def cut(self, tokens: int) -> None:
        """Remove the newest tokens."""
        del self.ids[len(self.ids) - tokens :]
        self.cache.rewind(max(0, self.cache.length - len(self.ids)))
