"""Loss and bits per byte over a whole text, each token predicted once, or over windows spread evenly over it.

A text that is read whole is cut into adjacent windows, as long as the model's context by default. The start id comes
before the first token; the first token of each later window is predicted only from the one before it, as in training.
If a text is not read whole, each window is predicted in the same way, from the token before it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nanotx.data.documents import PackedRows
from nanotx.hardware.device import Machine
from nanotx.nn.loss.chunked_loss import IGNORE
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer

HELD = 2**24
"""The most logits in memory at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvalText:
    """A text for evaluation."""

    ids: NDArray[np.integer]
    start: int  # the id that comes before the first
    size: int  # of the scored text, in UTF-8 bytes; 0 if the ids are not decoded exactly
    unknown: int = 0  # the number of unknown tokens, whose text is not counted in `size`
    windows: tuple[NDArray[np.integer], ...] = ()  # read in place of `ids`; the first token of each is not scored
    requested_tokens: int = 0  # how many tokens to read in windows, approximately; 0 for all of the text
    packed: PackedRows | None = None  # rows of documents, read in place of `ids`; some of their tokens are scored

    @property
    def tokens(self) -> int:
        """The number of scored tokens."""
        if self.packed is not None:
            return self.packed.targets
        return sum(len(window) - 1 for window in self.windows) if self.windows else len(self.ids)

    def batches(self, context: int, rows: int) -> Iterator[tuple[Tokens, Tokens]]:
        """Yield adjacent windows, `rows` at a time; the rest of the text comes last, as a shorter one.

        Windows that were picked from a text keep their length, at most the context that they were picked for.
        """
        if self.windows:
            yield from self._picked(rows)
            return
        for first in range(0, len(self.ids) // context * context, rows * context):
            end = min(first + rows * context, len(self.ids) // context * context)
            x, y = self._between(first, end)
            yield rearrange(x, "(b t) -> b t", t=context), rearrange(y, "(b t) -> b t", t=context)
        if rest := len(self.ids) % context:
            x, y = self._between(len(self.ids) - rest, len(self.ids))
            yield rearrange(x, "t -> 1 t"), rearrange(y, "t -> 1 t")

    def passes(self, context: int, rows: int) -> Iterator[tuple[Tokens, Tokens, Tokens | None]]:
        """Yield what a model reads, what it is scored on (IGNORE for nothing), and the number of each token's document.

        Rows of documents keep the length that they were packed for.
        """
        if self.packed is None:
            yield from ((x, y, None) for x, y in self.batches(context, rows))
            return
        for first in range(0, len(self.packed), rows):
            some = slice(first, first + rows)
            yield *self.packed.batch(some), self.packed.documents(some)

    def _between(self, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Return the tokens from `first` to `end`, each after the one before it."""
        before = self.ids[first - 1 : first] if first else np.array([self.start])
        ids = torch.from_numpy(np.concatenate([before, self.ids[first:end]]).astype(np.int64))
        return ids[:-1], ids[1:]

    def _picked(self, rows: int) -> Iterator[tuple[Tokens, Tokens]]:
        for _, group in groupby(sorted(self.windows, key=len, reverse=True), key=len):
            alike = list(group)
            for first in range(0, len(alike), rows):
                ids = torch.from_numpy(np.stack(alike[first : first + rows]).astype(np.int64))
                yield ids[:, :-1], ids[:, 1:]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The evaluation of one text."""

    loss: float  # nats per token
    bits_per_byte: float | None  # None if the ids are not decoded exactly, so that no number would be fair
    tokens: int = 0  # over which the mean is taken
    stderr: float | None = None  # standard error of the loss, if its windows were random; None for one window
    requested_tokens: int = 0  # as in the EvalText

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens among which a guess would be as hard."""
        return math.exp(min(self.loss, 700.0))


Figures = list[float]
"""What `evaluate` adds up of a batch of windows: the sums of its `Spread`, and then the loss of each few tokens."""


@runtime_checkable
class Sharing(Protocol):
    """Processes that share the batches of windows; `distributed.Ranks` is one."""

    rank: int
    size: int

    @property
    def in_step(self) -> bool:
        """Whether all processes have to call the model equally often."""

    def between(self, act: Callable[[], None]) -> None:
        """Do something between two batches; raise what it raises, and where another process has given up."""

    def gather(self, compute: Callable[[], list[Figures]]) -> list[list[Figures]]:
        """Return what each process computes, in their order."""


class Alone:
    """One process that evaluates by itself."""

    rank, size, in_step = 0, 1, False

    def between(self, act: Callable[[], None]) -> None:
        """Do something: there is no other process."""
        act()

    def gather(self, compute: Callable[[], list[Figures]]) -> list[list[Figures]]:
        """Return what this process computes."""
        return [compute()]


@torch.inference_mode()
def evaluate(
    model: Transformer,
    eval_text: EvalText,
    machine: Machine,
    context: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
    sharing: Sharing | None = None,
) -> Score:
    """Score the model on a text, without dropout, in windows of a context's length; None for the model's own.

    Between two batches of windows `on_batch` is called, which may raise to stop the evaluation. Processes that share
    the text take turns with its batches, whose figures are added in the order of the text: the score is the same to the
    bit, whatever their number.
    """
    ranks = sharing or Alone()

    def own() -> list[Figures]:
        figures = list[Figures]()
        for sums, spread in batch_losses(model, eval_text, machine, "sum", context, on_batch, ranks):
            figures.append([*spread.sums(), *(nats.item() for nats in sums)])
        return figures

    shares, total, spread = ranks.gather(own), 0.0, Spread()
    for number in range(sum(map(len, shares))):
        figures = shares[number % ranks.size][number // ranks.size]
        spread.add(figures[: Spread.FIGURES])
        for nats in figures[Spread.FIGURES :]:
            total += nats
    loss = total / eval_text.tokens
    rate = bits_per_byte(loss, eval_text.tokens, eval_text.size) if eval_text.size else None
    return Score(
        loss=loss,
        bits_per_byte=rate,
        tokens=eval_text.tokens,
        stderr=spread.stderr(loss),
        requested_tokens=eval_text.requested_tokens,
    )


class Spread:
    """The variance of the windows' losses, kept as a few sums."""

    FIGURES = 5

    def __init__(self) -> None:
        self.windows = self.tokens = 0
        self.squares = self.crossed = self.lengths = 0.0

    def sums(self) -> Figures:
        """Return the sums, of which there are `FIGURES`."""
        return [float(self.windows), float(self.tokens), self.squares, self.crossed, self.lengths]

    def add(self, sums: Figures) -> None:
        """Add the sums of other windows."""
        self.windows += int(sums[0])
        self.tokens += int(sums[1])
        self.squares += sums[2]
        self.crossed += sums[3]
        self.lengths += sums[4]

    def take(self, nats: Tensor, scored: Tensor | None = None) -> None:
        """Add the losses of some windows, one row each; `scored` are those that count, where not all do."""
        rows, length = nats.shape
        sums = nats.cpu().double().sum(1)
        if scored is not None:
            self.take_scored(sums, scored.cpu().double().sum(1))
            return
        self.windows += rows
        self.tokens += rows * length
        self.squares += float(sums @ sums)
        self.crossed += length * float(sums.sum())
        self.lengths += rows * float(length) ** 2

    def take_scored(self, sums: Tensor, lengths: Tensor) -> None:
        """Add windows with other sums of losses and numbers of scored tokens each."""
        self.windows += int((lengths > 0).sum())
        self.tokens += int(lengths.sum())
        self.squares += float(sums @ sums)
        self.crossed += float(lengths @ sums)
        self.lengths += float(lengths @ lengths)

    def stderr(self, mean: float) -> float | None:
        """Return the standard error of the mean loss, as if the windows were random; None for one window.

        Source: Cochran 1977, Sampling Techniques, equation 2.39: a ratio of sums over windows of an endless text
        """
        if self.windows < 2:
            return None
        squares = self.squares - 2 * mean * self.crossed + mean**2 * self.lengths
        return math.sqrt(max(0.0, squares) * self.windows / (self.windows - 1)) / self.tokens


def cross_entropies(
    model: Transformer,
    eval_text: EvalText,
    machine: Machine,
    reduction: Literal["sum", "none"],
    context: int | None = None,
) -> list[Tensor]:
    """Return the losses of a text's tokens, in nats and in their order, a few at a time.

    Args:
        model: the model to score.
        eval_text: the text to score it on.
        machine: the device and dtype.
        reduction: "sum" for one number for each few tokens, "none" for one for every token.
        context: tokens of a window; None for the model's context.
    """
    return [losses for batch, _ in batch_losses(model, eval_text, machine, reduction, context) for losses in batch]


def batch_losses(
    model: Transformer,
    eval_text: EvalText,
    machine: Machine,
    reduction: Literal["sum", "none"],
    context: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
    sharing: Sharing | None = None,
) -> list[tuple[list[Tensor], Spread]]:
    """Return, for each batch of windows, the losses of a few tokens at a time, and of the windows if they are summed.

    Args:
        model: the model to score.
        eval_text: the text to score it on.
        machine: the device and dtype.
        reduction: "sum" for one number for each few tokens, "none" for one for every token.
        context: tokens of a window; None for the model's context.
        on_batch: called between two batches; may raise to stop, which leaves the model as it was.
        sharing: the processes that take turns with the batches; only those of this one are returned.
    """
    training, device, batches = model.training, machine.device, list[tuple[list[Tensor], Spread]]()
    context, ranks = context or model.context, sharing or Alone()
    many = 2**12 if device.type == "cpu" else 2**14  # tokens at once; more do not fit into a CPU's cache

    def losses_of(x: Tokens, y: Tokens, documents: Tokens | None) -> tuple[list[Tensor], Spread]:
        apart = None if documents is None else documents.to(device)
        stream = rearrange(model.hidden_states(x.to(device), None, apart), "b t d -> (b t) d")
        losses, nats = token_losses(model, stream, rearrange(y.to(device), "b t -> (b t)"), reduction)
        spread = Spread()
        if reduction == "sum":
            scored = None if eval_text.packed is None else y != IGNORE
            spread.take(rearrange(nats, "(b t) -> b t", t=x.shape[1]), scored)
        return losses, spread

    model.eval()
    try:  # what is gathered in inference mode could not be trained with, and to leave that mode turns gradients on
        with torch.inference_mode(not ranks.in_step), torch.no_grad(), machine.autocast():
            count = 0
            for number, batch in enumerate(eval_text.passes(context, max(1, many // context))):
                count = number + 1
                if number % ranks.size != ranks.rank:
                    continue
                ranks.between(on_batch)
                batches.append(losses_of(*batch))
            if ranks.in_step and 0 < count % ranks.size <= ranks.rank:
                ranks.between(on_batch)
                losses_of(*batch)  # of no use but to the others, who gather slices for theirs
    finally:
        model.train(training)
    return batches


def token_losses(
    model: Transformer, stream: Tensor, targets: Tensor, reduction: Literal["sum", "none"]
) -> tuple[list[Tensor], Tensor]:
    """Return the losses of some tokens in nats, a few at a time, reduced; and those of each where they are summed."""
    few, losses, nats = max(1, HELD // model.vocab_size), list[Tensor](), list[Tensor]()
    for rows, target in zip(stream.split(few), targets.split(few), strict=True):
        log_probs = F.log_softmax(model.logits(rows).float(), dim=1)
        losses.append(F.nll_loss(log_probs, target, reduction=reduction).double())
        if reduction == "sum":
            nats.append(F.nll_loss(log_probs, target, reduction="none"))
    return losses, torch.cat(nats or losses)


def bits_per_byte(loss: float, tokens: int, size: int) -> float:
    """Return the loss in bits per byte, which are comparable between tokenizers.

    Args:
        loss: mean cross-entropy, in nats per token.
        tokens: the number of tokens in the mean.
        size: of the same text, in UTF-8 bytes.

    Raises:
        ValueError: `size` is zero; an empty text has no rate.

    Source: Gao et al. 2020, The Pile, https://arxiv.org/abs/2101.00027, section 3.1
    """
    if not size:
        raise ValueError("bits_per_byte: an empty text has no rate.")
    return loss / math.log(2) * tokens / size
