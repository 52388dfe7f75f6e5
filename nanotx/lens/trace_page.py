"""The page of a trace: a lesson with a picture of each result, in which every axis has a colour of its own."""

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanotx.lens.axes import members, split_axes
from nanotx.lens.lesson import Line, Section, by_statement, last_values
from nanotx.lens.lesson import number as number_text
from nanotx.lens.trace import Step, Trace
from nanotx.nn.shapes import AXES
from nanotx.pages import html_page, script_file

SCRIPT = Path(__file__).with_name("trace.js")

PANELS, ROWS, COLUMNS = 8, 16, 32
"""The most heads, rows and columns of a picture."""

MOST_NUMBERS = 400_000
"""The most numbers in the pictures of a page, about four bytes each."""

HUES = {"t": 210, "s": 255, "d": 25, "k": 90, "h": 320, "f": 55, "v": 0, "n": 160, "b": 190, "g": 285}
"""The hue of each axis, in degrees; other axes are grey."""

STYLE = (
    """
section { border-left: 3px solid var(--line); padding: 0 0 .4rem 1rem; margin: 1.2rem 0; }
section.note { border-left-style: dotted; color: var(--faint); }
h2 { font-size: 1.05rem; margin: 0 0 .3rem; } h2 span { color: var(--faint); font-weight: normal; }
.where { color: var(--faint); font: 12px/1.4 ui-monospace, monospace; margin: .8rem 0 0; }
pre { margin: .1rem 0 .4rem; padding: .4rem .6rem; background: var(--panel); white-space: pre-wrap; }
pre, .step { font: 14px/1.45 ui-monospace, monospace; }
.step { display: grid; grid-template-columns: 9rem minmax(0, 1fr) 5.5rem; gap: 0 .8rem; margin: .35rem 0; }
.step.heading { font: inherit; color: var(--faint); } .legend { border-left-style: dotted; }
h3 { font-size: 1rem; margin: .6rem 0 .2rem; } .legend h3 + p { margin-top: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: 0; } dd { margin: 0; }
dt { font-family: ui-monospace, monospace; }
.step.einops .name { font-weight: 700; } .ms { text-align: right; color: var(--faint); }
.axis { color: light-dark(hsl(var(--hue) var(--vivid, 70%) 35%), hsl(var(--hue) var(--vivid, 70%) 72%)); }
.axis.marked { background: light-dark(hsl(var(--hue) 80% 88%), hsl(var(--hue) 60% 25%)); outline: 1px solid; }
.sizes { margin-left: 1rem; white-space: nowrap; }
.picture { grid-column: 2 / -1; display: flex; flex-wrap: wrap; gap: 6px; margin: .25rem 0; overflow-x: auto; }
canvas { background: var(--panel); outline: 1px solid var(--line); } h1 { overflow-wrap: anywhere; }
.tokens span, .likely span { display: inline-block; margin: 0 .3rem .3rem 0; padding: 0 .5rem; background: var(--panel);
  border: 1px solid var(--line); font-family: ui-monospace, monospace; }
.tokens small, .likely small { color: var(--faint); margin-left: .4rem; }
@media (max-width: 42rem) {
  .step { grid-template-columns: minmax(0, 1fr) 5.5rem; } .step > .shape { grid-row: 2; grid-column: 1 / -1; }
  .picture { grid-column: 1 / -1; } .shape, pre, .where { overflow-wrap: anywhere; } .sizes { white-space: normal; } }
"""
    + "".join(f'.axis[data-axis="{axis}"] {{ --hue: {hue}; }}\n' for axis, hue in HUES.items())
    + ".axis { --hue: 0; --vivid: 0%; }\n"
    + ", ".join(f'.axis[data-axis="{axis}"]' for axis in HUES)
    + " { --vivid: 70%; }\n"
)


def trace_page(
    traced: Trace,
    sections: Sequence[Section],
    texts: Sequence[str],
    likeliest: Sequence[tuple[str, float]],
    title: str,
    notes: Sequence[str],
) -> str:
    """Return the page as HTML.

    Args:
        traced: the trace.
        sections: what is shown of it.
        texts: of its tokens, as they are shown.
        likeliest: texts and probabilities of the likeliest next tokens.
        title: of the page.
        notes: sentences about the trace.
    """
    gallery = Gallery(texts)
    steps = "".join(section_html(section, gallery) for section in sections)
    if gallery.left_out:
        notes = [*notes, f"Without a picture, because the page would grow too large: {gallery.left_out:,} results."]
    tokens = "".join(chip(text, str(token)) for text, token in zip(texts, traced.ids, strict=True))
    likely = "".join(chip(text, f"{probability:.3f}") for text, probability in likeliest)
    legend = "".join(f"<dt>{axis_html(axis)}</dt><dd>{escape(about)}</dd>" for axis, about in traced.axes().items())
    body = f"""<h1>{escape(title)}</h1>{"".join(f"<p>{escape(note)}</p>" for note in notes)}
<section class="legend"><h2>How to read it</h2>
<p>Each section is a module, and in it is every statement on the way of the text: its place in the source, the
statement, and a line for each step that it takes, with a picture of the result (blue is positive, orange negative; of
the first text, and the first heads, rows and columns).</p>
<div class="step heading"><span>step</span><span class="shape">axes before -&gt; after, or the result's, and their sizes
</span><span class="ms">time</span></div>
<h3>Axes</h3><p>Point at one to see where else it is.</p><dl>{legend}</dl></section>
<section><h2>text to ids</h2><div class="tokens">{tokens}</div></section>
{steps}
<section><h2>logits to the likeliest next token</h2><div class="likely">{likely}</div></section>"""
    return html_page(title, body, style=STYLE, scripts=(script_file(SCRIPT),), data={"pictures": gallery.pictures})


def chip(text: str, note: str) -> str:
    """Return a token with a note beside it."""
    return f"<span>{escape(text)}<small>{escape(note)}</small></span>"


def section_html(section: Section, gallery: "Gallery") -> str:
    """Return the steps of a module."""
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    if not section.kind:
        return f'<section class="note">{note}</section>'
    steps = "".join(
        f'<p class="where">{escape(first.last.statement.file)}:{first.last.statement.line}</p>'
        f"<pre>{escape(first.last.statement.code)}</pre>"
        + "".join(step_html(line, section.module, gallery) for line in lines)
        for first, lines in by_statement(section.lines)
    )
    title = f"{escape(section.module or 'model')} <span>{escape(section.kind)}</span>"
    return f"<section><h2>{title}</h2>{steps}{note}</section>"


def step_html(line: Line, place: str, gallery: "Gallery") -> str:
    """Return a step, with a place for its picture."""
    step = line.last
    sizes = " ".join(f"{axis_html(axis)}={size}" for axis, size in step.sizes.items())
    number = gallery.add(step)
    values = escape(" ".join(map(number_text, last_values(step.result, 4))))
    picture = (
        ""
        if number is None
        else f'<div class="picture" role="img" aria-label="begins with {values}" data-picture="{number}"></div>'
    )
    shape = pattern_html(step.shown) if step.sizes else escape(step.shown)
    return (
        f'<div class="step {step.kind}"><span class="name">{escape(line.name(place))}</span>'
        f'<span class="shape">{shape} <span class="sizes">{sizes}</span></span>'
        f'<span class="ms">{line.ms:.3f} ms</span>{picture}</div>'
    )


def pattern_html(pattern: str) -> str:
    """Return a pattern with its axes marked."""
    pieces = re.split(r"([A-Za-z_]\w*)", pattern)
    return "".join(axis_html(piece) if piece.isidentifier() else escape(piece) for piece in pieces)


def axis_html(axis: str) -> str:
    """Return the name of an axis, which the style colours."""
    return f'<span class="axis" data-axis="{escape(axis)}" title="{escape(AXES.get(axis, axis))}">{escape(axis)}</span>'


class Gallery:
    """The pictures of results, as numbers that the script draws."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.pictures: list[dict[str, Any]] = []
        self.numbers = 0
        self.left_out = 0

    def add(self, step: Step) -> int | None:
        """Add the picture of a step's result, and return its number; None where the page has too many."""
        panels = panels_of(step.result)
        if not panels.numel():
            return None
        if self.numbers + panels.numel() > MOST_NUMBERS:
            self.left_out += 1
            return None
        self.numbers += panels.numel()
        finite = panels[panels.isfinite()].abs()
        scale = float(finite.max()) if finite.numel() and finite.max() > 0 else 1.0
        rows = [[[hundredths(value, scale) for value in row] for row in panel] for panel in panels.tolist()]
        axes = split_axes(step.axes_out)[-3:] if step.axes_out else []
        names = ["part", "row", "column"][: 3 - len(axes)] + [(members(axis) or ["1"])[0] for axis in axes]
        self.pictures.append({"panels": rows, "scale": scale, "names": names})
        return len(self.pictures) - 1


def panels_of(result: Tensor) -> Tensor:
    """Return a result as panels of rows: the first text, and as many heads, rows and columns as a picture has."""
    values = result.to(torch.float64)
    while values.ndim > 3:
        values = values[0]
    while values.ndim < 3:
        values = values[None]
    return values[:PANELS, :ROWS, :COLUMNS]


def hundredths(value: float, scale: float) -> int | None:
    """Return a value in hundredths of the largest one; None where it is not finite."""
    return round(100 * value / scale) if math.isfinite(value) else None
