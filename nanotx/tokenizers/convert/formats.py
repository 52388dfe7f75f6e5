"""Convert tokenizers from and to the files of other libraries, exactly or not at all.

An exact conversion gives the same ids for any text. What a file asks for that no part of ours can do is named, with
the part that lets the library itself do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanotx.errors import ConfigError, TokenizerError, did_you_mean
from nanotx.tokenizers.base import Codec


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A codec that came from elsewhere, and what should be known about it."""

    codec: Codec
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files that were written, and what should be known about them."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


FORMATS = ("huggingface", "tiktoken")


def read_tokenizer(path: Path, pattern: str = "", special_tokens: Sequence[str] = ()) -> Imported:
    """Return the tokenizer in a file, or in a folder of files, that another library wrote.

    Args:
        path: a `tokenizer.json`, a `.tiktoken` file, one of a pair `encoder.json` and `vocab.bpe` (or `vocab.json` and
            `merges.txt`), or a folder with these.
        pattern: where a text is cut: "gpt2", "gpt4", or a regex; only for files that do not say it.
        special_tokens: names of special ids after all others; only for files that do not say them.

    Raises:
        TokenizerError: it cannot be read, or not exactly; says which file, where in it, and what to try.
        ConfigError: the file itself says what the pattern or the special tokens are.
    """
    from nanotx.tokenizers.convert import merges_file, rank_file, tokenizer_json

    if path.is_dir() and not (path / "tokenizer.json").is_file():
        ranks = sorted(path.glob("*.tiktoken"))
        path = ranks[0] if len(ranks) == 1 else merges_file.vocabulary_in(path)
    elif path.is_dir():
        path = path / "tokenizer.json"
    if path.suffix == ".tiktoken":
        return rank_file.read(path, pattern, special_tokens)
    if special_tokens:
        raise ConfigError(f"{path}: names its special tokens itself; leave out --special-tokens.")
    if pair := merges_file.pair_of(path):
        return merges_file.read(*pair, pattern)
    if pattern:
        raise ConfigError(f"{path}: holds its pattern itself; leave out --pattern.")
    return tokenizer_json.read(path)


def write_tokenizer(codec: Codec, to: str, path: Path) -> Exported:
    """Write a codec in another library's format.

    Args:
        codec: any that the format can hold.
        to: "huggingface" or "tiktoken".
        path: a file; or for huggingface a folder too, which then also gets what transformers wants to know.

    Raises:
        TokenizerError: the format cannot hold it exactly; says what. Or it cannot be written there.
    """
    from nanotx.tokenizers.convert import rank_file, tokenizer_json

    if to not in FORMATS:
        raise ConfigError(f"--to {to}: no such format.{did_you_mean(to, FORMATS)} Known: {', '.join(FORMATS)}.")
    try:
        return tokenizer_json.write(codec, path) if to == "huggingface" else rank_file.write(codec, path)
    except OSError as error:
        raise TokenizerError(f"{path}: nothing can be written here: {error.strerror}.") from None
