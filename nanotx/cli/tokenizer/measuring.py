"""Figures of a tokenizer on a text: compression, speed, and compression by script.

Fertility is tokens per word, where a word is a run of letters, marks and digits, or one Chinese or Japanese character;
all tokens count, those of whitespace and punctuation too.
Source: Rust et al. 2021, How good is your tokenizer?, https://arxiv.org/abs/2012.15613
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nanotx.cli.tokenizer.contestants import Contestant
from nanotx.errors import NanotxError
from nanotx.tokenizers import Codec, Tokenizer, scripts
from nanotx.tokenizers.base import Ids
from nanotx.tokenizers.scripts import lost_characters, script_breakdown

Row = dict[str, Any]
MIN_SECONDS = 0.02
"""Minimum duration of a measurement, well above the resolution of the clock."""
RATES = ("bytes_per_token", "characters_per_token", "fertility")
SPEEDS = ("encode_cold_mb_per_second", "encode_mb_per_second", "decode_mb_per_second")


def measure(contestant: Contestant, training: str, validation: str, rounds: int) -> Row:
    """Return the figures of a tokenizer; unknown figures are None, and `error` is the reason where all are unknown.

    Args:
        contestant: the tokenizer to train and measure.
        training: the text that it is trained on.
        validation: the text that it is measured on.
        rounds: measurements per speed, of which the median is taken.
    """
    data = len(validation.encode("utf-8"))
    row: Row = {
        "name": contestant.name,
        "part": contestant.config.part,
        "error": None,
        "bytes": data,
        "characters": len(validation),
    }
    row |= {"words": scripts.words(validation)}
    unknown = ("vocab_size", "digest", "train_seconds", "tokens", "round_trips", "lost_characters", "vocabulary_used")
    row |= dict.fromkeys((*unknown, *RATES, *SPEEDS, "scripts"))
    try:
        began = time.perf_counter()
        codec = contestant.config.train_checked([training], validation)
        seconds = time.perf_counter() - began
        row |= {"part": codec.part, "vocab_size": codec.vocab_size, "digest": codec.digest}
        row["train_seconds"] = (
            None if contestant.config.part != codec.part else seconds
        )  # a saved tokenizer is not trained
        ids = codec.encode(validation)
        return row | counts(codec, validation, ids, row["words"]) | speeds(codec, validation, ids, rounds)
    except NanotxError as error:
        message = str(error).replace("--tokenizer.lossy", f"{contestant.name}:lossy")  # names the flag of a recipe
        return row | {"error": f"{type(error).__name__}: {message}"}


def counts(codec: Codec, text: str, ids: Ids, words: int) -> Row:
    """Count the tokens, of the whole and by script; no rates where the ids do not give the text back."""
    size = len(text.encode("utf-8"))
    row: Row = {
        "tokens": len(ids),
        "vocabulary_used": len(np.unique(ids)) / codec.vocab_size,
        "lost_characters": lost_characters(codec, text, ids) / len(text),
        "round_trips": codec.decode_bytes(ids) == text.encode("utf-8"),
    }
    if not row["round_trips"]:
        return row
    row |= dict(zip(RATES, (size / len(ids), len(text) / len(ids), len(ids) / words if words else None), strict=True))
    parts = script_breakdown(codec, text, ids)
    each = zip(parts.names, parts.sizes.tolist(), parts.words.tolist(), parts.tokens().tolist(), strict=True)
    row["scripts"] = {
        name: {
            "bytes": size,
            "words": words,
            "tokens": tokens,
            "bytes_per_token": size / tokens if tokens else None,
            "fertility": tokens / words if words else None,
        }
        for name, size, words, tokens in each
    }
    return row


def speeds(codec: Codec, text: str, ids: Ids, rounds: int) -> Row:
    """Measure MB/s on one thread: cold is the first encoding of a tokenizer just loaded, warm a later one."""
    megabytes = len(text.encode("utf-8")) / 1e6
    table = codec.to_dict()
    cold = []
    for _ in range(rounds):
        fresh = Tokenizer.find(codec.part).from_dict(table)
        cold.append(_seconds(lambda codec=fresh: codec.encode(text), 1))  # type: ignore[misc]
    warm = _median(lambda: codec.encode(text), rounds)
    back = _median(lambda: codec.decode_bytes(ids), rounds)
    return dict(zip(SPEEDS, (megabytes / seconds for seconds in (statistics.median(cold), warm, back)), strict=True))


def _median(run: Callable[[], object], rounds: int) -> float:
    once = max(_seconds(run, 1), 1e-9)
    calls = max(1, round(MIN_SECONDS / once))
    return statistics.median(_seconds(run, calls) for _ in range(rounds))


def _seconds(run: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        run()
    return max((time.perf_counter() - began) / calls, 1e-9)
