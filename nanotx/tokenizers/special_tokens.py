"""Special tokens, such as `<|endoftext|>`, and the bytes of every token by its id."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from reprlib import repr as brief

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError, did_you_mean
from nanotx.tokenizers.base import UNKNOWN, Codec, Ids, composed

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


MOST = 1 << 24  # ids; a stranger's must not fill the memory


def by_id(
    part: str, tokens: Sequence[bytes], ids: Sequence[int] = (), specials: Mapping[str, int] | None = None
) -> tuple[bytes | None, ...]:
    """The bytes of every id from 0 to the largest; None where an id stands for nothing.

    Args:
        part: the tokenizer's name, for errors.
        tokens: the ordinary ones.
        ids: an id for each of them; empty: their places.
        specials: names and their ids.

    Raises:
        TokenizerError: not one id for each token, one that is there twice, or one that is no id.
        ConfigError: a special's name is none.
    """
    specials = specials or {}
    check_specials(specials)
    if ids and len(ids) != len(tokens):
        raise TokenizerError(f"{part}: {len(ids)} ids for {len(tokens)} tokens; expected one each, or none.")
    numbers = [*(ids or range(len(tokens))), *specials.values()]
    for number in numbers:
        if type(number) is not int or not 0 <= number < MOST:
            raise TokenizerError(f"{part}: id {brief(number)}: expected a whole number from 0 to {MOST - 1}.")
    table: list[bytes | None] = [None] * (max(numbers, default=-1) + 1)
    for number, token in zip(numbers, [*tokens, *(name.encode("utf-8") for name in specials)], strict=True):
        if table[number] is not None:
            raise TokenizerError(f"{part}: id {number} is given to {brief(table[number])} and to {brief(token)}.")
        table[number] = token
    return tuple(table)


def joined(part: str, tokens: Sequence[bytes | None], ids: Sequence[int]) -> bytes:
    """The bytes of ids that are in range.

    Raises:
        TextError: one of them stands for nothing.
    """
    try:
        return b"".join(map(tokens.__getitem__, ids))  # type: ignore[arg-type]
    except TypeError:
        index = next(index for index, one in enumerate(ids) if tokens[one] is None)
        raise TextError(f"{part}: id {ids[index]} at index {index} stands for nothing in this tokenizer.") from None
