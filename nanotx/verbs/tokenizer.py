"""nanotx tokenizer train|encode|decode: learn a tokenizer from files, and use it; without torch."""

import dataclasses
import hashlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from nanotx.config import from_table
from nanotx.corpus import Corpus
from nanotx.errors import ConfigError, DataError, TextError, did_you_mean
from nanotx.flags import leading, parse, rows
from nanotx.tokenizers import Origin, Tokenizer, load

USAGE = """\
nanotx tokenizer train KIND FILE... [--corpus NAME] [--out PATH] [fields of the kind]
nanotx tokenizer encode TOKENIZER [FILE]     ids as decimal numbers; standard input where there is no file
nanotx tokenizer decode TOKENIZER [FILE]     ids back to text, byte for byte

KIND is one of {kinds}; TOKENIZER a path, or a name on the shelf.
"""


def run(words: list[str]) -> int:
    """Choose among the three."""
    deeds = {"train": train, "encode": encode, "decode": decode}
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(USAGE.format(kinds=", ".join(Tokenizer.names())))
        return 0 if words else 2
    if words[0] not in deeds:
        raise ConfigError(
            f"nanotx tokenizer {words[0]}: no such deed.{did_you_mean(words[0], deeds)} Known: {', '.join(deeds)}."
        )
    return deeds[words[0]](words[1:])


def train(words: list[str]) -> int:
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


def encode(words: list[str]) -> int:
    """A text's ids, as decimal numbers."""
    name, file = named(words, "encode")
    text = read_text(file) if file else decoded(sys.stdin.buffer.read(), "standard input")
    sys.stdout.write(" ".join(map(str, load(name).encode(text).tolist())) + "\n")
    return 0


def decode(words: list[str]) -> int:
    """The text of ids, byte for byte."""
    name, file = named(words, "decode")
    text = read_text(file) if file else decoded(sys.stdin.buffer.read(), "standard input")
    for word in text.split():
        if not word.isdecimal():
            raise TextError(f"nanotx tokenizer decode: expected ids as decimal numbers, got {word!r}.")
    sys.stdout.buffer.write(load(name).decode_bytes([int(word) for word in text.split()]))
    sys.stdout.buffer.flush()
    return 0


def named(words: list[str], deed: str) -> tuple[str, str]:
    """The tokenizer and the file, which may be left out."""
    if not 1 <= len(words) <= 2 or any(word.startswith("--") for word in words):
        raise ConfigError(f"nanotx tokenizer {deed}: expected a tokenizer and perhaps a file, got {words}.")
    return words[0], words[1] if len(words) == 2 else ""


def read_text(file: str) -> str:
    """A file's text.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return decoded(Path(file).read_bytes(), file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from None


def decoded(data: bytes, where: str) -> str:
    """Bytes as text.

    Raises:
        DataError: they are not UTF-8; says at which offset.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: expected UTF-8, got byte 0x{data[error.start]:02x} at offset {error.start}."
        ) from None
