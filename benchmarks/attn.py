"""How fast attentions are, every registered one: first its laws, then its time.

python benchmarks/attn.py --device cpu --json benchmarks/results/attn-cpu.json
python benchmarks/attn.py --device cpu,cuda --load mine.py --quick
"""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from hardware import describe, dtype_name, machines
from lawful import Shape, build, judge
from reporting import PASS, Row, Teller, open_json, show, telling, write_json
from timing import Times, megabytes, peak_in_child, peak_on_cuda, ratio, spread, take_turns

from nanotx.attention import Attention
from nanotx.device import Machine, choose
from nanotx.door import through
from nanotx.flags import parse
from nanotx.recipe_flags import read_options
from nanotx.registry import load_file

REFERENCE = "sdpa"
TINY = Shape(batch=1, time=2, dim=16, heads=2)


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


def forward(name: str, shape: Shape, machine: Machine) -> Callable[[], object]:
    """A pass without gradients."""
    layer, x = build(name, shape, machine).eval(), shape.draw(machine)
    return torch.no_grad()(lambda: layer(x))


def both(name: str, shape: Shape, machine: Machine) -> Callable[[], object]:
    """A pass and the gradients of the input and of every parameter."""
    layer, x = build(name, shape, machine).train(), shape.draw(machine).requires_grad_()
    wanted, cotangent = [x, *layer.parameters()], shape.draw(machine)

    def run() -> object:
        y = layer(x)
        return torch.autograd.grad(y, wanted, cotangent.to(y), allow_unused=True)

    return run


PASSES = {"forward": forward, "forward+backward": both}


def once(way: str, name: str, shape: Shape, machine: Machine) -> None:
    """Built and run once."""
    PASSES[way](name, shape, machine)()


def alone(files: tuple[str, ...], way: str, name: str, shape: Shape, device: str, dtype: str, threads: int) -> None:
    """`once`, in a process that knows nothing yet."""
    for file in files:
        load_file(file)
    once(way, name, shape, choose(device, dtype, threads))


def memory(flags: Flags, way: str, name: str, shape: Shape, machine: Machine) -> float | None:
    """The peak of one row run alone, in millions of bytes."""
    if machine.device.type == "cuda":
        return megabytes(peak_on_cuda(partial(once, way, name, shape, machine), machine.device))
    if machine.device.type != "cpu" or flags.quick:
        return None
    settled = machine.device.type, dtype_name(machine), machine.threads
    return megabytes(peak_in_child(alone, flags.load, way, name, shape, *settled), empty(flags.load, *settled))


@cache
def empty(files: tuple[str, ...], device: str, dtype: str, threads: int) -> int | None:
    """The peak of a process that runs next to nothing, with all its libraries loaded."""
    return peak_in_child(alone, files, "forward+backward", REFERENCE, TINY, device, dtype, threads)


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
            peak = memory(flags, way, name, shape, machine) if name in times else None
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
