"""How fast tokenizers learn and encode, beside tiktoken, tokenizers and rustbpe; first the laws, and equal ids.

python benchmarks/tokenization.py --json benchmarks/results/tokenization-cpu.json
python benchmarks/tokenization.py --sections encode --texts ascii --megabytes 1,10 --rounds 5
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness import Row
from harness.laws import PASS
from harness.passages import ABOUT
from harness.report import open_output, progress, write_json
from harness.tokenizer_sections import SECTIONS, Plan
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.errors import ConfigError, did_you_mean
from nanotx.hardware.cpu import cores, describe_machine


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times what was found equal: the merges that are learned, and the ids of the whole text."""

    device: str = "cpu"  # tokenizers know no other
    sections: str = ",".join(SECTIONS)  # which, separated by commas
    texts: str = ",".join(ABOUT)  # which, separated by commas
    megabytes: str = "1,10,100"  # how much of each text
    vocab_sizes: str = "512,4096,32768"  # of what is learned
    rounds: int = 7  # at most, in which all take their turns; the figures are medians over them
    seconds: float = 60.0  # after which no round begins, for one group of rows; there are three at least
    cases: int = 10  # of each law
    json: str = ""  # write the figures into this file
    quick: bool = False  # a tenth of a million bytes, few rounds and cases: only to see that it works
    alone: str = ""  # a section that this very process is for

    def plan(self) -> Plan:
        """How thoroughly all of it is measured.

        Raises:
            ConfigError: there is no such text, or a number is none.
        """
        numbers = {name: tuple(map(_number, getattr(self, name).split(","))) for name in ("megabytes", "vocab_sizes")}
        texts = _known("texts", self.texts, list(ABOUT))
        if min(numbers["vocab_sizes"]) < 256:
            raise ConfigError("--vocab-sizes: expected sizes of at least 256, one for each byte.")
        if self.quick:
            return Plan(texts=texts, megabytes=(1,), vocab_sizes=(300,), rounds=3, seconds=0.0, cases=2, quick=True)
        return Plan(texts=texts, rounds=self.rounds, seconds=self.seconds, cases=self.cases, quick=False, **numbers)


def main() -> int:
    """Each section in a process of its own, so that the libraries have as many threads there as it says."""
    flags = parse(Flags, sys.argv[1:], "tokenization.py")
    if flags.device != "cpu":
        raise ConfigError(f"--device: expected cpu, got {flags.device!r}; tokenizers run on no other.")
    plan, file = flags.plan(), open_output(flags.json)
    if flags.alone:
        with progress(0) as tell:
            rows = SECTIONS[_known("alone", flags.alone, list(SECTIONS))[0]].rows(plan, tell)
        write_json(file, {}, rows)
        return 0
    rows = [row for name in _known("sections", flags.sections, list(SECTIONS)) for row in _in_child(flags, name)]
    machine = _machine()
    show_tokenizers(machine, rows)
    write_json(file, machine, rows)
    return int(any(row["laws"] != "pass" for row in rows))


def _in_child(flags: Flags, name: str) -> list[Row]:
    threads = cores() if SECTIONS[name].all_cores else 1
    env = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows.json")
        said = asdict(replace(flags, alone=name, json=str(out)))
        words = [f"--{key.replace('_', '-')}={value}" for key, value in said.items() if not isinstance(value, bool)]
        quick = ["--quick"] if flags.quick else []
        subprocess.run([sys.executable, __file__, *words, *quick], env=env, check=True)
        rows: list[Row] = json.loads(out.read_text(encoding="utf-8"))["rows"]
    return [row | {"threads": threads} for row in rows]


def _machine() -> Row:
    return describe_machine("numpy", "regex", "numba", "tiktoken", "tokenizers", "rustbpe")


def _known(flag: str, words: str, known: list[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",")))
    for name in names:
        if name not in known:
            raise ConfigError(f"--{flag}: {name!r} is none.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return names


def _number(word: str) -> int:
    if not word.strip().isdecimal() or int(word) < 1:
        raise ConfigError(f"expected whole numbers from 1 on, separated by commas, got {word!r}.")
    return int(word)


def show_tokenizers(machine: Row, rows: Sequence[Row]) -> None:
    """The figures of `tokenization.py`; what broke a law, or gave other ids, is told below them."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(Text(f"{machine['cpu']}, {machine['cores']} cores"))
    table = Table(caption=TOKENIZERS, caption_justify="left")
    for name in ("task", "name", "text"):
        table.add_column(name)
    for name in ("MB", "ids", "threads", "state", "ms", "iqr", "MB/s", "x", "of", "hits", "memory"):
        table.add_column(name, justify="right")
    group: tuple[object, ...] = ()
    for row in rows:
        here = tuple(row[key] for key in ("task", "text", "megabytes", "vocab_size", "state"))
        if group and here != group:
            table.add_section()
        group = here
        figures = [row[key] if row[key] is None else format(row[key], style) for key, style in SPEEDS.items()]
        rate, ratio, hits, memory = figures[2:]
        about = [row["task"], row["name"], row["text"], f"{row['megabytes']:.1f}", str(row["vocab_size"])]
        cells = [*about, str(row["threads"]), row["state"], *figures[:2], rate, ratio, row["reference"], hits, memory]
        table.add_row(*("-" if one is None else one for one in cells))
    console.print(table)
    for text in dict.fromkeys(f"{row['task']}, {row['text']}: {row['laws']}" for row in rows if row["laws"] != PASS):
        console.print(Text(text, "red"), soft_wrap=True)


SPEEDS = {
    "median_ms": ",.1f",
    "iqr_ms": ",.1f",
    "megabytes_per_second": ",.1f",
    "ratio": ".2f",
    "hits": ".1%",
    "memory_mb": ",.0f",
}
TOKENIZERS = (
    "ms: median, and iqr how wide the middle half lies. x: how long it takes in times of the one named beside it. "
    "cold: all that is remembered empty, warm: after the same text. hits: parts of the text that were remembered. "
    "memory: the most MB above an empty process."
)


if __name__ == "__main__":
    run_and_exit(main)
