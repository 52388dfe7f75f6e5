"""Bytes as printable characters, as GPT-2's files and Hugging Face's `tokenizers` write their tokens.

A byte that is a printable character of Latin-1 is that character; the other 68 are, in order, U+0100 and on.

Source: `bytes_to_unicode` of https://github.com/openai/gpt-2/blob/master/src/encoder.py
"""

PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
OTHERS = [value for value in range(256) if value not in PRINTABLE]
CHARACTERS = {value: chr(value if value in PRINTABLE else 256 + OTHERS.index(value)) for value in range(256)}
VALUES = {character: value for value, character in CHARACTERS.items()}


def to_printable(token: bytes) -> str:
    """The printable characters of a token's bytes: a space is `Ġ`, a newline `Ċ`."""
    return "".join(map(CHARACTERS.__getitem__, token))


def from_printable(word: str) -> bytes:
    """The bytes of a token's characters; where one of them stands for no byte, those of its UTF-8."""
    try:
        return bytes(map(VALUES.__getitem__, word))
    except KeyError:
        return word.encode("utf-8", "replace")
