"""How fast a machine is, measured: its products in each dtype, and its memory."""

import time

import torch

from nanotx.device import Machine, has_bfloat16, measured_peak, synchronize
from nanotx.limits import memory


def rates(machine: Machine) -> dict[str, float]:
    """Measured: operations a second of products in each dtype, and bytes a second of a copy, read and written."""
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        one = Machine(device=machine.device, dtype=dtype, threads=machine.threads)
        quick = machine.device.type == "cpu" and not (dtype is torch.float32 or has_bfloat16("cpu"))
        size = 256 if quick else 1024 if machine.device.type == "cpu" else 8192  # in software one takes seconds
        found[str(dtype).removeprefix("torch.")] = measured_peak(one, size)
    return found | {"copy": bandwidth(machine)}


def bandwidth(machine: Machine, size: int = 2**26, tries: int = 5) -> float:
    """Bytes a second, read and written, of the best of a few copies of `size` float32 numbers, or of fewer."""
    left = memory()
    size = min(size, left.available // 64 if left else size)  # with the copy, an eighth of what is left
    source = torch.zeros(size, device=machine.device)
    target, best = torch.empty_like(source).fill_(1), float("inf")
    for _ in range(tries):
        synchronize(machine.device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(machine.device)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best
