"""A text and its tokens as one HTML file, with every byte visible.

A space is shown as a dot, a tab as an arrow, a newline as a hook. Every other character without a glyph, and every byte
outside a whole character, is shown as its Python escape. A combining mark at the start is shown on a dotted circle.
"""

import html
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nanotx.tokenizers import Codec

SIGNS = {" ": "·", "\t": "→", "\n": "⏎", "\r": "␍"}
SHAPELESS = {"Cc", "Cf", "Cn", "Cs", "Zs", "Zl", "Zp"}
"""Unicode categories of characters without a glyph: controls, formats, unassigned, surrogates, separators."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """Id with its bytes and its visible text."""

    number: int
    data: bytes
    shown: str
    special: bool

    @property
    def ends_line(self) -> bool:
        """Whether the token ends a line."""
        return self.data.endswith(b"\n")

    @property
    def hexadecimal(self) -> str:
        """The bytes, two hexadecimal digits each."""
        return self.data.hex(" ")


def tokens(codec: Codec, ids: Iterable[int]) -> Iterator[Token]:
    """Yield the tokens of ids."""
    known: dict[int, Token] = {}
    special_tokens = set(codec.special_tokens.values())
    for number in ids:
        if number not in known:
            data = codec.decode_bytes([number])
            known[number] = Token(number=number, data=data, shown=visible(data), special=number in special_tokens)
        yield known[number]


def visible(data: bytes) -> str:
    """Return bytes as one line in which every character is visible."""
    text = data.decode("utf-8", errors="backslashreplace")
    base = "\u25cc" if text and unicodedata.category(text[0]) in ("Mn", "Me") else ""
    return base + "".join(map(_sign, text))


def _sign(character: str) -> str:
    if character in SIGNS:
        return SIGNS[character]
    if unicodedata.category(character) not in SHAPELESS:
        return character
    return ascii(character)[1:-1]


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
    """Return the whole page.

    Args:
        title: the heading.
        facts: counts, each with its name.
        notes: remarks on the tokens.
        shown: the tokens; a tooltip shows the id and bytes of each.
        ids: show the ids below the tokens as well.
    """
    rows = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd></div>" for name, fact in facts)
    remarks = "".join(f'<p class="note">{html.escape(note)}</p>\n' for note in notes)
    body = "".join(_span(index, token, ids) for index, token in enumerate(shown))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<dl>{rows}</dl>\n{remarks}"
        f'<main{" class=ids" * ids} dir="auto">{body}</main>\n</body>\n</html>\n'
    )


def _span(index: int, token: Token, ids: bool) -> str:
    about = f"id {token.number}, {len(token.data)} byte{'s' * (len(token.data) != 1)}: {token.hexadecimal or 'none'}"
    kind = f"t t{index % COLOURS}" + " special" * token.special
    inside = html.escape(token.shown)
    element, number = ("ruby", f"<rt>{token.number}</rt>") if ids else ("span", "")
    line = "<br>\n" if token.ends_line else "<wbr>"
    return f'<{element} class="{kind}" title="{html.escape(about)}">{inside}{number}</{element}>{line}'
