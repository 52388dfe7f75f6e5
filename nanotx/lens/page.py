"""A self-contained page in which a pointer follows a token through the layers and heads of a model.

Nothing is fetched: its one script is allowed by its digest, and texts reach the page as data, never as HTML.
"""

from html import escape
from pathlib import Path
from typing import Any

from nanotx.lens.look import Look
from nanotx.pages import html_page, script_file

SCRIPT = Path(__file__).with_name("page.js")

MOST_TOKENS = 128
"""The most tokens on a page."""

MOST_WEIGHTS = 600_000
"""The most attention weights on a page; about two bytes each."""

STYLE = """
.head { margin: 1px; } #tokens { overflow-wrap: anywhere; }
"""


def page(seen: Look, texts: list[str], guesses: dict[str, list[str]], title: str) -> str:
    """Return the page as HTML.

    Args:
        seen: what was seen.
        texts: of its tokens, as they are shown.
        guesses: the texts of the guesses by layer.
        title: of the page.
    """
    first, heads = bounds(seen)
    lines = [*seen.notes, *seen.without.values()]
    if seen.left_out + first:
        lines.append(f"The first {seen.left_out + first:,} tokens of the text are left out.")
    if len(heads) < len(seen.maps):
        lines.append(f"{len(seen.maps) - len(heads)} of {len(seen.maps)} heads are left out, those of later layers.")
    notes = "".join(f"<p>{escape(line)}</p>" for line in lines)
    body = f"""<h1>{escape(title)}</h1>{notes}
<p>Point at a token, or use the arrow keys, to see the guess after each layer there; point at a head to see where it
looks. Entropy is in nats; rank is that of the token that comes next.</p>
<div id="tokens" role="group" aria-label="tokens"></div><p id="where" aria-live="polite"></p>
<table><thead><tr><th>layer</th><th>guess</th><th>probability</th><th>entropy</th><th>rank</th><th>heads</th></tr></thead>
<tbody id="layers"></tbody></table>"""
    data = page_data(seen, texts, guesses, first, heads)
    return html_page(title, body, style=STYLE, scripts=(script_file(SCRIPT),), data=data)


def bounds(seen: Look) -> tuple[int, list[str]]:
    """Return the first token and the heads that are shown, within the bounds of a page."""
    tokens = min(len(seen.ids), MOST_TOKENS)
    heads = list(seen.maps)[: max(1, 2 * MOST_WEIGHTS // (tokens * (tokens + 1)))]
    return len(seen.ids) - tokens, heads


def page_data(
    seen: Look, texts: list[str], guesses: dict[str, list[str]], first: int, heads: list[str]
) -> dict[str, Any]:
    """Return what the script reads: numbers and texts; attention weights are in hundredths.

    Where the first tokens are left out, so are the weights on them.
    """
    surprise = [None, *(guess.surprise for guess in seen.final[:-1])][first:]
    layers = [
        {
            "name": name,
            "heads": [head for head in heads if head.partition(".")[0] == name],
            "guesses": [
                [guesses[name][place], f"{row[place].probability:.3f}", f"{row[place].entropy:.3f}", row[place].rank]
                for place in range(first, len(texts))
            ],
        }
        for name, row in seen.layers.items()
    ]
    maps = {
        head: [
            [round(100 * weight) for weight in row[first : place + 1]]
            for place, row in enumerate(seen.maps[head].tolist())
            if place >= first
        ]
        for head in heads
    }
    return {
        "tokens": texts[first:],
        "surprise": [None if value is None else round(value, 3) for value in surprise],
        "layers": layers,
        "maps": maps,
    }
