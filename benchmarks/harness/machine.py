"""The machines that a benchmark runs on: which devices and dtypes, and what they can do at most."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from harness import Row
from harness.report import known_names
from harness.timing import best
from nanotx.hardware.cpu import describe_machine
from nanotx.hardware.device import Machine, choose_machine, has_bfloat16, measured_peak
from nanotx.nn.linear import Linear

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")


def choose_machines(devices: str, threads: int, dtypes: str = "") -> list[Machine]:
    """Return a machine for each of the devices and each of the dtypes.

    Args:
        devices: names, separated by commas.
        threads: of the processor; 0 for as many as there are cores.
        dtypes: names, separated by commas; empty for float32, and bfloat16 on devices whose hardware has it.

    Raises:
        ConfigError: an unknown name, or the machine has no such device.
    """
    names = known_names("--device", devices, DEVICES)
    wanted = known_names("--dtype", dtypes, DTYPES) if dtypes else ("float32", "bfloat16")
    kinds = dict.fromkeys(choose_machine(name, "float32", threads).device.type for name in names)
    return [
        choose_machine(device, dtype, threads)
        for device in kinds
        for dtype in wanted
        if dtypes or dtype == "float32" or has_bfloat16(device)
    ]


def describe(machines: Sequence[Machine]) -> Row:
    """Describe the machine, as far as it bears on the figures; `peak_flops` is measured, in operations per second."""
    gpus = {torch.cuda.get_device_name(machine.device) for machine in machines if machine.device.type == "cuda"}
    return {
        **describe_machine("torch"),
        "threads": machines[0].threads,
        "gpu": ", ".join(sorted(gpus)) or None,
        "peak_flops": peaks(machines),
    }


@contextmanager
def described(machines: Sequence[Machine]) -> Iterator[Row]:
    """Yield the description; its peaks become the better of those measured before and after the body.

    A machine that is busy with something else shows less than it has.
    """
    machine = describe(machines)
    yield machine
    after = peaks(machines)
    machine["peak_flops"] = {name: max(peak, after[name]) for name, peak in machine["peak_flops"].items()}


def peaks(machines: Sequence[Machine]) -> dict[str, float]:
    """Return the peak of each machine, by device and dtype."""
    return {f"{machine.device.type} {machine.dtype_name}": peak(machine) for machine in machines}


def peak(machine: Machine) -> float:
    """Return the operations per second of a matrix product: torch's own or our linear map, whichever is faster."""
    size = 1024 if machine.device.type == "cpu" else 8192
    layer = Linear(size, size, bias=False).to(machine.device, machine.dtype)
    x = torch.randn(size, size, device=machine.device, dtype=machine.dtype)
    with torch.no_grad():
        took = best(lambda: layer(x), 8, machine.device)
    return max(measured_peak(machine, size), 2 * size**3 / took)


def read_bandwidth(device: torch.device, size: int = 2**28, tries: int = 12) -> float:
    """Return the bytes per second of the fastest of a few sums over `size` bytes, more than any cache holds."""
    array = torch.ones(size // 4, device=device)
    return array.nbytes / best(array.sum, tries, device)
