"""Tokenizers: a text becomes ids and back, without torch.

The idea (`Bpe(vocab_size=512)`) stands in the recipe; `idea.learn(texts)` gives the thing, a `Codec`, which
encodes, decodes, and is saved as one JSON file that `load` reads, whatever its kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nanotx.registry import Slot, is_foreign
from nanotx.shelf import shelf
from nanotx.tokenizers._codec import INSTEAD as INSTEAD
from nanotx.tokenizers._codec import UNKNOWN as UNKNOWN
from nanotx.tokenizers._codec import Codec as Codec
from nanotx.tokenizers._codec import Ids as Ids
from nanotx.tokenizers._codec import composed as composed
from nanotx.tokenizers._codec import utf8 as utf8
from nanotx.tokenizers._storage import Origin as Origin
from nanotx.tokenizers._storage import exactly as exactly
from nanotx.tokenizers._streaming import StreamingDecoder as StreamingDecoder


class Tokenizer(Slot, ABC, slot="tokenizer", package="nanotx.tokenizers"):
    """The slot: how text is cut into tokens. A part is a frozen dataclass that can learn a `Codec`."""

    cuts = False  # whether what it learns is the same where a text is given in blocks that end at a letter's blank

    @abstractmethod
    def learn(self, texts: Iterable[str]) -> Codec:
        """Learn from the training texts alone, deterministically.

        Raises:
            TokenizerError: these texts cannot teach what the config asks for.
        """

    def learn_checked(self, texts: Iterable[str], sample: str = "") -> Codec:
        """What `learn` returns; of a part from elsewhere it is checked, on a sample of text, that it can be used.

        Raises:
            TokenizerError: these texts cannot teach what the config asks for.
            ConfigError: a part from elsewhere raises, or returns no codec; says which and where.
        """
        if not is_foreign(type(self)):
            return self.learn(texts)
        from nanotx.foreign import learn  # it brings torch, which tokenizers do without

        return learn(self, texts, sample)

    @classmethod
    @abstractmethod
    def read(cls, table: dict[str, Any]) -> Codec:
        """The codec that `Codec.table` described; the table comes from a file that anyone may have written.

        Raises:
            TokenizerError: the table is not one this part wrote.
        """

    @classmethod
    def table(cls, name: object) -> dict[str, Any]:
        """A part's name; or else a tokenizer on the shelf or a path to one, which is the part `saved`."""
        from nanotx.tokenizers._loading import table_of  # a recipe in Python names none

        return table_of(name)


def stored() -> list[str]:
    """The names of the tokenizers on the shelf, sorted."""
    return sorted(path.stem for path in shelf("tokenizers").glob("*.json"))


def load(path: str | Path, lossy: bool = True) -> Codec:
    """Read any tokenizer that `Codec.save` wrote: a name on the shelf, or else a path; or that of a library's file.

    Args:
        path: the name or the path.
        lossy: whether a library's file may lose text, as one that lowers case does.

    Raises:
        TokenizerError: there is no such file, it is not one of ours, or it loses text and may not; says which.
    """
    from nanotx.tokenizers._loading import open_codec  # what is learned here is not opened

    return open_codec(path, lossy)
