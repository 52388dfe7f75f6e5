r"""Characters in a tokenizer.json: a WordLevel model behind a Split of `[\s\S]`, each match a word; a Fuse decoder.

A dot would leave out newlines. A character that is not in the vocabulary becomes `<unk>` where that is there, and is an
error where it is not, as here; a BPE without merges would drop it in silence.
"""

from reprlib import repr as brief

from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import UNKNOWN, Codec
from nanotx.tokenizers.char import Char, CharCodec
from nanotx.tokenizers.convert.pipeline import (
    Table,
    check_keys,
    normal_form,
    only,
    pipeline,
    refused,
    special_tokens_of,
    split,
    split_regex,
)

EACH = r"[\s\S]"


def write_char(codec: CharCodec) -> Table:
    """Return the tokenizer.json of an alphabet."""
    vocab = {character: index for index, character in enumerate(codec.alphabet)} | dict(codec.special_tokens)
    model = {"type": "WordLevel", "vocab": vocab, "unk_token": UNKNOWN}
    return pipeline(codec, model, split(EACH), {"type": "Fuse"})


def read(table: Table) -> Codec:
    """Return the codec of a tokenizer.json whose model is a WordLevel of characters.

    Raises:
        TokenizerError: its words are no characters, or their ids are not in the characters' order.
    """
    model = check_keys("model", table["model"], {"type": ("WordLevel",), "vocab": (), "unk_token": (UNKNOWN,)})
    if (source := split_regex(table["pre_tokenizer"])) != EACH:
        raise refused("pre_tokenizer", f"expected one that takes each character as a word, {EACH!r}, got {source!r}")
    only("decoder", table["decoder"], "decoders", {"type": ("Fuse",)})
    vocab = model["vocab"]
    if type(vocab) is not dict or not all(type(token_id) is int for token_id in vocab.values()):
        raise TokenizerError(f"model: vocab: expected characters and their ids, got {brief(vocab)}.")
    unknown = {UNKNOWN: vocab[UNKNOWN]} if UNKNOWN in vocab else {}
    extra = special_tokens_of(table["added_tokens"], vocab).keys() - unknown.keys()
    if extra:
        raise refused("added_tokens", f"{brief(sorted(extra))}: a tokenizer of characters has no special but {UNKNOWN}")
    letters = sorted((token_id, word) for word, token_id in vocab.items() if word not in unknown)
    if [token_id for token_id, _ in letters] != list(range(len(letters))):
        raise refused("model", "vocab: expected the ids from 0 on, none left out")
    alphabet = "".join(word for _, word in letters)
    if len(alphabet) != len(letters) or list(alphabet) != sorted(alphabet):
        raise refused("model", "vocab: expected single characters, their ids in the order of their code points")
    nfc = normal_form(table["normalizer"])
    return Char.from_dict({"nfc": nfc, "special_tokens": unknown, "alphabet": alphabet})
