"""Laws of tokenizers and the segments of a text: special tokens, the text between them, and split points."""

import re
from collections.abc import Collection, Sequence

from nanotx.errors import LawBroken, TextError, TokenizerError
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import UNKNOWN, normalize_nfc

CUT = re.compile(r"(?<=[A-Za-z])(?=[ \n])")
"""Where a tokenizer with `splittable` may be cut."""


def special_tokens_by_name(codec: Codec, text: str, allowed: Collection[str], stranger: str) -> None:
    """The name of a special in a text is ordinary text; where it is allowed, it becomes its id, and is decoded from it.

    What stands between the allowed names is encoded as if it stood alone. Of two names that begin at one place, the
    longer one stands there.

    Args:
        codec: the tokenizer.
        text: any; in it may be names of special tokens.
        allowed: some of these names.
        stranger: the name of no special of this tokenizer.

    Raises:
        LawBroken: what a name became instead, or that the stranger is allowed.
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
    """Where the tokenizer says that a text may be cut, the ids of both sides, joined, are those of the whole.

    Args:
        codec: the tokenizer; one without `splittable` may do as it likes.
        text: any.

    Raises:
        LawBroken: where the text was cut, and what the sides are.
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
    """Where a config says that it may, it learns from texts in blocks, cut wherever they may be, what the texts teach.

    Args:
        config: what learns; one without `splittable` may do as it likes.
        texts: that can teach it.

    Raises:
        LawBroken: what the blocks teach.
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
    """The text in order: what stands between names, none of it left out, and names, of which it says so."""
    found, held, at = list[tuple[str, bool]](), "", 0
    while at < len(text):
        name = max((one for one in names if text.startswith(one, at)), key=len, default="")
        if name:
            found += [(held, False), (name, True)]
        held = "" if name else held + text[at]
        at += len(name) or 1
    return [*found, (held, False)]


def encoded(codec: Codec, text: str, allowed: Collection[str] = ()) -> list[int] | None:
    """The ids of a text; None where it is refused."""
    try:
        ids: list[int] = codec.encode(text, allowed_special=allowed).tolist()
    except TextError:
        return None
    return ids
