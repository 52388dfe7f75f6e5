"""Inputs of the tokenizer commands: files, standard input or a corpus, with a progress bar."""

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from nanotx.config.command_line import collect_flags
from nanotx.config.flags import flags_of, part_flag
from nanotx.config.help_page import Flag
from nanotx.config.schema import from_table
from nanotx.data import text_files
from nanotx.data.corpus import Corpus
from nanotx.data.text_files import REPLACE, blocks, decoded, files_of
from nanotx.errors import DataError, TextError
from nanotx.tokenizers import Codec
from nanotx.tokenizers.base import Ids


def text_of(file: str, errors: str = "strict") -> str:
    """Return the text of a file, or of standard input where `file` is empty."""
    if file:
        return read_text(file, errors)
    return decoded(sys.stdin.buffer.read(), "standard input", errors, remedy=REPLACE)


def read_text(file: str, errors: str = "strict") -> str:
    """Return the text of a file.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    return text_files.read_text(Path(file), REPLACE, errors)


def encoded(codec: Codec, text: str, where: str, allowed_special: Collection[str] = ()) -> Ids:
    """Return the ids of a text.

    Raises:
        TextError: the tokenizer cannot encode it; names the line, where one line by itself cannot be encoded.
    """
    try:
        return codec.encode(text, allowed_special)
    except TextError as error:
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            try:
                codec.encode(line, allowed_special)
            except TextError as of_line:
                raise TextError(f"{where}: line {number:,}: {of_line}") from None
        raise TextError(f"{where}: {error}") from None


def plain_files(names: Iterable[str]) -> list[Path]:
    """Return the named files, and the files in the named folders; they are read more than once.

    Raises:
        DataError: one is missing, or is a pipe, a socket or a device, which may be endless.
    """
    files = files_of(names)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: expected a file or a folder, got a pipe, a socket or a device.")
    return files


def corpus_flags(argv: Sequence[str]) -> list[Flag]:
    """Return the flags that name a corpus and its fields; the fields are those of the corpus that `argv` names."""
    name = next((word for values in collect_flags(argv).get("corpus", []) for word in values[:1]), "")
    return [part_flag("corpus", Corpus.names(), ""), *(flags_of(Corpus.find(name)(), "corpus") if name else [])]


def corpus_of(values: Mapping[str, Any]) -> Corpus:
    """Return the corpus that flags name, with its fields."""
    table = {name.removeprefix("corpus."): value for name, value in values.items() if name.startswith("corpus.")}
    corpus: Corpus = from_table(Corpus, {"part": values["corpus"]} | table, "corpus")
    return corpus


class InputProgress:
    """Progress bar over the bytes of some files."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.task = progress.add_task("reading", total=total)

    def show_position(self, done: int) -> None:
        """Show that this many bytes are done."""
        self.progress.update(self.task, completed=done)

    def show_phase(self, what: str) -> None:
        """Show a phase of unknown length."""
        self.progress.update(self.task, description=what, total=None)

    def read(self, files: Iterable[Path], errors: str, splittable: bool) -> Iterator[str]:
        """Yield the texts of the files in blocks; the training phase follows."""
        before = 0
        for file in files:
            for text, end in blocks(file, splittable=splittable, errors=errors, remedy=REPLACE):
                yield text
                self.show_position(before + end)
            before += file.stat().st_size
        self.show_phase("training")


@contextmanager
def progress_bar(files: Iterable[Path]) -> Iterator[InputProgress]:
    """Show a progress bar as long as the files together, on a terminal."""
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield InputProgress(progress, sum(file.stat().st_size for file in files))
