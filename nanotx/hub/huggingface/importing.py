"""Read a folder of the Hugging Face world as a model of ours; transformers is not needed."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange

from nanotx.errors import RunError
from nanotx.hub.huggingface.layouts import SAME, Entry, Layout, Llama, rotated_fraction, their_weight
from nanotx.hub.huggingface.reading import read_config
from nanotx.hub.huggingface.shape import FfnShape, ModelShape, NormShape, Weights
from nanotx.hub.huggingface.tensor_files import Tensors, open_tensors, some
from nanotx.nn.attention import Attention
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_gqa import SlidingGroupedQuery
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block import Block
from nanotx.nn.block.parallel import Parallel
from nanotx.nn.block.parallel_norms import ParallelNorms
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn import Ffn
from nanotx.nn.ffn.geglu import GeGlu
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.norm import Norm
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position import Position
from nanotx.nn.position.learned import Learned
from nanotx.nn.position.rope import Rope
from nanotx.nn.position.rope_linear import RopeLinear
from nanotx.nn.position.rope_llama3 import RopeLlama3
from nanotx.nn.position.rope_partial import RopePartial
from nanotx.nn.transformer import Model, Transformer

BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")
"""Ends of the names of constants that older versions saved beside the weights."""

NUMBER = re.compile(r"(?<=\.)(\d+)(?=\.)", re.ASCII)
"""The number of a layer in the name of a tensor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported:
    """A model that came from elsewhere."""

    model: Transformer  # in evaluation mode
    class_name: str  # in transformers
    notes: tuple[str, ...]  # what should be known about it


def import_model(folder: Path, vocab_size: int) -> Imported:
    """Return the model of a folder.

    Args:
        folder: with a config.json and weights in safetensors.
        vocab_size: number of ids of its tokenizer; further rows of the embedding, which pad it, are left out.

    Raises:
        ConfigError: its class, a key or a value of its config is not known; or the model does not fit into memory.
        RunError: weights are missing, unknown, misshapen, not finite, or in no file that is read; all are listed.
    """
    layout, shape = read_config(folder)
    return fitted_model(folder, layout, shape, open_tensors(folder), vocab_size)


def fitted_model(folder: Path, layout: Layout, shape: ModelShape, files: Tensors, vocab_size: int) -> Imported:
    """Return a model of a shape with the weights of files; see `import_model`.

    Args:
        folder: that is named in errors.
        layout: where each weight is.
        shape: of the model.
        files: the weights.
        vocab_size: number of ids of its tokenizer.
    """
    names = their_names(layout, shape, files)
    shape, notes = settled(layout, shape, files, names)
    if shape.vocab_size < vocab_size:
        raise RunError(
            f"{folder}: the tokenizer has {vocab_size:,} ids, and the embedding {shape.vocab_size:,} rows: they "
            "are not of one model."
        )
    config = model_config(shape)
    config.check_size(shape.vocab_size)
    padded = config.build_meta(shape.vocab_size)
    entries = layout.entries(shape)
    check_tensors(folder, entries, dict(padded.named_parameters()), files, names)
    weights = our_weights(entries, dict(padded.named_parameters()), files, names)
    if shape.vocab_size > vocab_size:
        notes.append(f"{shape.vocab_size - vocab_size} rows of the embedding have no id, and are left out")
        for name in weights.keys() & {"embedding.weight", "head.weight"}:
            weights[name] = weights[name][:vocab_size].clone()
    return Imported(model=with_weights(config, vocab_size, weights), class_name=layout.class_name, notes=tuple(notes))


def with_weights(config: Model, vocab_size: int, weights: Weights) -> Transformer:
    """Return a model that has these weights, not a copy of them."""
    model = config.build_meta(vocab_size)
    tied = {"head.weight": weights["embedding.weight"]} if config.tied else {}
    model.load_state_dict(weights | tied, assign=True)
    if config.tied:
        model.head.weight = model.embedding.weight
    return model.eval()


# What a folder holds.


def their_names(layout: Layout, shape: ModelShape, files: Tensors) -> dict[str, str]:
    """Return the name in the files of each tensor's full name: those of GPT-2 on the Hub lack the model's prefix."""
    prefix = layout.entries(shape)[0].theirs.partition(".")[0] + "."
    if any(name.startswith(prefix) for name in files.names):
        return {name: name for name in files.names}
    return {name if name.endswith("lm_head.weight") else prefix + name: name for name in files.names}


def settled(layout: Layout, shape: ModelShape, files: Tensors, names: dict[str, str]) -> tuple[ModelShape, list[str]]:
    """Return the shape where the weights decide it, and what should be known.

    Raises:
        RunError: a gate with a ReLU has weights of its own, which no part of ours has.
    """
    notes = []
    embedding, head = (f"{name}.weight" for name in head_names(layout))
    both = shape.tied and head in names and embedding in names
    if both and not torch.equal(files.read(names[head]), files.read(names[embedding])):
        shape = replace(shape, tied=False)
        notes.append("the config ties the head to the embedding, and the head has weights of its own: not tied")
    if shape.layer.ffn == FfnShape(gated=True, activation="relu", bias=shape.layer.ffn.bias):
        pairs = [(name, name.replace("gate_proj", "up_proj")) for name in names if ".gate_proj." in name]
        if not all(up in names and torch.equal(files.read(names[gate]), files.read(names[up])) for gate, up in pairs):
            raise RunError("config.json: hidden_act: a gate with a ReLU is no part of nanotx.")
        shape = replace(
            shape, layer=replace(shape.layer, ffn=replace(shape.layer.ffn, gated=False, activation="relu2"))
        )
        notes.append("gate and up are one weight, so the ffn is a squared ReLU")
    if shape.layer.block == "parallel_norms" and has_one_norm(files, names):
        shape = replace(shape, layer=replace(shape.layer, block="parallel"))
        notes.append("the two norms of each layer are equal, so its branches read one norm")
    return shape, notes


def has_one_norm(files: Tensors, names: dict[str, str]) -> bool:
    """Return whether the two norms of each layer of a GPT-NeoX are equal."""
    second = "post_attention_layernorm"
    pairs = [(name, name.replace(second, "input_layernorm")) for name in names if f".{second}." in name]
    return all(
        first in names and torch.equal(files.read(names[first]), files.read(names[name])) for name, first in pairs
    )


def head_names(layout: Layout) -> tuple[str, str]:
    """Return the modules of the embedding and of the head in a class."""
    if isinstance(layout, Llama):
        return "model.embed_tokens", "lm_head"
    return ("transformer.wte", "lm_head") if layout.model_type == "gpt2" else ("gpt_neox.embed_in", "embed_out")


def check_tensors(folder: Path, entries: list[Entry], ours: Weights, files: Tensors, names: dict[str, str]) -> None:
    """Raise RunError if a tensor is missing, unknown, of another shape, or not of floating point numbers; list all."""
    wanted = {entry.theirs: tuple(their_weight(entry, ours).shape) for entry in entries}
    known = wanted.keys() | {"lm_head.weight", "embed_out.weight"}
    wrong = [(name, "is missing") for name in sorted(wanted.keys() - names.keys())]
    wrong += [(name, "is not of this model") for name in sorted(names.keys() - known) if not name.endswith(BUFFERS)]
    for name in sorted(wanted.keys() & names.keys()):
        if (shape := files.shape(names[name])) != wanted[name]:
            wrong.append((name, f"has the shape {shape}, and the config asks for {wanted[name]}"))
        elif not files.is_float(names[name]):
            wrong.append((name, "is of whole numbers, or of a type that is not read"))
    faults = by_layer(wrong)
    if faults:
        raise RunError(f"{folder}: the weights do not fit config.json: {some(faults)}.")


def by_layer(faults: list[tuple[str, str]]) -> list[str]:
    """Return faults of tensors as text; those that differ in the number of a layer alone are one."""
    layers: dict[tuple[str, ...], list[str]] = {}
    for name, fault in faults:
        before, number, after = (*NUMBER.split(name, maxsplit=1), "", "")[:3]
        layers.setdefault((before, after, fault), []).append(number)
    return [f"{before}{spans(numbers)}{after} {fault}" for (before, after, fault), numbers in layers.items()]


def spans(numbers: list[str]) -> str:
    """Return numbers as text, where several follow one another the first and the last: {0-3,7}."""
    if len(numbers) == 1:
        return numbers[0]
    spans = list[list[int]]()
    for number in sorted(map(int, numbers)):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return f"{{{','.join('-'.join(map(str, span)) for span in spans)}}}"


# From theirs to ours.


def our_weights(entries: list[Entry], shapes: Weights, files: Tensors, names: dict[str, str]) -> Weights:
    """Return the weights in our layout; of theirs, one at a time is in memory."""
    weights = {name: torch.empty(tensor.shape) for name, tensor in shapes.items()}
    for entry in entries:
        tensor = files.read(names[entry.theirs])
        if entry.form != SAME:
            tensor = rearrange(tensor, f"{entry.form[1]} -> {entry.form[0]}", **dict(entry.axes))
        target = weights[entry.ours]
        (target[entry.start : entry.start + entry.rows] if entry.rows else target).copy_(tensor)
    return weights


# The config of ours.


def model_config(shape: ModelShape) -> Model:
    """Return the config of a model of this shape."""
    blocks = tuple(block_config(shape, window) for window in shape.windows)
    return Model(
        dim=shape.dim,
        layers=shape.layers,
        context=shape.context,
        tied=shape.tied,
        position=position_config(shape),
        norm=norm_config(shape.norm),
        blocks=period(blocks),
    )


def period(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Return the shortest pattern that repeats to these blocks."""
    lengths = (length for length in range(1, len(blocks)) if len(blocks) % length == 0)
    return next((blocks[:n] for n in lengths if blocks[:n] * (len(blocks) // n) == blocks), blocks)


def block_config(shape: ModelShape, window: int | None) -> Block:
    """Return the config of a layer."""
    layer = shape.layer
    attention, ffn, norm = attention_config(shape, window), ffn_config(shape), norm_config(layer.norm)
    if layer.block == "parallel":
        return Parallel(attention=attention, ffn=ffn, norm=norm)
    if layer.block == "parallel_norms":
        return ParallelNorms(attention=attention, ffn=ffn, norm=norm)
    return PreNorm(attention=attention, ffn=ffn, norm=norm)


def attention_config(shape: ModelShape, window: int | None) -> Attention:
    """Return the config of an attention."""
    layer = shape.layer
    plain = Sdpa(
        heads=layer.heads,
        head_dim=None if layer.width == shape.dim else layer.head_width,
        bias=layer.qkv_bias,
        out_bias=layer.out_bias,
        qk_norm=layer.qk_norm,
    )
    grouped = layer.kv_heads != layer.heads
    if window is not None and grouped:
        return SlidingGroupedQuery(kv_heads=layer.kv_heads, window=window, **vars(plain))
    if grouped:
        return GroupedQuery(kv_heads=layer.kv_heads, **vars(plain))
    return SlidingWindow(window=window, **vars(plain)) if window is not None else plain


def ffn_config(shape: ModelShape) -> Ffn:
    """Return the config of a feed-forward."""
    ffn, width = shape.layer.ffn, shape.hidden_dim
    if ffn.gated:
        return (SwiGlu if ffn.activation == "silu" else GeGlu)(hidden_dim=width, bias=ffn.bias)
    if ffn.activation == "relu2":
        return Relu2(hidden_dim=width, bias=ffn.bias)
    assert ffn.activation != "silu"
    return Mlp(hidden_dim=width, activation=ffn.activation, bias=ffn.bias)


def norm_config(norm: NormShape) -> Norm:
    """Return the config of a norm."""
    return RmsNorm(eps=norm.eps) if norm.kind == "rmsnorm" else LayerNorm(eps=norm.eps, bias=norm.bias)


def position_config(shape: ModelShape) -> Position:
    """Return the config of a position."""
    position = shape.position
    if position.kind == "table":
        return Learned()
    if position.rotated is not None:
        return RopePartial(theta=position.theta, fraction=rotated_fraction(shape))
    if position.scaling == "llama3":
        return RopeLlama3(theta=position.theta, factor=position.factor, original=position.original)
    if position.scaling == "linear":
        return RopeLinear(theta=position.theta, factor=position.factor)
    return Rope(theta=position.theta)
