"""The law of corpora: the two parts of a text, or of the ids of token files, contain all of it."""

import numpy as np

from nanotx.data.corpus import Corpus, TokenFiles
from nanotx.errors import DataError, LawBroken
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_corpus import open_split, token_files_of
from nanotx.tokenizers.token_file import open_tokens


def split(corpus: Corpus) -> None:
    """Raise LawBroken unless the training and the validation text, joined, are the text, the same at every read.

    The validation text is the end of the text; the config states its fraction. The split is refused if one of the two
    would be empty. The same holds for the ids of token files; validation files are separate from the training files.

    Args:
        corpus: a corpus that can be read on this machine.

    Raises:
        LawBroken: a part of the text was lost, is in both texts, or has the wrong size; the message says which.
    """
    if files := token_files_of(corpus):
        split_ids(corpus, files)
        return
    text = corpus.text()
    if not isinstance(text, str):
        raise LawBroken(f"split: text() returned {type(text).__name__}; expected str.")
    expected = round(len(text) * corpus.validation)
    try:
        training, validation = corpus.split()
    except DataError as error:
        if 0 < expected < len(text):
            raise LawBroken(f"split: {len(text)} characters are refused: {error}") from None
        return
    joined = training + validation
    if joined != text:
        at = next((at for at, (got, want) in enumerate(zip(joined, text, strict=False)) if got != want), None)
        where = min(len(joined), len(text)) if at is None else at
        raise LawBroken(
            f"split: {len(training)} characters to train on and {len(validation)} to validate on, joined, differ "
            f"from the {len(text)} of the text at offset {where}."
        )
    if len(validation) != expected:
        raise LawBroken(f"split: of {len(text)} characters {len(validation)} are for validation; expected {expected}.")


def split_ids(corpus: Corpus, files: TokenFiles) -> None:
    """Raise LawBroken unless the training and the validation ids, joined, are the ids of the files; see `split`.

    Where documents are kept apart, validation begins with the first of them that begins in its share, or the last one.
    """
    train, val = (np.concatenate([[], *(open_tokens(path).ids[:] for path in some)]) for some in files.paths.values())
    share = 0 if files.val else round(len(train) * corpus.validation)
    if share and corpus.keeps_apart:
        begins = document_begins(files)
        share = len(train) - next((begin for begin in begins if begin >= len(train) - share), begins[-1])
    try:
        parts = open_split(corpus, files, Saved(path=str(files.train[0])))
    except DataError as error:
        if len(train) > share and (share or len(val)):
            raise LawBroken(f"split: {len(train)} and {len(val)} ids are refused: {error}") from None
        return
    expected = (train, val) if files.val else (train[: len(train) - share], train[len(train) - share :])
    for name, ids, want in zip(("train", "validate"), (parts.train, parts.val), expected, strict=True):
        if not np.array_equal(ids[:], want):
            raise LawBroken(f"split: the {len(ids)} ids to {name} on are not the {len(want)} of the files in order.")


def document_begins(files: TokenFiles) -> list[int]:
    """Return where the documents of the training files begin, those files joined."""
    begins, before = {0}, 0
    for path in files.paths["train"]:
        ids = open_tokens(path).ids
        begins |= {before, *(before + ids.document_ends(0, len(ids))).tolist()}
        before += len(ids)
    return sorted(begins - {before}) or [0]
