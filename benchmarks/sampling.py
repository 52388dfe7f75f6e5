"""How fast texts are written, beside Hugging Face's `generate`: first that all write the same, then the time.

    python benchmarks/sampling.py --device cpu --json benchmarks/results/sampling-cpu.json

One GPT-2, in float32, writes in several ways, in turns in one process: without a cache, with it, compiled, many texts
at once, with a draft's help, and in Hugging Face's library.
"""

import statistics
import sys
from dataclasses import dataclass

from harness import Row
from harness.bandwidth import bytes_per_step, measured_bandwidth
from harness.gpt2_peers import Gpt2
from harness.laws import PASS
from harness.machine import choose_machines, describe
from harness.report import Announce, open_output, progress, write_json
from harness.sampling_table import show
from harness.timing import Times, interleave, iqr, ratio
from harness.writers import CACHED, MANY, PROMPTS, SPECULATIVE, THEIRS, UNCACHED, WARM, Sizes, Writers

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times the writing of texts in several ways; any that writes another greedy text is not timed."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    json: str = ""  # write the figures into this file
    dim: int = 384  # width of the model
    layers: int = 6  # of it
    heads: int = 6  # of it
    context: int = 1024  # of both models
    draft_dim: int = 96  # width of the draft
    draft_layers: int = 1  # of it
    draft_tokens: int = 4  # how many it guesses at a time
    learn: int = 60  # steps that both learn before they write
    tokens: int = 500  # of each text
    batch: int = 32  # texts written at once where it is many
    rounds: int = 3  # in which all take their turns; the figures are medians over them
    compile: bool = True  # whether one more way is timed, through torch.compile
    threads: int = 0  # processor threads; 0 for as many as there are cores


def check(flags: Flags) -> None:
    """Raise ConfigError where a number is out of range, or a text does not fit the context."""
    check_min(flags, 1, "tokens", "batch", "rounds", "draft_tokens")
    check_min(flags, 0, "learn")
    longest = flags.tokens + 1
    if max(longest, max(PROMPTS) + 1) > flags.context:
        raise ConfigError(f"context: expected room for a text of {longest} tokens, got {flags.context}; try fewer.")


def compare(flags: Flags, machine: Machine, tell: Announce) -> list[Row]:
    """The rows of one machine."""
    tell(f"learning on {machine.device.type}")
    sizes = Sizes(dim=flags.dim, layers=flags.layers, heads=flags.heads, context=flags.context)
    small = Sizes(dim=flags.draft_dim, layers=flags.draft_layers, heads=1, context=flags.context)
    writers = Writers(sizes, small, flags.learn, machine.device, flags.draft_tokens)
    ways = writers.ways(flags.compile)
    tell(f"laws on {machine.device.type}")
    verdicts = {name: writers.judge(name, write) for name, write in ways.items()}
    tell(f"texts on {machine.device.type}")
    rows = {name: flags.batch if name == MANY else 1 for name in ways}
    runs = {
        name: lambda write=write, rows=rows[name]: write(writers.prompts(rows, 1), flags.tokens, WARM)
        for name, write in ways.items()
        if verdicts[name] == PASS
    }
    for name, write in ways.items():
        if verdicts[name] == PASS:
            write(writers.prompts(rows[name], 1), 3, WARM)  # this number of texts may have to be compiled
    writers.accepted.clear()
    whole = interleave(runs, flags.rounds, machine.device, calls=1)
    times = {name: [one / flags.tokens / rows[name] for one in found] for name, found in whole.items()}
    width = measured_bandwidth(machine.device)
    shape = {"time": flags.tokens, "dim": flags.dim, "heads": flags.heads, "layers": flags.layers}
    about = {"device": machine.device.type, "dtype": machine.dtype_name, "context": flags.context, **shape}
    found = []
    for name in ways:
        read = bytes_per_step(writers.model, rows[name], 1, flags.tokens) / rows[name]
        counted = None if name in (UNCACHED, SPECULATIVE) else read
        accepted = statistics.median(writers.accepted) if name == SPECULATIVE and writers.accepted else None
        row = {"name": name, **about, "batch": rows[name], "pass": "text", **figures(times, name, counted, width)}
        found.append(row | {"accepted": accepted, "laws": verdicts[name], "cases": len(PROMPTS)})
    return found


def figures(times: Times, name: str, read: float | None, width: float) -> Row:
    """Of one way: the time of a token, and how it compares; `read` are the bytes that a token needs, if it is known."""
    middle = statistics.median(times[name]) if name in times else None
    ratios = {f"ratio_to_{other}": ratio(times, name, other) for other in (UNCACHED, CACHED)}
    return {
        "median_ms": middle and 1e3 * middle,
        "iqr_ms": middle and 1e3 * iqr(times[name]),
        "tokens_per_second": middle and 1 / middle,
        "bytes_per_token": read,
        "bandwidth": width,
        "bandwidth_share": read / middle / width if read and middle else None,
        "reference": THEIRS,
        "ratio": ratio(times, name, THEIRS),
        **ratios,
    }


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(Flags, sys.argv[1:], "sampling.py")
    check(flags)
    chosen, out = choose_machines(flags.device, flags.threads, "float32"), open_output(flags.json)
    Gpt2().require()
    machine, rows = describe(chosen), list[Row]()
    with progress(total=3 * len(chosen)) as tell:
        for one in chosen:
            rows += compare(flags, one, tell)
    write_json(out, machine, rows)
    show(machine, rows)
    return 0


if __name__ == "__main__":
    run_and_exit(main)
