"""A text scored by a run, over all of it and by script: every byte counted once, whatever the tokenizer.

The losses of a text's tokens fall to the scripts in which the tokens begin, so that the scripts' sums are the text's.
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
    """What a text, or one script's share of it, cost."""

    size: int  # UTF-8 bytes
    words: int
    tokens: int
    nats: float

    @property
    def loss(self) -> float | None:
        """Nats per token; None where no token begins."""
        return self.nats / self.tokens if self.tokens else None

    @property
    def bits_per_byte(self) -> float:
        """The same in a unit that no tokenizer can flatter."""
        return bits_per_byte(self.nats, 1, self.size)

    @property
    def fertility(self) -> float | None:
        """Tokens per word; None where there are no words."""
        return self.tokens / self.words if self.words else None


@dataclass(frozen=True, kw_only=True, eq=False)
class TextScore:
    """What a text cost a model."""

    whole: SegmentScore
    scripts: dict[str, SegmentScore]  # what each script of it did, that of the most bytes first
    nats: NDArray[np.float64]  # what each token did, in the order of the text


def score_text(model: Transformer, codec: Codec, text: str, machine: Machine, context: int | None = None) -> TextScore:
    """Return what a text costs a model that reads it in windows of a length; None for as long as its context.

    Raises:
        TextError: the tokenizer does not hold this text, or its ids do not give it back.
    """
    paper = eval_text(codec, text)
    parts = script_breakdown(codec, text, paper.ids)
    rows = [one.cpu().numpy() for one in cross_entropies(model, paper, machine, "none", context)]
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
