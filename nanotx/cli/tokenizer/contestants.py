"""Tokenizers to compare, each one word such as `bpe:4096`; the text they are measured on; and the machine.

A word is a part, preset name, or a path; what follows it, parted by colons, are the part's fields: a bare
number is `vocab_size`, a bare name is a switch that is turned on, all else is `field=value`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from nanotx.cli.console import check_output
from nanotx.cli.tokenizer.inputs import corpus_of, read_text
from nanotx.config.schema import fields, from_table
from nanotx.data.corpus import Corpus
from nanotx.errors import ConfigError, RunError, did_you_mean
from nanotx.files import write_atomic
from nanotx.hardware.cpu import describe_machine
from nanotx.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A tokenizer that has not learned yet."""

    name: str
    config: Tokenizer


def contestants(words: str) -> list[Contestant]:
    """The tokenizers that words, parted by commas, stand for, each once.

    Raises:
        ConfigError: there is none, or one cannot be; says which and why.
    """
    names = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    if not names:
        raise ConfigError("--tokenizers: expected some such as char,byte,bpe:512, got none.")
    return [Contestant(name=name, config=_config(name)) for name in names]


def _config(name: str) -> Tokenizer:
    head, *rest = [name] if name.endswith((".json", ".tiktoken")) else name.split(":")
    where = f"--tokenizers {name}"
    try:
        table = Tokenizer.table(head)
    except ConfigError as error:
        raise type(error)(f"{where}: {error}") from None
    kinds = fields(Tokenizer.find(table["part"]))
    for word in rest:
        field, equals, value = ("vocab_size", "=", word) if word.isdecimal() else word.partition("=")
        if field not in kinds:
            near = did_you_mean(field, kinds)
            raise ConfigError(f"{where}: {table['part']} has no field {field!r}.{near} It has: {', '.join(kinds)}.")
        table[field] = _value(kinds[field], value) if equals else True
    config: Tokenizer = from_table(Tokenizer, table, where)
    return config


def _value(kind: Any, word: str) -> Any:
    """A word as a value of some type, or as it stands: a config says itself what it wants."""
    if kind is bool:
        return {"true": True, "false": False}.get(word, word)
    if get_origin(kind) is tuple:
        return word.split("+")
    try:
        return kind(word) if kind in (int, float) else word
    except ValueError:
        return word


# The text.


@dataclass(frozen=True, kw_only=True)
class Files(Corpus):
    """Files of the user's, one after another; no part, because no recipe names several."""

    texts: tuple[str, ...] = ()

    def text(self) -> str:
        """The whole text."""
        return "".join(text if text.endswith("\n") else text + "\n" for text in self.texts)


def split(
    files: Sequence[str], values: Mapping[str, Any], read: Callable[[str], str] = read_text
) -> tuple[str, str, str]:
    """Return the name of the text, its training part and its validation part.

    Args:
        files: files to read; the last tenth is the validation part, unless `corpus.validation` is another share.
        values: or the values of flags that name a corpus.
        read: returns the text of a file.

    Raises:
        ConfigError: there is neither a file nor a corpus, or both.
        DataError: the text cannot be read, or is too short.
    """
    if ("corpus" in values) == bool(files):
        raise ConfigError(
            "nanotx tokenizer compare: expected either files or --corpus NAME. See nanotx tokenizer compare --help."
        )
    if files:
        share = values.get("corpus.validation", Corpus.validation)
        return " ".join(files), *Files(validation=share, texts=tuple(map(read, files))).split()
    return values["corpus"], *corpus_of(values).split()


def writable(path: str, flag: str) -> Path | None:
    """A file that can be written, known before minutes are spent on what goes into it; None for no name.

    Raises:
        ConfigError: a file of a run's own lies there.
        RunError: it cannot be written.
    """
    if not path:
        return None
    check_output(path, flag)
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists()
        file.open("a", encoding="utf-8").close()
        if new:
            file.unlink()
    except OSError as error:
        raise RunError(f"{flag} {path}: cannot be written: {error.strerror}.") from None
    return file


def write_json(file: Path, head: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Strict JSON: the machine and what else stands above, then the rows; what is not known is null."""
    machine = describe_machine("numpy", "regex") | {"threads": 1}
    write_atomic(file, json.dumps({"machine": machine, **head, "rows": list(rows)}, indent=1, allow_nan=False) + "\n")
