"""Special tokens: names such as `<|endoftext|>` that stand for ids of their own, and are no part of a text."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from nanotx.errors import ConfigError, TextError, did_you_mean
from nanotx.tokenizers import UNKNOWN, Codec, Ids, composed

LONGEST = 256  # characters of a name
CUT = re.compile("[A-Za-z][ \n]")


def check_specials(specials: Collection[str]) -> None:
    """Names that can be told apart.

    Raises:
        ConfigError: one is empty, too long, there twice, or holds half a character.
    """
    seen = set[str]()
    for name in specials:
        if not 0 < len(name) <= LONGEST or name in seen or any(0xD800 <= ord(one) < 0xE000 for one in name):
            raise ConfigError(
                f"specials: {name[:40]!r}: expected names of 1 to {LONGEST} whole characters, each once, "
                "such as '<|endoftext|>'."
            )
        seen.add(name)


def uncut(specials: Collection[str]) -> bool:
    """Whether a text's blocks hold these names whole, because none has a place inside where one may end."""
    return not any(map(CUT.search, specials))


def stretches(text: str, specials: Collection[str]) -> Iterator[tuple[str, bool]]:
    """The text in order, as ordinary stretches, and the names of specials between them, of which it says so.

    Where two names begin at one place, the longer one stands.
    """
    if not specials:
        yield text, False
        return
    names = "|".join(map(re.escape, sorted(specials, key=len, reverse=True)))
    for index, stretch in enumerate(re.split(f"({names})", text)):
        if stretch:
            yield stretch, index % 2 == 1


def lessons(texts: Iterable[str], specials: Collection[str] = (), nfc: bool = False) -> Iterator[str]:
    """What there is to learn from: the ordinary stretches of each text, in normal form C if that is asked for.

    As in encoding, the form comes first: the name of a special may be gone with it.
    """
    for text in texts:
        for stretch, special in stretches(composed(text) if nfc else text, specials):
            if not special:
                yield stretch


def numbered(first: int, specials: Sequence[str], unknown: bool = False) -> dict[str, int]:
    """Ids for the specials, from `first` on, with `<unk>` after them if that is asked for."""
    names = dict.fromkeys([*specials, UNKNOWN] if unknown else specials)
    return {name: first + index for index, name in enumerate(names)}


def encode_with(codec: Codec, text: str, allowed: Collection[str]) -> Ids:
    """The ids of a text in which these names stand for their ids.

    Raises:
        TextError: a name is that of no special of this tokenizer, or the text holds something that it cannot.
    """
    for name in allowed:
        if name not in codec.specials:
            known = ", ".join(codec.specials) or "none"
            near = did_you_mean(name, codec.specials)
            raise TextError(f"{codec.part}: {name!r} is no special of this tokenizer.{near} It has: {known}.")
    rows = [
        np.array([codec.specials[stretch]], np.int32) if special else codec.ordinary(stretch)
        for stretch, special in stretches(text, allowed)
    ]
    return np.concatenate([np.empty(0, np.int32), *rows])
