"""Write a run as a GGUF file, and read it back, and run it by llama.cpp if that is installed, before it has a name."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nanotx import disk
from nanotx.errors import ConfigError, RunError
from nanotx.hub.compare import Agreement, compare_logits, compare_texts
from nanotx.hub.drafts import drafted_file, is_occupied
from nanotx.hub.gguf.architectures import Architecture, Values, find_architecture
from nanotx.hub.gguf.text import TextTable, text_table
from nanotx.hub.huggingface.export import position_table
from nanotx.hub.huggingface.layouts import POSITION_TABLE
from nanotx.hub.huggingface.proof import TOLERANCE, WindowLogits, Windows
from nanotx.hub.huggingface.shape import Unfit, Weights, model_shape
from nanotx.nn.canonical import to_canonical
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import merged

MAGIC = b"GGUF"
F32 = 0
"""The type of the cache of keys and values, and of the file's tensors."""


HALF_GELU = 1e-2
"""The largest difference of logits, relative to their standard deviation, where the activation is llama.cpp's gelu: a
table of it in half precision."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written."""

    architecture: str  # in llama.cpp
    tensors: int  # that were read back, equal to the bit
    texts: int  # with equal ids
    agreement: Agreement | None  # None where llama-cpp-python is not installed

    def __str__(self) -> str:
        back = f"{self.tensors} tensors read back equal"
        if self.agreement is None:
            return f"{back}; not run by llama.cpp: llama-cpp-python is not installed"
        half = "; its gelu is a table in half precision" if self.architecture == "gpt2" else ""
        return f"{back}; llama.cpp: ids of {self.texts:,} texts equal, {self.agreement}{half}"


def export(run: LoadedRun, target: Path, overwrite: bool = False) -> Exported:
    """Write a run as a GGUF file in float32; its adapter is merged.

    Args:
        run: the run, loaded.
        target: the file.
        overwrite: replace a GGUF file that is there.

    Raises:
        ConfigError: no architecture computes the model, each reason is named; or something is there; or the package
            gguf is not installed.
        TokenizerError: no tokenizer of llama.cpp gives the ids of the run's.
        RunError: the file cannot be written, or differs from the run.
    """
    check_target(target, overwrite)
    library()
    run = merged(run)
    table = text_table(run.tokenizer)
    architecture, values, tensors = fitting(run)
    with drafted_file(target) as draft:
        disk.write(draft, partial(write, architecture.name, values, table, tensors))
        read_back(draft, tensors)
        texts, agreement = (
            run_by_llama(run, draft, architecture) if importlib.util.find_spec("llama_cpp") else (0, None)
        )
    return Exported(architecture=architecture.name, tensors=len(tensors), texts=texts, agreement=agreement)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is there, or a GGUF file that may be replaced."""
    if not is_occupied(target, overwrite, "my-model.gguf"):
        return
    if target.is_symlink() or not target.is_file() or target.open("rb").read(4) != MAGIC:
        raise ConfigError(f"{target}: no GGUF file, so it is not replaced; choose another path.")


def library() -> Any:
    """Return the package gguf.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import gguf  # an extra, and only this needs it
    except ImportError:
        raise ConfigError("--to gguf: the package gguf is not installed here; try pip install gguf") from None
    return gguf


def fitting(run: LoadedRun) -> tuple[Architecture, Values, Weights]:
    """Return the architecture of a run, and the keys and tensors of its file.

    Raises:
        ConfigError: there is none; gives the reason for each.
    """
    model = run.model
    weights = to_canonical(model, dict(model.state_dict()))
    try:
        shape = model_shape(model.config, model.vocab_size, weights)
        weights = {POSITION_TABLE: position_table(model)} | weights
        architecture = find_architecture(shape, weights)
    except Unfit as unfit:
        raise ConfigError(f"{run.folder}: no architecture of llama.cpp computes this model: {unfit}.") from None
    except ConfigError as error:
        raise ConfigError(f"{run.folder}: {error}") from None
    values = architecture.values(shape)
    names = library().get_tensor_name_map(architecture_number(architecture.name), shape.layers)
    tensors = {
        names.get_name(name, try_suffixes=(".weight", ".bias")): tensor
        for name, tensor in architecture.tensors(shape, weights).items()
    }
    if None in tensors:
        raise ConfigError(
            f"--to gguf: the package gguf has no name for a tensor of {architecture.name}; try another version."
        )
    return architecture, values, tensors


def architecture_number(name: str) -> Any:
    """Return the package's own name of an architecture."""
    return next(number for number, known in library().MODEL_ARCH_NAMES.items() if known == name)


# The file.


def write(architecture: str, values: Values, table: TextTable, tensors: Weights, path: Path) -> None:
    """Write the file."""
    gguf = library()
    writer = gguf.GGUFWriter(path, architecture)
    adders: dict[type, Callable[[str, Any], None]] = {
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
    }
    for key, value in values.items():
        adders[type(value)](f"{architecture}.{key}", value)
    writer.add_file_type(F32)
    writer.add_vocab_size(len(table.tokens))
    writer.add_tokenizer_model(table.model)
    writer.add_tokenizer_pre(table.pre)
    writer.add_token_list(table.tokens)
    writer.add_token_types(table.kinds)
    if table.model == "gpt2":
        writer.add_array("tokenizer.ggml.merges", table.merges)
    for key, number in table.special.items():
        writer.add_uint32(f"tokenizer.ggml.{key}", number)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.detach().float().cpu().numpy())
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


# The proof.


def read_back(path: Path, tensors: Weights) -> None:
    """Raise RunError unless a file holds these tensors, equal to the bit."""
    there = {tensor.name: tensor for tensor in library().GGUFReader(path).tensors}
    wrong = sorted(there.keys() ^ tensors.keys())
    for name in there.keys() & tensors.keys():
        ours = tensors[name].detach().float().cpu().numpy()
        if there[name].tensor_type != F32 or not np.array_equal(there[name].data.reshape(ours.shape), ours):
            wrong.append(name)
    if wrong:
        raise RunError(f"{path.name}: {', '.join(wrong[:5])} differs when it is read back. Please report this.")


def run_by_llama(run: LoadedRun, path: Path, architecture: Architecture) -> tuple[int, Agreement]:
    """Return how many texts have the same ids in llama.cpp, and how far its logits are from the run's.

    Raises:
        RunError: they differ, or it does not load the file.
    """
    import llama_cpp  # built from source, and only this needs it

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)  # it warns of contexts below 256
    llama_cpp.llama_log_set(silent, None)
    try:
        model = llama_cpp.Llama(
            model_path=str(path),
            n_ctx=run.model.context,
            n_batch=run.model.context,
            n_ubatch=run.model.context,
            n_threads=torch.get_num_threads(),
            n_gpu_layers=0,
            logits_all=True,
            type_k=F32,
            type_v=F32,
            verbose=False,
        )
    except ValueError as error:
        raise RunError(f"{path.name}: llama.cpp does not load it: {error}. Please report this recipe.") from None

    def encode(text: str) -> list[int]:
        return list(model.tokenize(text.encode("utf-8"), add_bos=False, special=False))

    def decode(ids: list[int]) -> str:
        pieces = (model.detokenize([number], special=True) for number in ids)  # of several, it cuts a space off
        return b"".join(pieces).decode("utf-8", errors="replace")

    def logits(windows: Windows) -> WindowLogits:
        rows = []
        for window in windows.tolist():
            model.reset()
            model.eval(window)
            rows.append(torch.from_numpy(model.scores[: len(window)].copy()))
        return torch.stack(rows)

    try:
        texts = compare_texts(run.tokenizer, encode, decode, "llama.cpp")
        tolerance = HALF_GELU if architecture.activation == "gelu_new" else TOLERANCE
        return texts, compare_logits(run.model, logits, "llama.cpp", tolerance)
    finally:
        model.close()
