"""A report on this machine: processor, memory and GPU, and the settings of a run on them; `nanotx doctor` prints it.

The settings are those that a run chooses; other modules decide them, and this one only explains them.
"""

import os
import platform
import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from nanotx.hardware.cgroup import MemoryInfo, cpu_quota, memory_info
from nanotx.hardware.compiler import (
    MIN_SECONDS,
    CompileDecision,
    CompileTrial,
    compiler_version,
    decide_compile,
    find_compiler,
)
from nanotx.hardware.cpu import cores, processor
from nanotx.hardware.device import Machine, bfloat16_instructions, has_bfloat16, measured_peak, synchronize
from nanotx.hardware.memory import ALLOCATOR_VARIABLE, libc, plan_allocator
from nanotx.hardware.onednn import onednn_instructions, onednn_is_faster

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that a run chooses unless a flag overrides it."""

    name: str
    choice: str
    reason: str
    override: str  # the flag or variable that overrides it


def machine_facts() -> dict[str, str]:
    """Describe the machine and what is installed on it."""
    memory, path = memory_info(), find_compiler()
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": f"{processor()}, {platform.machine()}",
        "cores": f"{cores()} for this process, of {os.cpu_count()}",
        "memory": format_memory(memory) if memory else "unknown",
        "instructions": instructions(),
        "GPU": "; ".join(f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB" for gpu in gpus) or apple_gpu() or "none",
        "compiler": f"{path}: {compiler_version(path)}" if path else "none",
        "torch": f"{torch.__version__}, Python {platform.python_version()}, {platform.system()} {libc()}".strip(),
    }


def format_memory(memory: MemoryInfo) -> str:
    """Describe the memory."""
    bound = f"{memory.limit / GIB:.1f} GiB of {memory.total / GIB:.1f} (cgroup)" if memory.bounded else ""
    return f"{bound or f'{memory.total / GIB:.1f} GiB'}, {memory.available / GIB:.1f} available"


def apple_gpu() -> str:
    """Name Apple's GPU, if PyTorch can use it."""
    return "Apple's (mps)" if torch.backends.mps.is_available() else ""


def instructions() -> str:
    """Name the instruction sets that PyTorch and oneDNN use, and those for bfloat16."""
    half = " and ".join(bfloat16_instructions())
    torch_set = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch_set}; oneDNN {onednn_instructions()}; for bfloat16 {half or 'none'}"


@runtime_checkable
class Requested(Protocol):
    """The settings that a user requests; "auto", or 0, leaves the choice to the run."""

    @property
    def device(self) -> str:
        """As in a recipe."""

    @property
    def dtype(self) -> str:
        """As in a recipe."""

    @property
    def threads(self) -> int:
        """As in a recipe."""


def choose_settings(requested: Requested, machine: Machine, trial: CompileTrial | None) -> list[Setting]:
    """Return the settings of a run, with their reasons.

    Args:
        requested: the user's settings.
        machine: the result of `choose_machine`.
        trial: the result of compiling; None if it was not tried.
    """
    plan = plan_allocator(os.environ, libc())
    return [
        Setting(name="device", choice=machine.device.type, reason=why_device(requested.device), override="--device"),
        Setting(
            name="dtype", choice=machine.dtype_name, reason=why_dtype(machine, requested.dtype), override="--dtype"
        ),
        Setting(
            name="threads", choice=str(machine.threads), reason=why_threads(requested.threads), override="--threads"
        ),
        compile_setting(machine, trial),
        Setting(
            name="allocator", choice="keep" if plan.keeps else "system", reason=plan.reason, override=ALLOCATOR_VARIABLE
        ),
    ]


def why_device(requested: str) -> str:
    """Return the reason for a device."""
    if requested != "auto":
        return "as requested"
    return "PyTorch finds a GPU" if torch.cuda.is_available() or apple_gpu() else "PyTorch finds no GPU"


def why_dtype(machine: Machine, requested: str) -> str:
    """Return the reason for a dtype."""
    if requested != "auto":
        return "as requested"
    if machine.dtype is torch.bfloat16:
        return "the hardware multiplies faster in bfloat16"
    if machine.device.type == "cpu" and bfloat16_instructions():
        return "the processor has bfloat16, and multiplies no faster in it"
    return "bfloat16 would be computed in software, slowly" if machine.device.type == "cpu" else "works everywhere"


def why_threads(requested: int) -> str:
    """Return the reason for a number of threads."""
    if requested:
        return "as requested"
    granted = cpu_quota()
    bound = f", limited by its cgroup to the time of {granted:g}" if granted else ""
    return f"the cores that this process may use{bound}"


def compile_setting(machine: Machine, trial: CompileTrial | None) -> Setting:
    """Return the meaning of "auto" on this machine for short and for long runs."""
    if trial is not None and trial.fault:
        hint = CompileDecision(on=False, reason=str(trial))
    else:
        hint = decide_compile(machine, float("inf"), find_compiler() is not None, onednn_is_faster())
    tried = "not tried" if trial is None else f"a trial took {trial.seconds:.1f} s"
    long = f"pays off from about {MIN_SECONDS[machine.dtype]:.0f} s of training; {tried}"
    choice = "long runs" if hint.on else "no"
    return Setting(name="compile", choice=choice, reason=long if hint.on else hint.reason, override="--[no-]compile")


def microbenchmarks(machine: Machine) -> dict[str, float]:
    """Measure operations per second of matrix products in each dtype, and bytes per second of a copy (both ways)."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        trial = Machine(device=machine.device, dtype=dtype, threads=machine.threads)
        quick = machine.device.type == "cpu" and not (dtype is torch.float32 or has_bfloat16("cpu"))
        size = 256 if quick else 1024 if machine.device.type == "cpu" else 8192  # in software a product takes seconds
        rates[str(dtype).removeprefix("torch.")] = measured_peak(trial, size)
    return rates | {"copy": bandwidth(machine)}


def bandwidth(machine: Machine, size: int = 2**26, tries: int = 5) -> float:
    """Return bytes per second, read and written, of the fastest of a few copies of at most `size` float32 numbers."""
    memory = memory_info()
    size = min(size, memory.available // 64 if memory else size)  # with the copy, an eighth of the free memory
    source = torch.zeros(size, device=machine.device)
    target, best = torch.empty_like(source).fill_(1), float("inf")
    for _ in range(tries):
        synchronize(machine.device)
        start = time.perf_counter()
        target.copy_(source)
        synchronize(machine.device)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best
