"""Other tokenizers on the same work: what each is called with, from one vocabulary or one text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanotx.tokenizers.bpe import Bpe, BpeCodec
from nanotx.tokenizers.bpe.compiled import loops
from nanotx.tokenizers.convert.rank_file import ranks_of
from nanotx.tokenizers.convert.tokenizer_json import as_text, described
from nanotx.tokenizers.regexes import NAMED

PATTERN = "gpt4"
Ids = Any  # a row of whole numbers: a list or an array


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A tokenizer with a vocabulary that was given."""

    encode: Callable[[str], Ids]
    batch: Callable[[list[str], int], Sequence[Ids]] | None = None  # with so many threads or processes


def encoders(codec: BpeCodec) -> dict[str, Callable[[], Rival]]:
    """For each tokenizer that is installed, what builds it anew, all that it remembers empty."""
    found: dict[str, Callable[[], Rival]] = {"nanotx": lambda: _nanotx(codec)}
    try:
        import tiktoken
    except ImportError:
        pass
    else:
        ranks = ranks_of(codec)
        found["tiktoken"] = lambda: _tiktoken(tiktoken, codec.source, ranks)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        pass
    else:
        text = as_text(described(codec))
        found["tokenizers"] = lambda: _tokenizers(Tokenizer, text)
    return found


def _nanotx(codec: BpeCodec) -> Rival:
    fresh = BpeCodec(codec.merges, codec.source)
    fresh._memory  # noqa: B018  the tables, as the others have theirs when they are built
    if fast := loops(False):
        fresh._engine(fast)
    return Rival(encode=fresh.encode_ordinary, batch=fresh.encode_batch)


def _tiktoken(tiktoken: Any, source: str, ranks: dict[bytes, int]) -> Rival:
    encoding = tiktoken.Encoding("same", pat_str=source, mergeable_ranks=ranks, special_tokens={})
    return Rival(
        encode=encoding.encode_ordinary,
        batch=lambda texts, threads: encoding.encode_ordinary_batch(texts, num_threads=threads),
    )


def _tokenizers(kind: Any, text: str) -> Rival:
    tokenizer = kind.from_str(text)
    return Rival(
        encode=lambda one: tokenizer.encode(one, add_special_tokens=False).ids,
        batch=lambda texts, threads: [one.ids for one in tokenizer.encode_batch(texts, add_special_tokens=False)],
    )


def trainers(texts: list[str], vocab_size: int) -> dict[str, Callable[[], list[bytes] | int]]:
    """For each tokenizer that is installed, what learns from the texts: its tokens by id, or how many there are.

    `tokenizers` numbers the bytes otherwise, and so breaks ties otherwise; only the size of its vocabulary compares.
    """
    found: dict[str, Callable[[], list[bytes] | int]] = {"nanotx": lambda: _nanotx_learns(texts, vocab_size)}
    try:
        import rustbpe
    except ImportError:
        pass
    else:
        found["rustbpe"] = lambda: _rustbpe_learns(rustbpe, texts, vocab_size)
    try:
        import tokenizers
    except ImportError:
        pass
    else:
        found["tokenizers"] = lambda: _tokenizers_learns(tokenizers, texts, vocab_size)
    return found


def _nanotx_learns(texts: list[str], vocab_size: int) -> list[bytes]:
    tokens = Bpe(vocab_size=vocab_size, pattern=PATTERN).train(texts)._tokens
    return [token for token in tokens if token is not None]


def _rustbpe_learns(rustbpe: Any, texts: list[str], vocab_size: int) -> list[bytes]:
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), vocab_size, pattern=NAMED[PATTERN])
    return [bytes(token) for token, _ in sorted(tokenizer.get_mergeable_ranks(), key=lambda pair: pair[1])]


def _tokenizers_learns(tokenizers: Any, texts: list[str], vocab_size: int) -> int:
    before = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = before.Split(tokenizers.Regex(NAMED[PATTERN]), "isolated")
    tokenizer.pre_tokenizer = before.Sequence([split, before.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = before.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet, special_tokens=[]
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return int(tokenizer.get_vocab_size())


def same_ids(one: Ids, other: Ids) -> bool:
    """Whether two rows of ids are the same."""
    return np.array_equal(np.asarray(one, np.int64), np.asarray(other, np.int64))
