"""What `attn.py` and `layers.py` are: their flags, and the way from them to a table, a file and a picture."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from harness.comparing import Comparison, judge
from harness.figures import with_share
from harness.hardware import describe, dtypes_of, machines
from harness.jobs import STEPS, Job, Plan
from harness.merging import merge
from harness.reporting import Row, open_json, telling, write_json
from harness.sizes import QUICK, Shape, choose_shapes
from harness.subjects import SUBJECTS
from harness.tables import show
from nanotx.config.flags import parse
from nanotx.config.registry import load_file
from nanotx.errors import ConfigError, did_you_mean
from nanotx.recipe import read_options

PICTURES = (".svg", ".png")
ABOUT = (
    "ms: median, and iqr how wide the middle half lies. MB: the peak of the row run alone. GFLOP/s: the operations "
    "that the definition needs, and their share of what a matrix product reaches here. x: how long it takes in times "
    "of this one. laws: passed of tried; cases: of all of them."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Times every registered part that obeys its laws on this very device and in this dtype, and no other."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    dtype: str = ""  # float32, bfloat16, float16 or several; without it float32, and bfloat16 where the hardware has it
    shapes: str = ""  # some of laptop,baby,baby_64,1k,2k,4k,8k and on a GPU 16k,32k; or all
    parts: str = ""  # some names, the references among them; without it every part that is registered
    compile: bool = False  # time each part through torch.compile too
    compile_seconds: float = 600.0  # spent on compiling, after which no more is compiled
    json: str = ""  # write the figures into this file
    plot: str = ""  # draw time against context into this file, .svg or .png
    merge: tuple[str, ...] = ()  # files written by --json: show them as one, and measure nothing
    rounds: int = 15  # at most, in which all take their turns; the figures are medians over them
    seconds: float = 4.0  # after which no round begins, for one shape and pass; there are three at least
    cases: int = 10  # of each law
    threads: int = 0  # processor threads; 0 for as many as there are cores
    quick: bool = False  # a tiny shape, few rounds and cases, no memory on a CPU: only to see that it works
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them; may be repeated

    def plan(self) -> Plan:
        """How thoroughly all of it is measured."""
        rounds, cases = (3, 2) if self.quick else (self.rounds, self.cases)
        compiling = self.compile_seconds if self.compile else 0.0
        return Plan(
            rounds=rounds, seconds=self.seconds, cases=cases, compiling=compiling, memory=not self.quick, load=self.load
        )


Asked = TypeVar("Asked", bound=Flags)


def read(kind: type[Asked], prog: str) -> Asked:
    """The flags, and the user's files imported.

    Raises:
        ConfigError: they cannot be, or not together.
    """
    words = sys.argv[1:]
    parsed = parse(kind, words, prog)
    flags = dataclasses.replace(parsed, load=read_options(words).load)
    others = dataclasses.replace(flags, merge=(), json="", plot="")
    if flags.merge and others != kind():
        raise ConfigError(
            "--merge: shows what was measured, and measures nothing; give no flags but --json and --plot."
        )
    if flags.quick and flags.shapes != kind().shapes:
        raise ConfigError("--quick: has a shape of its own; leave --shapes out, or name few and lower --rounds.")
    for name in ("rounds", "cases"):
        if getattr(flags, name) < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {getattr(flags, name)}.")
    for file in flags.load:
        load_file(file)
    return flags


def names_of(slots: Sequence[str], words: str) -> dict[str, tuple[str, ...]]:
    """Of each slot the names to be measured: those among the words, or all of them for none.

    Raises:
        ConfigError: a name that no part bears.
    """
    known = {slot: SUBJECTS[slot].slot.names() for slot in slots}
    asked = [word.strip() for word in words.split(",")] if words else []
    every = sorted({name for names in known.values() for name in names})
    for name in asked:
        if name not in every:
            raise ConfigError(f"parts: no part named {name!r}.{did_you_mean(name, every)} Known: {', '.join(every)}.")
    return {slot: tuple(name for name in known[slot] if name in asked or not asked) for slot in slots}


def measure(flags: Flags, slots: Sequence[str]) -> tuple[Row, list[Row]]:
    """The machine, and the rows of every slot, shape, pass, dtype and part."""
    names = names_of(slots, flags.parts)
    chosen = machines(flags.device, flags.threads, dtypes_of(flags.dtype), asked=bool(flags.dtype))
    shapes = {one.device.type: shapes_of(one.device.type, flags) for one in chosen}
    machine, plan = describe(chosen), flags.plan()
    jobs = [
        Job(slot=slot, names=names[slot], machine=one, label=label, shape=shape)
        for slot in slots
        for device in shapes
        for label, shape in shapes[device].items()
        for one in chosen
        if one.device.type == device and names[slot]
    ]
    with telling(total=len(chosen) * sum(map(len, names.values())) + STEPS * len(jobs)) as tell:
        comparison = Comparison(plan, judge(names, chosen, plan.cases, tell), tell)
        rows = [row for job in jobs for row in comparison.rows(job)]
    machine["peak_flops"] = peaks = better(machine["peak_flops"], describe(chosen)["peak_flops"])
    return machine, [with_share(row, peaks) for row in rows]


def better(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Of two peaks the higher ones: a machine that does other things as well shows less than it has."""
    return {name: max(peak, after[name]) for name, peak in before.items()}


def shapes_of(device: str, flags: Flags) -> dict[str, Shape]:
    """What is timed on a device."""
    return QUICK if flags.quick else choose_shapes(device, flags.shapes)


def open_picture(path: str) -> Path | None:
    """The file for the picture, known to be writable; None for no name.

    Raises:
        ConfigError: its suffix is none of those that can be drawn.
        RunError: it cannot be written.
    """
    if path and Path(path).suffix not in PICTURES:
        raise ConfigError(f"--plot {path}: expected a file that ends in {' or '.join(PICTURES)}.")
    return open_json(path, "--plot")


def run(flags: Flags, slots: Sequence[str]) -> int:
    """Measure, or take what was measured; show, write and draw it."""
    out, picture = open_json(flags.json), open_picture(flags.plot)
    if flags.merge:
        found, rows = merge(flags.merge)
    else:
        one, rows = measure(flags, slots)
        found = [one]
    write_json(out, found[0], rows, found)
    show(found, rows, ABOUT)
    if picture:
        from harness.curves import draw  # matplotlib takes a second to import

        draw(rows, picture)
    return 0
