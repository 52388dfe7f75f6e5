"""The `tokenizer.json` of Hugging Face: a pipeline of a normalizer, a pre_tokenizer, a model and a decoder.

Written in a folder, it stands beside a `tokenizer_config.json`, without which transformers may take GPT-2's own cutting
for a tokenizer beside a GPT-2's weights, and lose white space.

Source: https://github.com/huggingface/tokenizers; there is no description of the format but its code.
"""

import json
from collections.abc import Callable
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.files import write_atomic
from nanotx.tokenizers.base import CHAT_TEMPLATE, UNKNOWN, Codec
from nanotx.tokenizers.bpe import BpeCodec
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.char import CharCodec
from nanotx.tokenizers.chat_template import chat_template_of
from nanotx.tokenizers.convert import json_bpe, json_char, json_unigram, json_wordpiece
from nanotx.tokenizers.convert.formats import Exported, Imported
from nanotx.tokenizers.convert.pipeline import Table, check_after, check_keys, refused
from nanotx.tokenizers.huggingface.file_checks import settled
from nanotx.tokenizers.huggingface.tokenizer import HuggingfaceCodec, read_json
from nanotx.tokenizers.unigram import UnigramCodec
from nanotx.tokenizers.wordpiece import WordPieceCodec

READERS: dict[str, Callable[[Table], Codec]] = {
    "BPE": json_bpe.read,
    "WordLevel": json_char.read,
    "WordPiece": json_wordpiece.read,
    "Unigram": json_unigram.read,
}
KEYS = ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model")
END = "<|endoftext|>"


def read(path: Path) -> Imported:
    """Return the codec that gives the ids of a tokenizer.json; see `read_tokenizer`.

    Raises:
        TokenizerError: it is none, or does something that no codec of ours does.
    """
    try:
        return understood(read_json(path))
    except TokenizerError as error:
        message = str(error)
        raise TokenizerError(message if message.startswith(str(path)) else f"{path}: {message}") from None


def understood(table: Table) -> Imported:
    """Return the codec of what a tokenizer.json holds, and notes on it.

    Raises:
        TokenizerError: it does something that no codec of ours does.
    """
    if "nanotx" in table:
        raise TokenizerError("this is a tokenizer of nanotx already, which nanotx.tokenizers.base.load reads.")
    whole: dict[str, tuple[Any, ...]] = {"version": ("1.0",), "truncation": (None,), "padding": (None,)}
    table = check_keys("tokenizer.json", table, whole | dict.fromkeys(KEYS, ()))
    model = table["model"]
    kind = model.get("type", "BPE" if "merges" in model else None) if type(model) is dict else None
    if type(kind) is not str or kind not in READERS:
        raise refused("model", f"type={brief(kind)} is no model that nanotx reads; expected {', '.join(READERS)}")
    return Imported(codec=READERS[kind](table), notes=check_after(table["post_processor"]))


def described(codec: Codec) -> Table:
    """Return what a tokenizer.json holds that gives the ids of a codec.

    Raises:
        TokenizerError: there is none.
    """
    if isinstance(codec, HuggingfaceCodec):
        return settled(codec.described)
    if isinstance(codec, BpeCodec):
        return json_bpe.write_bpe(codec)
    if isinstance(codec, ByteCodec):
        return json_bpe.write_byte(codec)
    if isinstance(codec, CharCodec):
        return json_char.write_char(codec)
    if isinstance(codec, WordPieceCodec):
        return json_wordpiece.write_wordpiece(codec)
    if isinstance(codec, UnigramCodec):
        return json_unigram.write_unigram(codec)
    raise TokenizerError(
        f"{codec.part}: no tokenizer.json is known that gives its ids; expected one of bpe, byte, char, "
        "huggingface, unigram, wordpiece."
    )


def write(codec: Codec, path: Path) -> Exported:
    """Write a tokenizer.json: a file, or in a folder, beside its config; see `write_tokenizer`."""
    text = as_text(described(codec))
    if path.suffix == ".json" and not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
        return Exported(files=(path,))
    path.mkdir(parents=True, exist_ok=True)
    files = {path / "tokenizer.json": text, path / "tokenizer_config.json": as_text(config(codec))}
    for file, content in files.items():
        write_atomic(file, content)
    return Exported(files=tuple(files))


def config(codec: Codec) -> Table:
    """Return what transformers has to know: which class reads it, that it cleans nothing up, and the chat template."""
    table: Table = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if names := ends(codec):
        table["eos_token"] = names[0]
    table |= {"unk_token": UNKNOWN} if UNKNOWN in codec.special_tokens else {}
    return table | ({CHAT_TEMPLATE: codec.chat_template} if codec.chat_template else {})


def ends(codec: Codec) -> tuple[str, ...]:
    """Return the special tokens at which generation ends: that after an answer of a chat, and that after a text."""
    template = chat_template_of(codec)
    names = (template.turn_end if template else "", END)
    return tuple(dict.fromkeys(name for name in names if name in codec.special_tokens))


def as_text(table: Table) -> str:
    """JSON in UTF-8."""
    return json.dumps(table, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
