"""Loss and bits per byte over a whole text, every token of it predicted once.

The text is cut into windows side by side, as long as the model's context unless told otherwise. The start id stands
before the first token; the first token of each later window is predicted from the one before it alone, as in training.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nanotx.device import Machine
from nanotx.model import Transformer
from nanotx.shapes import Tokens

HELD = 2**24
"""How many scores are held at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """A text to be scored on."""

    ids: NDArray[np.integer]
    start: int  # the id that stands before the first
    size: int  # of the text, in UTF-8 bytes; 0 where the ids do not give the text back

    def batches(self, context: int, rows: int) -> Iterator[tuple[Tokens, Tokens]]:
        """Windows side by side, `rows` at a time; what is left over comes last, as a shorter one."""
        ids = torch.from_numpy(np.concatenate([[self.start], self.ids]).astype(np.int64))
        whole = len(self.ids) // context * context
        x, y = (rearrange(ids[first : first + whole], "(b t) -> b t", t=context) for first in (0, 1))
        if whole:
            yield from zip(x.split(rows), y.split(rows), strict=True)
        if whole < len(self.ids):
            yield rearrange(ids[whole:-1], "t -> 1 t"), rearrange(ids[whole + 1 :], "t -> 1 t")


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a text was predicted."""

    loss: float  # nats per token
    bits_per_byte: float | None  # None where the ids do not give the text back, so that no number would be fair

    @property
    def perplexity(self) -> float:
        """As many equally likely tokens would be as hard to guess from."""
        return math.exp(min(self.loss, 700.0))


@torch.inference_mode()
def evaluate(
    model: Transformer,
    exam: Exam,
    machine: Machine,
    context: int | None = None,
    breath: Callable[[], None] = lambda: None,
) -> Score:
    """Score the model on a text, dropout off, in windows of a context's length; None for the model's own.

    Between two batches of windows `breath` is called, which may raise to end it.
    """
    loss = sum(one.item() for one in cross_entropies(model, exam, machine, "sum", context, breath)) / len(exam.ids)
    rate = bits_per_byte(loss, len(exam.ids), exam.size) if exam.size else None
    return Score(loss=loss, bits_per_byte=rate)


@torch.inference_mode()
def cross_entropies(
    model: Transformer,
    exam: Exam,
    machine: Machine,
    reduction: str,
    context: int | None = None,
    breath: Callable[[], None] = lambda: None,
) -> list[Tensor]:
    """The losses of a text's tokens, in nats and in their order, a few at a time.

    Args:
        model: what is scored.
        exam: what it is scored on.
        machine: where it is.
        reduction: "sum" for one number for each few tokens, "none" for one for every token.
        context: how long a window is; None for as long as the model's own.
        breath: called between two batches of windows; may raise to end it, and the model is as it was.
    """
    training, found, device = model.training, list[Tensor](), machine.device
    context = context or model.context
    many = 2**12 if device.type == "cpu" else 2**14  # tokens at once; on a CPU more no longer fit into its cache
    few = max(1, HELD // model.vocab_size)
    model.eval()
    try:
        with machine.autocast():
            for x, y in exam.batches(context, max(1, many // context)):
                breath()
                stream = rearrange(model.stream(x.to(device)), "b t d -> (b t) d")
                targets = rearrange(y.to(device), "b t -> (b t)")
                for rows, wanted in zip(stream.split(few), targets.split(few), strict=True):
                    found.append(F.cross_entropy(model.scores(rows).float(), wanted, reduction=reduction).double())
    finally:
        model.train(training)
    return found


def bits_per_byte(loss: float, tokens: int, size: int) -> float:
    """The loss in a unit that no tokenizer can flatter.

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
