"""A corpus of token files, opened: the ids to train and to validate on, checked against their tokenizer."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from nanotx.config.plugin_errors import describe_value
from nanotx.data.corpus import Corpus, TokenFiles
from nanotx.data.shares import Share
from nanotx.data.stored_ids import DiskIds, JoinedIds, boundary
from nanotx.errors import ConfigError, DataError, TokenizerError
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import Ids
from nanotx.tokenizers.token_file import Header, TokenFile, open_tokens, read_header


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenSplit:
    """The ids of a corpus that was encoded; those of token files stay on the disk."""

    codec: Codec  # the tokenizer that made them
    train: Ids | DiskIds
    val: Ids | DiskIds
    bytes_per_token: Fraction | None  # mean UTF-8 bytes of a token of the training text; None if that is unknown
    exact: bool  # whether the ids to validate on decode to the text that they were made of
    sha256: str  # identifies them: a digest of the digests of all files, or of the text
    size: int  # the number of all ids, or the characters of the text
    shares: tuple[Share, ...] = ()  # of a mixture: its texts, one after another in `train`


def token_files_of(corpus: Corpus) -> TokenFiles | None:
    """Return the token files of a corpus; None for one with a text.

    Raises:
        DataError: one of them cannot be read.
        ConfigError: a corpus of the user's own returns something else.
    """
    try:
        files = corpus.token_files()
    except OSError as error:
        raise DataError(f"{corpus.where()}: cannot be read: {error}; fix it, or try another --corpus.") from error
    if files is not None and not isinstance(files, TokenFiles):
        raise ConfigError(
            f"{corpus.where()}: token_files() returned {describe_value(files)}; expected TokenFiles(train=[...])."
        )
    return files


def open_split(
    corpus: Corpus,
    files: TokenFiles,
    tokenizer: Tokenizer,
    codec: Codec | None = None,
    check: Callable[[str, int], None] = lambda digest, size: None,
) -> TokenSplit:
    """Open the files of a corpus.

    What identifies them is read from their headers alone, whatever their size; see `open_tokens` for what is checked
    of their ids.

    Args:
        corpus: whose files they are.
        files: the files.
        tokenizer: of the recipe; it has to be one that is not trained on the corpus, as there is no text.
        codec: the tokenizer of a run that resumes, in place of it.
        check: called with the identity and the number of ids before anything else is read; may raise.

    Raises:
        DataError: a file is missing, damaged or too short, or its documents are to be kept apart and are not marked.
        TokenizerError: another tokenizer made one of them.
    """
    headers = {name: [read_header(path) for path in some] for name, some in files.paths.items()}
    digest, size = identity(headers), sum(header.count for some in headers.values() for header in some)
    check(digest, size)
    check_one_tokenizer(corpus, files, headers)
    codec = codec or trained_without_text(tokenizer, files.paths["train"][0], headers["train"][0])
    try:
        opened = {name: [open_tokens(path, codec) for path in some] for name, some in files.paths.items()}
    except TokenizerError as error:
        raise TokenizerError(f"{corpus.where()}: {error}") from None
    except DataError as error:
        raise DataError(f"{corpus.where()}: {error}") from None
    if corpus.keeps_apart:
        check_marked(corpus, files, headers)
    texts = texts_of(files, opened["train"])
    train, val, lengths = split_ids(corpus, texts, opened["val"])
    shares = shares_of(files, lengths)
    exact = all(file.header.size or not file.header.count for file in opened["val"] or opened["train"])
    mean = mean_bytes_mixed([[file.header for file in text] for text in texts], [share.weight for share in shares])
    return TokenSplit(
        codec=codec, train=train, val=val, bytes_per_token=mean, exact=exact, sha256=digest, size=size, shares=shares
    )


def texts_of(files: TokenFiles, opened: list[TokenFile]) -> list[list[TokenFile]]:
    """Return the training files of each text of a mixture; without one, all files are one text."""
    edges = [0, *accumulate(files.sizes or [len(opened)])]
    return [opened[low:high] for low, high in pairwise(edges)]


def shares_of(files: TokenFiles, lengths: list[int]) -> tuple[Share, ...]:
    """Return the texts of a mixture; empty without one."""
    firsts = [files.paths["train"][at] for at in [0, *accumulate(files.sizes)][:-1]] if files.sizes else []
    names = [
        f"{first}{' and those after it' if size > 1 else ''}" for first, size in zip(firsts, files.sizes, strict=True)
    ]
    rows = zip(names, lengths, files.weights, strict=True) if files.sizes else ()
    return tuple(Share(name=name, length=length, weight=weight) for name, length, weight in rows)


def mean_bytes_mixed(texts: list[list[Header]], weights: list[float]) -> Fraction | None:
    """Return the mean bytes of a token that is read: of each text by its weight, if there are weights."""
    means = [mean_bytes(headers) for headers in texts]
    if not weights:
        return means[0]
    return (
        sum((Fraction(weight) * mean for weight, mean in zip(weights, means, strict=True) if mean), Fraction())
        if all(means)
        else None
    )


def mean_bytes(headers: list[Header]) -> Fraction | None:
    """Return the mean bytes of a token of some files; None if one of them does not record the bytes of its text."""
    count = sum(header.count for header in headers)
    known = count and all(header.size for header in headers if header.count)
    return Fraction(sum(header.size for header in headers), count) if known else None


def check_one_tokenizer(corpus: Corpus, files: TokenFiles, headers: dict[str, list[Header]]) -> None:
    """Raise TokenizerError if the files of a corpus were made by different tokenizers; names two of them."""
    paths = [path for some in files.paths.values() for path in some]
    makers = [header.tokenizer for some in headers.values() for header in some]
    for path, maker in zip(paths, makers, strict=True):
        if maker != makers[0]:
            raise TokenizerError(
                f"{corpus.where()}: {paths[0]} and {path} were made by different tokenizers ({makers[0][:12]}... and "
                f"{maker[:12]}...); encode the texts of one of them again with the other's: "
                f"nanotx tokenizer encode {paths[0]} TEXTS --out {path}"
            )


def check_marked(corpus: Corpus, files: TokenFiles, headers: dict[str, list[Header]]) -> None:
    """Raise DataError if a file has ids and marks no documents."""
    for name, paths in files.paths.items():
        for path, header in zip(paths, headers[name], strict=True):
            if header.count and not header.documents:
                raise DataError(
                    f"{corpus.where()}: {path}: marks no documents, so they cannot be kept apart; encode the texts "
                    "again (nanotx tokenizer encode marks them), or try --corpus.documents join."
                )


def identity(headers: dict[str, list[Header]]) -> str:
    """Return a digest that changes where any id of any file does, or the order of the files."""
    lines = [f"{name} {header.tokenizer} {header.sha256}\n" for name, some in headers.items() for header in some]
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def split_ids(corpus: Corpus, texts: list[list[TokenFile]], val: list[TokenFile]) -> tuple[DiskIds, DiskIds, list[int]]:
    """Return the ids to train on, those to validate on, and how many of each text are to train on.

    Where documents are kept apart, a text is cut where one begins.

    Raises:
        DataError: one of the two would be empty.
    """
    joined = [JoinedIds([(file.ids, 0, len(file.ids)) for file in text]) for text in texts]
    cuts = [len(text) if val else len(text) - round(len(text) * corpus.validation) for text in joined]
    if corpus.keeps_apart:
        cuts = [boundary(text, cut) if cut < len(text) else cut for text, cut in zip(joined, cuts, strict=True)]
    train = JoinedIds([(text, 0, cut) for text, cut in zip(joined, cuts, strict=True)])
    ends = [(text, cut, len(text)) for text, cut in zip(joined, cuts, strict=True)]
    rest = JoinedIds([(file.ids, 0, len(file.ids)) for file in val] if val else ends)
    if not len(train) or not len(rest):
        count = sum(map(len, joined))
        how = "in its files" if val else f"of its {count:,} with validation={corpus.validation:g}"
        raise DataError(
            f"{corpus.where()}: {len(train):,} tokens to train on and {len(rest):,} to validate on {how}; both need "
            f"some: try {'more documents' if corpus.keeps_apart else 'a longer file'}, or another --corpus.validation."
        )
    whole = len(joined) == 1 and cuts[0] == len(joined[0])
    return joined[0] if whole else train, rest, cuts


def trained_without_text(tokenizer: Tokenizer, file: Path, header: Header) -> Codec:
    """Return the codec of a tokenizer that is not trained on the corpus, such as a saved one.

    Args:
        tokenizer: of the recipe.
        file: the first token file.
        header: its header.

    Raises:
        TokenizerError: the tokenizer has to be trained on a text.
    """
    return tokenizer.train_checked(NoText(tokenizer, file, header))


class NoText:
    """The texts of a token file: to read them is an error."""

    def __init__(self, tokenizer: Tokenizer, file: Path, header: Header) -> None:
        self.fault = (
            f"{file}: a token file has no text to train the tokenizer {tokenizer.part} on; its ids were made by the "
            f"tokenizer of digest {header.tokenizer[:12]}...: take that one by --tokenizer {file}, or by the file that "
            "it was saved to."
        )

    def __iter__(self) -> Iterator[str]:
        raise TokenizerError(self.fault)


LARGEST_TEXT = 1 << 26
"""Tokens to validate on up to which they are decoded to one text."""


def decoded_text(split: TokenSplit) -> str:
    """Return the text of the ids to validate on, without special tokens.

    Raises:
        DataError: they are too many to be one text, or do not decode to the text that they were made of.
    """
    if len(split.val) > LARGEST_TEXT or not split.exact:
        fault = f"are more than {LARGEST_TEXT:,}" if split.exact else "do not decode to the text they were made of"
        raise DataError(f"the {len(split.val):,} tokens to validate on {fault}; name a text by --text FILE.")
    ids = split.val[:]
    return split.codec.decode(ids[~np.isin(ids, list(split.codec.special_tokens.values()))])
