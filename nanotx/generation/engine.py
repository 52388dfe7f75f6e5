"""The engine: it samples the tokens that continue a batch of prompts.

Every way to generate runs it: one prompt or many, streamed or not, with a draft model or without. It yields tokens;
`nanotx.generation.text` turns them into text and ends a text at a stop sequence.

Prompts of different lengths need no padding. All are read up to the length of the shortest; then each row gets one
token per step, the next of its prompt or a sampled one. So attention and positions need no padding mask, and row r
of a batch with seed s gets the same tokens as its prompt alone with seed s + r.

A full context either keeps its newer half, which is recomputed as a new text, or evicts its oldest token with each new
one (`RollingDecodeState`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from nanotx.errors import ConfigError
from nanotx.generation.sampler import NextIds, NextLogits, Sampler, Sampling, check_max_new_tokens
from nanotx.nn.kv_cache import KVCache, RollingKVCache
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer


def generate(
    model: Transformer, ids: Tokens, max_new_tokens: int, sampling: Sampling | None = None
) -> Int[Tensor, "b grown"]:
    """Return prompts with their sampled continuations, one per row.

    Args:
        model: the model; it is in evaluation mode during the call.
        ids: the prompts, at least one token each.
        max_new_tokens: the number of tokens to sample per row.
        sampling: the sampling config; None is `Sampling()`.

    Raises:
        ConfigError: there is no prompt, or one without a token, or an id or a number is out of range.
    """
    check_ids(ids, model.vocab_size)
    sampling = (sampling or Sampling()).with_banned(model.undefined_ids)
    engine = BatchEngine(model, ids.tolist(), sampling, max_new_tokens, device=ids.device)
    training = model.training
    model.eval()
    try:
        return torch.cat([ids, ids.new_tensor(engine.run())], dim=1)
    finally:
        model.train(training)


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise ConfigError unless a tensor holds prompts of at least one token, one per row, in the vocabulary."""
    if not isinstance(ids, Tensor) or ids.is_floating_point():
        kind = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
        raise ConfigError(f"ids: expected a tensor of integers such as torch.tensor([[1, 2]]), got {kind}.")
    if ids.ndim != 2 or not all(ids.shape):
        raise ConfigError(
            f"ids: expected shape (prompts, tokens) with at least one of each, got shape {tuple(ids.shape)}."
        )
    if int(ids.min()) < 0 or int(ids.max()) >= vocab_size:
        raise ConfigError(f"ids: expected ids from 0 to {vocab_size - 1}, got {int(ids.min())} to {int(ids.max())}.")


@runtime_checkable
class LanguageModel(Protocol):
    """The methods of a model that the engine calls."""

    @property
    def context(self) -> int:
        """Return the maximum number of tokens."""

    def next_logits(self, ids: Tokens, cache: KVCache | None = None) -> NextLogits:
        """Return the logits of the token after `ids`, which follow the tokens that `cache` holds."""


class Token(NamedTuple):
    """A sampled token."""

    row: int  # of its prompt
    id: int
    log_prob: float  # in nats, from the model's own logits, before any logits processor
    top: tuple[tuple[int, float], ...] = ()  # the likeliest ids and their log-probabilities, if asked for


class Step(NamedTuple):
    """The next tokens of some rows, in one tensor."""

    rows: Sequence[int]
    ids: NextIds  # one per row
    logits: NextLogits  # of the same rows, before any logits processor

    def tokens(self, top: int = 0) -> Iterator[Token]:
        """Return the tokens with their log-probabilities, and with the `top` likeliest ids before each."""
        log_probs = -F.cross_entropy(self.logits.float(), self.ids, reduction="none")
        likeliest = top_log_probs(self.logits, top) if top else [()] * len(self.rows)
        return map(Token, self.rows, self.ids.tolist(), log_probs.tolist(), likeliest)


def top_log_probs(logits: NextLogits, top: int) -> list[tuple[tuple[int, float], ...]]:
    """Return the likeliest ids of each row with their log-probabilities in nats, the likeliest first."""
    log_probs, ids = logits.float().log_softmax(dim=-1).topk(min(top, logits.shape[-1]), dim=-1)
    rows = zip(ids.tolist(), log_probs.tolist(), strict=True)
    return [tuple(zip(*row, strict=True)) for row in rows]


class Engine(ABC):
    """Samples the continuations of prompts; iterate over it, once, for the tokens in the order of sampling.

    A row gets `max_new_tokens` tokens unless `stop` ends it earlier; the iteration ends with the last row.

    Args:
        prompts: ids, at least one per prompt.
        max_new_tokens: the number of tokens to sample per row.
    """

    drafted = 0
    """Tokens that a draft model proposed so far."""
    accepted = 0
    """Proposed tokens that became part of a text."""
    top_log_probs = 0
    """The number of likeliest ids that are reported with each token."""

    def __init__(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
        check_max_new_tokens(max_new_tokens)
        self.prompts, self.max_new_tokens = prompts, max_new_tokens
        self.remaining = [max_new_tokens] * len(prompts)  # tokens that each row still gets

    @abstractmethod
    def steps(self) -> Iterator[Step]:
        """Yield steps without end."""

    def stop(self, row: int) -> None:
        """End a row: it gets no more tokens."""
        self.remaining[row] = 0

    def __iter__(self) -> Iterator[Token]:
        steps = self.steps()
        while any(self.remaining):
            for token in next(steps).tokens(self.top_log_probs):
                if self.remaining[token.row]:
                    self.remaining[token.row] -= 1
                    yield token

    def run(self) -> list[list[int]]:
        """Sample every token; return the new ids of each row."""
        ids: list[list[int]] = [[] for _ in self.prompts]
        for token in self:
            ids[token.row].append(token.id)
        return ids


class BatchEngine(Engine):
    """Samples one token per row and step.

    Args:
        model: gives the logits; in evaluation mode.
        prompts: ids, at least one per prompt; the model reads the newest `context` of them.
        sampling: the sampling config; row r uses its seed plus r.
        max_new_tokens: the number of tokens to sample per row.
        rolling: use a rolling cache beyond the context instead of recomputing the newer half.
        device: the model's; None is the CPU.

    Raises:
        ConfigError: a number is out of range, or the model's positions do not allow a rolling cache.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        max_new_tokens: int,
        *,
        rolling: bool = False,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(prompts, max_new_tokens)
        if rolling:
            check_rolling(model)
        self.model, self.rolling, self.device = model, rolling, device
        self.sampler = Sampler(sampling, prompts)

    def steps(self) -> Iterator[Step]:
        prompts = [list(prompt[-self.model.context :]) for prompt in self.prompts]
        state, length = self.read(prompts), min(map(len, prompts))
        while True:
            with torch.inference_mode():
                logits = state.next_logits()
                ids = self.sampler.draw(logits)
                unread = [row for row, prompt in enumerate(prompts) if length < len(prompt)]
                for row in unread:
                    ids[row] = prompts[row][length]
                    self.sampler.reset(row)
                step = sampled(ids, logits, unread)
            yield step
            state.append(ids)
            length += 1

    def read(self, prompts: Sequence[Sequence[int]]) -> "DecodeState | RollingDecodeState":
        """Return a decode state with all prompts cut to the length of the shortest."""
        shortest, longest = min(map(len, prompts)), max(map(len, prompts))
        ids = torch.tensor([prompt[:shortest] for prompt in prompts], device=self.device)
        if self.rolling:
            return RollingDecodeState(self.model, ids)
        return DecodeState(self.model, ids, longest - shortest + self.max_new_tokens)


def sampled(ids: NextIds, logits: NextLogits, unread: Sequence[int]) -> Step:
    """Return the step of the rows whose token was sampled; the tokens of `unread` rows are from their prompts."""
    rows: Sequence[int] = range(len(ids))
    if not unread:
        return Step(rows, ids, logits)
    rows = [row for row in rows if row not in unread]
    return Step(rows, ids[rows], logits[rows])


class DecodeState:
    """Texts of one length: their window, its KV cache, and the tokens that the model has not read yet.

    A full window keeps its newer half, which is read as a new text.

    Args:
        model: the model that reads them.
        ids: the texts so far; the newest `context` tokens are the first window.
        max_new_tokens: the number of tokens to append, if it is known; the cache reserves memory for no more.
    """

    def __init__(self, model: LanguageModel, ids: Tokens, max_new_tokens: int | None = None) -> None:
        self.model = model
        self.window = self.pending = ids[:, -model.context :]
        longest = model.context if max_new_tokens is None else self.window.shape[1] + max_new_tokens
        self.cache = KVCache(min(model.context, longest))

    def next_logits(self) -> NextLogits:
        """Return the logits of the next token of each row."""
        return self.model.next_logits(self.pending, self.cache)

    def append(self, ids: NextIds) -> None:
        """Append the next token of each row."""
        context, self.pending = self.model.context, rearrange(ids, "b -> b 1")
        if full := self.window.shape[1] == context:
            self.window, self.cache = self.window[:, context - context // 2 :], self.cache.new_like()
        self.window = torch.cat([self.window, self.pending], dim=1)
        self.pending = self.window if full else self.pending


class RollingDecodeState:
    """Texts of one length with a rolling KV cache: at every layer a token attends to the newest `context` tokens.

    That equals the same weights with `sliding_window` attention over the whole text. It does not equal reading the
    newest `context` tokens anew, since cached keys and values depend on tokens that are evicted by now.
    It needs positions of which only the distance matters (`check_rolling`).
    """

    def __init__(self, model: LanguageModel, ids: Tokens) -> None:
        self.model, self.pending, self.cache = model, ids[:, -model.context :], RollingKVCache(model.context)

    def next_logits(self) -> NextLogits:
        """Return the logits of the next token of each row."""
        return self.model.next_logits(self.pending, self.cache)

    def append(self, ids: NextIds) -> None:
        """Append the next token of each row."""
        self.pending = rearrange(ids, "b -> b 1")


def check_rolling(model: LanguageModel) -> None:
    """Raise ConfigError unless the positions of a model are relative, so that its cache can roll."""
    if isinstance(model, Transformer) and not model.config.position.relative:
        raise ConfigError(
            f"overflow: the cache cannot roll with position {model.config.position.part!r}, which is not "
            "`relative`: scores depend on absolute positions; try recompute, or a model with rope, alibi or none."
        )
