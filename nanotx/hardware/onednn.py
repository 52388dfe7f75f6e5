"""oneDNN's matrix product, which on AMD processors with AVX-512 is faster than MKL's in float32.

PyTorch offers it under a name that it does not promise to keep. Without it, or if it computes something else, every
product is PyTorch's own.
"""

import os
import re
import subprocess
import sys
from functools import cache

import torch
from torch import Tensor

from nanotx.hardware.cpu import is_amd


@cache
def onednn_is_faster() -> bool:
    """Return whether this is an AMD processor with AVX-512 and a PyTorch whose oneDNN can be called."""
    return is_amd() and torch.backends.cpu.get_cpu_capability() == "AVX512" and has_onednn()


def has_onednn() -> bool:
    """Return whether `onednn_matmul` works, tried on a small product."""
    x, weight, bias = torch.ones(2, 3), torch.ones(4, 3), torch.ones(4)
    try:
        return torch.equal(onednn_matmul(x, weight, bias), torch.full((2, 4), 4.0))
    except (AttributeError, RuntimeError, TypeError):  # there is no such operation, or it takes other arguments
        return False


def onednn_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias, computed by oneDNN."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def onednn_instructions() -> str:
    """Return the instruction set that oneDNN uses; it only prints it to stdout, so a child process is run."""
    ask = "import torch; torch.nn.functional.conv2d(torch.ones(8, 64, 16, 16), torch.ones(64, 64, 3, 3))"
    environment = {**os.environ, "ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-c", ask]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    printed = re.search(r"cpu,isa:(.*)", done.stdout)
    return printed[1].strip() if printed else "unknown"
