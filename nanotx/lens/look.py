"""What a model makes of a text: the guess after each layer, the surprise of each token, and where each head looks."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.lens.capture import Capture, capture
from nanotx.lens.sites import Site, sites
from nanotx.nn.transformer import Transformer

Map = Float[Tensor, "t s"]
"""Attention weights of one head: a row per query."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the model would say next, if it ended after some layer."""

    token: int  # the most likely next token
    probability: float  # of that token
    entropy: float  # of the distribution, in nats
    rank: int | None  # of the token that comes next in the text, 1 for the most likely; None after the last token
    surprise: float | None  # -ln of the probability of that token, in nats


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A pass over a text, taken apart."""

    ids: tuple[int, ...]
    left_out: int  # tokens before these that did not fit the context
    layers: dict[str, tuple[Guess, ...]]  # guesses at each token by layer: `embedding`, 0, 1, ...
    maps: dict[str, Map]  # attention weights by head, such as 2.3
    without: dict[str, str]  # why an attention has no weights, by layer
    notes: tuple[str, ...]

    @property
    def final(self) -> tuple[Guess, ...]:
        """The guesses after the last layer, which are the model's own."""
        return list(self.layers.values())[-1]

    def strongest(self, query: int, count: int) -> list[tuple[str, int, float]]:
        """Return the heads that look most at one earlier token: their names, that token's place, and the weight."""
        if not query:
            return []
        best = []
        for name, weights in self.maps.items():
            weight, place = weights[query, :query].max(dim=0)
            best.append((name, int(place), float(weight)))
        return sorted(best, key=lambda pair: -pair[2])[:count]


def look(model: Transformer, ids: list[int]) -> Look:
    """Return what a model makes of the ids of a text; of a longer text than its context, of the last window.

    The guess after a layer is that of the final norm and the head on the stream there.
    Source: nostalgebraist 2020, interpreting GPT: the logit lens
    """
    if not ids:
        raise ConfigError("--prompt: expected a text of one token at least.")
    window = ids[-model.context :]
    targets = torch.tensor(window[1:], device=next(model.parameters()).device)
    with capture(model, window) as c, torch.no_grad():
        layers = {"embedding": guesses(model, c["dropout"][0], targets)}
        for site in sites(model):
            if site.name.isdecimal():
                layers[site.name] = guesses(model, c[f"{site.module}{site.use}"][0], targets)
        maps, without = attention_maps(model, c)
        return Look(
            ids=tuple(window), left_out=len(ids) - len(window), layers=layers, maps=maps, without=without, notes=c.notes
        )


def guesses(model: Transformer, stream: Float[Tensor, "t d"], targets: Tensor) -> tuple[Guess, ...]:
    """Return the guess at each token of a stream."""
    log_probs = model.logits(model.norm(rearrange(stream, "t d -> 1 t d")))[0].float().log_softmax(dim=-1)
    best, tokens = log_probs.max(dim=-1)
    entropies = -(log_probs.exp() * log_probs.clamp(min=-1e9)).sum(dim=-1)
    rows = zip(best.exp().tolist(), tokens.tolist(), entropies.tolist(), strict=True)
    layers = []
    for place, (probability, token, entropy) in enumerate(rows):
        row = log_probs[place]
        true = float(row[targets[place]]) if place < len(targets) else None
        layers.append(
            Guess(
                token=token,
                probability=probability,
                entropy=entropy,
                rank=None if true is None else 1 + int((row > true).sum()),
                surprise=None if true is None else -true,
            )
        )
    return tuple(layers)


def attention_maps(model: Transformer, c: Capture) -> tuple[dict[str, Map], dict[str, str]]:
    """Return the attention weights of all heads, and why some attentions have none."""
    maps, without = dict[str, Map](), dict[str, str]()
    for site in sites(model):
        if site.attention is None:
            continue
        try:
            weights = c[f"{site.module}.weights{site.use}"]
        except ConfigError as error:
            without[site.name] = str(error)
            continue
        maps |= {head_name(site, head): weight for head, weight in enumerate(weights[0].float().cpu())}
    return maps, without


def head_name(site: Site, head: int) -> str:
    """Return the short name of a head: 2.3, or 2.attention2.3 in a block with several attentions."""
    return f"{site.name.removesuffix('.attention')}.{head}"


def to_json(seen: Look, texts: list[str]) -> dict[str, Any]:
    """Return all of it as plain values; numbers that are not finite become None."""
    return {
        "tokens": [{"id": token, "text": text} for token, text in zip(seen.ids, texts, strict=True)],
        "left_out": seen.left_out,
        "layers": {
            name: [{key: finite(value) for key, value in vars(guess).items()} for guess in row]
            for name, row in seen.layers.items()
        },
        "attention": {
            name: [[round(weight, 4) for weight in row] for row in weights.tolist()]
            for name, weights in seen.maps.items()
        },
        "without_attention": seen.without,
        "notes": list(seen.notes),
    }


def finite(value: float | int | None) -> float | int | None:
    """Return a number that JSON knows."""
    return value if value is None or math.isfinite(value) else None
