"""Loss and bits per byte over a text, every token of it predicted once, or over windows spread evenly over it.

A text that is read whole is cut into windows side by side, as long as the model's context by default. The
start id comes before the first token; the first token of each later window is predicted from the one before it alone,
as in training. Of a text that is not read whole, each window is predicted in the same way, from the token before it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nanotx.hardware.device import Machine
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer

HELD = 2**24
"""How many logits are held at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvalText:
    """A text to be scored on."""

    ids: NDArray[np.integer]
    start: int  # the id that comes before the first
    size: int  # of what is scored, in UTF-8 bytes; 0 where the ids do not give the text back
    unknown: int = 0  # how many of the tokens are the unknown one: what they stand for is not counted in `size`
    windows: tuple[NDArray[np.integer], ...] = ()  # what is read in place of `ids`, each after one token that is given
    asked: int = 0  # about how many tokens of the text the windows were to have; 0 where all are read

    @property
    def tokens(self) -> int:
        """How many tokens are scored."""
        return sum(len(window) - 1 for window in self.windows) if self.windows else len(self.ids)

    def batches(self, context: int, rows: int) -> Iterator[tuple[Tokens, Tokens]]:
        """Windows side by side, `rows` at a time; what is left over comes last, as a shorter one.

        Windows that were picked from a text are no longer than the context that they were picked for.
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
    """How well a text was predicted."""

    loss: float  # nats per token
    bits_per_byte: float | None  # None where the ids do not give the text back, so that no number would be fair
    tokens: int = 0  # how many the mean is taken over
    stderr: float | None = None  # standard error of the loss, its windows taken as drawn at random; None for one window
    asked: int = 0  # as of the eval_text

    @property
    def perplexity(self) -> float:
        """As many equally likely tokens would be as hard to guess from."""
        return math.exp(min(self.loss, 700.0))


@torch.inference_mode()
def evaluate(
    model: Transformer,
    eval_text: EvalText,
    machine: Machine,
    context: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> Score:
    """Score the model on a text, dropout off, in windows of a context's length; None for the model's own.

    Between two batches of windows `on_batch` is called, which may raise to end it.
    """
    spread = Spread()
    loss = (
        sum(one.item() for one in cross_entropies(model, eval_text, machine, "sum", context, on_batch, spread))
        / eval_text.tokens
    )
    rate = bits_per_byte(loss, eval_text.tokens, eval_text.size) if eval_text.size else None
    return Score(
        loss=loss, bits_per_byte=rate, tokens=eval_text.tokens, stderr=spread.stderr(loss), asked=eval_text.asked
    )


class Spread:
    """The variance of the windows' losses, kept as a few sums."""

    def __init__(self) -> None:
        self.windows = self.tokens = 0
        self.squares = self.crossed = self.lengths = 0.0

    def take(self, nats: Tensor) -> None:
        """Take in the losses of some windows, a row each."""
        rows, length = nats.shape
        sums = nats.cpu().double().sum(1)
        self.windows += rows
        self.tokens += rows * length
        self.squares += float(sums @ sums)
        self.crossed += length * float(sums.sum())
        self.lengths += rows * float(length) ** 2

    def stderr(self, mean: float) -> float | None:
        """Return the standard error of the mean loss, taking the windows as drawn at random; None for one window.

        Source: Cochran 1977, Sampling Techniques, equation 2.39: a ratio of sums over windows, of all there are endless
        """
        if self.windows < 2:
            return None
        squares = self.squares - 2 * mean * self.crossed + mean**2 * self.lengths
        return math.sqrt(max(0.0, squares) * self.windows / (self.windows - 1)) / self.tokens


@torch.inference_mode()
def cross_entropies(
    model: Transformer,
    eval_text: EvalText,
    machine: Machine,
    reduction: str,
    context: int | None = None,
    on_batch: Callable[[], None] = lambda: None,
    spread: Spread | None = None,
) -> list[Tensor]:
    """Return the losses of a text's tokens, in nats and in their order, a few at a time.

    Args:
        model: what is scored.
        eval_text: what it is scored on.
        machine: where it is.
        reduction: "sum" for one number for each few tokens, "none" for one for every token.
        context: how long a window is; None for as long as the model's own.
        on_batch: called between two batches of windows; may raise to end it, and the model is as it was.
        spread: takes in the losses of the windows.
    """
    training, found, device = model.training, list[Tensor](), machine.device
    context = context or model.context
    many = 2**12 if device.type == "cpu" else 2**14  # tokens at once; on a CPU more no longer fit into its cache
    few = max(1, HELD // model.vocab_size)
    model.eval()
    try:
        with machine.autocast():
            for x, y in eval_text.batches(context, max(1, many // context)):
                on_batch()
                stream = rearrange(model.hidden_states(x.to(device)), "b t d -> (b t) d")
                targets = rearrange(y.to(device), "b t -> (b t)")
                nats = list[Tensor]()
                for rows, wanted in zip(stream.split(few), targets.split(few), strict=True):
                    chances = F.log_softmax(model.logits(rows).float(), dim=1)
                    found.append(F.nll_loss(chances, wanted, reduction=reduction).double())
                    if spread:
                        nats.append(F.nll_loss(chances, wanted, reduction="none"))
                if spread:
                    spread.take(rearrange(torch.cat(nats), "(b t) -> b t", t=x.shape[1]))
    finally:
        model.train(training)
    return found


def bits_per_byte(loss: float, tokens: int, size: int) -> float:
    """Return the loss in a unit that no tokenizer can flatter.

    Args:
        loss: mean cross-entropy, in nats per token.
        tokens: how many tokens the mean was taken over.
        size: the same text, in UTF-8 bytes.

    Raises:
        ValueError: `size` is zero; an empty text has no rate.

    Source: Gao et al. 2020, The Pile, https://arxiv.org/abs/2101.00027, section 3.1
    """
    if not size:
        raise ValueError("bits_per_byte: an empty text has no rate.")
    return loss / math.log(2) * tokens / size
