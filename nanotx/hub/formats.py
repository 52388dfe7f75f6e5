"""The formats that a model is exported to, each by a function of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanotx.errors import ConfigError, RunError, did_you_mean
from nanotx.evaluation.loss import EvalText
from nanotx.files import write_atomic
from nanotx.hub import onnx_export as onnx
from nanotx.hub.gguf import export as gguf
from nanotx.hub.html import export_html
from nanotx.hub.html.weights import Kind
from nanotx.hub.huggingface.adapter import check_target as check_adapter
from nanotx.hub.huggingface.adapter import export_adapter
from nanotx.hub.huggingface.export import check_target
from nanotx.hub.huggingface.export import export as export_huggingface
from nanotx.hub.plain import export as plain
from nanotx.runs.load import LoadedRun


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be exported, and where to."""

    run: LoadedRun
    path: Path
    overwrite: bool = False  # what is at the path is of this format, and is to be replaced
    weights: Kind = "int8"  # numbers of a page
    remote_code: bool = False  # write code where no class of a library computes the model
    paper: EvalText | None = None  # of the validation text, to measure the loss of a page; None if there is none


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: what it is, the name of its files, and the function that writes it and returns what to report."""

    about: str
    suffix: str  # of the path, where none is given
    options: tuple[str, ...]  # flags of the command that mean something for it
    check: Callable[[Path, bool], None]  # raises ConfigError where a path is taken, unless it may be overwritten
    write: Callable[[Request], list[str]]


def check_file(path: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is at a path, or a file that may be overwritten."""
    if path.exists() and not (overwrite and path.is_file()):
        what = "already exists; add --overwrite to replace it, or choose" if path.is_file() else "no file; choose"
        raise ConfigError(f"{path}: {what} another path.")


def write_html(request: Request) -> list[str]:
    """Write the page, and return what it holds."""
    page, loss = export_html(request.run, request.weights, request.paper)
    try:
        write_atomic(request.path, page)
    except OSError as error:
        raise RunError(f"{request.path}: cannot be written: {error.strerror}; try another path.") from None
    lines = [f"{len(page.encode('utf-8')):,} bytes, weights in {request.weights}; open it in a browser"]
    return [*lines, f"loss {loss}"] if loss else lines


def write_huggingface(request: Request) -> list[str]:
    """Write the folder, and return what was proven of it."""
    exported = export_huggingface(request.run, request.path, request.overwrite, request.remote_code)
    lines = [exported.class_name, f"proven with {', '.join(filter(None, map(str, (exported.proof, exported.chat))))}"]
    return [*lines, f"its chat template is left out: {exported.chat.fault}"] if exported.chat.fault else lines


def write_adapter(request: Request) -> list[str]:
    """Write the adapter, and return what it is."""
    exported = export_adapter(request.run, request.path, request.overwrite)
    apart = exported.apart
    proof = (
        f"opened with peft: logits within {apart:.1e} of their standard deviation"
        if apart is not None
        else "not compared with peft, which is not installed"
    )
    return [f"an adapter of rank {exported.rank} of a {exported.class_name}", proof]


def write_torch(request: Request) -> list[str]:
    """Write the folder, and return what was compared."""
    exported = plain.export(request.run, request.path, request.overwrite)
    return [f"{plain.WEIGHTS}, and {plain.READER} of {exported.lines} lines that reads it", f"compared: {exported}"]


def write_onnx(request: Request) -> list[str]:
    """Write the folder, and return what was compared."""
    exported = onnx.export(request.run, request.path, request.overwrite)
    return [f"{onnx.GRAPH}, opset {exported.opset}", f"compared: {exported}"]


def write_gguf(request: Request) -> list[str]:
    """Write the file, and return what was compared."""
    exported = gguf.export(request.run, request.path, request.overwrite)
    return [f"architecture {exported.architecture}, float32", f"compared: {exported}"]


FORMATS = {
    "html": Format(
        about="the model itself as one offline page",
        suffix=".html",
        options=("weights", "tokens"),
        check=check_file,
        write=write_html,
    ),
    "hf": Format(
        about="a folder that transformers opens",
        suffix="-hf",
        options=("remote_code",),
        check=check_target,
        write=write_huggingface,
    ),
    "torch": Format(
        about="a plain state dict, and a short program that reads it",
        suffix="-torch",
        options=(),
        check=plain.check_target,
        write=write_torch,
    ),
    "onnx": Format(
        about="a graph for ONNX Runtime", suffix="-onnx", options=(), check=onnx.check_target, write=write_onnx
    ),
    "gguf": Format(
        about="one file for llama.cpp", suffix=".gguf", options=(), check=gguf.check_target, write=write_gguf
    ),
    "peft": Format(
        about="the adapter alone, as peft opens it",
        suffix="-adapter",
        options=(),
        check=check_adapter,
        write=write_adapter,
    ),
}
"""The formats by name, as `--to` takes them."""


def find_format(name: str) -> Format:
    """Return the format of a name.

    Raises:
        ConfigError: there is no such format; lists the known ones.
    """
    if name not in FORMATS:
        known = ", ".join(f"{key} ({form.about})" for key, form in FORMATS.items())
        raise ConfigError(f"--to {name}: no such format.{did_you_mean(name, FORMATS)} Known: {known}.")
    return FORMATS[name]
