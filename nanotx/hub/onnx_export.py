"""Write a run as an ONNX graph by PyTorch's exporter, and run it by ONNX Runtime before the folder gets its name.

The graph is traced from the model itself, so that any part may be in it: ngrams and linear attention as well as those
that other libraries know. Its input is `input_ids` (batch, length), its output `logits` (batch, length, vocabulary);
both sizes are free, the length up to the context. It has no cache: a text is read as a whole.
"""

import dataclasses
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanotx import disk
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError, is_memory_full
from nanotx.hub.compare import Agreement, compare_logits
from nanotx.hub.drafts import check_folder, drafted_folder
from nanotx.hub.huggingface.proof import WindowLogits, Windows
from nanotx.hub.plain.export import tokenizer_file
from nanotx.hub.seal import SEAL, seal
from nanotx.nn.attention.base import SOFTMAX, MultiHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block import Block
from nanotx.nn.block.base import TwoBranches
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.buffers import Buffers
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.nn.transformer import Transformer
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import merged

GRAPH = "model.onnx"
NAMES = (GRAPH, f"{GRAPH}.data", "tokenizer.json", "recipe.toml", "README.md", SEAL)
"""Files of the folder."""

NEEDED = ("onnx", "onnxscript", "onnxruntime")
"""Packages that write and run a graph."""

EXTERNAL = 2**30
"""Bytes of weights from which they are in a file of their own, since a graph holds at most 2 GiB."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that was written."""

    opset: int  # version of the operators
    agreement: Agreement
    runtime: str  # version of onnxruntime

    def __str__(self) -> str:
        return f"onnxruntime {self.runtime}: {self.agreement}"


def export(run: LoadedRun, target: Path, overwrite: bool = False) -> Exported:
    """Write a run as a folder with an ONNX graph; its adapter is merged.

    Args:
        run: the run, loaded.
        target: the folder.
        overwrite: replace a folder of an earlier export.

    Raises:
        ConfigError: a package is missing, the exporter cannot trace the model, or something is there already.
        RunError: the folder cannot be written, or the graph computes something else than the run.
    """
    check_target(target, overwrite)
    check_packages()
    run = merged(run)
    with quiet():
        program = traced(run)
    size = sum(weight.numel() * weight.element_size() for weight in run.model.parameters())
    with drafted_folder(target) as draft:
        disk.write(draft / GRAPH, lambda path: program.save(str(path), external_data=size > EXTERNAL))
        disk.write(draft / "recipe.toml", write_toml(run.recipe).encode("utf-8"))
        if table := tokenizer_file(run.tokenizer):
            disk.write(draft / "tokenizer.json", table.encode("utf-8"))
        exported = prove(run, draft / GRAPH, int(program.model.opset_imports[""]))
        seal(draft, "onnx", str(exported))
        disk.write(draft / "README.md", card(target.name, run, exported).encode("utf-8"))
    return exported


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is there, or a folder that may be replaced."""
    check_folder(target, overwrite, NAMES, (GRAPH,))


def check_packages() -> None:
    """Raise ConfigError unless all packages are installed; names those that are missing."""
    if missing := [name for name in NEEDED if not importlib.util.find_spec(name)]:
        raise ConfigError(f"--to onnx: not installed here: {', '.join(missing)}; try pip install {' '.join(NEEDED)}")


class FromIds(nn.Module):
    """A model from ids alone, without a cache."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids)
        return logits


@torch.no_grad()
def traced(run: LoadedRun) -> Any:
    """Return the graph of a run's model.

    Raises:
        ConfigError: the exporter cannot trace it for any batch and length; says why.
    """
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = torch.zeros(2, max(2, min(run.model.context, 7)) if run.model.context > 1 else 1, dtype=torch.long)
    if run.model.context == 1:
        del sizes[1]
    try:
        return torch.onnx.export(
            FromIds(traceable(run.model)).eval(),
            (example,),
            dynamo=True,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": sizes},
            verbose=False,
        )
    except Exception as error:  # whatever a tracer makes of a part
        if is_memory_full(error):
            raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        cause = error.__cause__ or error
        inner = next((line.strip() for line in str(cause).splitlines() if line.strip()), reason)
        raise ConfigError(
            f"{run.folder}: PyTorch's exporter cannot write this model as a graph of any batch and length: "
            f"{inner[:200]} Try --to hf, or a part of which the tensors' shapes do not depend on the tensors' values."
        ) from None


def traceable(model: Transformer) -> Transformer:
    """Return the same function as a model that can be traced: how many blocks some attentions read depends on the text.

    Attentions that compute softmax(Q K^T / sqrt(k)) V become PyTorch's own; a window is attended to in one block.
    """
    config = model.config
    blocks = tuple(traceable_block(block, config.context) for block in config.blocks)
    config = (
        replace(config, blocks=blocks)
        if blocks
        else replace(config, block=traceable_block(config.block, config.context))
    )
    if config == model.config:
        return model
    twin = config.build(model.vocab_size)
    weights = from_canonical(twin, to_canonical(model, dict(model.named_parameters())))
    for name, parameter in twin.named_parameters():
        parameter.data = weights[name].data
    Buffers(twin).load(Buffers(model).saved())
    return twin.eval()


def traceable_block(block: Block | None, context: int) -> Block:
    """Return the config of a block with an attention that can be traced."""
    if not isinstance(block, TwoBranches):
        return block or PreNorm()
    attention = block.attention
    if isinstance(attention, SlidingWindow):
        return replace(block, attention=replace(attention, block=context))
    if isinstance(attention, MultiHead) and attention.equivalent_to == SOFTMAX:
        fields = {field.name: getattr(attention, field.name) for field in dataclasses.fields(MultiHead)}
        return replace(block, attention=Sdpa(**fields))
    return block


@contextmanager
def quiet() -> Iterator[None]:
    """Context in which the exporter neither warns of packages that it does not need nor prints its progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def prove(run: LoadedRun, graph: Path, opset: int) -> Exported:
    """Run a graph, and compare what it computes with the run.

    Raises:
        RunError: the logits differ.
    """
    import onnxruntime  # an extra, and only this needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def logits(windows: Windows) -> WindowLogits:
        return torch.from_numpy(session.run(["logits"], {"input_ids": windows.numpy()})[0])

    agreement = compare_logits(run.model, logits, "onnxruntime")
    return Exported(opset=opset, agreement=agreement, runtime=onnxruntime.__version__)


def card(name: str, run: LoadedRun, exported: Exported) -> str:
    """Return the card as Markdown."""
    return f"""# {name}

A transformer of {run.model.parameter_count:,} weights, trained by nanotx for {run.step:,} steps, as an ONNX graph
(opset {exported.opset}) from `input_ids` (batch, length) to `logits` (batch, length, {run.tokenizer.vocab_size});
length is at most {run.model.context}.

```python
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("{GRAPH}")
(logits,) = session.run(["logits"], {{"input_ids": numpy.array([[1, 2, 3]])}})
```

Compared when it was written: {exported}.
"""
