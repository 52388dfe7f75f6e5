"""The scores of a text, over all of it and by script: every byte counts once, whatever the tokenizer.

The loss of a token counts for the script in which the token begins, so the scripts' sums are those of the text.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotx.evaluation.loss import bits_per_byte, cross_entropies
from nanotx.evaluation.texts import eval_text
from nanotx.hardware.device import Machine
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec
from nanotx.tokenizers.scripts import script_breakdown


@dataclass(frozen=True, kw_only=True)
class SegmentScore:
    """The loss of a text, or of one script's part of it."""

    size: int  # UTF-8 bytes
    words: int
    tokens: int
    nats: float

    @property
    def loss(self) -> float | None:
        """The loss in nats per token; None if no token begins there."""
        return self.nats / self.tokens if self.tokens else None

    @property
    def bits_per_byte(self) -> float:
        """The loss in bits per byte, which are comparable between tokenizers."""
        return bits_per_byte(self.nats, 1, self.size)

    @property
    def fertility(self) -> float | None:
        """The number of tokens per word; None if there are no words."""
        return self.tokens / self.words if self.words else None


@dataclass(frozen=True, kw_only=True, eq=False)
class TextScore:
    """The loss of a model on a text."""

    whole: SegmentScore
    scripts: dict[str, SegmentScore]  # by script, the one with the most bytes first
    nats: NDArray[np.float64]  # of each token, in the order of the text


def score_text(model: Transformer, codec: Codec, text: str, machine: Machine, context: int | None = None) -> TextScore:
    """Return the loss of a model on a text, read in windows of a length; None for the model's context.

    Raises:
        TextError: the tokenizer cannot encode this text, or does not decode it exactly.
    """
    paper = eval_text(codec, text)
    parts = script_breakdown(codec, text, paper.ids)
    rows = [losses.cpu().numpy() for losses in cross_entropies(model, paper, machine, "none", context)]
    each = np.concatenate(rows)
    nats = parts.sums(each)
    columns = (parts.sizes.tolist(), parts.words.tolist(), parts.tokens().tolist(), nats.tolist())
    by_script = {
        name: SegmentScore(size=size, words=words, tokens=tokens, nats=cost)
        for name, size, words, tokens, cost in zip(parts.names, *columns, strict=True)
    }
    sums = [sum(column) for column in columns]
    whole = SegmentScore(size=sums[0], words=sums[1], tokens=sums[2], nats=float(sums[3]))
    return TextScore(whole=whole, scripts=by_script, nats=each)
