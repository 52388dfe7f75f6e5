"""oneDNN's product of matrices: on AMD processors with AVX-512 it is faster than MKL's in float32."""

from functools import cache

import torch
from torch import Tensor

from nanotx.hardware.cpu import is_amd


@cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512, and torch can be told to use oneDNN."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return is_amd() and wide and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias, by oneDNN."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
