"""How fast attentions are, every registered one: first its laws, then its time.

python benchmarks/attn.py --device cpu --json benchmarks/results/attn-cpu.json
python benchmarks/attn.py --device cpu,cuda --load mine.py --quick
"""

import statistics
import sys
from dataclasses import dataclass

from hardware import describe, dtype_name, machines
from lawful import Shape, judge
from passes import PASSES, REFERENCE, memory
from reporting import PASS, Row, Teller, open_json, show, telling, write_json
from timing import Times, ratio, spread, take_turns

from nanotx.attention import Attention
from nanotx.device import Machine
from nanotx.door import through
from nanotx.flags import parse
from nanotx.recipe_flags import read_options
from nanotx.registry import load_file


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times every registered attention that obeys its laws, forward and forward+backward, in float32 and bfloat16."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    json: str = ""  # write the figures into this file
    rounds: int = 15  # in which all take their turns; the figures are medians over them
    cases: int = 20  # of each law
    threads: int = 0  # processor threads; 0 for as many as there are cores
    quick: bool = False  # a tiny shape, few rounds and cases, no memory on a CPU: only to see that it works
    load: tuple[str, ...] = ()  # Python files of your own, with attentions in them; may be repeated


def shapes(device: str, quick: bool) -> dict[str, Shape]:
    """What is timed: the recipes `macbook` and `baby_gpt`, the latter with fewer sequences on a CPU."""
    if quick:
        return {"quick": Shape(batch=2, time=16, dim=32, heads=2)}
    return {
        "laptop": Shape(batch=12, time=64, dim=128, heads=4),
        "baby": Shape(batch=16 if device == "cpu" else 64, time=256, dim=384, heads=6),
    }


def compare(flags: Flags, label: str, shape: Shape, machine: Machine, tell: Teller) -> list[Row]:
    """The rows of one shape on one machine."""
    cases, rounds = (4, 3) if flags.quick else (flags.cases, flags.rounds)
    where = f"{label} on {machine.device.type} in {dtype_name(machine)}"
    tell(f"laws: {where}")
    verdicts = {name: judge(name, shape, machine, cases) for name in Attention.names()}
    rows = []
    for way, ready in PASSES.items():
        tell(f"{way}: {where}")
        lawful = [name for name, verdict in verdicts.items() if verdict == PASS]
        runs = {name: ready(name, shape, machine) for name in lawful}
        times = take_turns(runs, rounds, machine.device)
        del runs
        for name, verdict in verdicts.items():
            wanted = name in times and not (flags.quick and machine.device.type == "cpu")
            peak = memory(flags.load, way, name, shape, machine) if wanted else None
            setting = {"device": machine.device.type, "dtype": dtype_name(machine), "shape": label}
            row = {"name": name, **setting, **vars(shape), "pass": way, **figures(times, name, shape)}
            rows.append(row | {"memory_mb": peak, "laws": verdict, "cases": cases})
    return rows


def figures(times: Times, name: str, shape: Shape) -> Row:
    """The times of one part; none where it broke a law."""
    keys = ("median_ms", "iqr_ms", "tokens_per_second", "ratio")
    if name not in times:
        return dict.fromkeys(keys)
    middle = statistics.median(times[name])
    speed = shape.batch * shape.time / middle
    return dict(zip(keys, (1e3 * middle, 1e3 * spread(times[name]), speed, ratio(times, name, REFERENCE)), strict=True))


def main() -> int:
    """Read the flags, measure, show, write."""
    words = sys.argv[1:]
    flags = parse(Flags, words, "attn.py")
    flags = Flags(**vars(flags) | {"load": read_options(words).load})
    for file in flags.load:
        load_file(file)
    chosen, out = machines(flags.device, flags.threads), open_json(flags.json)
    jobs = [(one, *item) for one in chosen for item in shapes(one.device.type, flags.quick).items()]
    machine, rows = describe(chosen), list[Row]()
    with telling(total=(1 + len(PASSES)) * len(jobs)) as tell:
        for one, label, shape in jobs:
            rows += compare(flags, label, shape, one, tell)
    write_json(out, machine, rows)
    show(machine, rows, f"ratio: how long it takes in times of {REFERENCE}; MB: the peak of the row run alone")
    return 0


if __name__ == "__main__":
    through(main)
