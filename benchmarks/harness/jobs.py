"""What there is to measure, and how thoroughly."""

import dataclasses

from harness.passes import PASSES
from harness.sizes import Shape
from nanotx.hardware.device import Machine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How thoroughly all of it is measured."""

    rounds: int = 15  # at most
    seconds: float = 4.0  # after which no round begins, for one shape and pass
    cases: int = 10  # of each law
    compiling: float = 0.0  # seconds spent on it after which nothing more is compiled; 0 compiles nothing
    memory: bool = True  # whether that on a CPU is measured
    load: tuple[str, ...] = ()  # the user's files, for the processes that run a row alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The parts of a slot, at one shape, on one machine."""

    slot: str
    names: tuple[str, ...]
    machine: Machine
    label: str  # of the shape
    shape: Shape

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.slot} at {self.label} on {self.machine.device.type} in {self.machine.dtype_name}"


STEPS = 1 + 2 * len(PASSES)
"""How many things a job is told in: its laws, and for each pass the turns and the memory."""
