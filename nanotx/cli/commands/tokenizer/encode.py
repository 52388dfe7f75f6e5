"""Encode texts as ids, or into a token file."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nanotx.cli.tokenizer.inputs import encoded, plain_files, progress_bar, text_of
from nanotx.config.flags import argument, option, parse
from nanotx.errors import ConfigError, TokenizerError
from nanotx.hardware.memory import keep_freed_memory
from nanotx.tokenizers import Codec, load
from nanotx.tokenizers.base import Ids
from nanotx.tokenizers.token_file import read_header
from nanotx.tokenizers.unigram import UnigramCodec

USAGE = "TOKENIZER [FILE ...]"
GROUP = "Use"
ORDER = 20


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Print the ids of a text, or of several texts on a line each; with --out, write them to one token file.

    A token file is also made of the documents of .jsonl and .parquet files, and of .gz and .zst, and marks where each
    ends. Memory does not grow with the files.

    nanotx tokenizer encode shakespeare_bpe_512 my.txt
    nanotx tokenizer encode bpe.json web/*.jsonl.gz --field content --out web.ids --processes 4
    """

    tokenizer: str = argument("TOKENIZER")  # path of a tokenizer, or name of a preset
    files: tuple[str, ...] = argument("FILE ...", ())  # texts to encode; standard input where none is named
    field: str = option(
        "NAME", "text"
    )  # field of each .jsonl row, or column of each .parquet file, that holds a document's text
    out: str = option("FILE")  # token file to write; an interrupted command continues when repeated
    separator: str = option("NAME")  # special token to write after each document of the token file
    processes: int = 1  # number of processes that encode a token file
    special: tuple[str, ...] = option("NAME ...", ())  # names that are encoded as special tokens where they occur
    errors: Literal["strict", "replace"] = "strict"  # bytes that are not UTF-8: refuse them, or read them as U+FFFD
    alpha: float | None = None  # for a unigram tokenizer: draw a segmentation, 0 for all of them equally likely
    seed: int = 0  # seed of the drawn segmentation
    lossy: bool = False  # accept a tokenizer.json that loses text, for example one that lowers case


def run(argv: list[str]) -> int:
    """Encode the texts, print or write their ids, and return the exit code."""
    flags = parse(Flags, argv, "nanotx tokenizer encode")
    try:
        codec = load(flags.tokenizer, lossy=flags.lossy)
    except TokenizerError as error:  # names the flag of a recipe; here it has no group
        raise TokenizerError(str(error).replace("--tokenizer.lossy", "--lossy")) from None
    if flags.out:
        return to_file(codec, flags)
    if flags.separator or flags.processes != 1 or flags.field != "text":
        raise ConfigError(
            "nanotx tokenizer encode: --separator, --field and --processes are for a token file; add --out PATH."
        )
    for file in flags.files or [""]:
        text = text_of(file, flags.errors)
        where = file or "standard input"
        ids = encoded(codec, text, where, flags.special) if flags.alpha is None else drawn(codec, text, flags)
        sys.stdout.write(" ".join(map(str, ids.tolist())) + "\n")
    return 0


def drawn(codec: Codec, text: str, flags: Flags) -> Ids:
    """Return the ids of a text in a randomly drawn segmentation."""
    if not isinstance(codec, UnigramCodec) or flags.special or flags.alpha is None or flags.seed < 0:
        raise ConfigError(
            f"nanotx tokenizer encode: --alpha draws a segmentation of a unigram tokenizer, without --special and "
            f"with a seed of at least 0; this tokenizer is {codec.part}. Leave --alpha out."
        )
    return codec.sample(text, np.random.default_rng(flags.seed), flags.alpha)


def to_file(codec: Codec, flags: Flags) -> int:
    """Encode files into a token file, and return the exit code."""
    if not flags.files or flags.special or flags.alpha is not None or not 1 <= flags.processes <= 1024:
        raise ConfigError(
            "nanotx tokenizer encode: --out takes files, from 1 to 1024 processes, and neither --special nor --alpha: "
            "a token file encodes each document as ordinary text, and --separator NAME follows each."
        )
    files, out = plain_files(flags.files), Path(flags.out)
    if out.is_dir():
        raise ConfigError(f"--out {flags.out}: expected a file to write, got a folder.")
    keep_freed_memory()
    with progress_bar(files) as progress:
        count = codec.encode_to_file(
            files,
            out,
            separator=flags.separator,
            field=flags.field,
            errors=flags.errors,
            processes=flags.processes,
            watch=progress.show_position,
        )
    header = read_header(out)
    size = header.size or sum(file.stat().st_size for file in files)
    rate = f", {size / count:.2f} bytes per id" if count else ""
    marked = f" in {header.documents} document{'s' * (header.documents != 1)}"
    sys.stdout.write(f"{out}: {count} ids of {size} bytes{marked}{rate}\n")
    return 0
