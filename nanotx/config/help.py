"""Help pages: aligned columns that fit the terminal, in colour on a terminal, plain text elsewhere."""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence

MAX_WIDTH = 100
"""Columns of the widest page; longer lines are hard to read."""

MIN_WIDTH = 24
"""Columns of the narrowest page; a narrower terminal folds the lines."""

LABEL_WIDTH = 26
"""Columns of the widest label that has its text on the same line."""

STYLES = {r"^[A-Z][^\n:.]{,60}(?=:)": "1", r"(?<=\n  )(-[^ \n]+(, -[^ \n]+)*|[a-z]\w*(?= ))": "36"}
"""What is coloured on a terminal: regular expression to the number of an ANSI style."""


def page_width() -> int:
    """Return the width of a page: that of the terminal, within bounds."""
    return max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size().columns - 1))


def paragraphs(text: str, width: int) -> str:
    """Wrap the paragraphs of a docstring; an indented line is an example and stays as it is."""
    blocks = [block for block in re.split(r"\n\s*\n", text.strip("\n")) if block.strip()]
    return "\n\n".join(block if block.startswith(" ") else wrap(block, width) for block in blocks)


def wrap(text: str, width: int, indent: str = "") -> str:
    """Wrap a text; no word and no flag is broken at a hyphen."""
    lines = textwrap.wrap(
        " ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    return "\n".join(lines)


def columns(rows: Sequence[tuple[str, str]], width: int, indent: int = 0) -> str:
    """Lay out labels with their texts: in two columns, or the text below its label where the two do not fit.

    Args:
        rows: the labels and texts.
        width: columns of the page.
        indent: columns before the texts; 0 for as few as the labels need.
    """
    indent = indent or text_indent([label for label, _ in rows], width)
    lines = []
    for label, text in rows:
        body = wrap(text, width, " " * indent)
        if len(label) + 3 < indent and body:
            lines.append(f"  {label}".ljust(indent) + body[indent:])
        else:
            lines += [f"  {label}", *([body] if body else [])]
    return "\n".join(lines)


def text_indent(labels: Sequence[str], width: int) -> int:
    """Return the columns before the texts of some labels; those too long for it have their text below."""
    widest = max((len(label) for label in labels if len(label) <= LABEL_WIDTH), default=0)
    return widest + 4 if width >= 2 * LABEL_WIDTH else 6


def write_page(text: str) -> None:
    """Write a page to the standard output, in colour where that is a terminal that shows it."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        text = colour(text)
    sys.stdout.write(text.rstrip() + "\n")


def colour(text: str) -> str:
    """Return a page with the ANSI styles of `STYLES`."""
    for pattern, style in STYLES.items():
        text = re.sub(pattern, f"\x1b[{style}m\\g<0>\x1b[0m", text, flags=re.MULTILINE)
    return text
