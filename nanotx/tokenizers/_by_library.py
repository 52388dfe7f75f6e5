"""Byte-level BPE, learned by the library `tokenizers`."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.tokenizers import utf8
from nanotx.tokenizers._libraries import missing, tried
from nanotx.tokenizers._specials import lessons


def learn_bpe(
    texts: Iterable[str], source: str, vocab_size: int, min_frequency: int, specials: Sequence[str], nfc: bool
) -> dict[str, Any]:
    """A byte-level BPE, learned by the library, as a tokenizer.json.

    Args:
        texts: what it learns from.
        source: the regex whose matches are the pieces that no merge leaves.
        vocab_size: how many ids there are at most.
        min_frequency: how often a pair must occur to be merged.
        specials: names of ids that nothing is learned from.
        nfc: whether every text is put into normal form C first.

    Raises:
        TextError: a text holds a lone surrogate.
        TokenizerError: the library is not installed, or cannot learn.
    """
    try:
        from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Library
    except ImportError:
        raise missing("tokenizers") from None
    with tried("huggingface: the library cannot learn"):
        library = Library(models.BPE())
        if nfc:
            library.normalizer = normalizers.NFC()
        cut = pre_tokenizers.Split(Regex(source), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(specials),
            min_frequency=min_frequency,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        library.train_from_iterator((_whole(text) for text in lessons(texts, specials)), trainer)
        taken = [name for name in specials if library.token_to_id(name) is not None]
        if taken:
            raise TokenizerError(
                f"huggingface: the special {taken[0]!r} is written as a token is that the library learned, and it "
                "would not tell them apart; expected a name such as '<|endoftext|>'."
            )
        library.add_special_tokens(list(specials))
        described: dict[str, Any] = json.loads(library.to_str())
    return described


def _whole(text: str) -> str:
    utf8("huggingface", text)
    return text
