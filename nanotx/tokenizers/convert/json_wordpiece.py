"""WordPiece in a tokenizer.json: the tokens as they are written, `##` before those that go on with a piece.

The library makes a word of more characters than `max_input_chars_per_word` unknown, and ours takes any; so that is set
higher than any word. Its own decoder for WordPiece puts spaces between words and cannot know where there were none; a
Replace and a Fuse give the text back.
"""

from collections.abc import Iterable
from reprlib import repr as brief
from typing import Any

import regex

from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import UNKNOWN, Codec
from nanotx.tokenizers.convert.pipeline import (
    Table,
    check_keys,
    normal_form,
    pipeline,
    refused,
    special_tokens_of,
    split,
    split_regex,
    steps,
)
from nanotx.tokenizers.wordpiece import WordPiece, WordPieceCodec

MORE = "##"
ENDLESS = 1 << 30  # characters of a word
DECODERS: list[Table] = [{"type": "Replace", "pattern": {"String": MORE}, "content": ""}, {"type": "Fuse"}]


def write_wordpiece(codec: WordPieceCodec) -> Table:
    """Return the tokenizer.json of a WordPiece.

    Raises:
        TokenizerError: a special is a word, which the library would find in a text.
    """
    table = codec.to_dict()
    check_names(codec.part, table["regex"], codec.special_tokens)
    ids = codec.ids or tuple(range(len(codec.tokens)))
    vocab = dict(zip(table["tokens"], ids, strict=True)) | dict(codec.special_tokens)
    model = {
        "type": "WordPiece",
        "unk_token": UNKNOWN,
        "continuing_subword_prefix": MORE,
        "max_input_chars_per_word": ENDLESS,
        "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
    }
    return pipeline(codec, model, split(table["regex"]), {"type": "Sequence", "decoders": DECODERS})


def read(table: Table) -> Codec:
    """Return the codec of a tokenizer.json whose model is a WordPiece.

    Raises:
        TokenizerError: it cuts a text otherwise, or does something that ours does not.
    """
    allowed = {"type": ("WordPiece",), "unk_token": (UNKNOWN,), "continuing_subword_prefix": (MORE,)}
    model = check_keys("model", table["model"], {**allowed, "max_input_chars_per_word": (), "vocab": ()})
    vocab, most = model["vocab"], model["max_input_chars_per_word"]
    if type(most) is not int or most < ENDLESS:
        raise refused("model", f"max_input_chars_per_word={brief(most)} makes longer words {UNKNOWN}, and here none is")
    if type(vocab) is not dict:
        raise TokenizerError(f"model: vocab: expected tokens and their ids, got {brief(vocab)}.")
    check_decoder(table["decoder"], [DECODERS])
    special_tokens = special_tokens_of(table["added_tokens"], vocab)
    if UNKNOWN in vocab:
        special_tokens[UNKNOWN] = vocab[UNKNOWN]
    source = split_regex(table["pre_tokenizer"])
    words = [word for word in vocab if word not in special_tokens]
    ids = [vocab[word] for word in words]
    plain = ids == list(range(len(ids)))
    fields = {"nfc": normal_form(table["normalizer"]), "special_tokens": special_tokens, "ids": [] if plain else ids}
    codec = WordPiece.from_dict({"regex": source, **fields, "tokens": words})
    check_names("added_tokens", source, special_tokens)
    return codec


def check_decoder(table: Any, allowed: list[list[Table]]) -> None:
    """Check that a decoder is one of these, so that a text comes back exactly.

    Raises:
        TokenizerError: it is another.
    """
    parts = steps("decoder", table, "decoders")
    if parts not in allowed:
        raise refused("decoder", f"{brief(parts)} gives another text back; expected {allowed[0]}")


def check_names(where: str, source: str, names: Iterable[str]) -> None:
    """Check that no special's name can stand in a piece of a text, where the library would find it.

    Raises:
        TokenizerError: one can.
    """
    for name in names:
        if len(regex.findall(source, name)) < 2 or name.startswith(MORE):
            raise TokenizerError(
                f"{where}: the special {name!r} can stand in a text as a piece, where the library would take it for a "
                "token; expected a name such as '<|endoftext|>'."
            )
