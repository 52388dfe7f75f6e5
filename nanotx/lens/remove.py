"""Ablation: the loss of a text without a part of the model.

What is removed puts out zeros; a removed layer puts out its input. The loss is compared window by window, so that what
makes a window hard cancels out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nanotx.evaluation.loss import EvalText
from nanotx.lens.capture import Edit, eager_evaluation, replaced, skipped
from nanotx.lens.sites import Site, find_site, sites
from nanotx.nn.transformer import Transformer

TOKENS_AT_ONCE = 2**12
"""Tokens of one batch of windows."""

NORMAL_95 = 1.959964
"""Half the width of a 95% interval in standard errors."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The loss without a part of the model."""

    name: str
    loss: float  # nats per token
    difference: float  # from the loss with it; positive where the part helps
    stderr: float | None  # of the difference, over windows; None for a single window

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the difference for other text of the same kind; None for a single window."""
        if self.stderr is None:
            return None
        return self.difference - NORMAL_95 * self.stderr, self.difference + NORMAL_95 * self.stderr


def removable(model: Transformer) -> list[str]:
    """Return the names of all that can be removed: each layer, attention, head and ffn."""
    heads = [f"{site.name}.head{head}" for site in sites(model) for head in range(site.heads)]
    return [*(site.name for site in sites(model)), *heads]


def removal_edit(model: Transformer, name: str) -> tuple[str, Edit]:
    """Return what to replace in a pass so that a part is removed: a name and a function.

    Raises:
        ConfigError: the model has no such part; says which it has.
    """
    site, head = find_site(model, name)
    if head is not None:
        return f"{site.module}.heads{site.use}", without_head(head)
    return f"{site.module}{site.use}", skipped if is_layer(site) else torch.zeros_like


def removal_edits(model: Transformer, names: Sequence[str]) -> dict[str, Edit]:
    """Return what to replace in a pass so that several parts are removed together.

    Raises:
        ConfigError: the model has no such part; says which it has.
    """
    edits: dict[str, Edit] = {}
    for name in dict.fromkeys(names):
        place, edit = removal_edit(model, name)
        edits[place] = after(edits[place], edit) if place in edits else edit
    return edits


def after(first: Edit, second: Edit) -> Edit:
    """Return the function that applies two of them, one after the other."""
    assert callable(first) and callable(second)
    return lambda tensor: second(first(tensor))


def is_layer(site: Site) -> bool:
    """Return whether a place is a whole layer."""
    return site.name.isdecimal()


def without_head(head: int) -> Edit:
    """Return the function that sets the output of a head to zero."""

    def edit(heads: Tensor) -> Tensor:
        mask = torch.ones(heads.shape[1], dtype=heads.dtype, device=heads.device)
        mask[head] = 0.0
        return heads * rearrange(mask, "h -> h 1 1")

    return edit


def removals(model: Transformer, text: EvalText, names: Sequence[str]) -> Iterator[tuple[float, Removal]]:
    """Yield the loss with all parts, and without each of some, one after the other.

    Args:
        model: the model.
        text: the text to score.
        names: of the parts, as in `removable`.

    Raises:
        ConfigError: the model has no such part.
    """
    edits = [(name, removal_edit(model, name)) for name in names]
    whole, counts = window_losses(model, text)
    tokens, loss = float(counts.sum()), float(whole.sum() / counts.sum())
    for name, (place, edit) in edits:
        with replaced(model, {place: edit}):
            sums, _ = window_losses(model, text)
        changes = sums - whole
        difference = float(changes.sum()) / tokens
        stderr = None
        if (windows := len(counts)) > 1:
            squares = float(((changes - difference * counts) ** 2).sum())
            stderr = math.sqrt(squares * windows / (windows - 1)) / tokens
        yield loss, Removal(name=name, loss=loss + difference, difference=difference, stderr=stderr)


def window_losses(model: Transformer, text: EvalText) -> tuple[Float[Tensor, " w"], Float[Tensor, " w"]]:
    """Return the sum of the losses of each window of a text in nats, and its number of tokens."""
    sums, counts, device = list[Tensor](), list[int](), next(model.parameters()).device
    with eager_evaluation(model, compiled=False):
        for x, y in text.batches(model.context, max(1, TOKENS_AT_ONCE // model.context)):
            log_probs = rearrange(model(x.to(device)).float(), "b t v -> b v t").log_softmax(dim=1)
            sums.append(F.nll_loss(log_probs, y.to(device), reduction="none").double().sum(dim=1).cpu())
            counts += [y.shape[1]] * len(y)
    return torch.cat(sums), torch.tensor(counts, dtype=torch.float64)
