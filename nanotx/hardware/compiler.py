"""Check that torch.compile works: it writes C++ (for a GPU, Triton), and needs a compiler and Python's headers."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from nanotx.hardware.cpu import cores
from nanotx.hardware.device import Machine

INSTALL_COMPILER = "install g++ (Debian: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)"


@dataclass(frozen=True, kw_only=True)
class CompileTrial:
    """Result of compiling a small function."""

    fault: str  # empty if compiling works
    remedy: str  # likewise
    seconds: float

    def __str__(self) -> str:
        return f"{self.fault}; {self.remedy}" if self.fault else "works"


def find_compiler() -> str | None:
    """Return the path of the C++ compiler that torch would call, without calling it; None if there is none."""
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or default)


def compiler_version(path: str) -> str:
    """Return the version line of a compiler."""
    try:
        process = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"cannot be run: {error}"
    return next(iter((process.stdout or process.stderr).splitlines()), "prints no version")


def try_compile(device: torch.device) -> CompileTrial:
    """Compile a new function and run it."""
    began, fresh = time.perf_counter(), time.time_ns() % 2**30  # a new constant, so that no cache holds it

    def function(x: Tensor) -> Tensor:
        return (x + fresh).sin()

    fault, remedy = "", ""
    if device.type == "cpu" and find_compiler() is None:
        named = os.environ.get("CXX")
        fault, remedy = (
            (f"CXX={named} is not there", "unset CXX") if named else ("there is no C++ compiler", INSTALL_COMPILER)
        )
    else:
        limit_compile_threads()
        try:
            torch.compile(function, dynamic=False)(torch.ones(64, device=device))
        except Exception as error:  # torch raises many kinds of errors here
            fault, remedy = explain_failure(str(error))
    return CompileTrial(fault=fault, remedy=remedy, seconds=time.perf_counter() - began)


def explain_failure(message: str) -> tuple[str, str]:
    """Return the fault and the remedy for an error message of torch.compile."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "Python.h" in message:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return "Python's headers are missing (Python.h)", f"install them (Debian: apt install {python}-dev)"
    if "No working C++ compiler" in message:
        return f"{os.environ.get('CXX') or 'g++'} cannot be run", INSTALL_COMPILER
    if "Output:" in lines:
        output = lines[lines.index("Output:") + 1 :]
        line = next((line for line in output if "error" in line.lower()), next(iter(output), "no reason given"))
        return f"{find_compiler()} fails: {line[:200]}", "mend it, or name another by CXX"
    return f"torch cannot compile here: {next(iter(lines), 'no reason given')[:200]}", INSTALL_COMPILER


def limit_compile_threads() -> None:
    """Limit the parallel compilers of torch to the cores of this process; by default it counts those of the machine."""
    from torch._inductor import config  # slow to import; runs that do not compile skip it

    config.compile_threads = min(config.compile_threads or 1, cores())


MIN_SECONDS = {torch.float32: 300.0, torch.bfloat16: 60.0, torch.float16: 60.0}
"""Estimated seconds of training from which a cold compilation pays for itself: docs/decisions/device.md."""


@dataclass(frozen=True, kw_only=True)
class CompileDecision:
    """Decision whether to compile the blocks, with the reason."""

    on: bool
    reason: str


def decide_compile(machine: Machine, seconds: float, has_compiler: bool, onednn: bool) -> CompileDecision:
    """Decide `compile = "auto"`.

    Args:
        machine: the device, dtype and threads of the run.
        seconds: the estimated training time in eager mode.
        has_compiler: a C++ compiler is installed.
        onednn: whether `nanotx.nn.linear` has a faster product in float32 than compiled code.
    """
    if machine.device.type == "mps":
        return CompileDecision(on=False, reason="not tried on Apple's GPU; --compile tries it")
    if machine.device.type == "cpu" and machine.dtype is torch.float32 and onednn:
        return CompileDecision(on=False, reason="in float32 on this processor oneDNN, uncompiled, is faster")
    enough = MIN_SECONDS[machine.dtype]
    if seconds < enough:
        return CompileDecision(
            on=False, reason=f"some {seconds:.0f} s of training do not repay it, but {enough:.0f} s would"
        )
    if machine.device.type == "cpu" and not has_compiler:
        return CompileDecision(
            on=False, reason=f"there is no C++ compiler; {INSTALL_COMPILER} to have so long a run compiled"
        )
    return CompileDecision(on=True, reason=f"some {seconds:.0f} s of training repay it")
