"""A text and its tokens as one HTML file, with every byte visible.

A space is shown as a dot, a tab as an arrow, a newline as a hook. Every other character that has no shape of its own,
and every byte that is no whole character, is shown as the escape that Python writes for it. A mark that would sit on
the letter before it sits on a dotted circle.
"""

import html
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nanotx.tokenizers import Codec

SIGNS = {" ": "·", "\t": "→", "\n": "⏎", "\r": "␍"}
SHAPELESS = {"Cc", "Cf", "Cn", "Cs", "Zs", "Zl", "Zp"}
"""Unicode's categories of characters without a shape: controls, directions, what is not assigned, white space."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """An id and what it stands for."""

    number: int
    data: bytes
    shown: str
    special: bool

    @property
    def ends_line(self) -> bool:
        """Whether the text goes on in a new line after it."""
        return self.data.endswith(b"\n")

    @property
    def hexadecimal(self) -> str:
        """Its bytes, two digits each."""
        return self.data.hex(" ")


def tokens(codec: Codec, ids: Iterable[int]) -> Iterator[Token]:
    """The tokens of ids, one after another."""
    known: dict[int, Token] = {}
    special_tokens = set(codec.special_tokens.values())
    for number in ids:
        if number not in known:
            data = codec.decode_bytes([number])
            known[number] = Token(number=number, data=data, shown=visible(data), special=number in special_tokens)
        yield known[number]


def visible(data: bytes) -> str:
    """Bytes as one line in which every character can be seen."""
    text = data.decode("utf-8", errors="backslashreplace")
    seated = "\u25cc" if text and unicodedata.category(text[0]) in ("Mn", "Me") else ""
    return seated + "".join(map(_sign, text))


def _sign(letter: str) -> str:
    if letter in SIGNS:
        return SIGNS[letter]
    if unicodedata.category(letter) not in SHAPELESS:
        return letter
    return ascii(letter)[1:-1]


COLOURS = 5
STYLE = """\
:root { color-scheme: light dark; --ink: #1d1d1f; --dim: #6e6e73; --paper: #fdfdfc;
  --t0: #cfe3f7; --t1: #f9dcc9; --t2: #d3efd6; --t3: #f6d5e4; --t4: #f3ecc0; --loud: #b00020; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --dim: #9a9aa0; --paper: #17181a;
  --t0: #24415f; --t1: #623b1f; --t2: #23502b; --t3: #5b2640; --t4: #534a12; --loud: #ff8a9a; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.2rem; margin: 0; }
dl { display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: .8rem 0 1.6rem; }
dt { color: var(--dim); font-size: .8rem; } dd { margin: 0; font-variant-numeric: tabular-nums; }
.note { color: var(--loud); }
main { font-family: ui-monospace, monospace; line-height: 2; overflow-wrap: anywhere; }
main.ids { line-height: 2.9; }
.t { border-radius: 3px; padding: .15em .12em; margin-right: 1px; unicode-bidi: isolate; ruby-position: under; }
.t:hover { outline: 2px solid var(--ink); }
.t0 { background: var(--t0); } .t1 { background: var(--t1); } .t2 { background: var(--t2); }
.t3 { background: var(--t3); } .t4 { background: var(--t4); }
.special { color: var(--loud); font-weight: bold; }
rt { color: var(--dim); font-size: .6em; line-height: 1; }
"""


def page(title: str, facts: Sequence[tuple[str, str]], notes: Sequence[str], shown: Iterable[Token], ids: bool) -> str:
    """The whole page.

    Args:
        title: what stands above it.
        facts: counts, each with its name.
        notes: what has to be said besides.
        shown: the tokens; each tells its id and bytes where the pointer rests on it.
        ids: whether the ids stand below the tokens as well.
    """
    rows = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd></div>" for name, fact in facts)
    said = "".join(f'<p class="note">{html.escape(note)}</p>\n' for note in notes)
    body = "".join(_span(index, token, ids) for index, token in enumerate(shown))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<dl>{rows}</dl>\n{said}"
        f'<main{" class=ids" * ids} dir="auto">{body}</main>\n</body>\n</html>\n'
    )


def _span(index: int, token: Token, ids: bool) -> str:
    about = f"id {token.number}, {len(token.data)} byte{'s' * (len(token.data) != 1)}: {token.hexadecimal or 'none'}"
    kind = f"t t{index % COLOURS}" + " special" * token.special
    inside = html.escape(token.shown)
    element, number = ("ruby", f"<rt>{token.number}</rt>") if ids else ("span", "")
    line = "<br>\n" if token.ends_line else "<wbr>"
    return f'<{element} class="{kind}" title="{html.escape(about)}">{inside}{number}</{element}>{line}'
