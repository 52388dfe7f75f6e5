"""The page: a prompt, sliders, and text in which each token can be asked for its alternatives.

Its scripts and its style are in `web/`; whatever a run or a model says reaches them as data, never as HTML.
"""

from functools import cache
from pathlib import Path
from typing import Any

from nanotx.pages import CHART, content_policy, html_page, script_file

WEB = Path(__file__).with_name("web")
SCRIPTS = (CHART, *(WEB / name for name in ("panel.js", "heads.js", "chat.js", "controls.js", "training.js")))


def page(runs: list[dict[str, Any]], *, prompt: str = "", watched: bool = False) -> str:
    """Return the page as HTML.

    Args:
        runs: about each run, as `playground.about` says it.
        prompt: the text that it begins with.
        watched: the first run may be training.
    """
    title = f"{' and '.join(run['name'] for run in runs)} · nanotx serve"
    body, style = script_file(WEB / "page.html"), script_file(WEB / "page.css")
    data = {"runs": runs, "prompt": prompt, "watched": watched}
    return html_page(title, body, style=style, scripts=scripts(), data=data, connects=True)


def page_policy() -> str:
    """Return the Content-Security-Policy that the server sends with the page."""
    policy = content_policy(scripts(), connects=True)
    return f"{policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@cache
def scripts() -> tuple[str, ...]:
    """Return the scripts of the page, in order."""
    return tuple(script_file(path) for path in SCRIPTS)
