"""How long a training step takes beside that of Hugging Face's GPT-2: first that both are one, then the time.

    python benchmarks/training.py --device cpu --json benchmarks/results/training-cpu.json
    python benchmarks/training.py --device cuda --recipe baby_gpt

Both are eager and in float32, take turns in one process, and learn from the same batches.
"""

import statistics
import sys
from dataclasses import dataclass

from contenders import FIRST, REFERENCE, RIVALS, alone, contender, judge, read_recipe, texts_of, twice
from hardware import describe, dtype_name, machines
from reporting import PASS, Row, Teller, open_json, show, telling, write_json
from rival import library
from timing import Times, megabytes, peak_in_child, peak_on_cuda, ratio, spread, take_turns

from nanotx.device import Machine
from nanotx.door import through
from nanotx.flags import parse
from nanotx.recipe import Recipe
from nanotx.texts import Texts


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times the steps of a recipe beside those of Hugging Face's GPT-2, in float32, eager."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    json: str = ""  # write the figures into this file
    recipe: str = "macbook"  # of the shelf; one of GPT-2's kind
    batch: int = 0  # sequences of a step; 0 for as many as the recipe has
    rounds: int = 40  # in which all take their turns; the figures are medians over them
    steps: int = 5  # of one turn
    threads: int = 0  # processor threads; 0 for as many as there are cores


def memory(name: str, recipe: Recipe, texts: Texts, machine: Machine) -> float | None:
    """The peak of one contender's steps alone, in millions of bytes."""
    if machine.device.type == "cuda":
        return megabytes(peak_on_cuda(lambda: twice(contender(name, recipe, texts, machine)), machine.device))
    if machine.device.type != "cpu":
        return None
    one, none = (peak_in_child(alone, who, recipe, "cpu", machine.threads) for who in (name, ""))
    return megabytes(one, none)


def compare(flags: Flags, recipe: Recipe, machine: Machine, tell: Teller) -> list[Row]:
    """The rows of one machine."""
    texts, device = texts_of(recipe), machine.device.type
    tell(f"laws on {device}")
    verdicts = {name: judge(name, recipe, texts, machine) for name in RIVALS}
    tell(f"steps on {device}")
    runs = {name: contender(name, recipe, texts, machine) for name in RIVALS if verdicts[name] == PASS}
    for run in runs.values():
        twice(run)
    times = take_turns(runs, flags.rounds, machine.device, flags.steps)
    del runs
    tell(f"memory on {device}")
    peaks = {name: memory(name, recipe, texts, machine) for name in times}
    model, batch, heads = recipe.model, recipe.train.batch, recipe.model.attentions()[0].heads
    shape = {"shape": flags.recipe, "batch": batch, "time": model.context, "dim": model.dim, "heads": heads}
    return [
        {"name": name, "device": device, "dtype": dtype_name(machine), **shape, "layers": model.layers}
        | {"pass": "step", **figures(times, name, batch * model.context), "memory_mb": peaks.get(name)}
        | {"laws": verdicts[name], "cases": FIRST}
        for name in RIVALS
    ]


def figures(times: Times, name: str, tokens: int) -> Row:
    """The times of one contender's step over so many tokens; none where it broke a law."""
    middle = statistics.median(times[name]) if name in times else None
    return {
        "median_ms": middle and 1e3 * middle,
        "iqr_ms": middle and 1e3 * spread(times[name]),
        "tokens_per_second": middle and tokens / middle,
        "ratio": ratio(times, name, REFERENCE),
    }


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(Flags, sys.argv[1:], "training.py")
    recipe = read_recipe(flags.recipe, flags.batch)
    chosen, out = machines(flags.device, flags.threads, dtypes=("float32",)), open_json(flags.json)
    library()
    machine, rows = describe(chosen), list[Row]()
    with telling(total=3 * len(chosen)) as tell:
        for one in chosen:
            rows += compare(flags, recipe, one, tell)
    write_json(out, machine, rows)
    show(machine, rows, f"ratio: how long a step takes in times of {REFERENCE}'s; MB: the peak of two steps alone")
    return 0


if __name__ == "__main__":
    through(main)
