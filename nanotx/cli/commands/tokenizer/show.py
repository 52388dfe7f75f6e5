"""Show the tokens of a text in colours, with ids."""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from nanotx.cli.console import check_output
from nanotx.cli.tokenizer.inputs import text_of
from nanotx.cli.tokenizer.page import Token, page, tokens, visible
from nanotx.config.command_line import collect_flags
from nanotx.config.flags import argument, option, parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError, RunError
from nanotx.files import write_atomic
from nanotx.tokenizers import Codec, load
from nanotx.tokenizers.base import UNKNOWN, Ids, utf8
from nanotx.tokenizers.huggingface import HuggingfaceCodec

USAGE = "TOKENIZER [FILE]"
GROUP = "Use"
ORDER = 22

COLOURS = ("#a9cdf0", "#f5c9a9", "#b3e0b8", "#efb7d0", "#e9de94")
INK = "#16161a"
SPECIAL = "bold white on #b00020"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Show the tokens of a text in colours with their ids; white space is shown as · → ⏎, invisible bytes as escapes.

    Where the output is not a terminal, prints a token per line: id, bytes in hexadecimal, and text, separated by tabs.

        nanotx tokenizer show shakespeare_bpe_512 --text "To be, or not to be"
        nanotx tokenizer show bpe.json my.txt --html tokens.html
    """

    tokenizer: str = argument("TOKENIZER")  # path of a tokenizer, or name of a preset
    file: str = argument("FILE", "")  # text to show; standard input where none is named
    text: str = ""  # text to show instead of a file
    ids: bool = True  # show the ids below the tokens
    html: str = option("FILE.html")  # write a web page to this file instead
    limit: int = 2000  # maximum number of tokens on a terminal or a page; 0 for all

    def __post_init__(self) -> None:
        check_min(self, 0, "limit")


def run(argv: list[str]) -> int:
    """Show the tokens, and return the exit code."""
    flags = parse(Flags, argv, "nanotx tokenizer show")
    text_given = "text" in collect_flags(argv)
    if text_given and flags.file:
        raise ConfigError("nanotx tokenizer show: expected either a file or --text.")
    codec = load(flags.tokenizer)
    text = flags.text if text_given else text_of(flags.file)
    ids = codec.encode(text)
    facts, notes = about(codec, text, ids)
    shown = tokens(codec, ids.tolist())
    if not flags.html and not sys.stdout.isatty():
        for note in notes:
            sys.stderr.write(f"{note}\n")
        for token in shown:
            sys.stdout.write(f"{token.number}\t{token.data.hex()}\t{token.shown}\n")
        return 0
    if flags.limit and len(ids) > flags.limit:
        shown = islice(shown, flags.limit)
        notes.append(f"The first {flags.limit:,} of {len(ids):,} tokens are shown; --limit 0 shows all.")
    name = visible(os.fsencode(flags.tokenizer))
    if flags.html:
        check_output(flags.html, "--html")
        try:
            write_atomic(Path(flags.html), page(f"Tokens of {name}", facts, notes, shown, flags.ids))
        except OSError as error:
            raise RunError(f"--html {flags.html}: cannot be written: {error.strerror}.") from None
        sys.stdout.write(f"{flags.html}: {facts[0][1]} tokens\n")
        return 0
    on_terminal(Console(highlight=False), facts, notes, shown, flags.ids)
    return 0


def about(codec: Codec, text: str, ids: Ids) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the counts of the tokens of a text, each with its name, and remarks on them."""
    data = utf8(codec.part, text)
    facts = [
        ("tokens", f"{len(ids):,}"),
        ("bytes", f"{len(data):,}"),
        ("bytes per token", f"{len(data) / len(ids):.2f}" if len(ids) else "none"),
        (f"ids of {codec.part}", f"{codec.vocab_size:,}"),
    ]
    notes = []
    if isinstance(codec, HuggingfaceCodec) and codec.losses:
        notes.append(f"This tokenizer loses text ({codec.losses[0]}); training accepts it only with --tokenizer.lossy.")
    if codec.decode_bytes(ids) != data:
        lost = int((ids == codec.special_tokens[UNKNOWN]).sum()) if UNKNOWN in codec.special_tokens else 0
        why = f"{lost:,} tokens are {UNKNOWN}, and their text is lost" if lost else "it was normalised first"
        notes.append(f"The ids do not give this text back: {why}. Its bytes per token cannot be compared.")
    return facts, notes


def on_terminal(
    console: Console, facts: list[tuple[str, str]], notes: list[str], shown: Iterable[Token], ids: bool
) -> None:
    """Print the counts, the tokens, and the remarks."""
    console.print(Text("   ").join(Text(f"{fact} ").append(name, "dim") for name, fact in facts))
    console.print()
    for line in numbered(console, shown) if ids else flowing(console, shown):
        console.print(line, soft_wrap=True)
    for note in notes:
        console.print(Text(note, "bold yellow"))


def coloured(index: int, token: Token, width: int) -> Text:
    """Return a token in one of the alternating colours, truncated to a width."""
    style = SPECIAL if token.special else f"{INK} on {COLOURS[index % len(COLOURS)]}"
    too_wide = cell_len(token.shown) > width
    return Text(set_cell_size(token.shown, width - 1) + "…" if too_wide else token.shown, style)


def numbered(console: Console, shown: Iterable[Token]) -> Iterator[Text]:
    """Yield rows of tokens with their ids below, each followed by an empty row."""
    above, below = Text(), Text()
    for index, token in enumerate(shown):
        cell_of_token, number = coloured(index, token, console.width), Text(str(token.number), "dim")
        width = max(cell_of_token.cell_len, number.cell_len)
        if above.cell_len + width > console.width:
            yield from (above, below, Text())
            above, below = Text(), Text()
        last = above.cell_len + width + 1 > console.width
        for row, cell in ((above, cell_of_token), (below, number)):
            row.append_text(cell).append(" " * (width - cell.cell_len + (not last)))
        if token.ends_line:
            yield from (above, below, Text())
            above, below = Text(), Text()
    if above:
        yield from (above, below, Text())


def flowing(console: Console, shown: Iterable[Token]) -> Iterator[Text]:
    """Yield rows of tokens side by side; without colours, separated by bars."""
    row, bar = Text(), "" if console.color_system and not console.no_color else "|"
    for index, token in enumerate(shown):
        cell = coloured(index, token, console.width - len(bar))
        if row.cell_len + cell.cell_len + len(bar) > console.width:
            yield row
            row = Text()
        row.append_text(cell).append(bar)
        if token.ends_line:
            yield row
            row = Text()
    yield row
