"""A card as a page of HTML that fetches nothing, and as Markdown for a pull request."""

import re
from html import escape

from nanotx.experiments.prove.card import Card
from nanotx.experiments.prove.picture import plots
from nanotx.experiments.prove.sections import Section, Table, sections, summary, title
from nanotx.pages import html_page

STYLE = """
body { max-width: 54rem; }
h1 { margin-bottom: .3rem; }
h2 { margin: 1.6rem 0 .3rem; font-size: 1.1rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.summary { font-size: 1.1rem; }
.summary.bad, section.bad p { color: var(--bad); }
.wide { overflow-x: auto; }
.wide svg { display: block; max-width: 100%; height: auto; margin: 1rem 0; }
table { font-variant-numeric: tabular-nums; margin: .5rem 0; }
td, th { text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
.note { color: var(--faint); font-size: 14px; }
pre { overflow-x: auto; padding: .6rem .8rem; border-radius: 5px; background: var(--panel); }
"""


def html(card: Card) -> str:
    """Return the card as a page."""
    bad = " bad" if card.broken else ""
    body = f"""<h1>{escape(title(card))}</h1>
<p class="summary{bad}">{escape(summary(card))}</p>
<div class="wide">{plots(card)}</div>
{"".join(map(section_html, sections(card)))}"""
    return html_page(title(card), body, style=STYLE)


def section_html(section: Section) -> str:
    """Return a section as HTML."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in section.lines)
    table = f'<div class="wide">{table_html(section.table)}</div>' if section.table else ""
    notes = "".join(f'<p class="note">{escape(line)}</p>' for line in section.notes)
    code = f"<pre>{escape(section.code)}</pre>" if section.code else ""
    kind = ' class="bad"' if section.bad else ""
    return f"<section{kind}><h2>{escape(section.title)}</h2>{lines}{table}{notes}{code}</section>\n"


def table_html(table: Table) -> str:
    """Return a table as HTML; its first row is the header."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table[0])
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table[1:])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


# Markdown.


def markdown(card: Card) -> str:
    """Return the card as Markdown, as GitHub reads it."""
    blocks = [f"### {plain(title(card))}", f"**{plain(summary(card))}**"]
    for section in sections(card):
        blocks.append(f"#### {section.title}")
        blocks += map(plain, section.lines)
        if section.table:
            blocks.append(table_markdown(section.table))
        blocks += map(plain, section.notes)
        if section.code:
            blocks.append(f"```python\n{section.code}\n```")
    return "\n\n".join(blocks) + "\n"


def table_markdown(table: Table) -> str:
    """Return a table as Markdown; its first row is the header."""
    rules = ["---", *["---:"] * (len(table[0]) - 1)]
    rows = [[plain(cell) for cell in row] for row in table]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rules, *rows[1:]])


def plain(text: str) -> str:
    """Return a text without anything that Markdown or HTML would read as more than text."""
    return re.sub(r"([\\`*_<>|#\[\]])", r"\\\1", text)
