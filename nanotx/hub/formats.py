"""The formats that a model is exported to, each by a function of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanotx.errors import ConfigError, RunError, did_you_mean
from nanotx.evaluation.loss import EvalText
from nanotx.files import write_atomic
from nanotx.hub.html import export_html
from nanotx.hub.html.weights import Kind
from nanotx.runs.load import LoadedRun


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be exported, and where to."""

    run: LoadedRun
    path: Path
    weights: Kind
    paper: EvalText | None  # of the validation text, to measure the loss of what is written; None if there is none


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: what it is, the name of its files, and the function that writes it and returns what to report."""

    about: str
    suffix: str  # of the path, where none is given
    write: Callable[[Request], list[str]]


def write_html(request: Request) -> list[str]:
    """Write the page, and return what it holds."""
    page, loss = export_html(request.run, request.weights, request.paper)
    try:
        write_atomic(request.path, page)
    except OSError as error:
        raise RunError(f"{request.path}: cannot be written: {error.strerror}; try another path.") from None
    lines = [f"{len(page.encode('utf-8')):,} bytes, weights in {request.weights}; open it in a browser"]
    return [*lines, f"loss {loss}"] if loss else lines


FORMATS = {"html": Format(about="the model itself as one offline page", suffix=".html", write=write_html)}
"""The formats by name, as `--to` takes them."""


def find_format(name: str) -> Format:
    """Return the format of a name.

    Raises:
        ConfigError: there is none; says which there are.
    """
    if name not in FORMATS:
        known = ", ".join(f"{key} ({form.about})" for key, form in FORMATS.items())
        raise ConfigError(f"--to {name}: no such format.{did_you_mean(name, FORMATS)} Known: {known}.")
    return FORMATS[name]
