"""Loss and bits per byte over a whole text, every token of it predicted once.

The text is cut into windows of the context's length, side by side. The start id stands before the first token;
the first token of each later window is predicted from the one before it alone, as in training.
"""

import math
from collections.abc import Iterator
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
def evaluate(model: Transformer, exam: Exam, machine: Machine) -> Score:
    """Score the model on a text, dropout off."""
    loss = sum(one.item() for one in cross_entropies(model, exam, machine, "sum")) / len(exam.ids)
    rate = bits_per_byte(loss, len(exam.ids), exam.size) if exam.size else None
    return Score(loss=loss, bits_per_byte=rate)


@torch.inference_mode()
def cross_entropies(model: Transformer, exam: Exam, machine: Machine, reduction: str) -> list[Tensor]:
    """In nats and in the order of the text: of each batch the sum, or without reduction ("none") all its tokens'."""
    training, found = model.training, list[Tensor]()
    model.eval()
    rows = max(1, min(2**14, 2**24 // model.vocab_size) // model.context)
    with machine.autocast():
        for x, y in exam.batches(model.context, rows):
            scores = rearrange(model(x.to(machine.device)), "b t v -> b v t").float()
            found.append(F.cross_entropy(scores, y.to(machine.device), reduction=reduction).double())
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
