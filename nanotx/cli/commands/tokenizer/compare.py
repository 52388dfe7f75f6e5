"""Compare several tokenizers on one text."""

import dataclasses
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from nanotx.cli.tokenizer import tables
from nanotx.cli.tokenizer.contestants import Files, contestants, split, writable, write_json
from nanotx.cli.tokenizer.inputs import corpus_flags
from nanotx.cli.tokenizer.measuring import Row, measure
from nanotx.config.command_line import collect_flags, read_flags
from nanotx.config.flags import argument, command_page, flags_of, option, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError, TokenizerError
from nanotx.tokenizers import Tokenizer

USAGE = "[FILE ...]"
GROUP = "Compare"
ORDER = 30

PROG = "nanotx tokenizer compare"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Compare tokenizers: each is trained on the training part of a text alone, and measured on the validation part.

    A tokenizer is a part, the name of a preset, or a path, followed by its fields after colons: bpe:4096, char:unknown,
    bpe:512:pattern=gpt2. Fertility is tokens per word, all tokens counted; a word is a run of letters, marks and
    digits, or one Chinese or Japanese character. A token counts for the script of its first byte. Speeds are medians on
    one thread: cold is the first encoding of a tokenizer just loaded, warm a later one. A tokenizer that loses text
    shows how much instead of rates.

        nanotx tokenizer compare --corpus tiny_shakespeare
        nanotx tokenizer compare my.txt --tokenizers byte,bpe:512,unigram:4096 --plot sizes.svg
    """

    files: tuple[str, ...] = argument("FILE ...", ())  # texts to compare on, where no corpus is named
    tokenizers: str = option(
        "NAME,...", "char,byte,bpe:512,bpe:4096,wordpiece:4096,unigram:4096"
    )  # tokenizers to compare, separated by commas
    rounds: int = 5  # number of measurements per speed; the median is shown
    json: str = option("FILE")  # write the figures to this file
    plot: str = option("FILE")  # draw the figures to this file: .svg, .png or .pdf
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "rounds")


def run(argv: list[str]) -> int:
    """Compare the tokenizers, print the tables, and return the exit code."""
    flags, corpus = read(argv)
    configs = contestants(flags.tokenizers)
    if flags.plot:
        from nanotx.cli.tokenizer import plot  # imports matplotlib, which takes a second

        plot.check(flags.plot)
    json_file, plot_file = writable(flags.json, "--json"), writable(flags.plot, "--plot")
    name, training, validation = split(flags.files, corpus)
    console = Console(highlight=False)
    parts = {"training": len(training.encode("utf-8")), "validation": len(validation.encode("utf-8"))}
    sizes = ", ".join(f"{size:,} bytes of {part}" for part, size in parts.items())
    console.print(Text(f"{name}: {sizes}"), soft_wrap=True)
    rows = list[Row]()
    for index, contestant in enumerate(configs):
        sys.stderr.write(f"{index + 1}/{len(configs)}  {contestant.name}\n")
        rows.append(measure(contestant, training, validation, flags.rounds))
    tables.show(console, rows, sys.stdout.isatty())
    if json_file:
        write_json(json_file, {"corpus": {"name": name, **{f"{part}_bytes": parts[part] for part in parts}}}, rows)
    if plot_file:
        plot.draw(rows, f"{name}'s validation text", plot_file)
    return TokenizerError.exit_code if all(row["error"] for row in rows) else 0


def read(argv: list[str]) -> tuple[Flags, dict[str, Any]]:
    """Return the command's own flags, and the values of the flags of the corpus."""
    for file in chain.from_iterable(collect_flags(argv).get("load", [])):
        load_file(file)
    own = {flag.name: flag for flag in flags_of(Flags)}
    corpus = corpus_flags(argv)
    if len(corpus) == 1:  # no corpus is named: the share of the files that is the validation part
        corpus += [flag for flag in flags_of(Files(), "corpus") if flag.name == "corpus.validation"]
    values = read_flags(command_page([*own.values(), *corpus], PROG, Flags.__doc__ or ""), argv)
    flags = Flags(**{name: value for name, value in values.items() if name in own})
    named = [file for file in flags.files if file.partition(":")[0] in Tokenizer.names() and not Path(file).exists()]
    if named:
        raise ConfigError(
            f"{PROG}: {named[0]}: there is no such file; tokenizers are named by --tokenizers {','.join(named)}."
        )
    return flags, {name: value for name, value in values.items() if name not in own}
