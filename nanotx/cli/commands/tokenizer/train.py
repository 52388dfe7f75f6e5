"""Train a tokenizer on files or on a corpus."""

import hashlib
import shlex
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from nanotx.cli.tokenizer.inputs import corpus_flags, corpus_of, plain_files, progress_bar
from nanotx.config.command_line import collect_flags, positional_args, read_flags
from nanotx.config.flags import argument, command_page, flags_of, option, repeated
from nanotx.config.help import columns, page_width, wrap, write_page
from nanotx.config.registry import load_file
from nanotx.config.schema import fields, from_table
from nanotx.data.text_files import BLOCK
from nanotx.errors import ConfigError, TokenizerError
from nanotx.files import open_regular
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.storage import Origin

USAGE = "KIND [FILE ...]"
GROUP = "Train"
ORDER = 10

PROG = "nanotx tokenizer train"
MORE = f"{PROG} KIND --help shows the options of a kind."


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Train a {kind} tokenizer and write it to one JSON file.

    nanotx tokenizer train {kind} my.txt --out mine.json
    nanotx tokenizer train {kind} --corpus tiny_shakespeare
    """

    files: tuple[str, ...] = argument("FILE ...", ())  # texts, or folders of texts, to train on
    out: str = option("FILE")  # file to write the tokenizer to; without it, KIND.json
    errors: Literal["strict", "replace"] = "strict"  # bytes that are not UTF-8: refuse them, or read them as U+FFFD
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts


def run(argv: list[str]) -> int:
    """Train a tokenizer on files, or on the training part of a corpus."""
    for file in chain.from_iterable(collect_flags(argv).get("load", [])):
        load_file(file)
    kind = next(iter(positional_args(argv)), "")
    if not kind and {"-h", "--help"} & set(argv):
        write_page(kinds_page())
        return 0
    if not kind:
        raise ConfigError(f"{PROG}: KIND: missing; expected one of {', '.join(Tokenizer.names())}.")
    if kind not in Tokenizer.names() and Path(kind).exists():
        raise ConfigError(f"{PROG}: KIND comes before the files: try {shlex.join([*PROG.split(), 'bpe', *argv])}")
    part, flags = Tokenizer.find(kind), flags_of(Flags)
    about = (Flags.__doc__ or "").format(kind=kind)
    page = command_page([*flags, *flags_of(part), *corpus_flags(argv)], f"{PROG} {kind}", about)
    values = read_flags(page, argv[1:])
    given = Flags(**{flag.name: values[flag.name] for flag in flags if flag.name in values})
    if bool(given.files) == ("corpus" in values):
        raise ConfigError(f"{PROG}: expected either files or --corpus NAME. See {PROG} {kind} --help.")
    table = {name: values[name] for name in fields(part) if name in values}
    config: Tokenizer = from_table(Tokenizer, {"part": kind} | table, "tokenizer")
    try:
        codec, corpus_name, digest = train_on_files(config, given) if given.files else train_on_corpus(config, values)
    except TokenizerError as error:  # names the flags of a recipe; here they have no group
        raise TokenizerError(str(error).replace("--tokenizer.", "--")) from None
    out = given.out or f"{kind}.json"
    command = shlex.join(["nanotx", "tokenizer", "train", *argv])
    codec.with_origin(Origin(corpus=corpus_name, sha256=digest, command=command)).save(Path(out))
    sys.stdout.write(f"{out}: {kind}, {codec.vocab_size} ids\n")
    return 0


def kinds_page() -> str:
    """Return the help page without a kind: the kinds."""
    width = page_width()
    rows = [(name, (Tokenizer.find(name).__doc__ or "").partition("\n")[0]) for name in Tokenizer.names()]
    about = wrap("Train a tokenizer of some kind and write it to one JSON file.", width)
    return "\n\n".join(
        [wrap(f"Usage: {PROG} {USAGE} [options]", width), about, f"Kinds:\n{columns(rows, width)}", wrap(MORE, width)]
    )


def train_on_corpus(config: Tokenizer, values: dict[str, Any]) -> tuple[Codec, str, str]:
    """Train on the training part of a corpus; return the tokenizer, the corpus's name, and its SHA-256."""
    corpus = corpus_of(values)
    training, validation = corpus.split()
    codec = config.train_checked([training], validation)
    return codec, corpus.part, hashlib.sha256((training + validation).encode("utf-8")).hexdigest()


def train_on_files(config: Tokenizer, flags: Flags) -> tuple[Codec, str, str]:
    """Train on files, each a text of its own, read in blocks; return the tokenizer, their names, and their SHA-256."""
    files = plain_files(flags.files)
    with progress_bar(files) as progress:
        codec = config.train_checked(progress.read(files, flags.errors, config.splittable))
    digest = hashlib.sha256()
    for file in files:
        with open_regular(file) as stream:
            while data := stream.read(BLOCK):
                digest.update(data)
    return codec, " ".join(Path(name).name for name in flags.files), digest.hexdigest()
