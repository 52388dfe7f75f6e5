"""The frame of a page that is one file: styles, scripts by their digests, and data as JSON, never as HTML."""

import base64
import hashlib
import json
import math
from html import escape
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_name("style.css")
CHART = Path(__file__).with_name("chart.js")
"""The script that draws curves; how a page's own script calls it is described at its head."""


def html_page(
    title: str, body: str, *, style: str = "", scripts: tuple[str, ...] = (), data: Any = None, connects: bool = False
) -> str:
    """Return a page that asks for nothing outside of itself; its Content-Security-Policy forbids it to.

    Args:
        title: plain text; escaped here.
        body: HTML, in which the caller has escaped every text that is not its own.
        style: CSS beside the common one.
        scripts: JavaScript, run in this order after the body is read; no other script can run, an inline handler
            included.
        data: what the scripts read: `JSON.parse(document.getElementById("data").textContent)`; a number that is not
            finite becomes null.
        connects: its scripts may ask the server that it comes from.
    """
    values = "" if data is None else f'<script type="application/json" id="data">{embedded_json(data)}</script>'
    run = "".join(f"<script>{script}</script>" for script in scripts)
    return f"""{head(scripts, connects)}
<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>
<style>{STYLE.read_text(encoding="utf-8")}{style}</style></head>
<body>{body}
{values}{run}</body></html>
"""


def content_policy(scripts: tuple[str, ...], connects: bool = False) -> str:
    """Return the Content-Security-Policy of a page with these scripts."""
    sources = " ".join(f"'sha256-{digest(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {sources}"
    return f"{policy}; connect-src 'self'" if connects else policy


def head(scripts: tuple[str, ...], connects: bool = False) -> str:
    """Return the beginning of a page, after which no scripts but these can run in it."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy(scripts, connects)}">"""


def script_file(path: Path) -> str:
    """Return the text of a script that is next to the code."""
    return path.read_text(encoding="utf-8")


def digest(script: str) -> str:
    """Return the SHA-256 of a script as a Content-Security-Policy writes it."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()


def embedded_json(data: Any) -> str:
    """Return data as JSON that cannot end the element that contains it."""
    return json.dumps(finite(data), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def finite(data: Any) -> Any:
    """Return data with None for each number that is not finite, which JSON does not know."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    return data
