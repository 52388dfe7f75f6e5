"""The playhouse: an endless play that nanotx generates, whose entropy is therefore known.

A first run needs no network, and its loss curve has a known floor: no model can do better than the grammar that
generated the text, so "how close is this model to perfect?" has an answer in bits per byte.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nanotx.config.schema import check_max, check_min
from nanotx.data.corpus.base import Corpus
from nanotx.data.corpus.playhouse.grammar import Grammar
from nanotx.data.corpus.playhouse.logbook import the_logbook
from nanotx.data.corpus.playhouse.play import the_play
from nanotx.data.corpus.playhouse.voices import the_voices

GRAMMARS = {"stage": the_play, "voices": the_voices, "logbook": the_logbook}


@Corpus.register("playhouse")
@dataclass(frozen=True, kw_only=True)
class Playhouse(Corpus):
    """Plays from a grammar and a seed: English verse in ASCII, dialogue in seven scripts, or the logbooks of ships."""

    grammar: Literal["stage", "voices", "logbook"] = (
        "stage"  # stage for English verse, voices for dialogue in seven scripts, logbook for a ship's notes in prose
    )
    seed: int = 1  # seed of the plays, which are the same on every machine
    size: int = 1_000_000  # length of the text in characters; the last play is cut there

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 0, "seed")
        check_min(self, 1, "size")
        check_max(self, 1_000_000_000, "size")

    def text(self) -> str:
        """Return the plays, one after another."""
        pieces, size = list[str](), 0
        for piece in self.writer().write(Random(self.seed).random):
            pieces.append(piece)
            size += len(piece)
            if size >= self.size:
                break
        return "".join(pieces)[: self.size]

    def writer(self) -> Grammar:
        """Return the grammar of the plays; its `rate()` is the entropy of its texts in bits per character."""
        return GRAMMARS[self.grammar]()

    def surprisal(self, text: str) -> NDArray[np.float64]:
        """Return the surprisal in bits of each character, given the grammar and the text before it.

        Args:
            text: begins as `text()` does, with a play's title or a scene's; may end anywhere.

        Raises:
            DataError: the playhouse never generates this text; the message says at which character.
        """
        return self.writer().surprisal(text)

    def floor(self) -> float:
        """Return the bits per byte of the validation text, given the grammar and the text before it.

        No model is expected to do better. A model that starts reading in the middle, as in each window, cannot know how
        the scene and the play began, and stays slightly above.
        """
        training, validation = self.split()
        bits = self.surprisal(training + validation)[len(training) :]
        return float(bits.sum()) / len(validation.encode("utf-8"))
