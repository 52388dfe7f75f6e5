"""Tokens by their ids: the bytes that each id stands for, ordinary or special."""

from collections.abc import Mapping, Sequence
from reprlib import repr as brief

from nanotx.errors import TextError, TokenizerError
from nanotx.tokenizers._specials import check_specials

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
