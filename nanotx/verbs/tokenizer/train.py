"""nanotx tokenizer train: learn a tokenizer from files, or from the training part of a corpus."""

import dataclasses
import hashlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from nanotx.config import from_table
from nanotx.corpus import Corpus
from nanotx.errors import ConfigError
from nanotx.flags import leading, parse, rows
from nanotx.tokenizers import Origin, Tokenizer
from nanotx.verbs.tokenizer._input import read_text


def run(words: list[str]) -> int:
    """Learn a tokenizer from files, or from the training part of a corpus."""
    kind = next(iter(leading(words)), "")
    if not kind:
        raise ConfigError(f"nanotx tokenizer train: expected a kind first: {', '.join(Tokenizer.names())}.")
    part = Tokenizer.find(kind)
    files = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="texts to learn from")]
    corpus = Annotated[str, tyro.conf.arg(help=f"or the training part of one of: {', '.join(Corpus.names())}")]
    out = Annotated[str, tyro.conf.arg(help="where the tokenizer is written")]
    columns: list[Any] = [("files", files, ()), ("corpus", corpus, ""), ("out", out, f"{kind}.json"), *rows([part()])]
    flags = dataclasses.make_dataclass("Flags", columns, frozen=True, kw_only=True)
    flags.__doc__ = f"Learns a {kind} tokenizer and writes it as one JSON file."
    said: Any = parse(flags, words[1:], f"nanotx tokenizer train {kind}")
    if bool(said.files) == bool(said.corpus):
        raise ConfigError("nanotx tokenizer train: expected files, or --corpus NAME, and one of the two only.")
    fields = {name: getattr(said, name) for name, _, _ in rows([part()])}
    idea: Tokenizer = from_table(Tokenizer, {"part": kind} | fields, "tokenizer")
    texts = [read_text(file) for file in said.files] or [Corpus.find(said.corpus)().split()[0]]
    whole = "".join(texts).encode("utf-8")
    if said.corpus:
        whole = Corpus.find(said.corpus)().text().encode("utf-8")
    origin = Origin(
        corpus=said.corpus or " ".join(Path(file).name for file in said.files),
        sha256=hashlib.sha256(whole).hexdigest(),
        command=shlex.join(["nanotx", "tokenizer", "train", *words]),
    )
    codec = idea.learn(texts).with_origin(origin)
    codec.save(Path(said.out))
    sys.stdout.write(f"{said.out}: {kind}, {codec.vocab_size} ids\n")
    return 0
