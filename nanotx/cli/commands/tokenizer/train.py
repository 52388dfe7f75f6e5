"""Train a tokenizer on files or on a corpus."""

import dataclasses
import hashlib
import shlex
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from nanotx.cli.tokenizer.inputs import NONE, bar, corpus_of, corpus_rows, plain_files
from nanotx.config.flags import collect_flags, flag_fields, parse, positional_args
from nanotx.config.registry import load_file
from nanotx.config.schema import from_table
from nanotx.data.text_files import BLOCK
from nanotx.errors import ConfigError, TokenizerError
from nanotx.files import open_regular
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.storage import Origin

USAGE = "KIND [FILE ...]"
GROUP = "Train"
ORDER = 10


def run(argv: list[str]) -> int:
    """Learn a tokenizer from files, or from the training part of a corpus."""
    for file in chain.from_iterable(collect_flags(argv).get("load", [])):
        load_file(file)
    kind = next(iter(positional_args(argv)), "")
    if not kind and {"-h", "--help"} & set(argv):
        known = "\n".join(f"  {name:12} {first_line(Tokenizer.find(name))}" for name in Tokenizer.names())
        sys.stdout.write(f"nanotx tokenizer train KIND FILE... [flags of the kind: KIND --help]\n\n{known}\n")
        return 0
    if not kind:
        raise ConfigError(f"nanotx tokenizer train: expected a kind first: {', '.join(Tokenizer.names())}.")
    part = Tokenizer.find(kind)
    files = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="texts to learn from, or folders")]
    out = Annotated[str, tyro.conf.arg(help="where the tokenizer is written")]
    errors = Annotated[Literal["strict", "replace"], tyro.conf.arg(help="replace: read U+FFFD where there is no UTF-8")]
    load = Annotated[tuple[str, ...], tyro.conf.arg(help="Python files of your own, with parts in them")]
    own: list[Any] = [("files", files, ()), ("out", out, f"{kind}.json"), ("errors", errors, "strict")]
    columns = [*own, ("load", load, ()), *corpus_rows(argv), *flag_fields([part()])]
    flags = dataclasses.make_dataclass("Flags", columns, frozen=True, kw_only=True)
    flags.__doc__ = f"Learns a {kind} tokenizer and writes it as one JSON file."
    said: Any = parse(flags, argv[1:], f"nanotx tokenizer train {kind}")
    if bool(said.files) == (said.pick_corpus != NONE):
        raise ConfigError("nanotx tokenizer train: expected files, or --corpus NAME, and one of the two only.")
    fields = {name: getattr(said, name) for name, _, _ in flag_fields([part()])}
    config: Tokenizer = from_table(Tokenizer, {"part": kind} | fields, "tokenizer")
    try:
        codec, corpus_name, digest = from_files(config, said) if said.files else from_corpus(config, said)
    except TokenizerError as error:  # a recipe's flags are named there, which are ours without their group
        raise TokenizerError(str(error).replace("--tokenizer.", "--")) from None
    command = shlex.join(["nanotx", "tokenizer", "train", *argv])
    codec.with_origin(Origin(corpus=corpus_name, sha256=digest, command=command)).save(Path(said.out))
    sys.stdout.write(f"{said.out}: {kind}, {codec.vocab_size} ids\n")
    return 0


def from_corpus(config: Tokenizer, said: Any) -> tuple[Codec, str, str]:
    """Learned from the training part of a corpus; with its name and the SHA-256 of the whole of it."""
    training, validation = corpus_of(said).split()
    codec = config.train_checked([training], validation)
    return codec, said.pick_corpus, hashlib.sha256((training + validation).encode("utf-8")).hexdigest()


def from_files(config: Tokenizer, said: Any) -> tuple[Codec, str, str]:
    """Learned from files, each a text of its own, read block by block; with their names and SHA-256."""
    files = plain_files(said.files)
    with bar(files) as shown:
        codec = config.train_checked(shown.reading(files, said.errors, config.splittable))
    digest = hashlib.sha256()
    for file in files:
        with open_regular(file) as stream:
            while data := stream.read(BLOCK):
                digest.update(data)
    return codec, " ".join(Path(name).name for name in said.files), digest.hexdigest()


def first_line(part: type) -> str:
    """What a part does, in a line."""
    return (part.__doc__ or "").partition("\n")[0]
