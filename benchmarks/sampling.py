"""How fast texts are generated, compared with Hugging Face's `generate`; first all have to generate the same text.

    python benchmarks/sampling.py --device cpu --json benchmarks/results/sampling-cpu.json

One GPT-2, in float32, generates in several ways, interleaved in one process: without a cache, with it, compiled, many
texts at once, with a draft model, and in Hugging Face's library.
"""

import statistics
import sys
from dataclasses import dataclass

from harness import Row
from harness.generators import (
    BATCH,
    CACHED,
    COMPILED,
    INT8,
    LOOKUP,
    PEER,
    PROMPTS,
    SPECULATIVE,
    TIMED,
    UNCACHED,
    WAYS,
    Generators,
    Sizes,
)
from harness.gpt2 import Gpt2
from harness.laws import PASS, figures, time_lawful
from harness.machine import choose_machines, describe, read_bandwidth
from harness.report import Announce, Flags, known_names, open_output, progress, write_json
from harness.tables import Cell, laws, number, open_console, print_notes, print_table, word
from harness.timing import ratio
from rich.text import Text
from torch import nn

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine
from nanotx.nn.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class SamplingFlags(Flags):
    """Times the generation of texts in several ways; any that generates another greedy text is not timed."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    dim: int = 384  # width of the model
    layers: int = 6  # of it
    heads: int = 6  # of it
    context: int = 1024  # of both models
    draft_dim: int = 96  # width of the draft model
    draft_layers: int = 1  # of it
    draft_tokens: int = 4  # how many it proposes at a time
    learn: int = 60  # steps that both are trained first
    tokens: int = 500  # of each text
    batch: int = 32  # texts generated at once where it is many
    rounds: int = 3  # each of which times every way; the figures are medians over them
    compile: bool = True  # whether the ways that need a compiler are timed: compiled, and compiled with weights in int8
    ways: str = ",".join(WAYS)  # to time, separated by commas


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(SamplingFlags, sys.argv[1:], "sampling.py")
    check_min(flags, 1, "tokens", "batch", "rounds", "draft_tokens")
    check_min(flags, 0, "learn")
    if max(flags.tokens, *PROMPTS) + 1 > flags.context:
        raise ConfigError(
            f"context: expected room for a text of {flags.tokens + 1} tokens, got {flags.context}; try fewer."
        )
    known_names("--ways", flags.ways, WAYS)
    machines, out = choose_machines(flags.device, flags.threads, "float32"), open_output(flags.json)
    Gpt2().require()
    about, rows = describe(machines), list[Row]()
    with progress(total=3 * len(machines)) as announce:
        for machine in machines:
            rows += compare(flags, machine, announce)
    write_json(out, about, rows)
    console = open_console(140)
    title = f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}"
    print_table(console, title, COLUMNS, rows, left=2)
    print_notes(console, ABOUT, rows)
    return 0


def compare(flags: SamplingFlags, machine: Machine, announce: Announce) -> list[Row]:
    """Return the rows of one machine."""
    device = machine.device
    announce(f"learning on {device.type}")
    sizes = Sizes(dim=flags.dim, layers=flags.layers, heads=flags.heads, context=flags.context)
    small = Sizes(dim=flags.draft_dim, layers=flags.draft_layers, heads=1, context=flags.context)
    generators = Generators(sizes, small, flags.learn, device, flags.draft_tokens)
    without = () if flags.compile else (COMPILED, INT8)
    ways = generators.ways([name for name in known_names("--ways", flags.ways, WAYS) if name not in without])
    announce(f"laws on {device.type}")
    verdicts = {name: generators.verdict(name, generate) for name, generate in ways.items()}
    announce(f"texts on {device.type}")
    batches = {name: flags.batch if name == BATCH else 1 for name in ways}
    runs = {
        name: lambda generate=generate, batch=batches[name]: generate(generators.prompts(batch, 1), flags.tokens, TIMED)
        for name, generate in ways.items()
    }
    for name, generate in ways.items():
        if verdicts[name] == PASS:
            generate(generators.prompts(batches[name], 1), 3, TIMED)  # a batch of this size may have to be compiled
    generators.accepted.clear()
    texts = time_lawful(runs, verdicts, flags.rounds, device, calls=1)
    times = {name: [taken / flags.tokens / batches[name] for taken in values] for name, values in texts.items()}
    bandwidth, rows = read_bandwidth(device), list[Row]()
    shape = {"time": flags.tokens, "dim": flags.dim, "heads": flags.heads, "layers": flags.layers}
    for name, batch in batches.items():
        read = None  # of the others it is not known
        if name not in (UNCACHED, SPECULATIVE, LOOKUP):
            model = generators.int8_model if name == INT8 else generators.model
            read = bytes_per_step(model, batch, 1, flags.tokens) / batch
        accepted = statistics.median(generators.accepted) if name == SPECULATIVE and generators.accepted else None
        rows.append(
            {
                "name": name,
                "device": device.type,
                "dtype": machine.dtype_name,
                "context": flags.context,
                **shape,
                "batch": batch,
                "pass": "text",
                **figures(times, name, PEER, {"tokens_per_second": 1, "bandwidth_share": read and read / bandwidth}),
                "bytes_per_token": read,
                "bandwidth": bandwidth,
                "ratio_to_uncached": ratio(times, name, UNCACHED),
                "ratio_to_cached": ratio(times, name, CACHED),
                "accepted": accepted,
                "laws": verdicts[name],
                "cases": len(PROMPTS),
            }
        )
    return rows


def bytes_per_step(model: Transformer, batch: int, first: int, new: int) -> float:
    """Return the mean number of bytes that a token of each of `batch` texts reads: weights once, and each text's cache.

    Args:
        model: whose heads all have keys and values of their own.
        batch: the number of texts.
        first: the length of the prompts.
        new: the number of tokens that follow, no more than the context holds.
    """
    weights = sum(
        tensor.nbytes
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    )
    cached = first + (new - 1) / 2  # tokens, the newest included
    return weights + batch * cached * 2 * model.config.dim * len(model.blocks) * model.embedding.weight.itemsize


def speedup(key: str, style: str) -> Cell:
    """Return a cell that shows a ratio of times as a ratio of speeds."""
    return lambda row: Text(format(1 / row[key], style) if row[key] else "-")


COLUMNS: dict[str, Cell] = {
    "": word("name"),
    "device": word("device"),
    "texts": word("batch"),
    "ms/token": number("median_ms", ".3f"),
    "iqr": number("iqr_ms", ".3f"),
    "tokens/s": number("tokens_per_second", ",.0f"),
    "x uncached": speedup("ratio_to_uncached", ".1f"),
    "x cached": speedup("ratio_to_cached", ".2f"),
    "x theirs": speedup("ratio", ".2f"),
    "of memory": number("bandwidth_share", ".0%"),
    "accepted": number("accepted", ".0%"),
    "laws": laws,
}
ABOUT = (
    "x: how many times as fast. of memory: the bytes that a token needs, weights and cache, as a share of what plain "
    "reading reaches here. accepted: of the draft tokens, at temperature 0.8 as all that is timed."
)

if __name__ == "__main__":
    run_and_exit(main)
