"""The law of tokenizers: nothing of a text is lost."""

from nanotx.errors import LawBroken
from nanotx.tokenizers import Codec


def lossless(codec: Codec, text: str) -> None:
    """A text that the tokenizer accepts comes back to the letter, and its ids are in range.

    Raises:
        LawBroken: what came back instead, or which id is out of range.
    """
    ids = codec.encode(text).tolist()
    for index, one in enumerate(ids):
        if not 0 <= one < codec.vocab_size:
            raise LawBroken(f"lossless: id {one} at index {index} is not below vocab_size {codec.vocab_size}.")
    if codec.decode_bytes(ids) != text.encode("utf-8"):
        raise LawBroken(f"lossless: {text!r} came back as the bytes {codec.decode_bytes(ids)!r}.")
    if codec.decode(ids) != text:
        raise LawBroken(f"lossless: {text!r} came back as {codec.decode(ids)!r}.")
