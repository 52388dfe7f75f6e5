"""Compare several tokenizers on one text."""

import dataclasses
import sys
from itertools import chain
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

from nanotx.cli.tokenizer import tables
from nanotx.cli.tokenizer.contestants import Cut, contestants, split, writable, write_json
from nanotx.cli.tokenizer.inputs import corpus_rows
from nanotx.cli.tokenizer.measuring import Row, measure
from nanotx.config.flags import collect_flags, flag_fields, parse
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import TokenizerError

USAGE = "[FILE ...]"
GROUP = "Compare"
ORDER = 30

ABOUT = """Each learns from the training part alone and is measured on the whole validation part.

A tokenizer is a part, preset name or a path; after colons its fields: bpe:4096, char:unknown,
bpe:512:pattern=gpt2. Fertility is tokens per word, all tokens counted; a word is a run of letters, marks and digits, or
one Chinese or Japanese letter. A token falls to the script of the stretch in which its first byte lies. Speeds are
medians on one thread: cold by a codec just read, warm (encode MB/s) by one that has met the text. One that loses
something of the text shows how much instead of rates."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is compared, and where the figures go."""

    tokenizers: str = "char,byte,bpe:512,bpe:4096,wordpiece:4096,unigram:4096"  # parted by commas
    rounds: int = 5  # of each speed
    json: str = ""  # write the figures into this file
    plot: str = ""  # draw them into this file: .svg, .png or .pdf
    load: tuple[str, ...] = ()  # Python files of your own, with parts in them


def run(argv: list[str]) -> int:
    """Compare."""
    flags, files, said = _read(argv)
    configs = contestants(flags.tokenizers)
    if flags.plot:
        from nanotx.cli.tokenizer import plot  # it imports matplotlib, which takes a second

        plot.check(flags.plot)
    json_file, plot_file = writable(flags.json, "--json"), writable(flags.plot, "--plot")
    name, training, validation = split(said, files)
    console = Console(highlight=False)
    parts = {"training": len(training.encode("utf-8")), "validation": len(validation.encode("utf-8"))}
    sizes = ", ".join(f"{size:,} bytes of {part}" for part, size in parts.items())
    console.print(Text(f"{name}: {sizes}"), soft_wrap=True)
    found = list[Row]()
    for index, one in enumerate(configs):
        sys.stderr.write(f"{index + 1}/{len(configs)}  {one.name}\n")
        found.append(measure(one, training, validation, flags.rounds))
    tables.show(console, found, sys.stdout.isatty())
    if json_file:
        write_json(json_file, {"corpus": {"name": name, **{f"{part}_bytes": parts[part] for part in parts}}}, found)
    if plot_file:
        plot.draw(found, f"{name}'s validation text", plot_file)
    return TokenizerError.exit_code if all(row["error"] for row in found) else 0


def _read(argv: list[str]) -> tuple[Flags, tuple[str, ...], Any]:
    """Our own flags, the files, and all that was said."""
    for file in chain.from_iterable(collect_flags(argv).get("load", [])):
        load_file(file)
    own = flag_fields([Flags()])
    files = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="texts, where no corpus is named")]
    columns: list[Any] = [("files", files, ()), *corpus_rows(argv, Cut()), *own]
    kind = dataclasses.make_dataclass("Flags", columns, frozen=True, kw_only=True)
    kind.__doc__ = ABOUT
    said: Any = parse(kind, argv, "nanotx tokenizer compare")
    flags = Flags(**{name: getattr(said, name) for name, _, _ in own})
    check_min(flags, 1, "rounds")
    return flags, said.files, said
