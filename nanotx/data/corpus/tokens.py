"""Token files: a corpus that was encoded in advance, of any size, read from the disk while training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanotx.data.corpus.base import Corpus, TokenFiles
from nanotx.data.shares import check_weights
from nanotx.data.text_files import files_named
from nanotx.errors import ConfigError, DataError


@Corpus.register("tokens")
@dataclass(frozen=True, kw_only=True)
class Tokens(Corpus):
    """Token files as `nanotx tokenizer encode TOKENIZER TEXTS --out FILE` writes them, joined in the order given.

    A folder or a glob stands for its files in the order of their names. The tokenizer is the one that encoded them,
    which each file holds: `--tokenizer FILE`. With weights, each path is a text of its own, and a batch has rows of all
    of them in these shares. Kept separate, the documents that the files mark are packed whole into rows.
    """

    documents: Literal["join", "separate"] = "join"  # join: the files are one text; separate: each reads only itself
    path: tuple[str, ...] = ()  # token files, folders or globs to train on
    weights: tuple[float, ...] = ()  # fraction of the rows that are of each path; empty to join all paths
    val_path: tuple[str, ...] = ()  # to validate on; if empty, the end of the training ids

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and (fault := check_weights(self.weights, len(self.path))):
            raise ConfigError(f"corpus tokens: weights: {fault}")

    @property
    def keeps_apart(self) -> bool:
        return self.documents == "separate"

    def token_files(self) -> TokenFiles:
        """Return the files.

        Raises:
            DataError: there is no such file, or none in a folder or glob.
        """
        if not self.path:
            raise DataError("corpus tokens: path is empty; give --corpus.path books.tok")
        texts = [named((path,)) for path in self.path]
        train = tuple(file for files in texts for file in files)
        sizes = tuple(map(len, texts)) if self.weights else ()
        return TokenFiles(train=train, val=named(self.val_path), sizes=sizes, weights=self.weights)


def named(paths: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the files of paths, folders and globs."""
    return tuple(file for path in paths for file in files_named("corpus tokens", path))
