"""nanotx tokenizer encode: the ids of a text, as decimal numbers, or of texts of any size, as a token file."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from nanotx.errors import ConfigError
from nanotx.flags import parse
from nanotx.text_files import files_of
from nanotx.tokenizers import Codec, load
from nanotx.verbs.tokenizer._input import text_of
from nanotx.verbs.tokenizer._progress import bar


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Prints the ids of a text, or of each text on a line; with --out, writes them into one token file."""

    tokenizer: Annotated[Positional[str], tyro.conf.arg(help="a path, or a name on the shelf")]
    files: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(help="texts; standard input where there is none")] = ()
    special: Annotated[tuple[str, ...], tyro.conf.arg(help="names that become their special ids in the text")] = ()
    errors: Annotated[
        Literal["strict", "replace"], tyro.conf.arg(help="replace: read U+FFFD where there is no UTF-8")
    ] = "strict"
    out: Annotated[str, tyro.conf.arg(help="a token file to write; killed, the same command goes on")] = ""
    separator: Annotated[str, tyro.conf.arg(help="a special put behind each text of the token file")] = ""
    processes: Annotated[int, tyro.conf.arg(help="how many encode a token file")] = 1


def run(words: list[str]) -> int:
    """Encode."""
    said = parse(Flags, words, "nanotx tokenizer encode")
    codec = load(said.tokenizer)
    if said.out:
        return to_file(codec, said)
    if said.separator or said.processes != 1:
        raise ConfigError("nanotx tokenizer encode: --separator and --processes are for a token file; add --out PATH.")
    for file in said.files or [""]:
        ids = codec.encode(text_of(file, said.errors), allowed_special=said.special)
        sys.stdout.write(" ".join(map(str, ids.tolist())) + "\n")
    return 0


def to_file(codec: Codec, said: Flags) -> int:
    """Write a token file."""
    if not said.files or said.special or said.processes < 1:
        raise ConfigError(
            "nanotx tokenizer encode: --out takes files, at least one process, and no --special: "
            "what is in a text is ordinary there, and --separator NAME stands behind each."
        )
    files, out = files_of(said.files), Path(said.out)
    with bar(files) as shown:
        count = codec.encode_to_file(
            files, out, separator=said.separator, errors=said.errors, processes=said.processes, watch=shown.at
        )
    size = sum(file.stat().st_size for file in files)
    rate = f", {size / count:.2f} bytes an id" if count else ""
    sys.stdout.write(f"{out}: {count} ids of {size} bytes{rate}\n")
    return 0
