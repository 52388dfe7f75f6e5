"""Scores of heads: which look one token back, and which continue what was seen.

An induction head looks, from the second occurrence of a token, at the token after its first one, and so predicts what
followed there. Repeated random tokens show it, because nothing else predicts them. A head that looks one token back
because of what stands there shows it on a text of the kind that the model has learned, and less on random tokens.
Source: Olsson et al. 2022, https://arxiv.org/abs/2209.11895, sections "induction heads" and "previous token heads"
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nanotx.errors import ConfigError
from nanotx.evaluation.loss import EvalText
from nanotx.lens.capture import Capture, capture, eager_evaluation, replaced
from nanotx.lens.look import head_name
from nanotx.lens.remove import removal_edit
from nanotx.lens.sites import Site, sites
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer

TEXTS = 16
"""Random texts over which a score is the mean."""


@dataclass(frozen=True, kw_only=True)
class HeadScore:
    """What a head does on repeated random tokens, and on a text."""

    head: str  # such as 2.3
    induction: float  # mean attention weight from a token of the repetition to the one after its first occurrence
    previous: float  # mean attention weight from a token to the one before it
    difference: float  # of the loss of the repetition without the head from that with it, in nats per token


def head_scores(model: Transformer, seed: int = 0, text: EvalText | None = None) -> list[HeadScore]:
    """Return the scores of all heads that have attention weights, the highest induction score first.

    Args:
        model: the model.
        seed: of the random tokens.
        text: what the previous-token score is measured on; without it, the random tokens.

    Raises:
        ConfigError: the context is too short to repeat anything in it.
    """
    ids, heads = repeated_tokens(model, seed), list[HeadScore]()
    period, (_, whole) = ids.shape[1] // 2, repetition_losses(model, ids)
    with capture(model, ids) as c:
        weights = dict(head_weights(model, c))
    on_text = previous_scores(model, text) if text is not None else {}
    for (site, head), maps in weights.items():
        place, edit = removal_edit(model, f"{site.name}.head{head}")
        with replaced(model, {place: edit}):
            _, without = repetition_losses(model, ids)
        induction, previous = scores(maps, period)
        name = head_name(site, head)
        previous = on_text.get(name, previous)
        heads.append(HeadScore(head=name, induction=induction, previous=previous, difference=without - whole))
    return sorted(heads, key=lambda head: -head.induction)


def previous_scores(model: Transformer, text: EvalText) -> dict[str, float]:
    """Return the mean attention weight from a token of a text to the one before it, by the name of the head."""
    sums, count, device = dict[str, float](), 0, next(model.parameters()).device
    for x, _ in text.batches(model.context, TEXTS):
        pairs = len(x) * (x.shape[1] - 1)
        if not pairs:
            continue
        count += pairs
        with capture(model, x.to(device)) as c:
            for (site, head), maps in head_weights(model, c):
                name = head_name(site, head)
                sums[name] = sums.get(name, 0.0) + float(one_back(maps).sum())
    return {name: weight / count for name, weight in sums.items()}


def repeated_tokens(model: Transformer, seed: int = 0) -> Tokens:
    """Return texts of random tokens, each read twice over.

    Raises:
        ConfigError: the context is too short to repeat anything in it.
    """
    period = min(model.context // 2, 64)
    if period < 2:
        raise ConfigError(f"scores: a context of {model.context} is too short to repeat tokens in it; 4 are needed.")
    known = torch.tensor(sorted(set(range(model.vocab_size)) - set(model.undefined_ids)))
    chance = torch.Generator().manual_seed(seed)
    half = known[torch.randint(len(known), (TEXTS, period), generator=chance)]
    return torch.cat([half, half], dim=1).to(next(model.parameters()).device)


def repetition_losses(model: Transformer, ids: Tokens) -> tuple[float, float]:
    """Return the mean losses of the first reading, without its first token, and of the repetition without its first."""
    period = ids.shape[1] // 2
    with eager_evaluation(model, compiled=False):
        log_probs = rearrange(model(ids[:, :-1]).float(), "b t v -> b v t").log_softmax(dim=1)
        losses = F.nll_loss(log_probs, ids[:, 1:], reduction="none")
    return float(losses[:, : period - 1].mean()), float(losses[:, period:].mean())


def head_weights(model: Transformer, c: Capture) -> Iterator[tuple[tuple[Site, int], Float[Tensor, "b t s"]]]:
    """Yield each head that has attention weights, with them."""
    for site in sites(model):
        if site.attention is None:
            continue
        try:
            weights = c[f"{site.module}.weights{site.use}"]
        except ConfigError:  # it has none
            continue
        for head in range(site.heads):
            yield (site, head), weights[:, head]


def scores(weights: Float[Tensor, "b t s"], period: int) -> tuple[float, float]:
    """Return the mean weight from the repetition to the token after the first occurrence, and to the token before."""
    queries = torch.arange(period, weights.shape[1], device=weights.device)
    induction = weights[:, queries, queries - period + 1].mean()
    return float(induction), float(one_back(weights).mean())


def one_back(weights: Float[Tensor, "b t s"]) -> Float[Tensor, "b later"]:
    """Return the weights from each token but the first to the one before it."""
    later = torch.arange(1, weights.shape[1], device=weights.device)
    return weights[:, later, later - 1]
