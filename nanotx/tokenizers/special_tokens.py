"""Special tokens, such as `<|endoftext|>`, and the bytes of every token by its id."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from reprlib import repr as brief

import numpy as np

from nanotx.errors import ConfigError, TextError, TokenizerError, did_you_mean
from nanotx.tokenizers.base import UNKNOWN, Codec, Ids, Tokenizer, normalize_nfc

MAX_NAME_LENGTH = 256  # characters of a name
SPLIT_POINT = re.compile("[A-Za-z][ \n]")


def check_special_tokens(special_tokens: Collection[str]) -> None:
    """Check that names are unique and valid.

    Raises:
        ConfigError: a name is empty, too long, repeated, or holds a lone surrogate.
    """
    seen = set[str]()
    for name in special_tokens:
        if (
            not 0 < len(name) <= MAX_NAME_LENGTH
            or name in seen
            or any(0xD800 <= ord(character) < 0xE000 for character in name)
        ):
            raise ConfigError(
                f"special_tokens: {name[:40]!r}: expected names of 1 to {MAX_NAME_LENGTH} whole characters, each once, "
                "such as '<|endoftext|>'."
            )
        seen.add(name)


def never_split(special_tokens: Collection[str]) -> bool:
    """Return whether no name contains a split point, so that every block of a text holds them whole."""
    return not any(map(SPLIT_POINT.search, special_tokens))


def segments(text: str, special_tokens: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Split a text at special tokens; yield (segment, whether it is a special token).

    If two names match at one offset, the longer wins.
    """
    if not special_tokens:
        yield text, False
        return
    names = "|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True)))
    for index, segment in enumerate(re.split(f"({names})", text)):
        if segment:
            yield segment, index % 2 == 1


def training_segments(texts: Iterable[str], special_tokens: Collection[str] = (), nfc: bool = False) -> Iterator[str]:
    """Yield the text between special tokens, normalized to NFC if `nfc`.

    As in encoding, normalization comes first, and may remove the name of a special token.
    """
    for text in texts:
        for segment, special in segments(normalize_nfc(text) if nfc else text, special_tokens):
            if not special:
                yield segment


def assign_ids(first: int, special_tokens: Sequence[str], unknown: bool = False) -> dict[str, int]:
    """Assign ids to special tokens from `first` on, with `<unk>` last if `unknown`."""
    names = dict.fromkeys([*special_tokens, UNKNOWN] if unknown else special_tokens)
    return {name: first + index for index, name in enumerate(names)}


def add_special_tokens(codec: Codec, names: Sequence[str]) -> Codec:
    """Return a codec with new special tokens, after all its ids.

    Raises:
        TokenizerError: its part keeps no special tokens that can be added to.
    """
    check_special_tokens(names)
    table = codec.to_dict()
    if codec.part == "byte":
        table.setdefault("special_tokens", {})
    if not isinstance(table.get("special_tokens"), dict):
        raise TokenizerError(
            f"{codec.part}: no special tokens can be added to this tokenizer, and {', '.join(names)} are missing; it "
            f"has {', '.join(codec.special_tokens) or 'none'}: give a chat template that writes these, by "
            "--corpus.template FILE."
        )
    new = {name: codec.vocab_size + number for number, name in enumerate(names)}
    table["special_tokens"] = {**table["special_tokens"], **new}
    if "vocab_size" in table:
        table["vocab_size"] += len(new)
    added: Codec = Tokenizer.find(codec.part).from_dict(table)
    added = added if codec.origin is None else added.with_origin(codec.origin)
    return added.with_chat_template(codec.chat_template)


def encode_with_special_tokens(codec: Codec, text: str, allowed: Collection[str]) -> Ids:
    """Encode a text in which these names become their ids.

    Raises:
        TextError: a name is that of no special of this tokenizer, or the text holds something that it cannot.
    """
    for name in allowed:
        if name not in codec.special_tokens:
            known = ", ".join(codec.special_tokens) or "none"
            near = did_you_mean(name, codec.special_tokens)
            raise TextError(f"{codec.part}: {name!r} is no special of this tokenizer.{near} It has: {known}.")
    rows = [
        np.array([codec.special_tokens[segment]], np.int32) if special else codec.encode_ordinary(segment)
        for segment, special in segments(text, allowed)
    ]
    return np.concatenate([np.empty(0, np.int32), *rows])


MAX_IDS = 1 << 24  # bounds the memory that an untrusted file can take


def tokens_by_id(
    part: str, tokens: Sequence[bytes], ids: Sequence[int] = (), special_tokens: Mapping[str, int] | None = None
) -> tuple[bytes | None, ...]:
    """Return the bytes of every id from 0 to the largest; None for an undefined id.

    Args:
        part: the tokenizer's name, for errors.
        tokens: the ordinary ones.
        ids: an id for each of them; empty: their places.
        special_tokens: names and their ids.

    Raises:
        TokenizerError: not one id for each token, one that is there twice, or one that is no id.
        ConfigError: a special's name is none.
    """
    special_tokens = special_tokens or {}
    check_special_tokens(special_tokens)
    if ids and len(ids) != len(tokens):
        raise TokenizerError(f"{part}: {len(ids)} ids for {len(tokens)} tokens; expected one each, or none.")
    in_place = () if ids else tuple(tokens)  # those whose ids are their places
    numbers = [*ids, *special_tokens.values()]
    for number in (*range(len(in_place))[-1:], *numbers):
        if type(number) is not int or not 0 <= number < MAX_IDS:
            raise TokenizerError(f"{part}: id {brief(number)}: expected a whole number from 0 to {MAX_IDS - 1}.")
    named = [*(tokens if ids else ()), *(name.encode("utf-8") for name in special_tokens)]
    table: list[bytes | None] = [*in_place, *[None] * (max(numbers, default=-1) + 1 - len(in_place))]
    for number, token in zip(numbers, named, strict=True):
        if table[number] is not None:
            raise TokenizerError(f"{part}: id {number} is given to {brief(table[number])} and to {brief(token)}.")
        table[number] = token
    return tuple(table)


def join_bytes(part: str, tokens: Sequence[bytes | None], ids: Sequence[int]) -> bytes:
    """Return the joined bytes of ids that are in range.

    Raises:
        TextError: one of them belongs to no token.
    """
    try:
        return b"".join(map(tokens.__getitem__, ids))  # type: ignore[arg-type]
    except TypeError:
        index = next(index for index, token_id in enumerate(ids) if tokens[token_id] is None)
        raise TextError(f"{part}: id {ids[index]} at index {index} is undefined in this tokenizer.") from None


def known_bytes(codec: Codec, ids: Ids, data: bytes) -> int:
    """Return how many bytes of a text its ids give back: all, or all but what became the unknown token.

    Returns:
        0 where they give another text back, as those of a tokenizer that lowers case do.
    """
    unknown = codec.special_tokens.get(UNKNOWN)
    places = np.flatnonzero(ids == unknown) if unknown is not None else ()
    if not len(places):
        return len(data) if codec.decode_bytes(ids) == data else 0
    first, *others = [codec.decode_bytes(run[run != unknown]) for run in np.split(ids, places)]
    at = len(first) if data.startswith(first) else len(data)
    for number, run in enumerate(others, start=1):  # the unknown token before it stands for a byte or more
        following = data.find(run, at + 1) if number < len(others) else len(data) - len(run)
        if following <= at or not data.startswith(run, following):
            return 0
        at = following + len(run)
    return len(first) + sum(map(len, others))
