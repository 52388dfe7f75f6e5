"""What a tokenizer makes of a text: how much shorter it becomes, at what cost, and how alike the scripts are treated.

Fertility is tokens per word, where a word is a run of letters, marks and digits, and each Chinese or Japanese letter
by itself; all tokens count, those of white space and of stops too.
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
LEAST = 0.02
"""Seconds that one figure takes at least, so that the clock's grain does not show."""
RATES = ("bytes_per_token", "characters_per_token", "fertility")
SPEEDS = ("encode_cold_mb_per_second", "encode_mb_per_second", "decode_mb_per_second")


def measure(one: Contestant, training: str, validation: str, rounds: int) -> Row:
    """A tokenizer's figures; what cannot be known is None, and `error` says why where nothing can.

    Args:
        one: learns from the training text alone,
        training: this,
        validation: and is measured on the whole of this.
        rounds: of each speed, of which the median is taken.
    """
    data = len(validation.encode("utf-8"))
    row: Row = {"name": one.name, "part": one.config.part, "error": None, "bytes": data, "characters": len(validation)}
    row |= {"words": scripts.words(validation)}
    unknown = ("vocab_size", "digest", "train_seconds", "tokens", "round_trips", "lost_characters", "vocabulary_used")
    row |= dict.fromkeys((*unknown, *RATES, *SPEEDS, "scripts"))
    try:
        began = time.perf_counter()
        codec = one.config.train_checked([training], validation)
        seconds = time.perf_counter() - began
        row |= {"part": codec.part, "vocab_size": codec.vocab_size, "digest": codec.digest}
        row["train_seconds"] = None if one.config.part != codec.part else seconds  # what is only read learns nothing
        ids = codec.encode(validation)
        return row | counts(codec, validation, ids, row["words"]) | speeds(codec, validation, ids, rounds)
    except NanotxError as error:
        said = str(error).replace("--tokenizer.lossy", f"{one.name}:lossy")  # names the flag of a recipe
        return row | {"error": f"{type(error).__name__}: {said}"}


def counts(codec: Codec, text: str, ids: Ids, words: int) -> Row:
    """How many tokens there are, over all and by script; no rates where the ids do not give the text back."""
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
    """Millions of bytes a second, one thread: cold is the first encoding by a codec just read, warm a later one."""
    megabytes = len(text.encode("utf-8")) / 1e6
    table = codec.to_dict()
    cold = []
    for _ in range(rounds):
        fresh = Tokenizer.find(codec.part).from_dict(table)
        cold.append(_seconds(lambda one=fresh: one.encode(text), 1))  # type: ignore[misc]
    warm = _median(lambda: codec.encode(text), rounds)
    back = _median(lambda: codec.decode_bytes(ids), rounds)
    return dict(zip(SPEEDS, (megabytes / one for one in (statistics.median(cold), warm, back)), strict=True))


def _median(run: Callable[[], object], rounds: int) -> float:
    once = max(_seconds(run, 1), 1e-9)
    calls = max(1, round(LEAST / once))
    return statistics.median(_seconds(run, calls) for _ in range(rounds))


def _seconds(run: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        run()
    return max((time.perf_counter() - began) / calls, 1e-9)
