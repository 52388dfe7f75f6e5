"""Linear maps whose weights are stored in fewer bits: to sample, which reads all weights for every token.

Inputs, outputs and sums stay in float32. In int8 every output has a scale of its own:
weight = scale * integer, integers from -127 to 127; the largest weight of the row is 127.
Source: Dettmers et al. 2022, LLM.int8(), https://arxiv.org/abs/2208.07339, section 2.1 (absmax), here row by row
and for the weights alone
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.nn.linear import Linear, compiled_row, is_compiled_row

Storage = Literal["float32", "bfloat16", "int8"]
"""How weights of linear maps are stored; float32 leaves them as they are."""


def store_weights(model: nn.Module, storage: Storage) -> None:
    """Replace the plain linear maps of a model by ones that store their weights so; it can then not be trained.

    A map whose weights the model uses elsewhere, such as a tied head, gets a copy. Adapted maps and tables stay as
    they are.
    """
    if storage == "float32":
        return
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is Linear:
                setattr(parent, name, StoredLinear(layer, storage))


class StoredLinear(nn.Module):
    """A linear map without gradients, with weights in bfloat16 or int8."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: nn.Linear, storage: Storage) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach().float()
        if storage == "int8":
            scale = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
            self.register_buffer("weight", (weight / rearrange(scale, "n -> n 1")).round().to(torch.int8))
            self.register_buffer("scale", scale)
        else:
            self.register_buffer("weight", weight.to(torch.bfloat16))
            self.register_buffer("scale", None)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        product = compiled_row if is_compiled_row(x) else plain_product
        y = product(x, self.weight)
        y = y if self.scale is None else y * self.scale
        return y if self.bias is None else y + self.bias


def plain_product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x weight^T for weights of fewer bits."""
    return F.linear(x, weight.to(x.dtype))
