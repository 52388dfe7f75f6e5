"""Lets the pages link to any file of the repository, so that the same links work on the site and in a checkout.

A link to a Markdown page outside `docs/` leads to the page in `MOUNTED` that shows it; a link to any other file leads
to a page of the site with that file's text, highlighted.
"""

import os
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

MOUNTED = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "presets/recipes": "recipes/README.md",
    "presets/tokenizers": "tokenizers/README.md",
    "benchmarks": "benchmarks/README.md",
    "glossary": "nanotx/cli/glossary.md",
}
"""Pages of the site that show a page from outside `docs/`, which is found there by those who browse the repository."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", read_source)
    app.connect("html-collect-pages", file_pages)
    return {"version": "1", "parallel_read_safe": False}


def read_source(app: "Sphinx", docname: str, source: list[str]) -> None:
    """Put the text of a mounted page in place of its stub, and relink a page."""
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    base = path.parent
    if docname in MOUNTED:
        original = ROOT / MOUNTED[docname]
        source[0], base = original.read_text(encoding="utf-8"), original.parent
        app.env.note_dependency(str(original), docname=docname)
    source[0], files = relink(source[0], base, docname)
    linked_files(app).update(files)
    if path.name == "README.md":
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


def linked_files(app: "Sphinx") -> set[str]:
    """Return the files that pages link to, which are kept from build to build."""
    if not hasattr(app.env, "nanotx_linked_files"):
        app.env.nanotx_linked_files = set()  # type: ignore[attr-defined]
    return app.env.nanotx_linked_files  # type: ignore[attr-defined, no-any-return]


def relink(text: str, base: Path, docname: str) -> tuple[str, set[str]]:
    """Return a page with its links made right for the site, and the files that need a page.

    Args:
        text: of the page, in Markdown.
        base: folder that its relative links start from.
        docname: name of the page on the site.
    """
    here, files = PurePosixPath(docname).parent, set()

    def replace(link: re.Match[str]) -> str:
        image, words, target, anchor = link.groups(default="")
        if re.match(r"[a-z]+:", target):
            return link[0]
        path = Path(os.path.normpath(base / target))
        if path.is_dir() and (path / "README.md").is_file():
            path /= "README.md"
        if not path.is_relative_to(ROOT) or not path.exists():
            return link[0]
        name = path.relative_to(ROOT).as_posix()
        mounted = next((page for page, original in MOUNTED.items() if original == name), None)
        if mounted:
            return f"[{words}]({relative(f'{mounted}.md', here)}{anchor})"
        if image or path.is_relative_to(DOCS):
            return f"{image}[{words}]({relative(os.path.relpath(path, DOCS), here)}{anchor})"
        if path.is_dir():
            return words
        files.add(name)
        return f"[{words}]({relative(f'files/{name}.html', here)}){{.external}}"

    return substitute(text, replace), files


def substitute(text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Replace the links of a page, except those in fenced blocks."""
    parts = re.split(r"(^[ \t]*(?:```|~~~).*?^[ \t]*(?:```|~~~)[ \t]*$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if index % 2 else LINK.sub(replace, part) for index, part in enumerate(parts))


def relative(path: str, here: PurePosixPath) -> str:
    """Return a path of the site relative to the folder of a page."""
    return Path(os.path.relpath(path, here)).as_posix()


def file_pages(app: "Sphinx") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield a page for each file that pages link to."""
    formatter = HtmlFormatter(linenos=False)
    for name in sorted(linked_files(app)):
        text = (ROOT / name).read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(name)
        except ClassNotFound:
            lexer = TextLexer()
        body = f"<h1>{escape(name)}</h1>{highlight(text, lexer, formatter)}"
        yield f"files/{name}", {"title": name, "body": body}, "page.html"
