"""Byte-level BPE: the fields of its tokenizers, and bytes as the printable characters in which files write tokens.

A byte that is a printable character of Latin-1 is that character; the other 68 are, in order, U+0100 and on.

Source: `bytes_to_unicode` of https://github.com/openai/gpt-2/blob/master/src/encoder.py
"""

from dataclasses import dataclass

from nanotx.config.schema import check_max, check_min
from nanotx.tokenizers.base import Tokenizer
from nanotx.tokenizers.regexes import source_of
from nanotx.tokenizers.special_tokens import MAX_IDS, check_special_tokens

PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
OTHERS = [value for value in range(256) if value not in PRINTABLE]
CHARACTERS = {value: chr(value if value in PRINTABLE else 256 + OTHERS.index(value)) for value in range(256)}
VALUES = {character: value for value, character in CHARACTERS.items()}


@dataclass(frozen=True, kw_only=True)
class ByteLevelBpe(Tokenizer):
    """Fields of the tokenizers that merge pairs of bytes."""

    vocab_size: int = 512  # number of ids: the 256 bytes, the merges and the special tokens
    pattern: str = "gpt4"  # regex that splits a text before the merges: gpt2, gpt4 (cl100k), or a regex of your own
    min_frequency: int = 1  # minimum number of occurrences of a pair that is merged
    special_tokens: tuple[str, ...] = ()  # special tokens such as <|endoftext|>, with ids of their own
    nfc: bool = False  # normalise every text to Unicode's normal form C first

    def __post_init__(self) -> None:
        check_special_tokens(self.special_tokens)
        check_min(self, 256 + len(self.special_tokens), "vocab_size")
        check_max(self, MAX_IDS, "vocab_size")
        check_min(self, 1, "min_frequency")
        source_of(self.pattern)


def to_printable(token: bytes) -> str:
    """Return the printable characters of a token's bytes: a space is `Ġ`, a newline `Ċ`."""
    return "".join(map(CHARACTERS.__getitem__, token))


def from_printable(word: str) -> bytes:
    """Return the bytes of a token's characters; where one of them stands for no byte, those of its UTF-8."""
    try:
        return bytes(map(VALUES.__getitem__, word))
    except KeyError:
        return word.encode("utf-8", "replace")
