"""Each part judged, then timed in turns with the others, then run alone for its memory."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from harness.figures import Compiled, Measured, label, rows_of
from harness.jobs import Job, Plan
from harness.kernels import Kernels, kernels
from harness.lawful import Judgement, at_shape, by_the_book, told
from harness.passes import PASSES, Run, Task, compiled, memory, ready
from harness.reporting import PASS, Row, Teller
from harness.timing import take_turns
from nanotx.hardware.device import Machine

Book = Mapping[tuple[str, str, Machine], Judgement]
"""What the laws say, by slot, part and machine, on small random cases."""


def judge(names: Mapping[str, Sequence[str]], machines: Sequence[Machine], cases: int, tell: Teller) -> Book:
    """Try every law on every part, by slot, on every machine."""
    book = {}
    for machine in machines:
        for slot, name in ((slot, name) for slot, some in names.items() for name in some):
            tell(f"laws: {slot}/{name} on {machine.device.type} in {machine.dtype_name}")
            book[slot, name, machine] = by_the_book(slot, name, machine, cases)
    return book


def watch(runs: dict[str, Run]) -> tuple[dict[str, Kernels], dict[str, str]]:
    """Each run done once: its kernels; or, of those that cannot be done and are taken out, why."""
    ran, lame = {}, {}
    for key in list(runs):
        try:
            ran[key] = kernels(runs[key])
        except Exception as error:  # such as a pass backward that wants more memory than there is
            lame[key] = told(error)
            del runs[key]
    return ran, lame


class Comparison:
    """Jobs, one after the other; what is spent on compiling is counted over all of them."""

    def __init__(self, plan: Plan, book: Book, tell: Teller) -> None:
        self.plan, self.book, self.tell = plan, book, tell
        self.compiling = 0.0

    def rows(self, job: Job) -> list[Row]:
        """Both passes of every part."""
        self.tell(f"laws: {job.where}")
        judged = {name: self.confirmed(job, name) for name in job.names}
        return [row for way in PASSES for row in self.one_way(job, way, judged)]

    def confirmed(self, job: Job, name: str) -> Judgement:
        """What the book says, and one case more of some laws at the very shape."""
        said = self.book[job.slot, name, job.machine]
        if not said.timed:
            return said
        laws, cases = at_shape(job.slot, name, job.shape, job.machine)
        if laws == PASS:
            return dataclasses.replace(said, cases=said.cases + cases)
        return dataclasses.replace(said, laws=laws, passed=max(0, said.passed - 1))

    def one_way(self, job: Job, way: str, judged: Mapping[str, Judgement]) -> list[Row]:
        """One pass of every part that may be timed; rows of the others have no figures."""
        self.tell(f"{way}: {job.where}")
        may = [name for name, said in judged.items() if said.timed]
        tasks = {name: Task(slot=job.slot, name=name, shape=job.shape, way=way) for name in may}
        runs = {label(name): ready(task, job.machine) for name, task in tasks.items()}
        compiler = self.compile(job, tasks, runs) if self.plan.compiling else {}
        ran, lame = watch(runs)
        times = take_turns(runs, self.plan.rounds, job.machine.device, limit=self.plan.seconds)
        runs.clear()
        self.tell(f"memory of {way}: {job.where}")
        weighed = [name for name in tasks if name in times and (self.plan.memory or job.machine.device.type != "cpu")]
        peaks = {name: memory(self.plan.load, tasks[name], job.machine) for name in weighed}
        return rows_of(job, way, judged, Measured(times=times, kernels=ran, lame=lame, peaks=peaks, compiler=compiler))

    def compile(self, job: Job, tasks: Mapping[str, Task], runs: dict[str, Run]) -> dict[str, Compiled]:
        """Each part compiled, as long as there is time; those that could be are added to the runs."""
        torch.compiler.reset()
        found = {}
        for name, task in tasks.items():
            if self.compiling > self.plan.compiling:
                found[name] = Compiled(laws=f"not compiled: {self.plan.compiling:.0f} s were up")
                continue
            try:
                runs[label(name, compiled=True)], took = compiled(task, job.machine)
            except Exception as error:  # whatever the compiler says, the others go on
                found[name] = Compiled(laws=told(error))
            else:
                self.compiling += took
                found[name] = Compiled(laws=PASS, seconds=took)
        return found
