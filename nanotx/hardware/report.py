"""A report on this machine: processor, memory and GPU, and what a run takes of them; `nanotx doctor` prints it.

A run asks for little of this; what a run takes by itself is decided where it always is, and told here.
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
    """What a run takes where nobody says otherwise."""

    name: str
    choice: str
    reason: str
    override: str  # what to say to have it otherwise


def machine_facts() -> dict[str, str]:
    """The machine and what is installed on it, in words."""
    found, path = memory_info(), find_compiler()
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": f"{processor()}, {platform.machine()}",
        "cores": f"{cores()} for this process, of {os.cpu_count()}",
        "memory": format_memory(found) if found else "unknown",
        "instructions": instructions(),
        "GPU": "; ".join(f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB" for gpu in gpus) or apple_gpu() or "none",
        "compiler": f"{path}: {compiler_version(path)}" if path else "none",
        "torch": f"{torch.__version__}, Python {platform.python_version()}, {platform.system()} {libc()}".strip(),
    }


def format_memory(found: MemoryInfo) -> str:
    """Memory in words."""
    bound = f"{found.limit / GIB:.1f} GiB of {found.total / GIB:.1f} (cgroup)" if found.bounded else ""
    return f"{bound or f'{found.total / GIB:.1f} GiB'}, {found.available / GIB:.1f} available"


def apple_gpu() -> str:
    """Apple's, if torch sees it."""
    return "Apple's (mps)" if torch.backends.mps.is_available() else ""


def instructions() -> str:
    """The sets that torch's own code and oneDNN's use, and those for bfloat16."""
    half = " and ".join(bfloat16_instructions())
    torch_set = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch_set}; oneDNN {onednn_instructions()}; for bfloat16 {half or 'none'}"


@runtime_checkable
class Requested(Protocol):
    """What a user says of the machine; "auto", or 0, leaves it to us."""

    @property
    def device(self) -> str:
        """As in a recipe."""

    @property
    def dtype(self) -> str:
        """Likewise."""

    @property
    def threads(self) -> int:
        """Likewise."""


def choose_settings(wishes: Requested, machine: Machine, trial: CompileTrial | None) -> list[Setting]:
    """What a run takes, and why.

    Args:
        wishes: what the user says.
        machine: what `choose` makes of it.
        trial: what came of compiling; None where it was not tried.
    """
    plan = plan_allocator(os.environ, libc())
    return [
        Setting(name="device", choice=machine.device.type, reason=why_device(wishes.device), override="--device"),
        Setting(name="dtype", choice=machine.dtype_name, reason=why_dtype(machine, wishes.dtype), override="--dtype"),
        Setting(name="threads", choice=str(machine.threads), reason=why_threads(wishes.threads), override="--threads"),
        compile_setting(machine, trial),
        Setting(
            name="allocator", choice="keep" if plan.keeps else "system", reason=plan.reason, override=ALLOCATOR_VARIABLE
        ),
    ]


def why_device(wish: str) -> str:
    """The reason for a device."""
    if wish != "auto":
        return "as you say"
    return "torch sees a GPU" if torch.cuda.is_available() or apple_gpu() else "torch sees no GPU"


def why_dtype(machine: Machine, wish: str) -> str:
    """The reason for a dtype."""
    if wish != "auto":
        return "as you say"
    if machine.dtype is torch.bfloat16:
        return "the hardware has bfloat16, and products are faster in it"
    if machine.device.type == "cpu" and bfloat16_instructions():
        return "the processor lists bfloat16, and products are no faster in it"
    return "bfloat16 would be computed in software here, and slowly" if machine.device.type == "cpu" else "the safe one"


def why_threads(wish: int) -> str:
    """The reason for a number of threads."""
    if wish:
        return "as you say"
    granted = cpu_quota()
    bound = f", and its cgroup grants the time of {granted:g}" if granted else ""
    return f"cores that this process may run on{bound}"


def compile_setting(machine: Machine, trial: CompileTrial | None) -> Setting:
    """What "auto" means here: for short runs, and for long ones."""
    if trial is not None and trial.fault:
        hint = CompileDecision(on=False, reason=str(trial))
    else:
        hint = decide_compile(machine, float("inf"), find_compiler() is not None, onednn_is_faster())
    tried = "not tried" if trial is None else f"tried, and works: {trial.seconds:.1f} s for something small"
    long = f"pays from some {MIN_SECONDS[machine.dtype]:.0f} s of training on; {tried}"
    choice = "long runs" if hint.on else "no"
    return Setting(name="compile", choice=choice, reason=long if hint.on else hint.reason, override="--[no-]compile")


def microbenchmarks(machine: Machine) -> dict[str, float]:
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
    left = memory_info()
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
