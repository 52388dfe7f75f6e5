"""Large texts are read in pieces and encoded once, into token files in the user's cache folder.

The folder is `tokens` in the cache folder of nanotx (on Linux ~/.cache/nanotx/tokens). Remove it, or any folder in it,
to free the space; the text is then encoded again. Together the folders in it take at most `LIMIT` bytes: the least
recently used are removed first. Each is named by the digests of its text and its tokenizer.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from nanotx import disk
from nanotx.data.corpus import Corpus
from nanotx.data.stored_ids import DiskIds
from nanotx.errors import DataError, TextError, TokenizerError
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import Ids
from nanotx.tokenizers.special_tokens import known_bytes
from nanotx.tokenizers.token_corpus import TokenSplit
from nanotx.tokenizers.token_file import Block, Place, TokenFile, open_tokens, write_tokens

LARGE = 1 << 26
"""Bytes from which on a text is large. A smaller one takes some 300 MB of memory, and starts in seconds."""

LIMIT = 1 << 34
"""Bytes that all texts in the cache folder may take together."""

PARTS = ("train", "val")
UNSEEN = "validation text, of which training saw nothing"


@dataclass(frozen=True, kw_only=True)
class LargeText:
    """A text that is read in pieces: what one pass over it found."""

    corpus: Corpus
    sha256: str  # of the text, in UTF-8
    size: int  # in characters
    bytes: int  # in UTF-8
    cut: int  # the characters to train on; the others are for validation

    def train_pieces(self) -> Iterator[str]:
        """Yield the text to train on in pieces."""
        at = 0
        for piece in self.corpus.pieces():
            if at >= self.cut:
                return
            yield piece[: self.cut - at]
            at += len(piece)

    def val_pieces(self) -> Iterator[str]:
        """Yield the text to validate on in pieces."""
        at = 0
        for piece in self.corpus.pieces():
            if at + len(piece) > self.cut:
                yield piece[max(0, self.cut - at) :]
            at += len(piece)


def is_large(corpus: Corpus) -> bool:
    """Return whether a corpus is a text that is encoded in pieces."""
    return corpus.size_hint() >= LARGE


def scan(corpus: Corpus) -> LargeText:
    """Read a text once, in pieces.

    Raises:
        DataError: it cannot be read, or one of its two parts would be empty.
    """
    digest, size, count = hashlib.sha256(), 0, 0
    for piece in corpus.pieces():
        data = piece.encode("utf-8")
        digest.update(data)
        size, count = size + len(piece), count + len(data)
    return LargeText(corpus=corpus, sha256=digest.hexdigest(), size=size, bytes=count, cut=corpus.cut(size))


def encode_large(
    text: LargeText, tokenizer: Tokenizer, codec: Codec | None = None, say: Callable[[str], None] = lambda line: None
) -> TokenSplit:
    """Return the ids of a large text, from the cache where they are there.

    Where the tokenizer cannot encode in pieces, or the cache cannot be written, the text is encoded in memory.

    Args:
        text: the text.
        tokenizer: of the recipe.
        codec: the tokenizer of a run that resumes, in place of it.
        say: prints a line.

    Raises:
        TextError: the text holds a character that the tokenizer cannot encode.
        DataError: the text was changed while it was read.
    """
    codec = codec or tokenizer.train_checked(TrainingTexts(text, tokenizer.splittable), next(text.train_pieces(), ""))
    if not codec.splittable:
        return encode_in_memory(text, codec)
    folder = cache_folder() / key(text, codec)
    try:
        with locked(folder, say):
            opened = open_cached(folder, codec, say)
            if opened is None:
                say(f"{text.corpus.where()}: a text of {text.size:,} characters is encoded once, into {folder}.")
                make_room(folder, text.size * (2 if codec.vocab_size <= 1 << 16 else 4))
                write(text, codec, folder)
                opened = {name: open_tokens(folder / f"{name}.tok", codec) for name in PARTS}
    except OSError as error:
        say(f"{folder}: cannot be written: {error.strerror or error}; the text is encoded in memory.")
        return encode_in_memory(text, codec)
    exact = opened["val"].header.size > 0
    return split_of(text, codec, opened["train"].ids, opened["val"].ids, exact)


class TrainingTexts:
    """The text to train a tokenizer on, read when the tokenizer asks for it: in pieces, or whole."""

    def __init__(self, text: LargeText, in_pieces: bool) -> None:
        self.text, self.in_pieces = text, in_pieces

    def __iter__(self) -> Iterator[str]:
        return self.text.train_pieces() if self.in_pieces else iter(["".join(self.text.train_pieces())])


def encode_in_memory(text: LargeText, codec: Codec) -> TokenSplit:
    """Return the ids of a text that is read as a whole, as wide as in a file."""
    training, validation = "".join(text.train_pieces()), "".join(text.val_pieces())
    width: np.dtype[Any] = np.dtype("<u2" if codec.vocab_size <= 1 << 16 else "<u4")
    train = codec.encode(training).astype(width)
    try:
        val = codec.encode(validation).astype(width)
    except TextError as error:
        raise TextError(f"{UNSEEN}: {error}") from None
    return split_of(text, codec, train, val, known_bytes(codec, val, validation.encode("utf-8")) > 0)


def split_of(text: LargeText, codec: Codec, train: Ids | DiskIds, val: Ids | DiskIds, exact: bool) -> TokenSplit:
    """Return the ids of a text, which is identified as it would be in memory.

    Raises:
        DataError: one of its two parts has no tokens.
    """
    if not len(train) or not len(val):
        raise DataError(f"{codec.part}: makes no tokens of a text of {text.size} characters; try a longer one.")
    mean = Fraction(text.bytes * text.cut, text.size * len(train))  # as if its two parts had equal bytes a character
    return TokenSplit(
        codec=codec, train=train, val=val, bytes_per_token=mean, exact=exact, sha256=text.sha256, size=text.size
    )


def write(text: LargeText, codec: Codec, folder: Path) -> None:
    """Write the token files of a text.

    Raises:
        TextError: the text holds a character that the tokenizer cannot encode.
        OSError: they cannot be written.
        DataError: the text was changed since it was scanned.
    """
    digest = hashlib.sha256()

    def rows(pieces: Iterable[str]) -> Iterator[Block]:
        place = Place()
        for piece in pieces:
            data = piece.encode("utf-8")
            digest.update(data)
            ids = codec.encode(piece)
            exact = place.exact and known_bytes(codec, ids, data) > 0
            place = Place(count=place.count + len(ids), size=place.size + len(data), exact=exact)
            yield Block(ids, place)

    folder.mkdir(parents=True, exist_ok=True)
    try:
        write_tokens(codec, folder / "train.tok", lambda _: rows(text.train_pieces()))
        try:
            write_tokens(codec, folder / "val.tok", lambda _: rows(text.val_pieces()))
        except TextError as error:
            raise TextError(f"{UNSEEN}: {error}") from None
        if digest.hexdigest() != text.sha256:
            raise DataError(f"{text.corpus.where()}: the text was changed while it was encoded; start the run again.")
    except BaseException:
        disk.remove(folder)
        raise


def open_cached(folder: Path, codec: Codec, say: Callable[[str], None]) -> dict[str, TokenFile] | None:
    """Return the token files of a folder, if they are there and as they were written."""
    if not folder.exists():
        return None
    try:
        opened = {name: open_tokens(folder / f"{name}.tok", codec) for name in PARTS}
    except (DataError, TokenizerError) as error:
        say(f"{error} It is encoded anew.")
        disk.remove(folder)
        return None
    with suppress(OSError):
        os.utime(folder)  # the least recently used is removed first
    return opened


def cache_folder() -> Path:
    """Return the folder of all texts that were encoded."""
    from platformdirs import user_cache_dir  # only a large text needs it

    return Path(user_cache_dir("nanotx")) / "tokens"


def key(text: LargeText, codec: Codec) -> str:
    """Return the name of the folder of a text that a tokenizer encoded."""
    return hashlib.sha256(f"{text.sha256} {text.cut} {codec.digest}".encode("ascii")).hexdigest()[:32]


def make_room(folder: Path, size: int) -> None:
    """Remove the least recently used folders to make room for a new one of a known size.

    Raises:
        OSError: there is no room for it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    others = sorted((path for path in folder.parent.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    taken = {path: sum(file.stat().st_size for file in path.iterdir()) for path in others}
    while taken and sum(taken.values()) + size > LIMIT:
        oldest = next(iter(taken))
        disk.remove(oldest)
        del taken[oldest]
    if size > min(LIMIT, shutil.disk_usage(folder.parent).free):
        raise OSError(f"{size:,} bytes have no room there")


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Within, this process alone reads or writes a folder of the cache; another one is waited for.

    Raises:
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{folder}: another process encodes this text; waiting for it.")
        lock.acquire()
    except NotImplementedError:  # a disk that knows no locks
        yield
        return
    try:
        yield
    finally:
        lock.release()
