"""Tokenizers to compare, each given as one word such as `bpe:4096`, and the text that they are measured on.

A word is a part, the name of a preset, or a path. The fields of the part follow, separated by colons: a bare number is
`vocab_size`, a bare name is a boolean field that is set, anything else is `field=value`.
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
    """Tokenizer that is not trained yet."""

    name: str
    config: Tokenizer


def contestants(words: str) -> list[Contestant]:
    """Return the tokenizers that a list of words, separated by commas, names; each once.

    Raises:
        ConfigError: the list is empty, or a word is invalid; names the word.
    """
    names = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    if not names:
        raise ConfigError("--tokenizers: expected a list such as char,byte,bpe:512, got nothing.")
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
    """Return a word as a value of a type, or unchanged where it is invalid: the config then reports it."""
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
    """Concatenated files of the user; not a part, because no recipe names several."""

    texts: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the whole text."""
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
    """Return an output file after checking that it can be written, before minutes are spent; None for an empty path.

    Raises:
        ConfigError: the path is a file of a run.
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
    """Write the machine, the head and the rows as strict JSON; unknown values are null."""
    machine = describe_machine("numpy", "regex") | {"threads": 1}
    write_atomic(file, json.dumps({"machine": machine, **head, "rows": list(rows)}, indent=1, allow_nan=False) + "\n")
