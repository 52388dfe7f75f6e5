"""Laws of tokenizers: they are lossless, bytes of ids concatenate, and a text that cannot be encoded is refused."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from nanotx.errors import LawBroken, TextError, TokenizerError
from nanotx.tokenizers import Codec, StreamingDecoder, Tokenizer, load
from nanotx.tokenizers.base import UNKNOWN, normalize_nfc

PLACE = re.compile(r"\bat offset (\d+)\b")
HEADER = {"nanotx", "version", "part", "sha256", "learned_from", "made_with"}
"""Keys of a tokenizer's file that are no part of what the tokenizer is."""


def lossless(codec: Codec, text: str, allowed: Collection[str] = ()) -> None:
    """Raise LawBroken unless a text that the tokenizer accepts is decoded exactly, and its ids are in range.

    With `nfc`, its normal form C is decoded; if one of the ids is that of `<unk>`, the loss is marked.

    Args:
        codec: the tokenizer.
        text: one that it accepts.
        allowed: names of special tokens that may become their ids.

    Raises:
        LawBroken: another text was decoded, or an id is out of range; the message says which.
    """
    ids = codec.encode(text, allowed_special=allowed) if allowed else codec.encode(text)
    if not isinstance(ids, np.ndarray) or ids.dtype != np.int32 or ids.ndim != 1 or not ids.flags.writeable:
        raise LawBroken(f"lossless: {text!r} became {ids!r}; expected a new row of int32.")
    listed = ids.tolist()
    for index, token in enumerate(listed):
        if not 0 <= token < codec.vocab_size:
            raise LawBroken(f"lossless: id {token} at index {index} is not below vocab_size {codec.vocab_size}.")
    if codec.special_tokens.get(UNKNOWN) in listed:
        return
    form = normalize_nfc(text) if codec.nfc else text
    if codec.decode_bytes(listed) != form.encode("utf-8"):
        raise LawBroken(f"lossless: {text!r} came back as the bytes {codec.decode_bytes(listed)!r}.")
    if codec.decode(listed) != form:
        raise LawBroken(f"lossless: {text!r} came back as {codec.decode(listed)!r}.")


def exact_bytes(codec: Codec, ids: Sequence[int]) -> None:
    """Raise LawBroken unless each id in range has the same bytes whatever is next to it, even within a character.

    So decoding is concatenation, and bytes that have ids are decoded exactly: any bytes with an id for every byte, as
    in `byte` and `bpe`; any sequence of its characters with an id for every character, as in `char`.

    Args:
        codec: the tokenizer.
        ids: any, in range.

    Raises:
        LawBroken: the bytes of all ids differ from those of each, or an id is refused; the message shows them.
    """
    try:
        alone = [codec.decode_bytes([token]) for token in ids]
        together = codec.decode_bytes(ids)
    except TextError as error:
        raise LawBroken(f"bytes: ids {list(ids)} below vocab_size {codec.vocab_size} are refused: {error}") from None
    if together != b"".join(alone):
        raise LawBroken(f"bytes: ids {list(ids)} are {together!r}, and one by one {alone!r}.")


def streams(codec: Codec, ids: Sequence[int], decoder: Callable[[Codec], StreamingDecoder] = StreamingDecoder) -> None:
    """Raise LawBroken unless ids decoded one at a time give `codec.decode` of all, and no returned text is taken back.

    No part of a character is returned, and no complete character is held back: the pending bytes are less than one
    character.

    Args:
        codec: the tokenizer.
        ids: any, in range; they may break characters.
        decoder: decodes them one at a time.

    Raises:
        LawBroken: the texts differ; the message says after how many ids, and gives both.
    """
    decode, text, stream = codec.decode(ids), "", decoder(codec)
    for count, token in enumerate(ids, 1):
        text += stream.push(token)
        so_far = codec.decode(ids[:count])
        if not decode.startswith(text) or not so_far.startswith(text) or so_far[len(text) :] not in ("", "\ufffd"):
            raise LawBroken(
                f"stream: after {count} of the ids {list(ids)} {text!r} was handed out; "
                f"these ids are {so_far!r}, and all of them {decode!r}."
            )
    text += stream.end()
    if text != decode:
        raise LawBroken(f"stream: the ids {list(ids)} are {decode!r}; one at a time they came out as {text!r}.")


def saved_and_loaded(codec: Codec, text: str) -> None:
    """Raise LawBroken unless a saved and loaded tokenizer is equal, has the same file and gives a text the same ids.

    Args:
        codec: the tokenizer.
        text: one that it accepts.

    Raises:
        LawBroken: the two differ; the message says in what.
    """
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.json"), Path(folder, "second.json")
        codec.save(first)
        back = load(first)
        back.save(second)
        files = [file.read_text(encoding="utf-8") for file in (first, second)]
    if back != codec or hash(back) != hash(codec) or back.vocab_size != codec.vocab_size:
        raise LawBroken(f"saved: {codec!r} came back as {back!r}, which is another.")
    if files[0] != files[1]:
        raise LawBroken(f"saved: {codec!r} was saved, loaded and saved, and the two files differ.")
    ids, again = codec.encode(text).tolist(), back.encode(text).tolist()
    if ids != again:
        raise LawBroken(f"saved: {text!r} is {ids}, and once loaded {again}.")
    if codec.decode_bytes(ids) != back.decode_bytes(ids):
        raise LawBroken(
            f"saved: ids {ids} are {codec.decode_bytes(ids)!r}, and once loaded {back.decode_bytes(ids)!r}."
        )


def unique_digest(codec: Codec, path: Sequence[int]) -> None:
    """Raise LawBroken unless a tokenizer keeps its digest when saved and loaded, and no other tokenizer has it.

    A file with one change is refused; with a new signature after the change it is refused for its contents, or is
    another tokenizer's, with another digest.

    Args:
        codec: the tokenizer.
        path: leads to the change in its file; see `alter_json`.

    Raises:
        LawBroken: a digest is wrong, or a changed file is read as if it had not been changed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "mine.json")
        codec.save(file)
        written = json.loads(file.read_text(encoding="utf-8"))
        digests = [codec.digest, written["sha256"], load(file).digest]
        if len(set(digests)) > 1:
            raise LawBroken(
                f"digest: {codec!r} has the digest {digests[0]}, in its file and once loaded {digests[1:]}."
            )
        table = {key: value for key, value in written.items() if key not in HEADER}
        other = alter_json(table, path)
        header = {key: value for key, value in written.items() if key in HEADER}
        file.write_text(json.dumps(header | other), encoding="utf-8")
        if (back := _loaded(file)) is not None:
            raise LawBroken(f"digest: a file of {codec!r} in which {_change(table, other)} is read as {back!r}.")
        whole = json.dumps([codec.part, other], sort_keys=True)
        header["sha256"] = hashlib.sha256(whole.encode("ascii")).hexdigest()
        file.write_text(json.dumps(header | other), encoding="utf-8")
        back = _loaded(file)
    if back is not None and back.digest == codec.digest:
        raise LawBroken(
            f"digest: a file of {codec!r} in which {_change(table, other)} is read, once it is signed anew, as "
            "if nothing had changed; expected that it is refused, or has another digest."
        )


def alter_json(value: Any, path: Sequence[int]) -> Any:
    """Return a JSON value with one change in it.

    Args:
        value: of any kind.
        path: at each level, the index of the item to change, modulo the number of items; a list or a table at which
            it ends loses its last item.
    """
    if isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        copy = value.copy()
        if not path:
            del copy[keys[-1]]
        else:
            key = keys[path[0] % len(keys)]
            copy[key] = alter_json(value[key], path[1:])
        return copy
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if value and isinstance(value, str) and (path[0] if path else len(value)) % 2:
        return value + value[-1]  # a reader that mends what is there twice would not see it
    return {"x": 0} if value == {} else [0] if value == [] else f"{value or ''}x"


def trains_alike(config: Tokenizer, texts: Sequence[str], others: Sequence[str]) -> None:
    """Raise LawBroken unless the same texts train the same tokenizer, as a list or an iterator, after other training.

    Args:
        config: the tokenizer's.
        texts: the training texts.
        others: on which the same part is trained in between.

    Raises:
        LawBroken: the second training gives another tokenizer; the message shows it.
    """
    first = config.train(texts)
    with suppress(TokenizerError):  # they may be too little to learn from
        config.train(others)
    second = config.train(text for text in texts)  # an iterator can be read once
    if first != second or first.to_dict() != second.to_dict():
        raise LawBroken(f"trains_alike: {brief(list(texts))} taught {first!r}, and another time {second!r}.")


def refuses_text(codec: Codec, text: str) -> None:
    """Raise LawBroken unless a text that cannot be encoded is refused, with the first such character and its offset.

    The text before the offset is accepted, and the text that begins there is refused at offset 0. A lone surrogate is
    always refused.

    Args:
        codec: the tokenizer.
        text: any; it may hold lone surrogates.

    Raises:
        LawBroken: the text was accepted, or the message of the refusal is another.
    """
    text = normalize_nfc(text) if codec.nfc else text  # where offsets are counted
    refusal = _refusal(codec, text)
    if refusal is None:
        surrogate = next((at for at, character in enumerate(text) if 0xD800 <= ord(character) < 0xE000), None)
        if surrogate is not None:
            raise LawBroken(f"refuses: {text!r} is accepted with the lone surrogate at offset {surrogate}.")
        return
    place = PLACE.search(refusal)
    at = int(place[1]) if place else len(text)
    if at >= len(text) or f"U+{ord(text[at]):04X}" not in refusal:
        raise LawBroken(
            f"refuses: {text!r} is refused with {refusal!r}; expected the first character that cannot be, "
            "as 'U+00E9', and 'at offset 5', counted in characters."
        )
    before, after = _refusal(codec, text[:at]), _refusal(codec, text[at:])
    if before is not None:
        raise LawBroken(f"refuses: {text!r} is refused at offset {at}, and {text[:at]!r} is refused too: {before!r}.")
    if after is None or not re.search(r"\bat offset 0\b", after):
        raise LawBroken(
            f"refuses: {text!r} is refused at offset {at}, and {text[at:]!r} is not, at offset 0: {after!r}."
        )


def refuses_ids(codec: Codec, ids: Sequence[int]) -> None:
    """Raise LawBroken unless an id out of range is refused, with its index.

    Args:
        codec: the tokenizer.
        ids: any integers, in range or not.

    Raises:
        LawBroken: the ids were decoded, or the message of the refusal is another.
    """
    wrong = next((at for at, token in enumerate(ids) if not 0 <= token < codec.vocab_size), None)
    if wrong is None:
        return
    try:
        decoded = codec.decode_bytes(ids)
    except TextError as error:
        if not re.search(rf"id {ids[wrong]} at index {wrong}\b", str(error)):
            raise LawBroken(
                f"refuses: ids {list(ids)} are refused with {str(error)!r}; "
                f"expected 'id {ids[wrong]} at index {wrong}' in it."
            ) from None
        return
    raise LawBroken(
        f"refuses: id {ids[wrong]} at index {wrong} is not below vocab_size {codec.vocab_size}, "
        f"and is decoded: {decoded!r}."
    )


def _refusal(codec: Codec, text: str) -> str | None:
    """Return the message with which a text is refused; None if it is accepted."""
    try:
        codec.encode(text)
    except TextError as error:
        return str(error)
    return None


def _loaded(file: Path) -> Codec | None:
    """Return the tokenizer read from a file; None if the file is refused."""
    try:
        return load(file)
    except TokenizerError:
        return None


def _change(table: dict[str, Any], other: dict[str, Any]) -> str:
    """Describe how the second table differs."""
    for key, value in {**other, **table}.items():
        if key not in table:
            return f"{key!r} was put in"
        if key not in other:
            return f"{key!r} was taken out"
        if value != other[key]:
            return f"{key!r} was changed from {brief(value)} to {brief(other[key])}"
    return "nothing was changed"
