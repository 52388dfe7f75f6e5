"""Unigram in a tokenizer.json: a list of tokens and their log-probabilities, in the order of their ids.

Both cut a piece alike: places from the left, a token's score added to the best one where it begins, and at a tie the
way that was there first. A character that is no token becomes `<unk>`, with those beside it, or an error where there
is no `<unk>`; no other token competes with it, since each character of each token is a token.
"""

from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import UNKNOWN, Codec
from nanotx.tokenizers.convert.json_wordpiece import check_decoder, check_names
from nanotx.tokenizers.convert.pipeline import (
    Table,
    check_keys,
    normal_form,
    pipeline,
    refused,
    special_tokens_of,
    split,
    split_regex,
)
from nanotx.tokenizers.unigram import Unigram, UnigramCodec

FUSE = {"type": "Fuse"}


def write_unigram(codec: UnigramCodec) -> Table:
    """Return the tokenizer.json of a Unigram.

    Raises:
        TokenizerError: a special can stand in a text, where the library would find it, or an id is undefined.
    """
    source = codec.to_dict()["regex"]
    check_names(codec.part, source, codec.special_tokens)
    ids = codec.ids or tuple(range(len(codec.tokens)))
    scored = {token_id: [token, score] for token_id, token, score in zip(ids, codec.tokens, codec.scores, strict=True)}
    scored |= {token_id: [name, 0.0] for name, token_id in codec.special_tokens.items()}
    missing = [token_id for token_id in range(codec.vocab_size) if token_id not in scored]
    if missing:
        raise TokenizerError(f"unigram: the id {missing[0]} is undefined, and the library has no undefined ids.")
    vocab = [scored[token_id] for token_id in range(codec.vocab_size)]
    model = {"type": "Unigram", "unk_id": codec.special_tokens.get(UNKNOWN), "vocab": vocab, "byte_fallback": False}
    return pipeline(codec, model, split(source), FUSE)


def read(table: Table) -> Codec:
    """Return the codec of a tokenizer.json whose model is a Unigram.

    Raises:
        TokenizerError: it cuts a text otherwise, or does something that ours does not.
    """
    allowed = {"type": ("Unigram",), "unk_id": (), "vocab": (), "byte_fallback": (False,)}
    model = check_keys("model", {"unk_id": None} | table["model"], allowed)
    vocab = model["vocab"]
    if type(vocab) is not list or not all(map(is_scored, vocab)):
        raise TokenizerError(f"model: vocab: expected pairs of a token and its score, got {brief(vocab)}.")
    check_decoder(table["decoder"], [[FUSE]])
    numbers = {pair[0]: index for index, pair in enumerate(vocab)}
    if len(numbers) < len(vocab):
        raise refused("model", "vocab: a token is a duplicate")
    special_tokens = special_tokens_of(table["added_tokens"], numbers)
    unknown = model["unk_id"]
    if unknown is not None:
        if type(unknown) is not int or numbers.get(UNKNOWN) != unknown:
            raise refused("model", f"unk_id={brief(unknown)}: expected null, or the id of {UNKNOWN}")
        special_tokens[UNKNOWN] = unknown
    elif UNKNOWN in special_tokens:
        raise refused("added_tokens", f"{UNKNOWN} is a special, and unk_id is null")
    source = split_regex(table["pre_tokenizer"])
    pairs = [pair for pair in vocab if pair[0] not in special_tokens]
    ids = [numbers[token] for token, _ in pairs]
    plain = ids == list(range(len(ids)))
    fields = {"nfc": normal_form(table["normalizer"]), "special_tokens": special_tokens, "ids": [] if plain else ids}
    tokens, scores = [token for token, _ in pairs], [float(score) for _, score in pairs]
    codec = Unigram.from_dict({"regex": source, **fields, "tokens": tokens, "scores": scores})
    check_names("added_tokens", source, special_tokens)
    return codec


def is_scored(pair: Any) -> bool:
    """Return whether it is a token and its score."""
    return type(pair) is list and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) in (int, float)
