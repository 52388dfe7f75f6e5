"""Random texts, and random tokenizers that can be trained on them."""

import atexit
import dataclasses
import re
import shutil
import string
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from nanotx.config.schema import fields
from nanotx.errors import ConfigError, TokenizerError
from nanotx.laws.strategies import Drawn, configs
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import preset_names
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.hard_texts import TROUBLE
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.tiktoken import Tiktoken, lines_of

PRIMER = "But, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n"
"""Learned first, always: enough to teach a small vocabulary, in characters that every preset tokenizer holds."""

SMALL = 32
"""The most ids beyond the fewest that a drawn tokenizer has."""

PATTERNS = ("gpt4", "gpt2", r"\s?\w+|(?s:.)")
"""Patterns that split a text: two names, and a custom regex."""

EDGES = ("", "", "", " ", "\n", "\ufeff", "\u0301")
"""Strings that break tokenizers at the beginning or the end of a text."""


def piece(size: int, at: int, of: Sequence[str]) -> str:
    """Draw some adjacent snippets, joined."""
    return "".join(of[at : at + size])


troubles = st.builds(piece, st.integers(1, 8), st.integers(0, len(TROUBLE) - 1), st.just(TROUBLE))
words = st.builds(piece, st.integers(1, 12), st.integers(0, len(PRIMER) - 1), st.just(PRIMER))
runs = st.builds(str.__mul__, st.sampled_from(" a\n\u00e9"), st.sampled_from([2, 20]))
characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from(string.printable)
snippets = troubles | words | runs | characters


@st.composite
def texts(draw: Drawn, longest: int = 16) -> str:
    """Draw a text of any characters, in snippets, many of which are known to be error-prone."""
    size = draw(st.integers(0, longest))
    inside = draw(st.lists(snippets, min_size=size, max_size=size))
    return "".join([draw(st.sampled_from(EDGES)), *inside, draw(st.sampled_from(EDGES))])


@st.composite
def configs_with_texts(draw: Drawn, part: type[Tokenizer]) -> tuple[Tokenizer, tuple[str, ...]]:
    """Draw a tokenizer's config with a small vocabulary, and texts on which it can be trained."""
    config = draw(configs(part))
    if part is Saved:  # it reads the presets, and no text
        return dataclasses.replace(config, path=draw(st.sampled_from(preset_names()))), (PRIMER,)
    if part is Tiktoken:  # it reads a file of ranks, and no text
        config = dataclasses.replace(config, path=rank_file())
    taught = (PRIMER, *draw(st.lists(texts(), max_size=2)))
    if "pattern" in fields(part):
        config = with_other_fields(config, pattern=draw(st.sampled_from(PATTERNS)))
    sized = fit_to_texts(config, taught, draw(st.integers(0, SMALL)))
    assume(sized is not None)
    return sized, taught


def fit_to_texts(config: Any, taught: Sequence[str], more: int) -> Any:
    """Return a similar config that these texts can train, with a few more ids than the fewest; None if there is none.

    Args:
        config: the tokenizer's.
        taught: the training texts.
        more: the number of ids beyond the fewest.
    """
    part: type[Tokenizer] = type(config)
    bases = (config, with_other_fields(config, min_frequency=1)) if "min_frequency" in fields(part) else (config,)
    for base in bases:
        least = min_vocab_size(part) + extra_ids(base) if "vocab_size" in fields(part) else 0
        for sized in sizes(base, taught, least, more) if "vocab_size" in fields(part) else (base,):
            if texts_suffice(sized, taught):
                return sized
    return None


@lru_cache(maxsize=2)
def rank_file(more: int = SMALL) -> str:
    """Return the path of a small file of ranks, which exists until this process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    codec = Bpe(vocab_size=256 + more).train([PRIMER])
    ranks = {codec.decode_bytes([token]): token for token in range(codec.vocab_size)}
    (folder / "small.tiktoken").write_text("\n".join(lines_of(ranks)), encoding="ascii")
    return str(folder / "small.tiktoken")


def with_other_fields(config: Any, **values: Any) -> Any:
    """Return the config with other values in some fields; the config itself if it refuses them."""
    try:
        return dataclasses.replace(config, **values)
    except ConfigError:
        return config


@lru_cache(maxsize=64)
def min_vocab_size(part: type[Any]) -> int:
    """Return the smallest vocab_size that a part accepts."""
    usual = part()
    return next(
        (n for n in range(1, usual.vocab_size) if with_other_fields(usual, vocab_size=n).vocab_size == n),
        usual.vocab_size,
    )


def extra_ids(config: Any) -> int:
    """Return the number of ids that a config needs for its special tokens and for `<unk>`."""
    values = {name: getattr(config, name) for name in fields(type(config))}
    return len(values.get("special_tokens", ())) + values.get("unknown", False)


def texts_suffice(config: Tokenizer, taught: Sequence[str]) -> bool:
    """Return whether these texts are enough to train the config."""
    try:
        trained(config, tuple(taught))
    except Exception as error:  # the law reports any other error
        return not isinstance(error, TokenizerError)
    return True


def sizes(config: Any, taught: Sequence[str], least: int, more: int) -> Iterator[Any]:
    """Yield the config at several sizes: the fewest ids plus some, then those that its errors propose, then others."""
    yield with_other_fields(config, vocab_size=least + more)
    for size in (least, config.vocab_size):
        for near in proposed_vocab_size(with_other_fields(config, vocab_size=size), taught):
            yield with_other_fields(config, vocab_size=near + more)
            yield with_other_fields(config, vocab_size=near)
    for size in (least + SMALL, least + 2 * SMALL, config.vocab_size):
        yield with_other_fields(config, vocab_size=size)


def proposed_vocab_size(config: Tokenizer, taught: Sequence[str]) -> list[int]:
    """Return the vocab_size that a config proposes if these texts cannot train its own; empty otherwise."""
    try:
        trained(config, tuple(taught))
    except TokenizerError as error:
        return [int(size) for size in re.findall(r"--tokenizer\.vocab-size (\d+)", str(error))]
    except Exception:  # the law reports any other error
        return []
    return []


@lru_cache(maxsize=64)
def trained(config: Tokenizer, taught: tuple[str, ...]) -> Codec:
    """Return the tokenizer that a config trains on texts; cached, so that drawing and checking a case train it once."""
    return config.train(taught)
