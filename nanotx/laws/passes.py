"""Laws of a forward pass: it leaves nothing to the next one, and recomputed activations are the same."""

import torch
from torch import Tensor

from nanotx.errors import LawBroken
from nanotx.laws.values import cotangent, require_close
from nanotx.laws.weights import seeded
from nanotx.nn.shapes import Tokens
from nanotx.nn.transformer import Transformer


def one_pass(model: Transformer, ids: Tokens, others: Tokens, seed: int = 0, tolerance: float = 1e-5) -> None:
    """Raise LawBroken unless a forward pass is a function of its input, also after another pass and with recomputation.

    Args:
        model: the model.
        ids: its input.
        others: the input of another pass.
        seed: of the randomness in training, and of the cotangent sent back.
        tolerance: by how much numbers may differ, relative to the largest (or 1).

    Raises:
        LawBroken: what differs, and by how much.
    """
    with torch.no_grad():
        model.eval()
        want = model(ids)
        model(others)
        require_close("one_pass", model(ids), want, tolerance, "logits, after another pass")
    plain, again = (gradients(model, ids, seed, checkpointing) for checkpointing in (False, True))
    for name, gradient in plain.items():
        require_close("one_pass", again[name], gradient, tolerance, f"{name}, with activation checkpointing")


def gradients(model: Transformer, ids: Tokens, seed: int, checkpointing: bool) -> dict[str, Tensor]:
    """Return the logits of a training pass, and the gradients of a random weighting of them."""
    model.train().activation_checkpointing = checkpointing
    learned = {name: param for name, param in model.named_parameters() if param.requires_grad}
    try:
        with seeded(seed):
            y = model(ids)
            grads = torch.autograd.grad(
                y, [*learned.values()], cotangent(y.shape, seed).to(y), allow_unused=True, materialize_grads=True
            )
    except RuntimeError as error:
        if not checkpointing:
            raise
        line = str(error).partition("\n")[0]
        raise LawBroken(f"one_pass: with activation checkpointing, the backward pass fails: {line}") from error
    finally:
        model.eval().activation_checkpointing = False
    return {"logits": y.detach()} | {f"gradient of {name}": grad for name, grad in zip(learned, grads, strict=True)}
