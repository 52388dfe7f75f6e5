"""Tokenizers: a text becomes ids and back, without torch.

The idea (`Bpe(vocab_size=512)`) stands in the recipe; `idea.learn(texts)` gives the thing, a `Codec`, which
encodes, decodes, and is saved as one JSON file that `load` reads, whatever its kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError, TokenizerError, UnknownPart, did_you_mean
from nanotx.registry import Slot
from nanotx.shelf import shelf
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

    @abstractmethod
    def learn(self, texts: Iterable[str]) -> Codec:
        """Learn from the training texts alone, deterministically.

        Raises:
            TokenizerError: these texts cannot teach what the config asks for.
        """

    @classmethod
    @abstractmethod
    def read(cls, table: dict[str, Any]) -> Codec:
        """The codec that `Codec.table` described; the table comes from a file that anyone may have written.

        Raises:
            TokenizerError: the table is not one this part wrote.
        """

    @classmethod
    def table(cls, name: str) -> dict[str, Any]:
        """A part's name; or else a tokenizer on the shelf or a path to one, which is the part `saved`."""
        if name in cls.names():
            return {"part": name}
        if name in stored() or Path(name).suffix == ".json":
            return {"part": "saved", "path": name}
        try:
            cls.find(name)
        except UnknownPart as error:
            on_shelf = f"On the shelf: {', '.join(stored())}.{did_you_mean(name, stored())}"
            raise UnknownPart(f"{error} {on_shelf} A path ends in .json.") from None
        return {"part": name}


def stored() -> list[str]:
    """The names of the tokenizers on the shelf, sorted."""
    return sorted(path.stem for path in shelf("tokenizers").glob("*.json"))


def load(path: str | Path) -> Codec:
    """Read any tokenizer that `Codec.save` wrote: a name on the shelf, or else a path.

    Raises:
        TokenizerError: there is no such file, or it is not one of ours; says which.
    """
    from nanotx.tokenizers._opening import read_file  # what is learned here is not opened

    file = shelf("tokenizers") / f"{path}.json" if str(path) in stored() else Path(path)
    try:
        part, table, origin = read_file(file)
    except FileNotFoundError:
        near = did_you_mean(str(path), stored())
        raise TokenizerError(f"{file}: there is no such file.{near} On the shelf: {', '.join(stored())}.") from None
    try:
        codec = Tokenizer.find(part).read(table)
    except (TokenizerError, ConfigError) as error:
        raise TokenizerError(f"{file}: {error}") from None
    return codec if origin is None else codec.with_origin(origin)
