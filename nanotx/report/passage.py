"""A held-out passage as the model reads it: the surprise of each token, its guesses, and where the heads look."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nanotx.errors import ConfigError
from nanotx.evaluation.loss import EvalText
from nanotx.lens.capture import capture, eager_evaluation
from nanotx.lens.look import Map, attention_maps
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec

PASSAGE = 600
"""Tokens of the passage."""

GUESSES = 3
"""Guesses that are shown for each token."""

MAP_TOKENS = 48
"""Tokens of the passage whose attention is shown."""

MOST_MAPS = 160
"""Heads whose maps are on a page, about 1.2 kB each."""

LEVELS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
"""Weights on the page: a character each, of 64 levels from 0 to 1."""

HELD = 2**22
"""The most logits in memory at once."""

Passage = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model, and what it is looked at with."""

    model: Transformer
    codec: Codec
    held_out: EvalText


def passage(subject: Subject) -> tuple[Passage, list[str]]:
    """Return the passage for the page, and sentences on what cannot be shown."""
    ids = first_ids(subject.held_out, PASSAGE)
    if len(ids) < 2:
        return {}, ["The validation text has less than two tokens: there is no passage to show."]
    model, codec = subject.model, subject.codec
    text_of = token_texts(codec)
    surprise, guesses = predictions(model, ids)
    shown: Passage = {
        "tokens": [text_of(token) for token in ids.tolist()],
        "surprise": [None, *surprise],
        "guesses": [[], *([[text_of(token), percent] for token, percent in row] for row in guesses)],
    }
    with (
        eager_evaluation(model, is_compiled(model)),
        capture(model, ids[: min(MAP_TOKENS, model.context)].tolist()) as c,
    ):
        maps, without = attention_maps(model, c)
    notes = [f"Attention of layer {name}: {reason}" for name, reason in list(without.items())[:1]]
    if len(without) > 1:
        notes.append(f"The attentions of {len(without)} layers have no maps.")
    if len(maps) > MOST_MAPS:
        notes.append(f"The maps of {len(maps) - MOST_MAPS} of {len(maps)} heads, in later layers, are left out.")
    shown["maps"] = {name: levels(weights) for name, weights in list(maps.items())[:MOST_MAPS]}
    shown["map_tokens"] = min(MAP_TOKENS, model.context, len(ids))
    return shown, notes


def is_compiled(model: Transformer) -> bool:
    """Return whether blocks of a model are compiled."""
    return any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())


def first_ids(held_out: EvalText, count: int) -> NDArray[np.integer[Any]]:
    """Return the first ids of an evaluation text; of picked windows, those of the first one."""
    return np.asarray(held_out.windows[0][:count] if held_out.windows else held_out.ids[:count])


def token_texts(codec: Codec) -> Callable[[int], str]:
    """Return the function from a token to its text; bytes that are no character are written as escapes."""
    names = {number: name for name, number in codec.special_tokens.items()}

    def text_of(token: int) -> str:
        return names[token] if token in names else codec.decode_bytes([token]).decode("utf-8", "backslashreplace")

    return text_of


def predictions(model: Transformer, ids: NDArray[np.integer[Any]]) -> tuple[list[float], list[list[tuple[int, float]]]]:
    """Return the surprise of each token after the first, in nats, and the likeliest tokens there, in percent.

    Windows of the context overlap by half, so that a token has half a context before it at least, unless it is near the
    beginning of the passage.
    """
    surprise, guesses = list[float](), list[list[tuple[int, float]]]()
    text = torch.from_numpy(ids.astype(np.int64)).to(next(model.parameters()).device)
    last = len(ids) - 1
    size = min(model.context, last)
    starts = sorted({*range(0, last - size, max(1, size // 2)), last - size})
    rows = max(1, HELD // (size * model.vocab_size))
    with eager_evaluation(model, is_compiled(model)):
        for at in range(0, len(starts), rows):
            group = starts[at : at + rows]
            logits = model(torch.stack([text[start : start + size] for start in group]))
            for start, row in zip(group, logits.float().log_softmax(dim=-1), strict=True):
                log_probs = row[len(surprise) - start :]
                targets = text[len(surprise) + 1 : start + size + 1]
                best, tokens = log_probs.topk(min(GUESSES, log_probs.shape[-1]), dim=-1)
                guesses += likeliest(tokens.tolist(), best.exp().tolist())
                surprise += (-log_probs[torch.arange(len(targets)), targets]).tolist()
    return [round(value, 3) for value in surprise], guesses


def likeliest(tokens: list[list[int]], shares: list[list[float]]) -> list[list[tuple[int, float]]]:
    """Return the likeliest tokens at each place with their probabilities in percent."""
    return [
        [(token, round(100 * share, 1)) for token, share in zip(*row, strict=True)]
        for row in zip(tokens, shares, strict=True)
    ]


def levels(weights: Map) -> list[str]:
    """Return a map with a text for each query: a character of `LEVELS` for each token up to it."""
    places = np.clip(np.nan_to_num(weights.numpy()) * (len(LEVELS) - 1), 0, len(LEVELS) - 1).round().astype(int)
    return ["".join(LEVELS[level] for level in row[: query + 1]) for query, row in enumerate(places.tolist())]


def try_passage(subject: Subject) -> tuple[Passage, list[str]]:
    """Return the passage, or why there is none; a part of the user's own may raise anything."""
    try:
        return passage(subject)
    except ConfigError as error:
        return {}, [f"The passage and the attention maps are left out: {error}"]
    except Exception as error:
        return {}, [f"The passage and the attention maps are left out: {type(error).__name__}: {error!s:.300}"]
