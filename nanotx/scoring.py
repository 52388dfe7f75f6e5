"""A text scored by a run, over all of it and by script: every byte counted once, whatever the tokenizer.

The losses of a text's tokens fall to the scripts in which the tokens begin, so that the scripts' sums are the text's.
"""

from dataclasses import dataclass

import numpy as np

from nanotx.device import Machine
from nanotx.evaluate import bits_per_byte, cross_entropies
from nanotx.model import Transformer
from nanotx.spans import shares
from nanotx.texts import exam
from nanotx.tokenizers import Codec


@dataclass(frozen=True, kw_only=True)
class Account:
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


def score_text(model: Transformer, codec: Codec, text: str, machine: Machine) -> tuple[Account, dict[str, Account]]:
    """What a text costs a model, and what each script of it does.

    Raises:
        TextError: the tokenizer does not hold this text, or its ids do not give it back.
    """
    paper = exam(codec, text)
    parts = shares(codec, text, paper.ids)
    rows = [one.flatten().cpu().numpy() for one in cross_entropies(model, paper, machine, "none")]
    nats = parts.sums(np.concatenate(rows))
    columns = (parts.sizes.tolist(), parts.words.tolist(), parts.tokens().tolist(), nats.tolist())
    by_script = {
        name: Account(size=size, words=words, tokens=tokens, nats=cost)
        for name, size, words, tokens, cost in zip(parts.names, *columns, strict=True)
    }
    sums = [sum(column) for column in columns]
    return Account(size=sums[0], words=sums[1], tokens=sums[2], nats=float(sums[3])), by_script
