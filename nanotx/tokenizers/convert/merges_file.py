"""GPT-2's pair of files: `encoder.json`, each token and its id, and `vocab.bpe`, the merges, the earliest first.

Hugging Face calls the same two `vocab.json` and `merges.txt`. Tokens are written in printable characters, one a byte.
Neither states where a text is cut: that is GPT-2's pattern, unless another is given.

Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py; the digests of OpenAI's files,
https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py
"""

import hashlib
from pathlib import Path

from nanotx.errors import TokenizerError
from nanotx.files import open_regular, read_regular
from nanotx.tokenizers.convert.formats import Imported
from nanotx.tokenizers.convert.json_bpe import codec_of, regex_of
from nanotx.tokenizers.huggingface.tokenizer import read_json

PAIRS = {"encoder.json": "vocab.bpe", "vocab.json": "merges.txt"}
PUBLISHED = (
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",  # encoder.json
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",  # vocab.bpe
)
LARGEST = 1 << 24  # bytes; an untrusted file must not fill the memory


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """Return the two files of which this is one; None where it is none of them."""
    for vocabulary, merges in PAIRS.items():
        if path.name in (vocabulary, merges):
            return path.with_name(vocabulary), path.with_name(merges)
    return None


def vocabulary_in(folder: Path) -> Path:
    """Return the first file of a pair that lies in a folder.

    Raises:
        TokenizerError: there is no file of a tokenizer.
    """
    for vocabulary in PAIRS:
        if (folder / vocabulary).is_file():
            return folder / vocabulary
    pairs = ", or ".join(f"{vocabulary} and {merges}" for vocabulary, merges in PAIRS.items())
    raise TokenizerError(f"{folder}: expected one of a tokenizer.json, a *.tiktoken file, or {pairs}.")


def read(vocabulary: Path, merges: Path, pattern: str = "") -> Imported:
    """Return the byte-level BPE of a pair of files; see `read_tokenizer`.

    Raises:
        TokenizerError: a file is missing or invalid, or they do not fit together.
    """
    vocab, lines = read_json(vocabulary), read_merges(merges)
    codec = codec_of(str(vocabulary), vocab, lines, {}, regex_of(pattern or "gpt2"))
    digests = tuple(hashlib.sha256(read_regular(file, LARGEST)).hexdigest() for file in (vocabulary, merges))
    if digests == PUBLISHED:
        return Imported(codec=codec, notes=("these are GPT-2's files, as published",))
    pattern_note = "" if pattern else "; they do not state where a text is cut, and GPT-2's pattern was used"
    other = (
        f"these are not the files that were published with GPT-2 (sha256 {digests[0][:12]}..., {digests[1][:12]}...)"
    )
    return Imported(codec=codec, notes=(f"{other}; they were read as what they are{pattern_note}",))


def read_merges(path: Path) -> list[list[str]]:
    """Return the pairs of a file of merges; a first line such as `#version: 0.2` is none.

    Raises:
        TokenizerError: it cannot be read, or a line is no pair.
    """
    try:
        with open_regular(path) as file:
            data = file.read(LARGEST + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise TokenizerError(f"{path}: no merges can be read here: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"{path}: expected UTF-8, got byte 0x{data[error.start]:02x} at offset {error.start}."
        ) from None
    if len(data) > LARGEST:
        raise TokenizerError(f"{path}: larger than {LARGEST} bytes; no file of merges is.")
    pairs = list[list[str]]()
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise TokenizerError(f"{path}: line {number}: expected two tokens and a space between, got {line[:40]!r}.")
        pairs.append(pair)
    return pairs
