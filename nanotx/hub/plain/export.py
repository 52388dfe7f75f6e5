"""Write a run as a plain state dict with a program that reads it, and run that before the folder gets its name."""

import importlib.util
import types
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nanotx import disk
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError, TokenizerError
from nanotx.hub.compare import Agreement, compare_logits, compare_texts
from nanotx.hub.drafts import check_folder, drafted_folder
from nanotx.hub.huggingface.export import position_table
from nanotx.hub.huggingface.layouts import POSITION_TABLE
from nanotx.hub.huggingface.shape import ModelShape, Unfit, model_shape
from nanotx.hub.plain.source import is_library, reader_source
from nanotx.hub.seal import SEAL, seal
from nanotx.nn.canonical import to_canonical
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import merged
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.convert.tokenizer_json import as_text, described

WEIGHTS, READER = "model.pt", "model.py"
NAMES = (WEIGHTS, READER, "tokenizer.json", "recipe.toml", "README.md", SEAL)
"""Files of the folder."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that was written."""

    lines: int  # of the program
    agreement: Agreement
    texts: int  # with equal ids; 0 where the program has no tokenizer

    def __str__(self) -> str:
        ids = f"ids of {self.texts:,} texts equal" if self.texts else "no tokenizer in it, so no ids"
        return f"{READER}: {ids}, {self.agreement}"


def export(run: LoadedRun, target: Path, overwrite: bool = False) -> Exported:
    """Write a run as a folder with a state dict and a program that reads it; its adapter is merged.

    Args:
        run: the run, loaded.
        target: the folder.
        overwrite: replace a folder of an earlier export.

    Raises:
        ConfigError: a part of the model cannot be in the program, each is named; or something is there already.
        RunError: the folder cannot be written, or the program computes something else than the run.
    """
    check_target(target, overwrite)
    run = merged(run)
    shape = shape_of(run)
    table = tokenizer_file(run.tokenizer)
    check_library(run.tokenizer, table)
    config = run.model.config
    source = reader_source(
        shape, run.tokenizer, about(run), head_bias=config.head_bias, softcap=config.softcap, text_file=bool(table)
    )
    with drafted_folder(target) as draft:
        disk.write(draft / READER, source.encode("utf-8"))
        disk.write(draft / WEIGHTS, partial(save, weights_of(run, shape)))
        disk.write(draft / "recipe.toml", write_toml(run.recipe).encode("utf-8"))
        if table:
            disk.write(draft / "tokenizer.json", table.encode("utf-8"))
        exported = prove(run, draft, source, bool(table))
        seal(draft, "torch", str(exported))
        disk.write(draft / "README.md", card(target.name, run, exported).encode("utf-8"))
    return exported


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is there, or a folder that may be replaced."""
    check_folder(target, overwrite, NAMES, (WEIGHTS, READER))


def shape_of(run: LoadedRun) -> ModelShape:
    """Return the shape of a run's model, but for the bias of its head and the cap of its logits.

    Raises:
        ConfigError: the program has no words for a part of it; each is named.
    """
    model = run.model
    weights = to_canonical(model, dict(model.state_dict()))
    try:
        return model_shape(replace(model.config, head_bias=False, softcap=0.0), model.vocab_size, weights)
    except Unfit as unfit:
        raise ConfigError(
            f"{run.folder}: --to torch writes the program for plain transformers, and not for this one: {unfit}. The "
            "weights alone are model.safetensors in the run's checkpoint; --to onnx takes any part."
        ) from None


def weights_of(run: LoadedRun, shape: ModelShape) -> dict[str, Tensor]:
    """Return the state dict: weights in the canonical layout, and the vectors that are added by position."""
    weights = to_canonical(run.model, dict(run.model.state_dict()))
    weights.pop(POSITION_TABLE, None)
    if shape.position.kind == "table":
        weights["positions.weight"] = position_table(run.model)
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Write a state dict by `torch.save`.

    Raises:
        OSError: the disk refuses.
    """
    try:
        torch.save(weights, path)
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(str(error).splitlines()[0]) from None


# Text.


def tokenizer_file(codec: Codec) -> str:
    """Return the tokenizer.json; empty where there is none that gives the same ids."""
    try:
        return as_text(described(codec))
    except TokenizerError:
        return ""


def check_library(codec: Codec, table: str) -> None:
    """Raise ConfigError if the program needs the package tokenizers, and it is not there to run the program."""
    if is_library(codec, bool(table)) and not importlib.util.find_spec("tokenizers"):
        raise ConfigError(
            f"--to torch: the program reads the ids of {codec.part} by the package tokenizers, which is not installed "
            "here to prove it; try pip install tokenizers"
        )


# The proof.


def prove(run: LoadedRun, folder: Path, source: str, has_text: bool) -> Exported:
    """Run the program of a folder, and compare what it computes with the run.

    Raises:
        RunError: logits or ids differ.
    """
    program: Any = types.ModuleType("model")
    program.__file__ = str(folder / READER)
    exec(compile(source, program.__file__, "exec"), vars(program))
    theirs = program.load()
    agreement = compare_logits(run.model, theirs, READER)
    texts = compare_texts(run.tokenizer, program.encode, program.decode, READER) if "encode" in vars(program) else 0
    return Exported(lines=len(source.splitlines()), agreement=agreement, texts=texts)


def about(run: LoadedRun) -> str:
    """Return what the model is, in a sentence."""
    config = run.model.config
    return (
        f"A transformer of {run.model.parameter_count:,} weights in {config.layers} layers, trained by nanotx for "
        f"{run.step:,} steps."
    )


def card(name: str, run: LoadedRun, exported: Exported) -> str:
    """Return the card as Markdown."""
    return f"""# {name}

{about(run)} `{WEIGHTS}` is its state dict, and `{READER}`, {exported.lines} lines that need no nanotx, is the model
that reads it; `recipe.toml` is the whole recipe.

```python
import torch
from model import Transformer, load

model = load()
same = torch.load("{WEIGHTS}", weights_only=True)  # names and tensors
```

Compared when it was written: {exported}.
"""
