"""What is said when texts were written: each with how likely it was, and all of it as JSON."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from nanotx import columns
from nanotx.figures import write_figures
from nanotx.harmless import printable
from nanotx.sheets import Sheet, ranked
from nanotx.writing import Writing


def tell(writing: Writing, together: int, log_probs: bool) -> list[Sheet]:
    """Print what was not printed while it was written; returns the texts in the order in which they stand.

    Args:
        writing: it is done.
        together: how many texts of each prompt there are; the likeliest of them comes first.
        log_probs: whether each token is listed.
    """
    groups = [writing.sheets[at : at + together] for at in range(0, len(writing.sheets), together)]
    sheets = [sheet for group in groups for sheet in ranked(group)]
    several, console = len(sheets) > 1, Console(stderr=True, highlight=False)
    clean = printable if sys.stdout.isatty() else str
    if not several:
        say("\n")
    for number, sheet in enumerate(sheets, start=1):
        if several:
            line = f"{number} of {len(sheets)}, seed {seed(writing, sheet)}: {measure(sheet)}"
            console.print(Text(line), soft_wrap=True)
            say(clean(sheet.prompt + sheet.text) + "\n")
        if log_probs:
            columns.show(console, "" if several else measure(sheet), table(writing, sheet), console.is_terminal)
    if writing.drafted:
        share = writing.accepted / writing.drafted
        console.print(Text(f"draft: {share:.0%} of {writing.drafted} guesses accepted"), soft_wrap=True)
    return sheets


def say(text: str) -> None:
    """On the standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def seed(writing: Writing, sheet: Sheet) -> int:
    """What a text was drawn with."""
    return writing.sampling.seed + writing.sheets.index(sheet)


def measure(sheet: Sheet) -> str:
    """How likely a text is, in words."""
    end = "; stopped" if sheet.stopped else ""
    return f"{sheet.log_prob:.3f} nats over {len(sheet.ids)} tokens, {sheet.mean_log_prob:.3f} a token{end}"


def table(writing: Writing, sheet: Sheet) -> list[list[str]]:
    """A row for each token."""
    texts = (repr(writing.codec.decode([one])) for one in sheet.ids)
    rows = zip(texts, sheet.ids, sheet.log_probs, strict=True)
    return [["token", "id", "log-prob"], *([text, str(one), f"{chance:.4f}"] for text, one, chance in rows)]


def write(path: str, head: Mapping[str, Any], writing: Writing, sheets: Sequence[Sheet]) -> None:
    """Strict JSON, the texts in the order in which they are printed.

    Raises:
        RunError: it cannot be written there.
    """
    texts = [
        {
            "prompt": sheet.prompt,
            "text": sheet.text,
            "seed": seed(writing, sheet),
            "ids": sheet.ids,
            "log_probs": sheet.log_probs,
            "log_prob": sheet.log_prob,
            "mean_log_prob": sheet.mean_log_prob,
            "stopped": sheet.stopped,
        }
        for sheet in sheets
    ]
    write_figures(path, {**head, "sampling": dataclasses.asdict(writing.sampling), "texts": texts})
