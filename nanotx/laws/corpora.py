"""The law of corpora: one text, or the ids of token files, cut in two, and nothing of it lost."""

import numpy as np

from nanotx.data.corpus import Corpus, TokenFiles
from nanotx.errors import DataError, LawBroken
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_corpus import open_split, token_files_of
from nanotx.tokenizers.token_file import open_tokens


def split(corpus: Corpus) -> None:
    """The training and the validation text, joined, are the text, which is the same each time it is read.

    The validation text is its end, of the share in the config. Where one of the two would be empty, the split is
    refused. Of token files the same holds for their ids; files to validate on are kept apart from the others.

    Args:
        corpus: one that can be read here.

    Raises:
        LawBroken: what was lost, shared by both, or of another size.
    """
    if files := token_files_of(corpus):
        split_ids(corpus, files)
        return
    text = corpus.text()
    if not isinstance(text, str):
        raise LawBroken(f"split: text() returned {type(text).__name__}; expected str.")
    wanted = round(len(text) * corpus.validation)
    try:
        training, validation = corpus.split()
    except DataError as error:
        if 0 < wanted < len(text):
            raise LawBroken(f"split: {len(text)} characters are refused: {error}") from None
        return
    joined = training + validation
    if joined != text:
        at = next((at for at, (one, other) in enumerate(zip(joined, text, strict=False)) if one != other), None)
        where = min(len(joined), len(text)) if at is None else at
        raise LawBroken(
            f"split: {len(training)} characters to train on and {len(validation)} to validate on, joined, differ "
            f"from the {len(text)} of the text at offset {where}."
        )
    if len(validation) != wanted:
        raise LawBroken(f"split: of {len(text)} characters {len(validation)} are for validation; expected {wanted}.")


def split_ids(corpus: Corpus, files: TokenFiles) -> None:
    """The ids to train and to validate on, joined, are those of the files; see `split`."""
    train, val = (np.concatenate([[], *(open_tokens(path).ids[:] for path in some)]) for some in files.paths.values())
    share = 0 if files.val else round(len(train) * corpus.validation)
    try:
        found = open_split(corpus, files, Saved(path=str(files.train[0])))
    except DataError as error:
        if len(train) > share and (share or len(val)):
            raise LawBroken(f"split: {len(train)} and {len(val)} ids are refused: {error}") from None
        return
    wanted = (train, val) if files.val else (train[: len(train) - share], train[len(train) - share :])
    for name, ids, want in zip(("train", "validate"), (found.train, found.val), wanted, strict=True):
        if not np.array_equal(ids[:], want):
            raise LawBroken(f"split: the {len(ids)} ids to {name} on are not the {len(want)} of the files in order.")
