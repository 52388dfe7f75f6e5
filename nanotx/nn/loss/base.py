"""Losses: what training minimises, in nats per token.

A part is a frozen dataclass; the module it builds turns hidden states and targets into the training objective. Most
parts define `objective` alone, from the logits of some tokens; the model's head, chunks of tokens and the mean are
shared (`head.py`, which computes the cross-entropy). Beside the objective every loss reports the plain cross-entropy of
the next token, which is what a run logs as `loss`. Evaluation never calls a loss part, so bits per byte
do not depend on it.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.nn.loss.chunked_loss import Head, RowLogits, RowTargets, Scalar
from nanotx.nn.shapes import Stream, Tokens


class Loss(Slot, ABC, slot="loss", package="nanotx.nn.loss", group="nanotx.loss", shared=("base", "chunked_loss")):
    """The loss slot: from hidden states and the tokens that come next to what training minimises."""

    @abstractmethod
    def build(self, vocab_size: int, dim: int) -> "LossModule":
        """Build the module for `vocab_size` ids and a stream of width `dim`.

        Its parameters, if any, are trained, saved and resumed with the model's, under names that begin with `loss.`;
        they are not needed to evaluate or sample.
        """


class LossModule(nn.Module):
    """The module of a loss. A part defines `objective`; one that reads more than one token at a time, `forward`."""

    def forward(self, head: Head, x: Stream, targets: Tokens) -> tuple[Scalar, Scalar]:
        """Return the training objective, and the plain cross-entropy of the next token, which has no gradient.

        Args:
            head: the model's head.
            x: the stream that the head reads.
            targets: the next token at each position.
        """
        return head.mean(x, targets, self.objective, [*self.parameters()])

    def objective(self, logits: RowLogits, targets: RowTargets, cross_entropy: Scalar) -> Scalar:
        """Return the training objective of some tokens, summed over them.

        Args:
            logits: those of each token, in float32.
            targets: the next token of each.
            cross_entropy: their cross-entropy, summed; it has a gradient.
        """
        return cross_entropy


def z_loss(logits: RowLogits, weight: float) -> Tensor | float:
    """Return the squared logarithm of the logits' partition function, weighted and summed: it keeps them normalised.

    Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5
    """
    return weight * logits.logsumexp(dim=-1).square().sum() if weight else 0.0
