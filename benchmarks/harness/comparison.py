"""Parts of a slot compared at one shape: laws, then times taken interleaved, then the memory of each alone."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from harness import Row, passes
from harness.laws import PASS, LawResults, failure, figures, time_lawful
from harness.passes import BOTH, PASSES, Kernels, Run, Task
from harness.report import Announce, Flags
from harness.slots import SLOTS, Shape
from harness.timing import Times, ratio
from nanotx.hardware.device import Machine

Checked = Mapping[tuple[str, str, Machine], LawResults]
"""The laws on small random cases, by slot, part and machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartFlags(Flags):
    """Times every registered part that obeys its laws on this very device and in this dtype, and no other."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    dtype: str = ""  # float32, bfloat16, float16 or several; without it float32, and bfloat16 where the hardware has it
    shapes: str = ""  # some of laptop,baby,baby_64,1k,2k,4k,8k and on a GPU 16k,32k; or all
    parts: str = ""  # names of parts, peers included; without it every registered part
    compile: bool = False  # time each part through torch.compile too
    compile_seconds: float = 600.0  # spent on compiling, after which no more is compiled
    plot: str = ""  # plot time against context into this file, .svg or .png
    merge: tuple[str, ...] = ()  # files written by --json: show them as one, and measure nothing
    rounds: int = 15  # at most, each of which times every part; the figures are medians over them
    seconds: float = 4.0  # after which no round begins, for one shape and pass; there are three at least
    cases: int = 10  # of each law
    quick: bool = False  # a tiny shape, few rounds and cases, no memory on a CPU: only to see that it works
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them; may be repeated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """The parts of a slot, at one shape, on one machine."""

    slot: str
    names: tuple[str, ...]
    machine: Machine
    label: str  # of the shape
    shape: Shape

    @property
    def where(self) -> str:
        """Return the setup in words."""
        return f"{self.slot} at {self.label} on {self.machine.device.type} in {self.machine.dtype_name}"


STEPS = 1 + 2 * len(PASSES)
"""How many steps a setup announces: its laws, and for each pass the times and the memory."""


@dataclasses.dataclass(kw_only=True)
class Candidate:
    """A part, eager or compiled, in one pass."""

    name: str
    results: LawResults
    compiled: bool = False
    run: Run | None = None
    compile_seconds: float | None = None
    kernels: Kernels = (None, None)
    memory_mb: float | None = None

    @property
    def label(self) -> str:
        """Return a name that no other candidate has."""
        return label(self.name, self.compiled)

    @contextmanager
    def excluded_on_error(self) -> Iterator[None]:
        """Exclude it where the body fails: a backward pass may need more memory than there is."""
        try:
            yield
        except Exception as error:  # a part or the compiler may raise anything
            self.fail(failure(error))

    def fail(self, verdict: str) -> None:
        """Exclude it from timing, for this reason."""
        self.results, self.run = dataclasses.replace(self.results, verdict=verdict), None


def label(name: str, compiled: bool) -> str:
    """Return what distinguishes a compiled part from an eager one."""
    return f"{name} compiled" if compiled else name


def check_parts(
    names: Mapping[str, Sequence[str]], machines: Sequence[Machine], cases: int, announce: Announce
) -> Checked:
    """Try every law on every part, by slot, on every machine."""
    checked = {}
    for machine in machines:
        for slot, name in ((slot, name) for slot, some in names.items() for name in some):
            announce(f"laws: {slot}/{name} on {machine.device.type} in {machine.dtype_name}")
            checked[slot, name, machine] = passes.on_random_cases(slot, name, machine, cases)
    return checked


class Comparison:
    """Compares setups one after the other; the seconds spent on compiling are counted over all of them."""

    def __init__(self, flags: PartFlags, checked: Checked, announce: Announce) -> None:
        self.flags, self.checked, self.announce = flags, checked, announce
        self.compile_seconds = 0.0

    def rows(self, setup: Setup) -> list[Row]:
        """Return the rows of both passes of every part."""
        self.announce(f"laws: {setup.where}")
        results = {name: self.results_at_shape(setup, name) for name in setup.names}
        return [row for way in PASSES for row in self.rows_of_pass(setup, way, results)]

    def results_at_shape(self, setup: Setup, name: str) -> LawResults:
        """Add one case more of some laws at the shape that is timed."""
        results = self.checked[setup.slot, name, setup.machine]
        if results.verdict != PASS:
            return results
        verdict, cases = passes.at_shape(setup.slot, name, setup.shape, setup.machine)
        if verdict == PASS:
            return dataclasses.replace(results, cases=results.cases + cases)
        return dataclasses.replace(results, verdict=verdict, passed=max(0, results.passed - 1))

    def rows_of_pass(self, setup: Setup, way: str, results: Mapping[str, LawResults]) -> list[Row]:
        """Time one pass of every part; rows of what breaks a law have no figures."""
        self.announce(f"{way}: {setup.where}")
        tasks = {name: Task(slot=setup.slot, name=name, shape=setup.shape, way=way) for name in setup.names}
        if self.flags.compile:
            torch.compiler.reset()
        candidates = self.candidates(setup, tasks, results)
        warm_up(candidates)
        runs = {candidate.label: candidate.run for candidate in candidates if candidate.run}
        verdicts = {candidate.label: candidate.results.verdict for candidate in candidates}
        flags, device = self.flags, setup.machine.device
        times = time_lawful(runs, verdicts, flags.rounds, device, limit=flags.seconds)
        runs.clear()
        for candidate in candidates:
            candidate.run = None  # what it holds is not the next one's memory
        self.announce(f"memory of {way}: {setup.where}")
        for candidate in candidates:
            if candidate.label in times and not candidate.compiled and (not flags.quick or device.type != "cpu"):
                candidate.memory_mb = passes.memory(flags.load, tasks[candidate.name], setup.machine)
        return [row_of(setup, way, candidate, times) for candidate in candidates]

    def candidates(self, setup: Setup, tasks: Mapping[str, Task], results: Mapping[str, LawResults]) -> list[Candidate]:
        """Return each part, and each lawful part compiled, ready to run."""
        candidates = []
        for name, task in tasks.items():
            candidates.append(Candidate(name=name, results=results[name]))
            if results[name].verdict == PASS:
                with candidates[-1].excluded_on_error():
                    candidates[-1].run = passes.prepare(task, setup.machine)
                if self.flags.compile:
                    candidates.append(Candidate(name=name, results=results[name], compiled=True))
                    self.compile(candidates[-1], task, setup.machine)
        return candidates

    def compile(self, candidate: Candidate, task: Task, machine: Machine) -> None:
        """Compile a part, as long as there is time."""
        if self.compile_seconds > self.flags.compile_seconds:
            candidate.fail(f"not compiled: {self.flags.compile_seconds:.0f} s were up")
            return
        with candidate.excluded_on_error():
            candidate.run, candidate.compile_seconds = passes.prepare_compiled(task, machine)
            self.compile_seconds += candidate.compile_seconds


def warm_up(candidates: Sequence[Candidate]) -> None:
    """Run each candidate once and observe its kernels; exclude those that fail."""
    for candidate in candidates:
        if candidate.run:
            with candidate.excluded_on_error():
                candidate.kernels = passes.kernels_of(candidate.run)


def row_of(setup: Setup, way: str, candidate: Candidate, times: Times) -> Row:
    """Return the row of a candidate; what was not measured is None."""
    compared, machine, shape = SLOTS[setup.slot], setup.machine, setup.shape
    first, *others = compared.baselines
    flops = compared.flops and compared.flops(shape) * (3 if way == BOTH else 1)  # backward takes twice as many
    ratios: dict[str, Any] = {
        f"ratio_to_{other}": ratio(times, candidate.label, label(other, candidate.compiled)) for other in others
    }
    work = {"tokens_per_second": shape.tokens, "flops_per_second": flops}
    return {
        "slot": setup.slot,
        "name": candidate.name,
        "device": machine.device.type,
        "dtype": machine.dtype_name,
        "shape": setup.label,
        **vars(shape),
        "pass": way,
        "compiled": candidate.compiled,
        "compile_seconds": candidate.compile_seconds,
        **figures(times, candidate.label, label(first, candidate.compiled), work),
        "peak_share": None,  # the peak is known when everything is measured
        "reference": first,
        **ratios,
        "kernel": candidate.kernels[0],
        "kernel_backward": candidate.kernels[1],
        "memory_mb": candidate.memory_mb,
        **candidate.results.row(),
    }


def with_peak_share(row: Row, peaks: Mapping[str, float]) -> Row:
    """Return the row with its share of the machine's peak."""
    speed = row["flops_per_second"]
    return row | {"peak_share": speed and speed / peaks[f"{row['device']} {row['dtype']}"]}
