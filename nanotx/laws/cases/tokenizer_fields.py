"""The law of a tokenizer's fields: each changes the vocabulary, the ids of a text, or what is refused."""

import atexit
import dataclasses
import hashlib
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from nanotx.config.schema import fields
from nanotx.errors import TextError, TokenizerError
from nanotx.laws.fields import fields_matter, other_choices, untried
from nanotx.laws.law import Case, Where
from nanotx.laws.random_texts import PATTERNS, PRIMER, fit_to_texts, rank_file, trained
from nanotx.laws.strategies import Drawn, configs
from nanotx.tokenizers import Tokenizer
from nanotx.tokenizers.base import preset_names
from nanotx.tokenizers.huggingface import Huggingface
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.tiktoken import Tiktoken

TAUGHT = (PRIMER, PRIMER, "Cafe\u0301, cafe\u0301; it's 1234 o'clock, 1234567 1234567 <|a|>.\n")
"""Training texts: rare and frequent words, an accent separate from its letter, a special token."""
READ = (PRIMER, "cafe\u0301 \u00e9", "Zounds! \u4e16\u754c", "sun's <|a|> 1234567")
"""Texts to encode, in part unlike the training texts."""
NAMES: tuple[tuple[str, ...], ...] = (("<|a|>",), ("<|endoftext|>", "<|a|>"), ())
"""Values of a field for names of special tokens."""
LEARNED = 80
"""Ids beyond the fewest."""
MANY = 2000
"""Ids whose bytes are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerFieldsCase(Case):
    """A tokenizer that can be trained on `TAUGHT`, for the law that each of its fields matters."""

    def check(self) -> None:
        """Raise LawBroken unless every field changes the vocabulary, the ids of a text, or what is refused."""
        usual = [fit_to_texts(plain, TAUGHT, LEARNED) for plain in plain_config(type(self.config))]
        usual = [plain for plain in usual if plain is not None]
        fields_matter(self.config, outcome_of, defaults=usual, changes=other_configs)


@st.composite
def draw_tokenizer_fields(draw: Drawn, part: type[Tokenizer], where: Where) -> TokenizerFieldsCase:
    """Draw any tokenizer, with a vocabulary size that the texts allow."""
    usual = plain_config(part)[0]
    named = {name: getattr(usual, name) for name, kind in fields(part).items() if kind is str}
    config = fit_to_texts(dataclasses.replace(draw(configs(part)), **named), TAUGHT, draw(st.integers(1, LEARNED)))
    assume(config is not None)
    return TokenizerFieldsCase(config=config)


def plain_config(part: type[Tokenizer]) -> list[Any]:
    """Return a part's default config, with a file if it reads one, and others if a field needs them."""
    if part is Saved:
        return [Saved(path=preset_names()[0])]
    if part is Tiktoken:
        return [Tiktoken(path=rank_file(), pattern="gpt4")]
    if part is Huggingface:
        return [Huggingface(), Huggingface(path=lossy_file(), lossy=True)]
    return [part()]


def other_configs(config: Any, name: str) -> dict[str, list[Any]]:
    """Return other values of a field of a tokenizer."""
    value = getattr(config, name)
    known: dict[str, list[Any]] = {
        "vocab_size": [value + more for more in (1, -1, 5, -5) if name == "vocab_size" and value + more > 0],
        "pattern": list(PATTERNS),
        "special_tokens": list(NAMES),
        "path": file_paths(type(config)) if name == "path" else [],
    }
    return {name: [other for other in known[name] if other != value]} if name in known else other_choices(config, name)


def untried_of_tokenizer(part: type[Any]) -> dict[str, str]:
    """Return the fields of which no other value can be tried, and why."""
    fetched = {"encoding": "another would have to be fetched"} if part is Tiktoken else {}
    return untried(part, other_configs) | fetched


def file_paths(part: type[Any]) -> list[str]:
    """Return files that a part reads; none for a part from outside the package."""
    if part is Saved:
        return preset_names()[:2]
    if part is Tiktoken:
        return [rank_file(), rank_file(more=8)]
    return [lossy_file(lossy=False)] if part is Huggingface else []


def outcome_of(config: Tokenizer) -> dict[str, Tensor]:
    """Return the vocabulary that a tokenizer learns from `TAUGHT`, and its ids of the texts of `READ`."""
    try:
        codec = trained(config, TAUGHT)
    except TokenizerError:
        return {"these texts are refused": torch.zeros(0)}
    gaps = set(codec.undefined_ids)
    tokens = [b"" if token in gaps else codec.decode_bytes([token]) for token in range(min(codec.vocab_size, MANY))]
    digest = hashlib.sha256(repr((codec.vocab_size, sorted(codec.special_tokens.items()), tokens)).encode()).hexdigest()
    outcome = {f"vocabulary {digest}": torch.zeros(0)}
    for index, text in enumerate(READ):
        try:
            outcome[f"ids {index}"] = torch.from_numpy(codec.encode(text, [*codec.special_tokens]).astype(np.int64))
        except TextError:
            outcome[f"text {index} is refused"] = torch.zeros(0)
    return outcome


@lru_cache(maxsize=2)
def lossy_file(lossy: bool = True) -> str:
    """Return the path of a small tokenizer.json, which lowercases or not; empty if `tokenizers` is not installed."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        described = dict(Huggingface(vocab_size=300).train(TAUGHT).described)
    except TokenizerError:
        return ""
    described["normalizer"] = {"type": "Lowercase"} if lossy else None
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    return str(folder / "tokenizer.json")
