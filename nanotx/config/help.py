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

LABEL_WIDTH = 23
"""Columns of the widest label that has its text on the same line."""

STYLES = {r"^[A-Za-z][\w, -]*(?=:$)|^Usage(?=:)": "1", r"(?<=\n  )(-[^ \n]+(, -[^ \n]+)*|[a-z]\w*(?= ))": "36"}
"""What is coloured on a terminal: regular expression to the number of an ANSI style."""


def page_width() -> int:
    """Return the width of a page: that of the terminal, within bounds."""
    return max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size().columns - 1))


def paragraphs(text: str, width: int) -> str:
    """Wrap the paragraphs of a text, which empty lines separate."""
    return "\n\n".join(wrap(block, width) for block in re.split(r"\n\s*\n", text) if block.strip())


EXAMPLE = re.compile(r"\s|nanotx |python |echo ")
"""How the lines of a paragraph of examples begin; Python 3.13 strips their indentation where no text has less."""


def split_examples(about: str) -> tuple[str, str]:
    """Return the paragraphs of a docstring that are text, and the lines of those that are examples."""
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", about.strip())]
    examples = [block for block in blocks if all(EXAMPLE.match(line) for line in block)]
    text = "\n\n".join("\n".join(block) for block in blocks if block not in examples)
    return text, "\n".join(f"  {line.strip()}" for block in examples for line in block)


def wrap(text: str, width: int, indent: str = "") -> str:
    """Wrap a text; no word is broken at a hyphen, and no line at a no-break space, which becomes a space."""
    lines = textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return "\n".join(lines).replace("\xa0", " ")


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
