"""Shows the fields of a config in the API reference, each with the comment that its flag shows in `--help`."""

import dataclasses
from typing import Any

from sphinx.application import Sphinx

from nanotx.config.flags import field_comments


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx; before napoleon, which reads the section that is added."""
    app.connect("autodoc-process-docstring", add_fields, priority=400)
    return {"version": "1", "parallel_read_safe": True}


def add_fields(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Append the commented fields of a dataclass to its docstring, unless that lists them."""
    if what != "class" or not dataclasses.is_dataclass(thing) or any(line.startswith("Args:") for line in lines):
        return
    comments = {name: text for name, text in field_comments(thing).items() if text}
    fields = [field.name for field in dataclasses.fields(thing) if field.name in comments]
    if fields:
        lines += ["", "Args:", *(f"    {name}: {escape(comments[name])}" for name in fields), ""]


def escape(comment: str) -> str:
    """Return a comment as reStructuredText: what is not in backticks stands for itself."""
    parts = comment.split("`")
    parts[::2] = [part.replace("*", r"\*").replace("|", r"\|").replace("_ ", r"\_ ") for part in parts[::2]]
    return "`".join(parts)
