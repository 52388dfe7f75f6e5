"""Choice of device, dtype and number of threads."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from nanotx.errors import ConfigError
from nanotx.hardware.cpu import default_threads
from nanotx.hardware.installed import torch_problem
from nanotx.hardware.onednn import onednn_is_faster, onednn_matmul


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Device, dtype and number of threads of a run."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @property
    def dtype_name(self) -> str:
        """Return the name of the dtype as in recipes."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> torch.autocast:
        """Return the autocast context of a forward pass; weights stay float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32)


def choose_machine(device: str, dtype: str, threads: int) -> Machine:
    """Resolve "auto" (or 0) and set the number of threads of torch.

    Raises:
        ConfigError: the machine does not have the requested device or dtype, or PyTorch is too old.
    """
    if problem := torch_problem():
        raise ConfigError(problem)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: expected a CUDA GPU, and torch sees none; try --device cpu, or a torch with CUDA.")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: expected Apple's GPU, and torch sees none; try --device cpu.")
    if dtype == "float16" and device == "cpu":
        raise ConfigError("dtype: float16 does not train on a CPU; try --dtype bfloat16 or float32.")
    threads = threads or default_threads()
    torch.set_num_threads(threads)
    if dtype == "auto":
        dtype = "bfloat16" if has_bfloat16(device) else "float32"
    return Machine(device=torch.device(device), dtype=getattr(torch, dtype), threads=threads)


def make_deterministic(device: torch.device) -> None:
    """Make GPU operations deterministic; a CPU is deterministic for a fixed number of threads.

    Torch then refuses operations that have no deterministic implementation. Source: https://docs.pytorch.org/docs/stable/notes/randomness.html
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(True)


@cache
def has_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies in bfloat16; in software it is slower than float32.

    A CPU may list bfloat16 without torch using it, so a few products are timed, once per process: on one thread and in
    turns, so that neither the number of threads of a run nor other programs decide.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu" or not bfloat16_instructions():
        return False
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    peaks = {torch.bfloat16: 0.0, torch.float32: 0.0}
    try:
        for _ in range(4):
            for dtype in peaks:
                machine = Machine(device=torch.device("cpu"), dtype=dtype, threads=1)
                peaks[dtype] = max(peaks[dtype], measured_peak(machine, size=512, tries=4))
    finally:
        torch.set_num_threads(threads)
    return peaks[torch.bfloat16] > peaks[torch.float32]


BFLOAT16_CHECKS = {"AVX512_BF16": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
"""Functions of `torch.cpu` by the instruction set; PyTorch does not promise to keep them."""


def bfloat16_instructions() -> list[str]:
    """Return the processor's instruction sets for bfloat16; none that this PyTorch cannot check."""
    return [name for name, check in BFLOAT16_CHECKS.items() if getattr(torch.cpu, check, bool)()]


COARSE = 1e-4
"""Seconds; a clock of this resolution or a coarser one, such as that of Windows, cannot time a product."""


def measured_peak(machine: Machine, size: int = 1024, tries: int = 8) -> float:
    """Measure the operations per second of the fastest of a few square matrix products, in the machine's dtype.

    On a CPU the time is that of the processor, as far as its clock is fine enough: other programs that share the
    machine do not make it a slower one.
    """
    chance = torch.Generator(machine.device).manual_seed(0)  # leaves the global generator unchanged
    a = torch.randn(size, size, device=machine.device, dtype=machine.dtype, generator=chance)
    onednn = machine.device.type == "cpu" and machine.dtype is torch.float32 and onednn_is_faster()
    multiply = onednn_matmul if onednn else torch.mm
    clock, best = product_clock(machine.device), float("inf")
    for _ in range(tries):
        synchronize(machine.device)
        start = clock()
        multiply(a, a)
        synchronize(machine.device)
        best = min(best, clock() - start)
    return 2 * size**3 / best


def product_clock(device: torch.device) -> Callable[[], float]:
    """Return the clock that times a product: seconds of the processor, of each of its threads, or else on the wall."""
    coarse = time.get_clock_info("process_time").resolution > COARSE or is_processor_time_limited()
    if device.type != "cpu" or coarse:
        return time.perf_counter
    threads = torch.get_num_threads()
    return lambda: time.process_time() / threads


def is_processor_time_limited() -> bool:
    """Return whether the system ends this process after some processor time, as `ulimit -t` asks.

    Linux then counts it at each tick of its timer, milliseconds apart, whatever the resolution that it states.
    """
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_CPU)[0] != resource.RLIM_INFINITY


PUBLISHED_PEAKS = {
    "H100 PCIe": {"bfloat16": 756e12, "float16": 756e12, "float32": 51e12},
    "H100 NVL": {"bfloat16": 835e12, "float16": 835e12, "float32": 60e12},
    "H100": {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "H200": {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
    "A10": {"bfloat16": 125e12, "float16": 125e12, "float32": 31.2e12},
    "L40S": {"bfloat16": 362e12, "float16": 362e12, "float32": 91.6e12},
    "L4": {"bfloat16": 121e12, "float16": 121e12, "float32": 30.3e12},
    "V100": {"float16": 125e12, "float32": 15.7e12},
    "T4": {"float16": 65e12, "float32": 8.1e12},
    "RTX 4090": {"bfloat16": 165.2e12, "float16": 165.2e12, "float32": 82.6e12},
    "RTX 3090": {"bfloat16": 71e12, "float16": 71e12, "float32": 35.6e12},
}
"""Peak operations per second of dense products that accumulate in float32, as NVIDIA's datasheets give them."""


def peak_flops(machine: Machine) -> float:
    """Return the peak operations per second for MFU: published for a known GPU, otherwise measured."""
    if machine.device.type == "cuda":
        words = torch.cuda.get_device_name(machine.device).replace("-", " ").split()
        for name, peaks in PUBLISHED_PEAKS.items():
            if set(name.split()) <= set(words) and machine.dtype_name in peaks:
                return peaks[machine.dtype_name]
    return measured_peak(machine)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
