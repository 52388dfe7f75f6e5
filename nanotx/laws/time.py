"""The law of time: nothing feels the future, and the present is felt."""

from collections.abc import Callable

import torch
from torch import Tensor

from nanotx.errors import LawBroken


def causal(layer: Callable[[Tensor], Tensor], x: Tensor, cut: int, seed: int = 0, tolerance: float = 0.0) -> None:
    """No output up to position `cut` feels an input after it, and together they feel the one at `cut`.

    A random cotangent is sent back from the outputs up to `cut`. A plain sum would not do: that of a layer norm's
    outputs has no gradient at all. Nor would NaN in the future: an honest mask multiplies it by zero.

    Args:
        layer: from `b t d` to `b t d`, with nothing random in it.
        x: an input of ordinary scale; a saturated softmax rightly ignores its own position.
        cut: the last position that is looked at.
        seed: of the cotangent.
        tolerance: the greatest gradient that counts as none, where a device's kernel is not exact.

    Raises:
        LawBroken: which position is felt, and by how much; or that `cut` is not.
    """
    x = x.detach().clone().requires_grad_()
    seen = layer(x)[:, : cut + 1]
    cotangent = torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed)).to(seen)
    (gradient,) = torch.autograd.grad(seen, x, cotangent, allow_unused=True)
    felt = torch.zeros(x.shape[1]) if gradient is None else gradient.abs().amax(dim=(0, 2))
    for position in range(cut + 1, x.shape[1]):
        if not felt[position] <= tolerance:
            raise LawBroken(
                f"causal: outputs up to {cut} feel position {position} (gradient {felt[position]:.3g}); "
                f"input of shape {tuple(x.shape)}, seed {seed}."
            )
    if not felt[cut] > 0:
        raise LawBroken(
            f"causal: outputs up to {cut} do not feel position {cut} itself, so nothing was shown; "
            f"input of shape {tuple(x.shape)}, seed {seed}."
        )
