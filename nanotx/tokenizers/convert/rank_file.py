"""A file of ranks, `*.tiktoken`: a token a line, its bytes in base64, a space, its rank, which is its id.

It has no merges, no pattern and no special tokens. Merges are recovered exactly; pattern and special tokens are
known for the files that OpenAI published, by their digests, and have to be given for any other.

Source: https://github.com/openai/tiktoken/blob/main/tiktoken/load.py
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from nanotx.errors import ConfigError, TokenizerError
from nanotx.files import write_atomic
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.bpe import BpeCodec
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.convert.formats import Exported, Imported
from nanotx.tokenizers.convert.json_bpe import regex_of
from nanotx.tokenizers.convert.ranks import merges_of
from nanotx.tokenizers.tiktoken import lines_of, published, read_ranks


def read(path: Path, pattern: str = "", special_tokens: Sequence[str] = ()) -> Imported:
    """Return the byte-level BPE of a file of ranks; see `read_tokenizer`.

    Raises:
        TokenizerError: the file is invalid, a token of it cannot be merged, or no pattern is given.
    """
    ranks = read_ranks(path)
    known = published(path)
    if known and (pattern or special_tokens):
        raise ConfigError(
            f"{path}: this is {known.name}, whose pattern and special tokens are known; leave the flags out."
        )
    if not known and not pattern:
        raise TokenizerError(
            f"{path}: a file of ranks does not say where a text is cut, and this one is none of OpenAI's; "
            r"try --pattern gpt4, --pattern gpt2, or the regex it was learned with, such as --pattern '\s?\p{L}+'."
        )
    after = max(ranks.values(), default=0) + 1
    names = (
        known.special_tokens
        if known
        else {name: after + index for index, name in enumerate(dict.fromkeys(special_tokens))}
    )
    codec = codec_of(str(path), ranks, known.pattern if known else pattern, names)
    note = (
        f"this is {known.name}, as published"
        if known
        else "the file does not state its pattern: the given one was used"
    )
    return Imported(codec=codec, notes=(note,))


def codec_of(where: str, ranks: Mapping[bytes, int], pattern: str, special_tokens: Mapping[str, int]) -> BpeCodec:
    """Return the byte-level BPE whose tokens have these ranks.

    Raises:
        TokenizerError: a byte has no rank, or a token cannot be merged.
        ConfigError: the pattern or the name of a special is none.
    """
    missing = [value for value in range(256) if bytes([value]) not in ranks]
    if missing:
        raise TokenizerError(
            f"{where}: {len(missing)} of the 256 bytes have no token, the first of them 0x{missing[0]:02x}; "
            "a text with one of these would lose it."
        )
    tokens = [token for token, _ in sorted(ranks.items(), key=lambda item: item[1]) if len(token) > 1]
    ids = [ranks[bytes([value])] for value in range(256)] + [ranks[token] for token in tokens]
    merges = merges_of(where, tokens)
    plain = ids == list(range(len(ids)))
    return BpeCodec(tuple(merges), regex_of(pattern), special_tokens, ids=() if plain else tuple(ids))


def write(codec: Codec, path: Path) -> Exported:
    """Write the ranks of a byte-level BPE, or of the bytes; see `write_tokenizer`.

    Raises:
        TokenizerError: the codec is another, or its ids are not in the order of its merges.
    """
    if path.is_dir():
        raise TokenizerError(f"{path}: this is a folder; expected a file to write, such as {path / 'my.tiktoken'}.")
    text = "\n".join([*lines_of(ranks_of(codec)), ""])  # or an error, before a folder is made
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    if not isinstance(codec, BpeCodec):
        return Exported(files=(path,))
    special_tokens = f", and its special tokens are {dict(codec.special_tokens)}" if codec.special_tokens else ""
    note = f"a file of ranks does not say where a text is cut: by {codec.source!r}{special_tokens}"
    return Exported(files=(path,), notes=(note,))


def ranks_of(codec: Codec) -> dict[bytes, int]:
    """Return the rank of each token.

    Raises:
        TokenizerError: the format cannot hold this codec exactly.
    """
    if isinstance(codec, ByteCodec):
        return {bytes([value]): value for value in range(256)}
    if not isinstance(codec, BpeCodec):
        raise TokenizerError(
            f"{codec.part}: a file of ranks holds byte-level tokens alone; expected a tokenizer of the part bpe or "
            "byte. Try --to huggingface."
        )
    if codec.nfc:
        raise TokenizerError(
            "bpe: a file of ranks cannot say nfc=True, and its ids would be others; try --to huggingface."
        )
    ids = codec.ids or tuple(range(256 + len(codec.merges)))
    tokens = [codec.decode_bytes([token_id]) for token_id in ids]
    for earlier, later in pairwise(ids[256:]):
        if later < earlier:
            raise TokenizerError(
                f"bpe: in a file of ranks a later merge has a larger id, and here {later} comes after {earlier}; "
                "try --to huggingface."
            )
    if merges_of("bpe", tokens[256:]) != list(codec.merges):
        raise TokenizerError("bpe: a file of ranks would merge otherwise; try --to huggingface.")
    return dict(zip(tokens, ids, strict=True))
