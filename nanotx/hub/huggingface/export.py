"""Write a run as a folder that `AutoModelForCausalLM` and `AutoTokenizer` open; it gets its name when it is proven."""

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nanotx import disk
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError
from nanotx.hub.drafts import check_folder, drafted_folder
from nanotx.hub.huggingface.card import card
from nanotx.hub.huggingface.chat_proof import ChatProof, compare_chats
from nanotx.hub.huggingface.layouts import LAYOUTS, POSITION_TABLE, Config, Layout, missing, their_weights
from nanotx.hub.huggingface.proof import Proof, library, offline, open_tokenizer, prove
from nanotx.hub.huggingface.shape import ModelShape, Unfit, model_shape
from nanotx.hub.remote.source import CLASS_NAME, FILE, remote_config, remote_weights, source
from nanotx.hub.remote.source import described as described_model
from nanotx.hub.seal import SEAL, seal
from nanotx.nn.canonical import to_canonical
from nanotx.nn.transformer import Transformer
from nanotx.runs.load import LoadedRun
from nanotx.runs.merge import merged
from nanotx.tokenizers.base import Codec
from nanotx.tokenizers.convert.tokenizer_json import as_text, config, described, ends

NAMES = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    *("recipe.toml", "README.md", FILE, SEAL),
)
"""Files of the folder."""

EXAMPLES = "recipes that fit: shakespeare_char, macbook, baby_gpt, nanogpt_64"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that was written."""

    folder: Path
    class_name: str  # in transformers
    proof: Proof
    chat: ChatProof  # of the tokenizer's chat template


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
    run, chat = with_proven_chat(merged(run))
    class_name, files, weights = content(run, remote_code)
    code = FILE in files
    with drafted_folder(target) as draft:
        for name, text in files.items():
            disk.write(draft / name, text.encode("utf-8"))
        disk.write(draft / "model.safetensors", partial(save, weights))
        proof = prove(run, draft, code=code)
        seal(draft, "hf", ", ".join(filter(None, (str(proof), str(chat)))))
        disk.write(draft / "README.md", card(target.name, run, class_name, proof, chat, code).encode("utf-8"))
    return Exported(folder=target, class_name=class_name, proof=proof, chat=chat)


def with_proven_chat(run: LoadedRun) -> tuple[LoadedRun, ChatProof]:
    """Return the run, without the chat template of its tokenizer if that has other ids in transformers.

    Raises:
        TokenizerError: no tokenizer.json gives the ids of the tokenizer.
    """
    if not run.tokenizer.chat_template:
        return run, ChatProof()
    with tempfile.TemporaryDirectory(prefix="nanotx-chat-", ignore_cleanup_errors=True) as folder:
        for name, text in tokenizer_files(run.tokenizer, run.model.context).items():
            Path(folder, name).write_text(text, encoding="utf-8")
        with offline():
            tokenizer = open_tokenizer(Path(folder))
    if tokenizer is None:
        return run, ChatProof()  # the proof of the whole folder says so
    chat = compare_chats(run.tokenizer, tokenizer)
    return replace(run, tokenizer=run.tokenizer.with_chat_template("")) if chat.fault else run, chat


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
    """Return the class that computes the run's model, the model's shape, and its weights in that class.

    Of several classes it is the one that needs the fewest zeros for biases that the model lacks.

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
    if layouts := [layout for layout in LAYOUTS if not reasons[layout.class_name]]:
        weights = {POSITION_TABLE: position_table(model)} | weights
        layout = min(layouts, key=lambda each: missing(each.entries(shape), weights))
        return layout, shape, their_weights(layout.entries(shape), weights)
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
    stops = [codec.special_tokens[name] for name in ends(codec)]
    end = stops[0] if stops else None
    ids: Config = {"bos_token_id": None, "eos_token_id": stops if len(stops) > 1 else end, "pad_token_id": None}
    sampling: Config = {"do_sample": True, "temperature": 0.8}
    if codec.undefined_ids:
        sampling["suppress_tokens"] = list(codec.undefined_ids)
    return {
        "config.json": as_text(config | {"eos_token_id": end}),
        "generation_config.json": as_text(ids | sampling),
        "recipe.toml": write_toml(run.recipe),
    } | tokenizer_files(codec, context)


def tokenizer_files(codec: Codec, context: int) -> dict[str, str]:
    """Return the texts of the files of a tokenizer by name; `context` is the longest text of the model."""
    return {
        "tokenizer.json": as_text(described(codec)),
        "tokenizer_config.json": as_text(config(codec) | {"model_max_length": context}),
    }
