"""The tokenizers of OpenAI's models, by the library `tiktoken`: a published encoding, or a file of ranks.

Source: https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py

Nothing is learned. An encoding that was asked for by name is fetched once by the library, which keeps it; what a run
stores is the whole of it, so that a run folder needs no network. Only encoding needs the library: decoding does not.

Source: https://github.com/openai/tiktoken
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.errors import ConfigError, TextError, TokenizerError, did_you_mean
from nanotx.files import open_regular, read_regular
from nanotx.tokenizers.base import Codec, Ids, Tokenizer, utf8
from nanotx.tokenizers.libraries import library_errors, not_installed
from nanotx.tokenizers.loading import LARGEST
from nanotx.tokenizers.regexes import NAMED, check_calls, source_of
from nanotx.tokenizers.special_tokens import join_bytes, tokens_by_id
from nanotx.tokenizers.storage import exactly

END = "<|endoftext|>"
# As the library cuts today: white space that ends a text is one piece, which is why this is not the pattern gpt4.
# `$` is written so that it means the end of the text to any library, and no repeat keeps what it took.
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+(?![\s\S])|\s*[\r\n]|\s+(?!\S)|\s"
)
CONTRACTED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{CONTRACTED}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{CONTRACTED}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Published:
    """What a file of ranks leaves out."""

    name: str
    pattern: str  # a name or a regex
    special_tokens: Mapping[str, int]


MIDDLE = {"<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
KNOWN = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": Published("r50k_base", "gpt2", {END: 50256}),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": Published("p50k_base", "gpt2", {END: 50256}),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": Published(
        "cl100k_base", CL100K, {END: 100257, **MIDDLE, "<|endofprompt|>": 100276}
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": Published(
        "o200k_base", O200K, {END: 199999, "<|endofprompt|>": 200018}
    ),
}
SIZES = {
    "gpt2": 50_257,
    "r50k_base": 50_257,
    "p50k_base": 50_281,
    "p50k_edit": 50_284,
    "cl100k_base": 100_277,
    "o200k_base": 200_019,
    "o200k_harmony": 201_088,
}
"""The number of ids of the encodings that the library names, the ids between them that are undefined included."""


@Tokenizer.register("tiktoken")
@dataclass(frozen=True, kw_only=True)
class Tiktoken(Tokenizer):
    """A published encoding, or one from a file of ranks; the texts are not read."""

    encoding: str = "gpt2"  # name of a published encoding, such as cl100k_base, which the library may download
    path: str = ""  # file of ranks to read instead, such as my.tiktoken
    pattern: str = ""  # regex of a file that is not OpenAI's: gpt2, gpt4, or a regex of your own

    def __post_init__(self) -> None:
        if self.pattern:
            source_of(self.pattern)

    def known_vocab_size(self, characters: int | None = None) -> int | None:
        """Return the size of a published encoding; None for a file, or the encoding of a plug-in of the library."""
        return None if self.path else SIZES.get(self.encoding)

    def train(self, texts: Iterable[str]) -> "TiktokenCodec":
        """Return the encoding; the texts are not read.

        Raises:
            TokenizerError: there is no such file, it is none, or the encoding is unknown or out of reach.
        """
        codec = filed(Path(self.path), self.pattern) if self.path else fetched(self.encoding)
        codec.encode("")  # that the library is not there, or takes no such regex, is said before all that follows
        return codec

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "TiktokenCodec":
        """Return the codec of a list of ranks; see `Tokenizer.from_dict`."""
        exactly("tiktoken", table, {"name": str, "regex": str, "special_tokens": dict[str, int], "ranks": list[str]})
        ranks = ranks_of("tiktoken: ranks", (line.encode("utf-8", "replace") for line in table["ranks"]))
        try:
            return TiktokenCodec(table["name"], table["regex"], ranks, table["special_tokens"])
        except ConfigError as error:
            raise TokenizerError(f"tiktoken: {error}") from None


@dataclass(frozen=True, eq=False)
class TiktokenCodec(Codec):
    """A token's rank is its id, and says how early it is merged.

    Raises:
        TokenizerError: a rank or a special that cannot be.
        ConfigError: a special's name is none, or the regex calls itself.
    """

    part = "tiktoken"
    name: str
    source: str  # the regex, in the library's syntax
    ranks: Mapping[bytes, int] = field(repr=False)
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    vocab_size: int = field(init=False)
    _tokens: tuple[bytes | None, ...] = field(init=False, repr=False)  # by id

    def __post_init__(self) -> None:
        check_calls(self.source)
        missing = [value for value in range(256) if bytes([value]) not in self.ranks]
        if missing:
            raise TokenizerError(f"tiktoken: the byte 0x{missing[0]:02x} has no rank; expected one for each byte.")
        tokens = tokens_by_id(self.part, tuple(self.ranks), tuple(self.ranks.values()), self.special_tokens)
        object.__setattr__(self, "vocab_size", len(tokens))
        object.__setattr__(self, "_tokens", tokens)

    def encode_ordinary(self, text: str) -> Ids:
        """Return the library's ids; see `Codec.encode_ordinary`."""
        data = utf8(self.part, text)
        encoding = self._encoding
        gave_up = (
            f"tiktoken: the library gives up on this text of {len(text)} characters; try nanotx tokenizer import, "
            "whose tokenizers take any text. It says"
        )
        with library_errors(gave_up, TextError):
            ids = np.array(encoding.encode_to_numpy(text, disallowed_special=()), np.int32)
        if int(self._lengths[ids].sum()) != len(data):
            raise TextError(
                f"tiktoken: the pattern {self.source[:60]!r} leaves a part of this text of {len(text)} characters "
                "unmatched, and the library would drop it; expected one that matches every character: (?s:.) behind a "
                "last | takes what is left, one by one."
            )
        return ids

    def decode_bytes(self, ids: Iterable[Any]) -> bytes:
        """Return the tokens' bytes, joined; see `Codec.decode_bytes`."""
        return join_bytes(self.part, self._tokens, self.check_ids(ids).tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return the ranks, as the lines of a file of ranks."""
        return {
            "name": self.name,
            "regex": self.source,
            "special_tokens": dict(self.special_tokens),
            "ranks": lines_of(self.ranks),
        }

    @cached_property
    def _lengths(self) -> NDArray[np.int64]:
        """Return the number of bytes of each id."""
        return np.array([len(token or b"") for token in self._tokens], np.int64)

    @cached_property
    def _encoding(self) -> Any:
        try:
            from tiktoken import Encoding
        except ImportError:
            raise not_installed("tiktoken") from None
        with library_errors(f"tiktoken: {self.source[:40]!r} is not a valid regex for the library"):
            return Encoding(self.name, pat_str=self.source, mergeable_ranks=dict(self.ranks), special_tokens={})


def filed(path: Path, pattern: str) -> TiktokenCodec:
    """Return the encoding in a file of ranks; where it is OpenAI's own, its pattern and its special tokens are known.

    Raises:
        TokenizerError: the file is invalid, or no pattern is given.
    """
    ranks, known = read_ranks(path), published(path)
    if known and not pattern:
        return TiktokenCodec(known.name, source_of(known.pattern), ranks, known.special_tokens)
    if not pattern:
        raise TokenizerError(
            f"{path}: a file of ranks does not say where a text is cut, and this one is none of OpenAI's; "
            "try --tokenizer.pattern gpt4, or gpt2, or the regex that it was learned with."
        )
    return TiktokenCodec(path.stem, covering(pattern), ranks)


def covering(pattern: str) -> str:
    """Return the regex of a pattern; one of the user's own also takes what it leaves, which the library would drop."""
    source = source_of(pattern)
    return source if pattern in NAMED else rf"{source}|(?:(?!{source})[\s\S])+"


def fetched(name: str) -> TiktokenCodec:
    """Return an encoding of the library's.

    Raises:
        TokenizerError: it knows none of this name, or cannot fetch it.
    """
    try:
        from tiktoken import get_encoding, list_encoding_names
    except ImportError:
        raise not_installed("tiktoken") from None
    known = list_encoding_names()
    if name not in known:
        raise TokenizerError(
            f"tiktoken: no encoding named {name!r}.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}."
        )
    try:
        encoding = get_encoding(name)
    except (OSError, ValueError) as error:  # all that its network raises is an OSError
        reason = str(error).partition("\n")[0][:200]
        raise TokenizerError(
            f"tiktoken: the encoding {name!r} cannot be fetched: {reason}. Try a file of it: --tokenizer.path "
            f"{name}.tiktoken; or set TIKTOKEN_CACHE_DIR to a folder in which the library has it."
        ) from None
    special_tokens = {special: encoding.encode_single_token(special) for special in sorted(encoding.special_tokens_set)}
    ranks = {token: encoding.encode_single_token(token) for token in encoding.token_byte_values()}
    return TiktokenCodec(name, encoding._pat_str, ranks, special_tokens)


# A file of ranks: a token a line, its bytes in base64, a space, its rank.


def read_ranks(path: Path) -> dict[bytes, int]:
    """Return the tokens of a file of ranks, which anyone may have written, in the order of their ranks.

    Raises:
        TokenizerError: it cannot be read, or is none; says which line.
    """
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise TokenizerError(f"{path}: no file of ranks can be read here: {error.strerror}.") from None
    if len(data) > LARGEST:
        raise TokenizerError(f"{path}: larger than {LARGEST} bytes; no file of ranks is.")
    return ranks_of(str(path), data.split(b"\n"))


def published(path: Path) -> Published | None:
    """Return what is known of a file of ranks that OpenAI published; None where it is another."""
    return KNOWN.get(hashlib.sha256(read_regular(path, LARGEST)).hexdigest())


def ranks_of(where: str, lines: Iterable[bytes]) -> dict[bytes, int]:
    """Return the tokens of such lines, in the order of their ranks.

    Raises:
        TokenizerError: a line is none, or a token or a rank is a duplicate.
    """
    ranks, seen = dict[bytes, int](), set[int]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        word, space, rank = line.rstrip(b"\r").partition(b" ")
        try:
            token = base64.b64decode(word, validate=True)
        except binascii.Error:
            token = b""
        if not token or not space or not rank.isdigit() or len(rank) > 8:
            raise TokenizerError(f"{where}: line {number}: expected a token in base64 and its rank, got {brief(line)}.")
        if token in ranks or int(rank) in seen:
            raise TokenizerError(f"{where}: line {number}: the token {brief(token)} or its rank is there already.")
        ranks[token] = int(rank)
        seen.add(int(rank))
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def lines_of(ranks: Mapping[bytes, int]) -> list[str]:
    """Return the lines of a file of these ranks, in their order."""
    ordered = sorted(ranks.items(), key=lambda item: item[1])
    return [f"{base64.b64encode(token).decode('ascii')} {rank}" for token, rank in ordered]
