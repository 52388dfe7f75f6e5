"""How fast tokenizers are trained and encode, compared with tiktoken, tokenizers and rustbpe; first laws and equal ids.

python benchmarks/tokenization.py --json benchmarks/results/tokenization-cpu.json
python benchmarks/tokenization.py --sections encode --texts ascii --megabytes 1,10 --rounds 5
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import Row
from harness.laws import PASS, figures, time_lawful, try_laws
from harness.processes import megabytes, peak_in_child
from harness.report import Announce, known_names, open_output, progress, whole_numbers, write_json
from harness.tables import number, open_console, print_notes, print_table, word
from harness.texts import TEXTS, documents
from harness.timing import Times, seconds, turn_order
from harness.tokenizer_peers import PATTERN, Encoder, encoders, same_ids, trainers
from rich.text import Text

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.errors import ConfigError
from nanotx.hardware.cpu import cores, describe_machine
from nanotx.laws.law import Where
from nanotx.tokenizers import Codec, Tokenizer, load
from nanotx.tokenizers.bpe import Bpe, BpeCodec, compiled
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.bpe.training import count_pieces, learn_merges
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.regexes import source_of

CPU = torch.device("cpu")
BASELINES = {"learn": "rustbpe", "encode": "tiktoken", "all cores": "tiktoken"}
VOCAB_SIZE, TRAINED_ON = 32_768, 10  # of the tokenizer that encodes, and the megabytes of text that it is trained on
HUGE = 50  # megabytes, from which on nothing is measured cold, and only the largest vocabulary is trained
QUICK_SIZE = 50_000  # characters
ABOUT = (
    "ms: median, and its interquartile range. x: time relative to the one named next to it. cold: all caches empty, "
    "warm: after the same text. hits: parts of the text that were cached. memory: peak in MB above an empty process."
)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times what was found equal: the merges that are trained, and the ids of the whole text."""

    device: str = "cpu"  # tokenizers run on no other
    sections: str = "learn,encode,lookup,batch,file"  # which, separated by commas
    texts: str = ",".join(TEXTS)  # which, separated by commas
    megabytes: str = "1,10,100"  # how much of each text
    vocab_sizes: str = "512,4096,32768"  # of what is trained
    rounds: int = 7  # at most, each of which times every tokenizer; the figures are medians over them
    seconds: float = 60.0  # after which no round begins, for one group of rows; there are three at least
    cases: int = 10  # of each law
    json: str = ""  # write the figures into this file
    quick: bool = False  # a tenth of a million bytes, few rounds and cases: only to see that it works

    def chosen(self) -> tuple[str, ...]:
        """Return the sections.

        Raises:
            ConfigError: one is unknown, as may be a text; or a number is invalid.
        """
        if self.device != "cpu":
            raise ConfigError(f"--device: expected cpu, got {self.device!r}; tokenizers run on no other.")
        known_names("--texts", self.texts, list(TEXTS))
        whole_numbers("--megabytes", self.megabytes)
        if min(whole_numbers("--vocab-sizes", self.vocab_sizes)) < 256:
            raise ConfigError("--vocab-sizes: expected sizes of at least 256, one for each byte.")
        return known_names("--sections", self.sections, list(SECTIONS))

    def inputs(self) -> Iterator[tuple[Row, list[str]]]:
        """Yield each text in each size, with the fields of its rows; a text that is exhausted comes once."""
        for kind in known_names("--texts", self.texts, list(TEXTS)):
            before = 0.0
            for size in whole_numbers("--megabytes", self.megabytes):
                texts = documents(kind, size)
                texts = [texts[0][:QUICK_SIZE]] if self.quick else texts
                true_size = sum(len(text.encode("utf-8")) for text in texts) / 1e6
                if true_size > 1.01 * before:
                    yield {"text": kind, "megabytes": true_size}, texts
                before = true_size


# Sections.


def training(flags: Flags, announce: Announce) -> Iterator[Row]:
    """Training of byte pairs, to several sizes."""
    verdict, sizes = laws_of("bpe", flags), whole_numbers("--vocab-sizes", flags.vocab_sizes)
    for source, texts in flags.inputs():
        for size in sizes if source["megabytes"] < HUGE else sizes[-1:]:
            vocab_size = min(size, possible(texts, size))
            about = source | {"vocab_size": vocab_size, **verdict}
            announce(f"learn {vocab_size} from {source['megabytes']:.1f} MB of {source['text']}")
            runs = trainers(texts, vocab_size)
            try:
                results = {name: run() for name, run in runs.items()}
            except Exception as error:
                yield row_of("learn", "nanotx", about | {"laws": f"failed: {error}"}, {})
                continue
            ours = results["nanotx"]
            assert isinstance(ours, list)
            for name, theirs in results.items():
                count = theirs if isinstance(theirs, int) else len(theirs)
                # Their Unicode tables have other versions: beyond ASCII, only the size compares.
                if count != len(ours) if source["text"] == "mixed" else theirs not in (ours, len(ours)):
                    about["laws"] = f"failed: {name} learned other tokens"
            yield from rows_of("learn", about, runs, flags)


def possible(texts: list[str], vocab_size: int) -> int:
    """Return nine tenths of the ids that the texts allow, if these are fewer: at the limit, each stops otherwise."""
    pieces = count_pieces(texts, Splitter(source_of(PATTERN)))
    merges = len(learn_merges(pieces, vocab_size - 256))
    return vocab_size if merges == vocab_size - 256 else 256 + 9 * merges // 10


def encoding(flags: Flags, announce: Announce) -> Iterator[Row]:
    """Encoding on one thread: cold, with all caches empty, and warm, after the same text."""
    verdict, codec = laws_of("bpe", flags), trained_codec(flags)
    builders = encoders(codec)
    for source, texts in flags.inputs():
        text, warm = "".join(texts), {name: build() for name, build in builders.items()}
        announce(f"encode {source['megabytes']:.1f} MB of {source['text']}")
        ids = {name: encoder.encode(text) for name, encoder in warm.items()}
        about = source | {"vocab_size": codec.vocab_size, "tokens": len(ids["nanotx"]), **compare_ids(ids, verdict)}
        del ids
        runs = {name: partial(encoder.encode, text) for name, encoder in warm.items()}
        rows = rows_of("encode", about | {"state": "warm"}, runs, flags)
        if source["megabytes"] < HUGE:
            times = time_cold(builders, text, flags) if about["laws"] == PASS else {}
            rows += [row_of("encode", name, about | {"state": "cold"}, times) for name in builders]
        for row in rows:
            hits = share_of_hits(codec, text, row["state"] == "warm") if row["name"] == "nanotx" else None
            yield row | {"hits": hits}


def time_cold(builders: Mapping[str, Callable[[], Encoder]], text: str, flags: Flags) -> Times:
    """Time each with a tokenizer that was built for this turn; building is not timed."""
    times: Times = {name: [] for name in builders}
    for name in turn_order(list(builders), flags.rounds, flags.seconds):
        times[name].append(seconds(partial(builders[name]().encode, text), 1, CPU))
    return times


def share_of_hits(codec: BpeCodec, text: str, warm: bool) -> float:
    """Return the share of the text's parts that were in the cache."""
    fresh = BpeCodec(codec.merges, codec.source)
    memory: Any = fresh._memory
    if fast := compiled.loops(True):
        memory = fresh._engine(fast)
    for _ in range(1 + warm):
        before = memory.misses
        fresh.encode_ordinary(text)
    parts = memory.parts // (1 + warm) if fast else len(fresh._splitter.parts(text))
    return float(1 - (memory.misses - before) / max(parts, 1))


def lookups(flags: Flags, announce: Announce) -> Iterator[Row]:
    """The tokenizers that look up."""
    text = documents("shakespeare", 1)[0]
    whole = text[:QUICK_SIZE] if flags.quick else text * (100_000_000 // len(text))
    codecs: dict[str, Codec] = {"char": Char().train([text]), "byte": Byte().train([])}
    for name, codec in codecs.items():
        announce(f"look up by {name}")
        about: Row = {"text": "shakespeare, again and again", "megabytes": len(whole) / 1e6, "tokens": len(whole)}
        about |= {"vocab_size": codec.vocab_size, "state": "warm", **laws_of(name, flags)}
        yield from rows_of("look up", about, {name: partial(codec.encode, whole)}, flags)


def batches(flags: Flags, announce: Announce) -> Iterator[Row]:
    """Encoding of many texts on all cores, each tokenizer in its own way."""
    verdict, codec, threads = laws_of("bpe", flags), trained_codec(flags), cores()
    for source, texts in flags.inputs():
        announce(f"encode {source['megabytes']:.1f} MB of {source['text']} on {threads} cores")
        runs = {name: partial(build().batch, texts, threads) for name, build in encoders(codec).items()}
        about = source | {"vocab_size": codec.vocab_size, "state": "warm", **verdict}
        if source["megabytes"] < HUGE:
            about |= compare_ids({name: [id for row in run() for id in row] for name, run in runs.items()}, verdict)
        yield from rows_of("all cores", about, runs, flags)


def files(flags: Flags, announce: Announce) -> Iterator[Row]:
    """Encoding into a token file, with the peak memory above an empty process."""
    codec, verdict, empty = trained_codec(flags), laws_of("bpe", flags), peak_in_child(int)
    with tempfile.TemporaryDirectory() as folder:
        saved, file = Path(folder, "tokenizer.json"), Path(folder, "text.txt")
        codec.save(saved)
        for source, texts in flags.inputs():
            announce(f"encode {source['megabytes']:.1f} MB of {source['text']} into a file")
            file.write_text("".join(texts), encoding="utf-8", newline="")
            memory = megabytes(peak_in_child(encode_to_file, saved, file), empty)
            about = source | {"vocab_size": codec.vocab_size, "memory_mb": memory, **verdict}
            yield from rows_of("file", about, {"nanotx": partial(encode_to_file, saved, file)}, flags, calls=1)


def encode_to_file(saved: Path, source: Path) -> None:
    """Encode a file, cold."""
    load(saved).encode_to_file([source], source.with_suffix(".bin"))


SECTIONS: dict[str, Callable[[Flags, Announce], Iterator[Row]]] = {
    "learn": training,
    "encode": encoding,
    "lookup": lookups,
    "batch": batches,
    "file": files,
}


# What sections share.


def laws_of(name: str, flags: Flags) -> Row:
    """Return the verdict of the laws on a tokenizer."""
    results = try_laws("tokenizer", Tokenizer.find(name), Where(), flags.cases)
    return {"laws": results.verdict, "cases": results.cases}


def compare_ids(ids: Mapping[str, Any], verdict: Row) -> Row:
    """Return the verdict, after it was seen whether the ids of all are the same."""
    others = [name for name, theirs in ids.items() if not same_ids(ids["nanotx"], theirs)]
    return verdict | ({"laws": f"failed: {others[-1]} gives other ids"} if others else {})


def trained_codec(flags: Flags) -> BpeCodec:
    """Return the tokenizer that all encode with."""
    if flags.quick:
        return Bpe(vocab_size=300).train([documents("shakespeare", 1)[0][:QUICK_SIZE]])
    return Bpe(vocab_size=VOCAB_SIZE).train(documents("ascii", TRAINED_ON))


def rows_of(
    task: str, about: Row, runs: Mapping[str, Callable[[], object]], flags: Flags, calls: int | None = None
) -> list[Row]:
    """Time all candidates interleaved, if their laws hold, and return a row for each."""
    calls = 1 if about["megabytes"] > HUGE and task != "look up" else calls
    verdict: str = about["laws"]
    times = time_lawful(runs, dict.fromkeys(runs, verdict), flags.rounds, CPU, calls=calls, limit=flags.seconds)
    return [row_of(task, name, about, times) for name in runs]


def row_of(task: str, name: str, about: Row, times: Times) -> Row:
    """Return a row; without times, only what is known without them."""
    work = {"megabytes_per_second": about["megabytes"], "tokens_per_second": about.get("tokens")}
    unknown = dict.fromkeys(("state", "vocab_size", "hits", "memory_mb"))
    measured = figures(times, name, BASELINES.get(task), work)
    return {"task": task, "name": name, "device": "cpu", **unknown, **measured, **about}


# The program.


def main() -> int:
    """Run each section in a process of its own, in which the libraries have one thread, or all cores."""
    flags = parse(Flags, sys.argv[1:], "tokenization.py")
    sections, file = flags.chosen(), open_output(flags.json)
    if flags.quick:
        flags = replace(flags, megabytes="1", vocab_sizes="300", rounds=3, seconds=0.0, cases=2)
    rows = [row for name in sections for row in in_child(name, flags)]
    machine = describe_machine("numpy", "regex", "numba", "tiktoken", "tokenizers", "rustbpe")
    write_json(file, machine, rows)
    show(machine, rows)
    return int(any(row["laws"] != PASS for row in rows))


def in_child(name: str, flags: Flags) -> list[Row]:
    """Return the rows of a section."""
    threads = cores() if name == "batch" else 1
    os.environ |= {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [row | {"threads": threads} for row in pool.submit(run_section, name, flags).result()]


def run_section(name: str, flags: Flags) -> list[Row]:
    """In the child: compile our loops, as the others were compiled before; then measure."""
    compiled.loops(True)
    with progress() as announce:
        return list(SECTIONS[name](flags, announce))


def show(machine: Row, rows: list[Row]) -> None:
    """Print a table for each task, text, size and state."""
    console = open_console(160)
    console.print(Text(f"{machine['cpu']}, {machine['cores']} cores"), soft_wrap=True)
    columns = {
        "": word("name"),
        "ids": word("vocab_size"),
        "threads": word("threads"),
        "ms": number("median_ms", ",.1f"),
        "iqr": number("iqr_ms", ",.1f"),
        "MB/s": number("megabytes_per_second", ",.1f"),
        "x": number("ratio", ".2f"),
        "of": word("reference"),
        "hits": number("hits", ".1%"),
        "memory": number("memory_mb", ",.0f"),
    }
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        group = tuple(row[key] for key in ("task", "text", "megabytes", "vocab_size", "state"))
        groups.setdefault(group, []).append(row)
    for (task, text, size, _, state), same in groups.items():
        print_table(console, f"{task}, {size:.1f} MB of {text}{f', {state}' if state else ''}", columns, same)
    print_notes(console, ABOUT, rows)


if __name__ == "__main__":
    run_and_exit(main)
