"""The classes of `transformers` that compute a model of ours, and where each keeps its weights.

A layout says why it does not fit a shape, writes the `config.json` of one that it fits, and renames, splits and
transposes weights. What a class has and our parts lack, such as a bias, is written as zeros. If a class has only gated
feed-forwards, a squared ReLU is written as relu(x W) * (x W), with W stored twice; the result is the same number.

Source: the modules `modeling_*.py` and `configuration_*.py` of transformers 5, https://github.com/huggingface/transformers
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from nanotx.hub.huggingface.shape import QK_NORM_EPS, ModelShape, Weights
from nanotx.nn.position.rope_llama3 import FAST, SLOW

Config = dict[str, Any]
CONTIGUOUS = torch.contiguous_format

POSITION_TABLE = "position.table.weight"
"""The vectors that are added to tokens by position: of learned positions a weight, of others computed."""

SAME = ("...", "...")
TRANSPOSED = ("out into", "into out")
"""Weights of a Conv1D, which GPT-2 has for linear maps."""

BY_HEAD = ("(three h k) ...", "(h three k) ...")
"""q, k and v, each of all heads; and q, k and v of each head."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A weight of the class and its source: `rows` rows of our weight from `start` (all if 0), rearranged by `form`."""

    theirs: str
    ours: str
    start: int = 0
    rows: int = 0
    form: tuple[str, str] = SAME  # ours and theirs, as einops patterns
    axes: tuple[tuple[str, int], ...] = ()  # of these patterns


class Layout(ABC):
    """A class of `transformers`."""

    class_name: ClassVar[str]
    model_type: ClassVar[str]
    norm_kind: ClassVar[str]
    position_kind: ClassVar[str]
    rotates_part: ClassVar[bool] = False  # whether rope may leave channels of a head alone
    head_dim: ClassVar[bool] = False  # whether heads may have a width of their own

    def misfits(self, shape: ModelShape) -> list[str]:
        """Return why the class does not compute a model of this shape; nothing if it does."""
        reasons = []
        if shape.norm.kind != self.norm_kind or shape.layer.norm.kind != self.norm_kind:
            reasons.append(f"its norms are {self.norm_kind}")
        elif shape.norm.eps != shape.layer.norm.eps:
            reasons.append("all its norms share one eps")
        if shape.position.kind != self.position_kind:
            kinds = {"table": "learned positions", "rope": "rope"}
            reasons.append(f"it has {kinds[self.position_kind]}")
        if shape.position.rotated and not self.rotates_part:
            reasons.append("it rotates whole heads")
        if shape.layer.width != shape.dim and not self.head_dim:
            reasons.append("its heads divide the width of the stream among them")
        return reasons + self.other_misfits(shape)

    @abstractmethod
    def other_misfits(self, shape: ModelShape) -> list[str]:
        """Return further reasons."""

    def config(self, shape: ModelShape) -> Config:
        """Return the `config.json`: every value that differs from the class's default must be in it."""
        return {
            "architectures": [self.class_name],
            "model_type": self.model_type,
            "vocab_size": shape.vocab_size,
            "tie_word_embeddings": shape.tied,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            "dtype": "float32",
        } | self.other_config(shape)

    @abstractmethod
    def other_config(self, shape: ModelShape) -> Config:
        """Return the keys that are this class's own."""

    @abstractmethod
    def entries(self, shape: ModelShape) -> list[Entry]:
        """Return which of our weights each weight of the class is."""


def plain_misfits(shape: ModelShape) -> list[str]:
    """Return why a class with the attention and the feed-forward of the first transformers does not compute a model."""
    layer = shape.layer
    conditions = {
        "its ffn has no gate": layer.ffn.gated,
        "every head has keys and values of its own": layer.kv_heads != layer.heads,
        "it attends to all positions": any(shape.windows),
        "it does not norm queries and keys": layer.qk_norm,
    }
    return [reason for reason, misfit in conditions.items() if misfit]


class Gpt2(Layout):
    """GPT2LMHeadModel."""

    class_name = "GPT2LMHeadModel"
    model_type = "gpt2"
    norm_kind = "layernorm"
    position_kind = "table"

    def other_misfits(self, shape: ModelShape) -> list[str]:
        blocks = ["its blocks are prenorm"] if shape.layer.block != "prenorm" else []
        return blocks + plain_misfits(shape)

    def other_config(self, shape: ModelShape) -> Config:
        return {
            "n_positions": shape.context,
            "n_ctx": shape.context,  # llama.cpp reads this key
            "n_embd": shape.dim,
            "n_layer": shape.layers,
            "n_head": shape.layer.heads,
            "n_inner": shape.hidden_dim,
            "activation_function": activation(shape),
            "layer_norm_epsilon": shape.norm.eps,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }

    def entries(self, shape: ModelShape) -> list[Entry]:
        entries = [
            Entry(theirs="transformer.wte.weight", ours="embedding.weight"),
            Entry(theirs="transformer.wpe.weight", ours=POSITION_TABLE),
            *with_bias("transformer.ln_f", "norm"),
        ]
        for number in range(shape.layers):
            theirs, ours = f"transformer.h.{number}", f"blocks.{number // shape.share}"
            entries += with_bias(f"{theirs}.ln_1", f"{ours}.attention_norm")
            entries += with_bias(f"{theirs}.ln_2", f"{ours}.ffn_norm")
            entries += with_bias(f"{theirs}.attn.c_attn", f"{ours}.attention.to_qkv", TRANSPOSED)
            entries += with_bias(f"{theirs}.attn.c_proj", f"{ours}.attention.to_out", TRANSPOSED)
            entries += with_bias(f"{theirs}.mlp.c_fc", f"{ours}.ffn.to_hidden", TRANSPOSED)
            entries += with_bias(f"{theirs}.mlp.c_proj", f"{ours}.ffn.to_out", TRANSPOSED)
        return entries + head(shape, "lm_head")


class GptNeoX(Layout):
    """GPTNeoXForCausalLM, of Pythia."""

    class_name = "GPTNeoXForCausalLM"
    model_type = "gpt_neox"
    norm_kind = "layernorm"
    position_kind = "rope"
    rotates_part = True

    def other_misfits(self, shape: ModelShape) -> list[str]:
        return plain_misfits(shape)

    def other_config(self, shape: ModelShape) -> Config:
        return {
            "max_position_embeddings": shape.context,
            "hidden_size": shape.dim,
            "intermediate_size": shape.hidden_dim,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.layer.heads,
            "hidden_act": activation(shape),
            "layer_norm_eps": shape.norm.eps,
            "attention_bias": True,
            "use_parallel_residual": shape.layer.block != "prenorm",
            "attention_dropout": 0.0,
            "hidden_dropout": 0.0,
            **rope(shape, partial_rotary_factor=rotated_fraction(shape)),
            "rotary_pct": rotated_fraction(shape),
        }

    def entries(self, shape: ModelShape) -> list[Entry]:
        entries = [
            Entry(theirs="gpt_neox.embed_in.weight", ours="embedding.weight"),
            *with_bias("gpt_neox.final_layer_norm", "norm"),
        ]
        first, second = ("norm", "norm") if shape.layer.block == "parallel" else ("attention_norm", "ffn_norm")
        for number in range(shape.layers):
            theirs, ours = f"gpt_neox.layers.{number}", f"blocks.{number // shape.share}"
            entries += with_bias(f"{theirs}.input_layernorm", f"{ours}.{first}")
            entries += with_bias(f"{theirs}.post_attention_layernorm", f"{ours}.{second}")
            for entry in with_bias(f"{theirs}.attention.query_key_value", f"{ours}.attention.to_qkv"):
                entries.append(replace(entry, form=BY_HEAD, axes=(("three", 3), ("h", shape.layer.heads))))
            entries += with_bias(f"{theirs}.attention.dense", f"{ours}.attention.to_out")
            entries += with_bias(f"{theirs}.mlp.dense_h_to_4h", f"{ours}.ffn.to_hidden")
            entries += with_bias(f"{theirs}.mlp.dense_4h_to_h", f"{ours}.ffn.to_out")
        return entries + head(shape, "embed_out")


class Llama(Layout):
    """LlamaForCausalLM, and the classes that differ from it in little."""

    class_name = "LlamaForCausalLM"
    model_type = "llama"
    norm_kind = "rmsnorm"
    position_kind = "rope"
    head_dim = True
    gate: ClassVar[bool] = True
    windows: ClassVar[str] = ""  # "one" for one window in all layers, "any" for one or none in each
    qk_norm: ClassVar[bool] = False
    qkv_bias: ClassVar[bool] = True
    out_bias: ClassVar[bool] = True
    mlp_bias: ClassVar[bool] = True

    def other_misfits(self, shape: ModelShape) -> list[str]:
        layer, reasons = shape.layer, []
        if layer.block != "prenorm":
            reasons.append("its blocks are prenorm")
        if self.gate and not layer.ffn.gated and layer.ffn.activation != "relu2":
            reasons.append("its ffn has a gate")
        if not self.gate and layer.ffn.gated:
            reasons.append("its ffn has no gate")
        if any(shape.windows) and (not self.windows or (self.windows == "one" and len(set(shape.windows)) > 1)):
            reasons.append("all its layers have one window" if self.windows else "it attends to all positions")
        if self.windows == "one" and not any(shape.windows):
            reasons.append("it attends within a window")
        if layer.qk_norm != self.qk_norm:
            reasons.append("it norms queries and keys" if self.qk_norm else "it does not norm queries and keys")
        if self.qk_norm and layer.norm.eps != QK_NORM_EPS:
            reasons.append(f"all its norms use the eps of its query and key norms, {QK_NORM_EPS:g}")
        wrong = [
            name
            for name, has_bias, can_have_bias in (
                ("queries, keys and values", layer.qkv_bias, self.qkv_bias),
                ("the output projection", layer.out_bias, self.out_bias),
                ("the ffn", layer.ffn.bias, self.mlp_bias),
            )
            if has_bias and not can_have_bias
        ]
        return reasons + [f"it has no bias in {name}" for name in wrong]

    def other_config(self, shape: ModelShape) -> Config:
        layer = shape.layer
        return {
            "hidden_size": shape.dim,
            "intermediate_size": shape.hidden_dim,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": layer.heads,
            "num_key_value_heads": layer.kv_heads,
            "head_dim": layer.head_width,
            "hidden_act": "relu" if self.gate and layer.ffn.activation == "relu2" else activation(shape),
            "max_position_embeddings": shape.context,
            "rms_norm_eps": shape.norm.eps,
            **({"attention_bias": self.has_attention_bias(shape)} if self.out_bias else {}),
            **({"mlp_bias": layer.ffn.bias} if self.mlp_bias else {}),
            "attention_dropout": 0.0,
            **rope(shape),
            **self.window_config(shape),
        }

    def has_attention_bias(self, shape: ModelShape) -> bool:
        """Return whether the class is to have biases in the attention."""
        return shape.layer.qkv_bias or shape.layer.out_bias

    def window_config(self, shape: ModelShape) -> Config:
        """Return the keys about windows."""
        return {}

    def entries(self, shape: ModelShape) -> list[Entry]:
        entries = [
            Entry(theirs="model.embed_tokens.weight", ours="embedding.weight"),
            Entry(theirs="model.norm.weight", ours="norm.weight"),
        ]
        for number in range(shape.layers):
            theirs, ours = f"model.layers.{number}", f"blocks.{number // shape.share}"
            entries.append(Entry(theirs=f"{theirs}.input_layernorm.weight", ours=f"{ours}.attention_norm.weight"))
            entries.append(Entry(theirs=f"{theirs}.post_attention_layernorm.weight", ours=f"{ours}.ffn_norm.weight"))
            entries += self.attention_entries(shape, f"{theirs}.self_attn", f"{ours}.attention")
            entries += self.ffn_entries(shape, f"{theirs}.mlp", f"{ours}.ffn")
        return entries + head(shape, "lm_head")

    def attention_entries(self, shape: ModelShape, theirs: str, ours: str) -> list[Entry]:
        """Return the weights of an attention: ours has the rows of q, k and v in one."""
        layer = shape.layer
        queries, keys = layer.width, layer.kv_heads * layer.head_width
        rows = {"q": (0, queries), "k": (queries, keys), "v": (queries + keys, keys)}
        biased = self.has_attention_bias(shape)
        entries = [
            Entry(theirs=f"{theirs}.{name}_proj.{kind}", ours=f"{ours}.to_qkv.{kind}", start=start, rows=size)
            for kind in kinds(biased)
            for name, (start, size) in rows.items()
        ]
        for kind in kinds(biased and self.out_bias):
            entries.append(Entry(theirs=f"{theirs}.o_proj.{kind}", ours=f"{ours}.to_out.{kind}"))
        if self.qk_norm:
            entries += [Entry(theirs=f"{theirs}.{n}_norm.weight", ours=f"{ours}.{n}_norm.weight") for n in "qk"]
        return entries

    def ffn_entries(self, shape: ModelShape, theirs: str, ours: str) -> list[Entry]:
        """Return the weights of a feed-forward; a squared ReLU in a gated class uses ours for both gate and up."""
        ffn, size = shape.layer.ffn, shape.hidden_dim
        entries = []
        for kind in kinds(ffn.bias):
            gate = Entry(theirs=f"{theirs}.gate_proj.{kind}", ours=f"{ours}.to_hidden.{kind}", rows=size)
            up = replace(gate, theirs=f"{theirs}.up_proj.{kind}", start=size if ffn.gated else 0)
            entries += [gate, up] if self.gate else [up]
            entries.append(Entry(theirs=f"{theirs}.down_proj.{kind}", ours=f"{ours}.to_out.{kind}"))
        return entries


class Arcee(Llama):
    """ArceeForCausalLM: Llama without a gate."""

    class_name = "ArceeForCausalLM"
    model_type = "arcee"
    gate = False


class Mistral(Llama):
    """MistralForCausalLM: Llama within a window, without biases."""

    class_name = "MistralForCausalLM"
    model_type = "mistral"
    windows = "one"
    qkv_bias = out_bias = mlp_bias = False

    def window_config(self, shape: ModelShape) -> Config:
        return {"sliding_window": shape.windows[0]}


class LayerTypes(Llama):
    """Classes in which each layer has the one window or none."""

    windows = "any"
    mlp_bias = False

    def other_misfits(self, shape: ModelShape) -> list[str]:
        kinds = set(shape.windows) - {None}
        more = (
            [f"all its windows have the same size, not {' and '.join(sorted(map(str, kinds)))}"]
            if len(kinds) > 1
            else []
        )
        return super().other_misfits(shape) + more

    def window_config(self, shape: ModelShape) -> Config:
        windows = [window for window in shape.windows if window]
        return {
            "use_sliding_window": bool(windows),
            "sliding_window": windows[0] if windows else None,
            "max_window_layers": 0,
            "layer_types": ["sliding_attention" if window else "full_attention" for window in shape.windows],
        }


class Qwen2(LayerTypes):
    """Qwen2ForCausalLM: Llama with biases of queries, keys and values."""

    class_name = "Qwen2ForCausalLM"
    model_type = "qwen2"
    out_bias = False

    def has_attention_bias(self, shape: ModelShape) -> bool:
        return True


class Qwen3(LayerTypes):
    """Qwen3ForCausalLM: Llama with a norm of queries and keys."""

    class_name = "Qwen3ForCausalLM"
    model_type = "qwen3"
    qk_norm = True


LAYOUTS: tuple[Layout, ...] = (Gpt2(), Llama(), Arcee(), Mistral(), Qwen3(), Qwen2(), GptNeoX())
"""All layouts; of several that fit, and need equally many zeros for biases, the first is taken."""


def activation(shape: ModelShape) -> str:
    """Return the name of an activation in transformers, whose "gelu" is the exact one too."""
    ours = shape.layer.ffn.activation
    return "gelu_new" if ours == "gelu_tanh" else ours


def rope(shape: ModelShape, **more: float) -> Config:
    """Return the keys about rope, as version 5 and as earlier versions read them."""
    position = shape.position
    parameters: Config = {"rope_type": "default", "rope_theta": position.theta} | more
    if position.scaling != "none":
        parameters |= {"rope_type": position.scaling, "factor": position.factor}
    if position.scaling == "llama3":
        parameters |= {
            "low_freq_factor": SLOW,
            "high_freq_factor": FAST,
            "original_max_position_embeddings": position.original,
        }
    return {"rope_theta": position.theta, "rope_parameters": parameters}


def rotated_fraction(shape: ModelShape) -> float:
    """Return the fraction of a head that is rotated; the class, which cuts to whole channels, counts as many by it."""
    rotated, width = shape.position.rotated, shape.layer.head_width
    if rotated is None:
        return 1.0
    fraction = rotated / width
    return fraction if int(width * fraction) == rotated else math.nextafter(fraction, 1)


def with_bias(theirs: str, ours: str, form: tuple[str, str] = SAME) -> list[Entry]:
    """Return the weight and the bias of a module; a bias has one form."""
    return [
        Entry(theirs=f"{theirs}.weight", ours=f"{ours}.weight", form=form),
        Entry(theirs=f"{theirs}.bias", ours=f"{ours}.bias"),
    ]


def kinds(bias: bool) -> tuple[str, ...]:
    """Return the kinds of weights of a linear map."""
    return ("weight", "bias") if bias else ("weight",)


def head(shape: ModelShape, name: str) -> list[Entry]:
    """Return the weight of the head, or nothing if it is tied to the embedding."""
    return [] if shape.tied else [Entry(theirs=f"{name}.weight", ours="head.weight")]


# From ours to theirs.


def missing(entries: list[Entry], weights: Weights) -> int:
    """Return how many weights of a class our model lacks: biases, which become zeros."""
    return sum(entry.ours not in weights for entry in entries)


def their_weights(entries: list[Entry], weights: Weights) -> Weights:
    """Return copies of our weights as a class of transformers names and shapes them.

    A bias that our model lacks is zeros. Each is a copy of its own, because a file holds no shared ones and no views.
    """
    return {entry.theirs: their_weight(entry, weights).clone(memory_format=CONTIGUOUS) for entry in entries}


def their_weight(entry: Entry, weights: Weights) -> Tensor:
    """Return one weight."""
    weight = weights.get(entry.ours)
    if weight is None and entry.ours.endswith(".bias"):
        rows = weights[f"{entry.ours.removesuffix('bias')}weight"]
        weight = rows.new_zeros(rows.shape[0])
    if weight is None:
        raise KeyError(entry.ours)
    part = weight[entry.start : entry.start + entry.rows] if entry.rows else weight
    if entry.form == SAME:
        return part
    return rearrange(part, f"{entry.form[0]} -> {entry.form[1]}", **dict(entry.axes))
