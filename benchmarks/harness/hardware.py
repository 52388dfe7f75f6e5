"""What a benchmark runs on."""

from collections.abc import Sequence
from typing import Any

import torch

from harness.timing import seconds
from nanotx.errors import ConfigError, did_you_mean
from nanotx.hardware.cpu import describe_machine
from nanotx.hardware.device import Machine, choose_machine, has_bfloat16, measured_peak
from nanotx.nn.linear import Linear

DEVICES = ("auto", "cpu", "cuda", "mps")


DTYPES = ("float32", "bfloat16", "float16")


def dtypes_of(words: str) -> tuple[str, ...]:
    """The dtypes of these names, separated by commas; float32 and bfloat16 for none.

    Raises:
        ConfigError: there is none of some name.
    """
    names = [word.strip() for word in words.split(",")] if words else ["float32", "bfloat16"]
    for name in names:
        if name not in DTYPES:
            near = did_you_mean(name, DTYPES)
            raise ConfigError(
                f"dtype: expected {', '.join(DTYPES)} or several such as float32,bfloat16, got {name!r}.{near}"
            )
    return tuple(dict.fromkeys(names))


def machines(
    devices: str, threads: int, dtypes: Sequence[str] = ("float32", "bfloat16"), asked: bool = False
) -> list[Machine]:
    """A choice for each of the devices (separated by commas) and each of the dtypes that it has.

    Args:
        devices: their names.
        threads: of the processor; 0 for as many as there are cores.
        dtypes: their names.
        asked: whether they are taken even where the hardware does not have them.

    Raises:
        ConfigError: the machine has no such device.
    """
    names = [name.strip() for name in devices.split(",")]
    for name in names:
        if name not in DEVICES:
            raise ConfigError(
                f"device: expected cpu, cuda, mps or several such as cpu,cuda, "
                f"got {name!r}.{did_you_mean(name, DEVICES)}"
            )
    firsts = {first.device.type: first for first in (choose_machine(name, "float32", threads) for name in names)}
    return [
        choose_machine(name, dtype, threads)
        for name in firsts
        for dtype in dtypes
        if asked or dtype == "float32" or has_bfloat16(name)
    ]


def describe(chosen: Sequence[Machine]) -> dict[str, Any]:
    """The machine, as far as it bears on the figures; `peak_flops` is measured, in operations a second."""
    gpus = {torch.cuda.get_device_name(one.device) for one in chosen if one.device.type == "cuda"}
    return {
        **describe_machine("torch"),
        "threads": chosen[0].threads,
        "gpu": ", ".join(sorted(gpus)) or None,
        "peak_flops": {f"{one.device.type} {dtype_name(one)}": peak(one) for one in chosen},
    }


def peak(machine: Machine) -> float:
    """Operations a second of a matrix product: torch's own, or that of our linear maps, whichever is faster."""
    size = 1024 if machine.device.type == "cpu" else 8192
    layer = Linear(size, size, bias=False).to(machine.device, machine.dtype)
    x = torch.randn(size, size, device=machine.device, dtype=machine.dtype)
    with torch.no_grad():
        took = min(seconds(lambda: layer(x), 1, machine.device) for _ in range(8))
    return max(measured_peak(machine, size), 2 * size**3 / took)


def dtype_name(machine: Machine) -> str:
    """A machine's dtype in a word."""
    return str(machine.dtype).removeprefix("torch.")
