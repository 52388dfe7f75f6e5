"""Tokens called by their text, as one bans them or makes them likelier."""

import contextlib
from collections.abc import Iterable, Mapping

from nanotx.errors import ConfigError, TextError
from nanotx.sample import check_bias
from nanotx.tokenizers import Codec


def token_id(codec: Codec, text: str, knob: str) -> int:
    """The id of the token that is this text, or of the special of this name.

    Raises:
        ConfigError: the text is no token, or several; says which.
        TextError: the tokenizer cannot hold the text.
    """
    if text in codec.specials:
        return codec.specials[text]
    try:
        ids = codec.encode(text).tolist()
    except TextError as error:
        raise TextError(f"{knob}: {error}") from None
    if len(ids) != 1:
        parts = ", ".join(repr(codec.decode([one])) for one in ids) or "none"
        raise ConfigError(f"{knob}: expected the text of one token, got {text!r}, which is {len(ids)}: {parts}.")
    return int(ids[0])


def token_ids(codec: Codec, texts: Iterable[str], knob: str) -> tuple[int, ...]:
    """The ids of tokens called by their texts."""
    return tuple(token_id(codec, text, knob) for text in texts)


def biases(codec: Codec, values: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """The ids of tokens called by their texts, each with its value.

    Raises:
        ConfigError: a text is no token, or a value is out of range; says which.
        TextError: the tokenizer cannot hold a text.
    """
    for text, value in values.items():
        check_bias(repr(text), value)
    return tuple((token_id(codec, text, "bias"), value) for text, value in values.items())


def read_bias(word: str) -> tuple[str, float]:
    """A text and a number out of TEXT=NUMBER; the last = parts them.

    Raises:
        ConfigError: it is not of this form.
    """
    text, _, number = word.rpartition("=")
    if text:
        with contextlib.suppress(ValueError):
            return text, float(number)
    raise ConfigError(f"--bias {word}: expected TOKEN=NUMBER such as e=-2.5.")
