"""Laws of tokenizers and the segments of a text: special tokens, the text between them, and split points."""

import re
from collections.abc import Collection, Sequence

from nanotx.errors import LawBroken, TextError, TokenizerError
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import UNKNOWN, normalize_nfc

CUT = re.compile(r"(?<=[A-Za-z])(?=[ \n])")
"""Where a tokenizer with `splittable` may be cut."""


def special_tokens_by_name(codec: Codec, text: str, allowed: Collection[str], stranger: str) -> None:
    """Raise LawBroken unless a special token's name is ordinary text, or its id exactly where it is allowed.

    The text between allowed names is encoded as if it were alone. Of two names that begin at the same place, the longer
    one counts. The id of a name is decoded as the name.

    Args:
        codec: the tokenizer.
        text: any; it may contain names of special tokens.
        allowed: some of these names.
        stranger: a name that is not a special token of this tokenizer.

    Raises:
        LawBroken: a name became something else, or the unknown name is allowed.
    """
    names, form = {one: name for name, one in codec.special_tokens.items()}, normalize_nfc(text) if codec.nfc else text
    for one, name in names.items():
        if codec.decode_bytes([one]) != name.encode("utf-8"):
            raise LawBroken(f"special_tokens: id {one} of {name!r} is decoded as {codec.decode_bytes([one])!r}.")
    for one in encoded(codec, text) or ():
        if one in names and names[one] != UNKNOWN:
            raise LawBroken(f"special_tokens: {text!r} became, with no name allowed, id {one} of {names[one]!r}.")
    parts = [
        [codec.special_tokens[one]] if name else encoded(codec, one) for one, name in split_at_names(form, allowed)
    ]
    wanted = None if None in parts else [one for part in parts for one in part or ()]
    found = encoded(codec, text, allowed)
    if found != wanted:
        raise LawBroken(
            f"special_tokens: {text!r}, with {list(allowed)} allowed, became {found}; expected {wanted}, "
            f"of {split_at_names(form, allowed)}."
        )
    lost = UNKNOWN in codec.special_tokens and any(codec.special_tokens[UNKNOWN] in (part or ()) for part in parts)
    if found is not None and not lost and codec.decode(found) != form:
        raise LawBroken(
            f"special_tokens: {text!r}, with {list(allowed)} allowed, became {found}, which is {codec.decode(found)!r}."
        )
    try:
        codec.encode("" if found is None else text, allowed_special=[*allowed, stranger])
    except TextError as error:
        if repr(stranger) in str(error):
            return
        raise LawBroken(
            f"special_tokens: {stranger!r} is the name of no special, and what is said is: {error}"
        ) from None
    raise LawBroken(f"special_tokens: {stranger!r} is the name of no special, and is allowed; there are {names}.")


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
        one, other = encoded(codec, left), encoded(codec, right)
        if one is None or other is None or one + other != whole:
            raise LawBroken(f"cut: {text!r} is {whole}; cut in two, {left!r} is {one} and {right!r} is {other}.")


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
        found = config.train(blocks)
    except TokenizerError as error:
        raise LawBroken(f"cut: {list(texts)} taught {whole!r}, and in the blocks {blocks} nothing: {error}") from None
    if found != whole:
        raise LawBroken(f"cut: {list(texts)} taught {whole.to_dict()}, and in the blocks {blocks} {found.to_dict()}.")


def split_at_names(text: str, names: Collection[str]) -> list[tuple[str, bool]]:
    """Return all segments of the text in order, each with whether it is a name."""
    found, held, at = list[tuple[str, bool]](), "", 0
    while at < len(text):
        name = max((one for one in names if text.startswith(one, at)), key=len, default="")
        if name:
            found += [(held, False), (name, True)]
        held = "" if name else held + text[at]
        at += len(name) or 1
    return [*found, (held, False)]


def encoded(codec: Codec, text: str, allowed: Collection[str] = ()) -> list[int] | None:
    """Return the ids of a text; None if it is refused."""
    try:
        ids: list[int] = codec.encode(text, allowed_special=allowed).tolist()
    except TextError:
        return None
    return ids
