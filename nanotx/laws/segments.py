"""Laws of tokenizers and the segments of a text: special tokens, the text between them, and split points."""

import re
from collections.abc import Collection, Sequence

from nanotx.errors import LawBroken, TextError, TokenizerError
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import UNKNOWN, normalize_nfc

CUT = re.compile(r"(?<=[A-Za-z])(?=[ \n])")
"""Where a tokenizer with `splittable` may be cut."""


def special_tokens_by_name(codec: Codec, text: str, allowed: Collection[str], unknown_name: str) -> None:
    """Raise LawBroken unless a special token's name is ordinary text, or its id exactly where it is allowed.

    The text between allowed names is encoded as if it were alone. Of two names that begin at the same place, the longer
    one counts. The id of a name is decoded as the name.

    Args:
        codec: the tokenizer.
        text: any; it may contain names of special tokens.
        allowed: some of these names.
        unknown_name: a name that is not a special token of this tokenizer.

    Raises:
        LawBroken: a name became something else, or the unknown name is allowed.
    """
    names, form = (
        {token: name for name, token in codec.special_tokens.items()},
        normalize_nfc(text) if codec.nfc else text,
    )
    for token, name in names.items():
        if codec.decode_bytes([token]) != name.encode("utf-8"):
            raise LawBroken(f"special_tokens: id {token} of {name!r} is decoded as {codec.decode_bytes([token])!r}.")
    for token in encoded(codec, text) or ():
        if token in names and names[token] != UNKNOWN:
            raise LawBroken(f"special_tokens: {text!r} became, with no name allowed, id {token} of {names[token]!r}.")
    parts = [
        [codec.special_tokens[segment]] if name else encoded(codec, segment)
        for segment, name in split_at_names(form, allowed)
    ]
    expected = None if None in parts else [token for part in parts for token in part or ()]
    ids = encoded(codec, text, allowed)
    if ids != expected:
        raise LawBroken(
            f"special_tokens: {text!r}, with {list(allowed)} allowed, became {ids}; expected {expected}, "
            f"of {split_at_names(form, allowed)}."
        )
    lost = UNKNOWN in codec.special_tokens and any(codec.special_tokens[UNKNOWN] in (part or ()) for part in parts)
    if ids is not None and not lost and codec.decode(ids) != form:
        raise LawBroken(
            f"special_tokens: {text!r}, with {list(allowed)} allowed, became {ids}, which is {codec.decode(ids)!r}."
        )
    try:
        codec.encode("" if ids is None else text, allowed_special=[*allowed, unknown_name])
    except TextError as error:
        if repr(unknown_name) in str(error):
            return
        raise LawBroken(
            f"special_tokens: {unknown_name!r} is the name of no special token, and the message is: {error}"
        ) from None
    raise LawBroken(
        f"special_tokens: {unknown_name!r} is the name of no special token, and is allowed; there are {names}."
    )


def cut_anywhere(codec: Codec, text: str) -> None:
    """Raise LawBroken unless the ids of both sides of a split point, joined, are those of the whole text.

    Args:
        codec: the tokenizer; the law does not apply to one without `splittable`.
        text: any.

    Raises:
        LawBroken: the ids differ; the message gives both sides.
    """
    whole = encoded(codec, text) if codec.splittable else None
    if whole is None:
        return
    for cut in CUT.finditer(text):
        left, right = text[: cut.start()], text[cut.start() :]
        before, after = encoded(codec, left), encoded(codec, right)
        if before is None or after is None or before + after != whole:
            raise LawBroken(f"cut: {text!r} is {whole}; cut in two, {left!r} is {before} and {right!r} is {after}.")


def trains_in_blocks(config: Tokenizer, texts: Sequence[str]) -> None:
    """Raise LawBroken unless texts split at any split points train the same tokenizer as the whole texts.

    Args:
        config: the tokenizer's; the law does not apply to one without `splittable`.
        texts: on which it can be trained.

    Raises:
        LawBroken: the split texts train another tokenizer; the message shows both.
    """
    if not config.splittable:
        return
    blocks = [block for text in texts for block in CUT.split(text)]
    whole = config.train(texts)
    try:
        trained = config.train(blocks)
    except TokenizerError as error:
        raise LawBroken(f"cut: {list(texts)} taught {whole!r}, and in the blocks {blocks} nothing: {error}") from None
    if trained != whole:
        raise LawBroken(f"cut: {list(texts)} taught {whole.to_dict()}, and in the blocks {blocks} {trained.to_dict()}.")


def split_at_names(text: str, names: Collection[str]) -> list[tuple[str, bool]]:
    """Return all segments of the text in order, each with whether it is a name."""
    segments, ordinary, at = list[tuple[str, bool]](), "", 0
    while at < len(text):
        name = max((name for name in names if text.startswith(name, at)), key=len, default="")
        if name:
            segments += [(ordinary, False), (name, True)]
        ordinary = "" if name else ordinary + text[at]
        at += len(name) or 1
    return [*segments, (ordinary, False)]


def encoded(codec: Codec, text: str, allowed: Collection[str] = ()) -> list[int] | None:
    """Return the ids of a text; None if it is refused."""
    try:
        ids: list[int] = codec.encode(text, allowed_special=allowed).tolist()
    except TextError:
        return None
    return ids
