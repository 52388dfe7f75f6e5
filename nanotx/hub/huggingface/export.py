"""Write a run as a folder that `AutoModelForCausalLM` and `AutoTokenizer` open; it gets its name when it is proven."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from nanotx import disk
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError
from nanotx.hub.drafts import check_folder, drafted_folder
from nanotx.hub.huggingface.card import card
from nanotx.hub.huggingface.layouts import LAYOUTS, POSITION_TABLE, Config, Layout, their_weights
from nanotx.hub.huggingface.proof import Proof, library, prove
from nanotx.hub.huggingface.shape import ModelShape, Unfit, model_shape
from nanotx.hub.remote.source import CLASS_NAME, FILE, remote_config, remote_weights, source
from nanotx.hub.remote.source import described as described_model
from nanotx.hub.seal import SEAL, seal
from nanotx.nn.canonical import to_canonical
from nanotx.nn.transformer import Transformer
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import merged
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.convert.tokenizer_json import as_text, config, described

NAMES = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("recipe.toml", "README.md", FILE, SEAL),
)
"""Files of the folder."""

END = "<|endoftext|>"
"""The special token that ends a text."""

EXAMPLES = "recipes that fit: shakespeare_char, macbook, baby_gpt, nanogpt_64"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that was written."""

    folder: Path
    class_name: str  # in transformers
    proof: Proof


def export(run: LoadedRun, target: Path, overwrite: bool = False, remote_code: bool = False) -> Exported:
    """Write a run as a folder of the Hugging Face world, prove it, and give it its name; its adapter is merged.

    Args:
        run: the run, loaded.
        target: the folder.
        overwrite: replace a folder of an earlier export.
        remote_code: where no class computes the model, write a file of code that does.

    Raises:
        ConfigError: no class of transformers computes this model, each reason is named; something is there already; or
            transformers is not installed.
        TokenizerError: no tokenizer.json gives the ids of the tokenizer.
        RunError: the folder cannot be written, or differs from the run.
    """
    library()
    check_target(target, overwrite)
    run = merged(run)
    class_name, files, weights = content(run, remote_code)
    code = FILE in files
    with drafted_folder(target) as draft:
        for name, text in files.items():
            disk.write(draft / name, text.encode("utf-8"))
        disk.write(draft / "model.safetensors", partial(save, weights))
        proof = prove(run, draft, code=code)
        seal(draft, "hf", str(proof))
        disk.write(draft / "README.md", card(target.name, run, class_name, proof, code).encode("utf-8"))
    return Exported(folder=target, class_name=class_name, proof=proof)


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights as safetensors; without the format in its metadata, versions before 5 refuse a file."""
    save_file(weights, path, {"format": "pt"})


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConfigError unless nothing is there, or a folder that may be replaced."""
    check_folder(target, overwrite, NAMES, ("config.json", "model.safetensors"))


# Which class, and its files.


def content(run: LoadedRun, remote_code: bool) -> tuple[str, dict[str, str], dict[str, Tensor]]:
    """Return the class of the run's model, the texts of its folder by name, and its weights.

    Raises:
        ConfigError: no class computes it, and no code may be written that does, or none can.
    """
    try:
        layout, shape, weights = fitting(run)
    except ConfigError as misfit:
        if not remote_code:
            raise ConfigError(f"{misfit}\n  --remote-code writes a file of code beside the weights") from None
        values = described_model(run.model)
        config = remote_config(values, run.model.vocab_size, run.model.config.tied)
        files = folder_files(run, config, run.model.context) | {FILE: source(values)}
        return CLASS_NAME, files, remote_weights(run.model, position_table(run.model))
    return layout.class_name, folder_files(run, layout.config(shape), shape.context), weights


def fitting(run: LoadedRun) -> tuple[Layout, ModelShape, dict[str, Tensor]]:
    """Return the first class that computes the run's model, the model's shape, and its weights in that class.

    Raises:
        ConfigError: no class computes it; gives the reason for each.
    """
    model = run.model
    weights = to_canonical(model, dict(model.state_dict()))
    try:
        shape = model_shape(model.config, model.vocab_size, weights)
    except Unfit as unfit:
        raise ConfigError(f"{run.folder}: no class of transformers computes this model: {unfit}. {EXAMPLES}.") from None
    reasons = {layout.class_name: layout.misfits(shape) for layout in LAYOUTS}
    for layout in LAYOUTS:
        if not reasons[layout.class_name]:
            table = {POSITION_TABLE: position_table(model)}
            return layout, shape, their_weights(layout.entries(shape), table | weights)
    listed = "".join(
        f"\n  {name}: {'; '.join(why)}" for name, why in sorted(reasons.items(), key=lambda row: len(row[1]))
    )
    raise ConfigError(f"{run.folder}: no class of transformers computes this model.{listed}\n  {EXAMPLES}")


def position_table(model: Transformer) -> Tensor:
    """Return the vector that a model adds to its token at each position; zeros where it adds none."""
    with torch.no_grad():
        stream = torch.zeros(1, model.context, model.config.dim)
        return model.position.embed(stream, torch.arange(model.context))[0]


def folder_files(run: LoadedRun, config: Config, context: int) -> dict[str, str]:
    """Return the texts of the folder by name, but for code."""
    codec = run.tokenizer
    end = codec.special_tokens.get(END)
    ids: Config = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": None}
    sampling: Config = {"do_sample": True, "temperature": 0.8}
    if codec.undefined_ids:
        sampling["suppress_tokens"] = list(codec.undefined_ids)
    return {
        "config.json": as_text(config | {"eos_token_id": end}),
        "generation_config.json": as_text(ids | sampling),
        "tokenizer.json": as_text(described(codec)),
        "tokenizer_config.json": as_text(tokenizer_config(codec, context)),
        "recipe.toml": write_toml(run.recipe),
    }


def tokenizer_config(codec: Codec, context: int) -> dict[str, Any]:
    """Return what transformers has to know of a tokenizer: its class, its special tokens, the longest text."""
    return config(codec) | {"model_max_length": context}
