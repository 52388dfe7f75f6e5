"""Write the adapter of a run as peft reads it: two small files beside the model that it adapts.

Source: the layout of https://github.com/huggingface/peft, `LoraConfig` and `get_peft_model_state_dict`
"""

import importlib.util
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from nanotx import disk
from nanotx.errors import ConfigError, RunError
from nanotx.hub.drafts import check_folder, drafted_folder
from nanotx.hub.huggingface.export import fitting, folder_files, save
from nanotx.hub.huggingface.layouts import BY_HEAD, Config, Entry, Gpt2, Layout
from nanotx.hub.huggingface.shape import ModelShape
from nanotx.nn.adapt import adapted
from nanotx.nn.adapt.lora import Lora, LoraLinear
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import without_adapter
from nanotx.tokenizers.convert.tokenizer_json import as_text

WINDOWS = 8
"""Windows whose logits are compared."""

NAMES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
"""Files of the folder."""

ALLOWED = 1e-4
"""The largest difference of logits, relative to their standard deviation."""


@dataclass(frozen=True, kw_only=True)
class ExportedAdapter:
    """A folder that was written."""

    class_name: str  # in transformers, of the model that is adapted
    rank: int
    apart: float | None  # of the logits, relative to their standard deviation; None where peft is not installed


def export_adapter(run: LoadedRun, target: Path, overwrite: bool = False) -> ExportedAdapter:
    """Write the adapter of a run as a folder that peft opens, compare it where peft is installed, and give it its name.

    Args:
        run: the run, loaded.
        target: the folder.
        overwrite: replace a folder of an earlier export.

    Raises:
        ConfigError: the run has no such adapter, no class of transformers computes the model that it adapts, or
            something is there already.
        RunError: the folder cannot be written, or differs from the run.
    """
    check_target(target, overwrite)
    adapter = run.recipe.model.adapt
    if not isinstance(adapter, Lora):
        raise ConfigError(f"{run.folder}: expected a run with --adapt lora, got {adapter.part}; try --to hf.")
    base = without_adapter(run)
    layout, shape, weights = fitting(base)
    tensors = their_tensors(run, layout, shape)
    texts = {"adapter_config.json": as_text(peft_config(adapter, layout, tensors)), "README.md": card(run, layout)}
    with drafted_folder(target) as draft:
        for name, text in texts.items():
            disk.write(draft / name, text.encode("utf-8"))
        disk.write(draft / "adapter_model.safetensors", partial(save, tensors))
        installed = all(importlib.util.find_spec(name) for name in ("peft", "transformers"))
        apart = compare(run, base, layout, shape, weights, draft) if installed else None
    return ExportedAdapter(class_name=layout.class_name, rank=adapter.rank, apart=apart)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is there, or a folder that may be replaced."""
    check_folder(target, overwrite, NAMES, ("adapter_config.json",), "my-adapter", "an adapter")


def their_tensors(run: LoadedRun, layout: Layout, shape: ModelShape) -> dict[str, Tensor]:
    """Return the matrices of an adapter by the names that peft gives them.

    Raises:
        ConfigError: a map that is adapted is none in the class.
    """
    layers = {f"{name}.weight": layer for name, layer in adapted(run.model) if isinstance(layer, LoraLinear)}
    entries = [entry for entry in layout.entries(shape) if entry.ours in layers]
    if left := sorted(layers.keys() - {entry.ours for entry in entries}):
        raise ConfigError(
            f"{run.folder}: {layout.class_name} has no map of its own for {left[0].removesuffix('.weight')}; merge the "
            "adapter: nanotx merge"
        )
    tensors: dict[str, Tensor] = {}
    for entry in entries:
        name = f"base_model.model.{entry.theirs.removesuffix('.weight')}"
        tensors[f"{name}.lora_A.weight"] = layers[entry.ours].lora_a.detach().clone()
        tensors[f"{name}.lora_B.weight"] = their_rows(entry, layers[entry.ours].lora_b.detach()).clone()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def their_rows(entry: Entry, rows: Tensor) -> Tensor:
    """Return the rows of a matrix, one for each output of a map, as a class orders them."""
    part = rows[entry.start : entry.start + entry.rows] if entry.rows else rows
    if entry.form != BY_HEAD:  # a Conv1D has its weight transposed, and not what is added
        return part
    return rearrange(part, f"{entry.form[0]} -> {entry.form[1]}", **dict(entry.axes))


def peft_config(adapter: Lora, layout: Layout, tensors: dict[str, Tensor]) -> Config:
    """Return the adapter_config.json."""
    names = [name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(set(names)),
        "fan_in_fan_out": isinstance(layout, Gpt2),
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
    }


def card(run: LoadedRun, layout: Layout) -> str:
    """Return the README.md."""
    adapter = run.recipe.model.adapt
    begun = f"It began with {run.recipe.init} (SHA-256 `{run.recipe.init_sha256}`)." if run.recipe.init else ""
    return f"""# An adapter of a {layout.class_name}

`{adapter}`, trained with nanotx for {run.step:,} steps. {begun} The model that it adapts is exported by
`nanotx export RUN --to hf BASE` from the run that it began with.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), "ADAPTER")
```
"""


@torch.no_grad()
def compare(
    run: LoadedRun, base: LoadedRun, layout: Layout, shape: ModelShape, weights: dict[str, Tensor], folder: Path
) -> float:
    """Return the largest difference of logits between a run and its adapter as peft opens it, by their deviation.

    Raises:
        RunError: it is too large.
    """
    from peft import PeftModel  # seconds, and only this needs it
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory(prefix="nanotx-peft-") as place:
        for name, text in folder_files(base, layout.config(shape), shape.context).items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        save(weights, Path(place) / "model.safetensors")
        model = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager", dtype=torch.float32)
        theirs = PeftModel.from_pretrained(model, str(folder)).eval()
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(run.model.vocab_size, (WINDOWS, run.model.context), generator=generator)
        ours, logits = run.model(ids), theirs(ids).logits[..., : run.model.vocab_size]
    apart = float((ours - logits).abs().max() / ours.std())
    if not apart <= ALLOWED:
        raise RunError(
            f"{run.folder}: peft computes other logits: they differ by {apart:.3g} of their standard deviation, more "
            f"than {ALLOWED:g}; nothing was written."
        )
    return apart
