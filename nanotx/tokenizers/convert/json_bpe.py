"""Byte-level BPE as the model of a tokenizer.json, and plain bytes, which are a BPE without merges.

The ids stand in the vocabulary and are no matter of the merges' order. Merges are pairs; older files have each as one
text with a space, which is the same. `ignore_merges`, by which a piece that is in the vocabulary is taken whole,
changes nothing where each token is made by its own merges, which is checked, and no other name there can be a piece.
"""

from collections.abc import Mapping, Sequence
from reprlib import repr as brief
from typing import Any

from nanotx.errors import ConfigError, TokenizerError
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.bpe import Bpe, BpeCodec
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.byte_level import CHARACTERS, from_printable, to_printable
from nanotx.tokenizers.convert.pipeline import (
    REMEDY,
    Table,
    check_keys,
    check_portable,
    normal_form,
    only,
    pipeline,
    refused,
    special_tokens_of,
    split,
    steps,
)
from nanotx.tokenizers.convert.ranks import merges_of
from nanotx.tokenizers.regexes import name_of

WHOLE = r"[\s\S]+"
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
DECODER = LEVEL | {"add_prefix_space": True, "use_regex": True}
MODEL = {
    "type": ("BPE",),
    "dropout": (None, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (False, True),  # there is nothing unknown among bytes
    "byte_fallback": (False,),
    "ignore_merges": (False, True),
    "vocab": (),
    "merges": (),
}


def write_bpe(codec: BpeCodec) -> Table:
    """Return the tokenizer.json of a byte-level BPE.

    Raises:
        TokenizerError: its regex may mean something else to the library, or a special is written as a token is.
    """
    check_portable("bpe", codec.source)
    ids = codec.ids or tuple(range(256 + len(codec.merges)))
    words = [to_printable(codec.decode_bytes([token_id])) for token_id in ids]
    before = {"type": "Sequence", "pretokenizers": [split(codec.source), LEVEL]}
    merges = [[words[left], words[right]] for left, right in codec.merges]
    return pipeline(codec, _model(dict(zip(words, ids, strict=True)), codec, merges), before, DECODER)


def write_byte(codec: ByteCodec) -> Table:
    """Return the tokenizer.json of the bytes."""
    vocab = {character: value for value, character in CHARACTERS.items()}
    return pipeline(codec, _model(vocab, codec, []), LEVEL, DECODER)


def _model(vocab: dict[str, int], codec: Codec, merges: list[list[str]]) -> Table:
    for name in codec.special_tokens:
        if name in vocab:
            raise TokenizerError(
                f"{codec.part}: the special {name!r} is written as a token of this tokenizer is, and a tokenizer.json "
                "cannot tell them apart; expected a name such as '<|endoftext|>'."
            )
    whole = dict(sorted((vocab | dict(codec.special_tokens)).items(), key=lambda item: item[1]))
    return {key: values[0] if values else None for key, values in MODEL.items()} | {"vocab": whole, "merges": merges}


def read(table: Table) -> Codec:
    """Return the codec of a tokenizer.json whose model is a BPE.

    Raises:
        TokenizerError: something in it is not byte-level, or is not supported.
    """
    model = check_keys("model", table["model"], MODEL)
    if type(model["vocab"]) is not dict or type(model["merges"]) is not list:
        raise TokenizerError("model: expected a table of tokens and a list of merges.")
    special_tokens = special_tokens_of(table["added_tokens"], model["vocab"])
    source = regex_before(table["pre_tokenizer"])
    flags: dict[str, Sequence[Any]] = dict.fromkeys(list(LEVEL)[1:], (True, False))  # of encoding alone
    only("decoder", table["decoder"], "decoders", flags | {"type": ("ByteLevel",)})
    codec = codec_of("model", model["vocab"], model["merges"], special_tokens, source, normal_form(table["normalizer"]))
    if model["ignore_merges"]:
        for name in codec.special_tokens:
            if name in model["vocab"] and may_be_piece(source, name):
                raise refused("model", f"ignore_merges=True takes {name!r} whole in a text, and no merge makes it")
        tokens = [codec.decode_bytes([token_id]) for token_id in codec.ids or range(256 + len(codec.merges))]
        if merges_of("model: ignore_merges", tokens[256:]) != list(codec.merges):
            raise refused("model", "ignore_merges=True takes tokens whole that the merges make otherwise")
    if source == WHOLE and codec == BpeCodec((), WHOLE):
        return ByteCodec()
    return codec


def may_be_piece(source: str, name: str) -> bool:
    """Return whether a name, written as tokens are, may stand in a text as a piece.

    Where a regex looks nowhere beyond its match, what is a piece beside other text is one alone. The named patterns
    look ahead after white space only.
    """
    if not set(name) <= set(CHARACTERS.values()):
        return False  # no bytes are written so
    try:
        text = from_printable(name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    looks = "(?=" in source or "(?!" in source
    if looks and (name_of(source) == "own" or text.isspace()):
        return True
    return Splitter(source).pieces(text) == [text]


def regex_before(table: Any) -> str:
    """Return the regex by which a pre_tokenizer cuts a text into the pieces that no merge leaves.

    Raises:
        TokenizerError: it does something else.
    """
    parts = steps("pre_tokenizer", table, "pretokenizers")
    level = {"type": ("ByteLevel",), "add_prefix_space": (False,), "trim_offsets": (True, False)}
    if len(parts) == 1 and parts[0].get("type") == "ByteLevel":
        step = check_keys("pre_tokenizer", parts[0], level | {"use_regex": (True, False)})
        return regex_of("gpt2") if step["use_regex"] else WHOLE
    kinds = [part.get("type") for part in parts]
    if kinds != ["Split", "ByteLevel"]:
        raise refused("pre_tokenizer", f"expected a Split and a ByteLevel, or a ByteLevel alone, got {kinds}")
    check_keys("pre_tokenizer", parts[1], level | {"use_regex": (True, False)})
    if parts[1].get("use_regex", True):
        raise refused("pre_tokenizer", "use_regex=True cuts the pieces of Split once more")
    cut = check_keys(
        "pre_tokenizer", parts[0], {"type": ("Split",), "pattern": (), "behavior": (), "invert": (False, True)}
    )
    pattern = check_keys("pre_tokenizer: pattern", cut["pattern"], {"Regex": ()})["Regex"]
    if type(pattern) is not str:
        raise TokenizerError("pre_tokenizer: pattern: expected a regex.")
    ways = [("Isolated", False)]
    if pattern in (regex_of("gpt2"), regex_of("gpt4")):  # which leave nothing out
        ways.append(("Removed", True))
    if (cut["behavior"], cut["invert"]) not in ways:
        raise refused("pre_tokenizer", f"behavior={cut['behavior']!r} with invert={cut['invert']} is no plain cut")
    check_portable("pre_tokenizer", pattern)
    return pattern


Pair = tuple[int, int]


def codec_of(
    where: str,
    vocab: Mapping[str, Any],
    merges: Sequence[Any],
    special_tokens: Mapping[str, int],
    source: str,
    nfc: bool = False,
) -> BpeCodec:
    """Return the byte-level BPE of a vocabulary and its merges, with the ids that it says.

    Args:
        where: the file, for errors.
        vocab: each token in printable characters, and its id.
        merges: pairs of tokens.
        special_tokens: names and their ids. What is in the vocabulary and written as `<...>` is one too.
        source: the regex whose matches are the pieces that no merge leaves.
        nfc: whether a text is put into normal form C.

    Raises:
        TokenizerError: a byte is missing, a merge is of unknown tokens, or makes one; or a token that no merge makes.
    """
    for word, token_id in vocab.items():
        if type(token_id) is not int:
            raise TokenizerError(f"{where}: {brief(word)}: expected an id, got {brief(token_id)}.")
    missing = [value for value, character in CHARACTERS.items() if character not in vocab]
    if missing:
        raise TokenizerError(
            f"{where}: {len(missing)} of the 256 bytes have no token, the first of them 0x{missing[0]:02x}; a text "
            f"with one of these would lose it. {REMEDY}"
        )
    numbers = {CHARACTERS[value]: value for value in range(256)}
    pairs = list[Pair]()
    for index, merge in enumerate(merges):
        left, right = halves(where, index, merge)
        if left not in numbers or right not in numbers:
            part = right if left in numbers else left
            raise TokenizerError(f"{where}: merge {index}: {brief(part)} is no token yet.")
        token = left + right
        if token not in vocab:
            raise TokenizerError(f"{where}: merge {index}: {brief(token)} is not in the vocabulary.")
        if token in numbers:
            raise TokenizerError(
                f"{where}: merge {index}: {brief(token)} is already a token, and no part of nanotx has two ways to "
                f"make one. {REMEDY}"
            )
        pairs.append((numbers[left], numbers[right]))
        numbers[token] = 256 + index
    others = {word: token_id for word, token_id in vocab.items() if word not in numbers and word not in special_tokens}
    for word in others:
        if not (word.startswith("<") and word.endswith(">")):
            raise TokenizerError(
                f"{where}: no merge makes the token {brief(word)}, {brief(from_printable(word))}; expected one for "
                f"each. {REMEDY}"
            )
    ids = [vocab[word] for word in numbers]
    plain = ids == list(range(len(ids)))
    named = dict(sorted((dict(special_tokens) | others).items(), key=lambda item: item[1]))
    try:
        return BpeCodec(tuple(pairs), source, named, nfc, ids=() if plain else tuple(ids))
    except (ConfigError, TokenizerError) as error:
        raise TokenizerError(f"{where}: {error}") from None


def halves(where: str, index: int, merge: Any) -> tuple[str, str]:
    """Return the two tokens of a merge: a pair, or one text with a space between, as older files have it.

    Raises:
        TokenizerError: it is neither.
    """
    pair = merge.split(" ") if isinstance(merge, str) else merge
    left, right = pair if isinstance(pair, list) and len(pair) == 2 else ("", "")
    if type(left) is not str or type(right) is not str or not left or not right:
        raise TokenizerError(f"{where}: merge {index}: expected a pair of tokens, got {brief(merge)}.")
    return left, right


def regex_of(pattern: str) -> str:
    """Return the regex of a pattern's name; one of the user's own is checked, and stands for itself.

    Raises:
        ConfigError: it is neither.
    """
    return Bpe(vocab_size=256, pattern=pattern).train([]).source
