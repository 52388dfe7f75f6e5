"""Laws of what is trained and what is not: frozen parameters keep every bit, and adapters begin and merge as stated."""

from collections.abc import Callable, Collection

import torch
from torch import nn

from nanotx.errors import LawBroken
from nanotx.nn.adapt import adapted, added_names, merged_weights
from nanotx.nn.buffers import bits
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer


def frozen_stays(model: nn.Module, train: Callable[[], object], frozen: Collection[str]) -> None:
    """Raise LawBroken unless training moves no bit of the frozen parameters, gives them no gradient, and moves others.

    Args:
        model: as it is trained.
        train: takes some steps, and leaves the gradients of the last.
        frozen: names of the parameters that must stay.

    Raises:
        LawBroken: one of them moved or has a gradient, or no other moved.
    """
    before = {name: param.detach().clone() for name, param in model.named_parameters()}
    train()
    moved = {
        name for name, param in model.named_parameters() if not torch.equal(bits(param.detach()), bits(before[name]))
    }
    for name, param in model.named_parameters():
        if name in frozen and name in moved:
            raise LawBroken(f"frozen_stays: {name} is frozen, and training moved it.")
        if name in frozen and param.grad is not None:
            raise LawBroken(f"frozen_stays: {name} is frozen, and has a gradient.")
    if not moved:
        raise LawBroken("frozen_stays: nothing moved at all, so that the law says nothing.")


def starts_equal(base: Transformer, model: Transformer, ids: Tokens) -> None:
    """Raise LawBroken unless a model with a new adapter computes the bits of the model without it, and can leave them.

    Args:
        base: the model without the adapter.
        model: the same with it, with the weights of `base`.
        ids: the input.

    Raises:
        LawBroken: an output differs, the adapter adds nothing, or no gradient arrives at it.
    """
    added = added_names(model)
    if not added:
        raise LawBroken("starts_equal: the adapter adds no parameter.")
    ours, theirs = base(ids), model(ids)
    if not torch.equal(ours, theirs):
        raise LawBroken(
            f"starts_equal: outputs differ by up to {(ours - theirs).abs().max():.3g} before the first step."
        )
    layers = dict(adapted(model))
    wanted = {
        name: [layer.weight, *(layer.get_parameter(param) for param in layer.adds)] for name, layer in layers.items()
    }
    flat = [tensor.requires_grad_() for tensors in wanted.values() for tensor in tensors]
    random = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(len(added)))
    arrived = iter(torch.autograd.grad(model(ids), flat, random, allow_unused=True))
    for name, tensors in wanted.items():
        own, *others = [grad is not None and bool(grad.any()) for grad in (next(arrived) for _ in tensors)]
        if own and not any(others):  # an expert that is not chosen has none either
            raise LawBroken(f"starts_equal: what is added to {name} gets no gradient, so it can never learn.")


def merges(base: Transformer, model: Transformer, ids: Tokens, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless a model with its adapter merged computes what it does beside it.

    Args:
        base: a model without the adapter, whose weights are replaced.
        model: the same with an adapter that was trained.
        ids: the input.
        tolerance: allowed difference of the logits, relative to the largest (or 1).

    Raises:
        LawBroken: an output differs by more, or the adapter does nothing.
    """
    plain = base(ids).detach()
    base.load_state_dict(merged_weights(model))
    ours, theirs = base(ids), model(ids)
    scale = max(1.0, float(theirs.detach().abs().max()))
    if (apart := float((ours - theirs).detach().abs().max())) > tolerance * scale:
        raise LawBroken(f"merges: merged, outputs differ by up to {apart:.3g}, more than {tolerance * scale:.3g}.")
    if torch.equal(plain, theirs):
        raise LawBroken("merges: the adapter does nothing, so that the law says nothing.")
