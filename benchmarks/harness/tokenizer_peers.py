"""Tokenizers of other libraries at the same work, from one vocabulary or one text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from nanotx.tokenizers.bpe import Bpe, BpeCodec
from nanotx.tokenizers.bpe.compiled import loops
from nanotx.tokenizers.convert.rank_file import ranks_of
from nanotx.tokenizers.convert.tokenizer_json import as_text, described
from nanotx.tokenizers.regexes import NAMED

PATTERN = "gpt4"
Ids = Any
"""A row of whole numbers: a list or an array."""
Vocabulary = list[bytes] | int
"""Tokens by id, or only their number."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A tokenizer with a given vocabulary."""

    encode: Callable[[str], Ids]
    batch: Callable[[list[str], int], Sequence[Ids]]  # with so many threads or processes


def installed(builders: dict[str, Callable[[Any], Any]]) -> dict[str, Callable[[], Any]]:
    """Return by name what calls each builder with its package; those whose package is missing are left out."""
    peers: dict[str, Callable[[], Any]] = {}
    for name, builder in builders.items():
        try:
            package = import_module(name)
        except ImportError:
            continue
        peers[name] = partial(builder, package)
    return peers


def encoders(codec: BpeCodec) -> dict[str, Callable[[], Encoder]]:
    """Return, for each installed library, what builds its tokenizer with all caches empty."""

    def nanotx(_: Any) -> Encoder:
        fresh = BpeCodec(codec.merges, codec.source)
        fresh._memory  # noqa: B018  the tables, as the others have theirs when they are built
        if fast := loops(False):
            fresh._engine(fast)
        return Encoder(encode=fresh.encode_ordinary, batch=fresh.encode_batch)

    def tiktoken(package: Any) -> Encoder:
        ranks = ranks_of(codec)
        encoding = package.Encoding("same", pat_str=codec.source, mergeable_ranks=ranks, special_tokens={})
        return Encoder(
            encode=encoding.encode_ordinary,
            batch=lambda texts, threads: encoding.encode_ordinary_batch(texts, num_threads=threads),
        )

    def tokenizers(package: Any) -> Encoder:
        tokenizer = package.Tokenizer.from_str(as_text(described(codec)))
        return Encoder(
            encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            batch=lambda texts, threads: [row.ids for row in tokenizer.encode_batch(texts, add_special_tokens=False)],
        )

    return installed({"nanotx": nanotx, "tiktoken": tiktoken, "tokenizers": tokenizers})


def trainers(texts: list[str], vocab_size: int) -> dict[str, Callable[[], Vocabulary]]:
    """Return, for each installed library, what trains a vocabulary on the texts.

    `tokenizers` numbers the bytes otherwise, and so breaks ties otherwise; only the size of its vocabulary compares.
    """

    def nanotx(_: Any) -> Vocabulary:
        tokens = Bpe(vocab_size=vocab_size, pattern=PATTERN).train(texts)._tokens
        return [token for token in tokens if token is not None]

    def rustbpe(package: Any) -> Vocabulary:
        tokenizer = package.Tokenizer()
        tokenizer.train_from_iterator(iter(texts), vocab_size, pattern=NAMED[PATTERN])
        return [bytes(token) for token, _ in sorted(tokenizer.get_mergeable_ranks(), key=lambda pair: pair[1])]

    def tokenizers(package: Any) -> Vocabulary:
        pre = package.pre_tokenizers
        tokenizer = package.Tokenizer(package.models.BPE())
        split = pre.Split(package.Regex(NAMED[PATTERN]), "isolated")
        tokenizer.pre_tokenizer = pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])
        trainer = package.trainers.BpeTrainer(
            vocab_size=vocab_size, show_progress=False, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=[]
        )
        tokenizer.train_from_iterator(iter(texts), trainer)
        return int(tokenizer.get_vocab_size())

    return installed({"nanotx": nanotx, "rustbpe": rustbpe, "tokenizers": tokenizers})


def same_ids(mine: Ids, theirs: Ids) -> bool:
    """Whether two rows of ids are the same."""
    return np.array_equal(np.asarray(mine, np.int64), np.asarray(theirs, np.int64))
