"""The architectures of llama.cpp that compute a model of ours, and how a file holds one: its keys and its tensors.

Sizes come from the `config.json` of the class of transformers that is the same model, and every key of that is taken or
known to change nothing, so that none is lost. llama.cpp rotates neighbouring channels in some architectures: the rows
of queries and keys are then ordered for it.

Source: `src/models` and `gguf-py` of https://github.com/ggml-org/llama.cpp
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from einops import rearrange
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.hub.huggingface.layouts import (
    SAME,
    TRANSPOSED,
    Arcee,
    Config,
    Gpt2,
    Layout,
    Llama,
    Qwen2,
    Qwen3,
    missing,
    their_weights,
)
from nanotx.hub.huggingface.shape import ModelShape, Weights

Values = dict[str, int | float | str]

KEYS = {
    "n_positions": "context_length",
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_inner": "feed_forward_length",
    "n_head": "attention.head_count",
    "layer_norm_epsilon": "attention.layer_norm_epsilon",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
"""Keys of a config.json that a file has under another name."""

SETTLED = frozenset(
    {
        *("architectures", "model_type", "dtype", "tie_word_embeddings", "n_ctx"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "vocab_size"),  # the tokenizer's part of the file
        *("embd_pdrop", "attn_pdrop", "resid_pdrop", "attention_dropout"),  # of training
        *("activation_function", "hidden_act", "attention_bias", "mlp_bias"),  # by `misfits`, and by the tensors
        *("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
        *("rope_parameters", "head_dim"),
    }
)
"""Keys of a config.json that are taken otherwise, or change nothing."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture."""

    name: str  # in llama.cpp
    layout: Layout  # the class of transformers that is the same model, with other names
    activation: str  # as a config.json names it
    interleaved: bool  # rotates neighbouring channels
    biases: tuple[str, ...]  # ends of the names of biases that it has

    def misfits(self, shape: ModelShape, weights: Weights) -> list[str]:
        """Return why it does not compute a model; nothing if it does."""
        narrow = sorted({window for window in shape.windows if window and window < shape.context})
        shape = replace(shape, windows=(None,) * shape.layers)
        reasons = self.layout.misfits(shape)
        if narrow:
            reasons.append(f"it attends to all positions, and a window of {narrow[0]} is less than the context")
        if reasons:
            return reasons
        config = self.layout.config(shape)
        active = config.get("hidden_act", config.get("activation_function"))
        if active != self.activation:
            reasons.append(f"its ffn computes {self.activation}, not {active}")
        if shape.layer.width != shape.dim and self.name not in WIDE:
            reasons.append("its heads are as wide as the stream together")
        lost = [name for name, weight in self.weights(shape, weights).items() if self.is_lost(name) and weight.any()]
        if lost:
            reasons.append(f"it has no bias {lost[0]}")
        return reasons

    def is_lost(self, name: str) -> bool:
        """Return whether it has no such tensor."""
        return name.endswith(".bias") and not name.endswith(self.biases)

    def weights(self, shape: ModelShape, weights: Weights) -> Weights:
        """Return a model's weights by the names of transformers, linear maps as (out, in)."""
        entries = [replace(e, form=SAME) if e.form == TRANSPOSED else e for e in self.layout.entries(shape)]
        return their_weights(entries, weights)

    def tensors(self, shape: ModelShape, weights: Weights) -> Weights:
        """Return the tensors of a file, by the names of transformers."""
        tensors = {name: w for name, w in self.weights(shape, weights).items() if not self.is_lost(name)}
        if not self.interleaved:
            return tensors
        heads = {".q_proj.": shape.layer.heads, ".k_proj.": shape.layer.kv_heads}
        for name in tensors:
            for part, count in heads.items():
                if part in name:
                    tensors[name] = neighbours(tensors[name], count)
        return tensors

    def values(self, shape: ModelShape) -> Values:
        """Return the keys of a file about the model, without the name of the architecture before them.

        Raises:
            ConfigError: the config has a key that is not known here.
        """
        config = self.layout.config(shape)
        if unknown := sorted(config.keys() - KEYS.keys() - SETTLED):
            raise ConfigError(f"--to gguf: the key {unknown[0]} of {self.layout.class_name} has no place in a file.")
        values = {ours: config[theirs] for theirs, ours in KEYS.items() if theirs in config}
        if "head_dim" in config:
            width = config["head_dim"]
            values |= {"attention.key_length": width, "attention.value_length": width, "rope.dimension_count": width}
        return values | scaling(config)


def neighbours(rows: Tensor, heads: int) -> Tensor:
    """Return the rows of a projection with those that rotate together beside one another."""
    return rearrange(rows, "(h two k) ... -> (h k two) ...", h=heads, two=2).contiguous()


def scaling(config: Config) -> Values:
    """Return the keys about the scaling of positions.

    Raises:
        ConfigError: it is neither none nor linear.
    """
    rope: Mapping[str, Any] = config.get("rope_parameters", {"rope_type": "default"})
    if unknown := sorted(rope.keys() - {"rope_type", "rope_theta", "factor"}):
        raise ConfigError(f"--to gguf: rope with {unknown[0]} has no place in a file.")
    if rope["rope_type"] == "default":
        return {}
    if rope["rope_type"] == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    raise ConfigError(f"--to gguf: rope of the type {rope['rope_type']} is not written; default and linear are.")


WIDE = ("llama", "qwen3")
"""Architectures whose heads may have a width of their own."""

ALL = (".q_proj.bias", ".k_proj.bias", ".v_proj.bias")
ARCHITECTURES = (
    Architecture(name="gpt2", layout=Gpt2(), activation="gelu_new", interleaved=False, biases=(".bias",)),
    Architecture(name="llama", layout=Llama(), activation="silu", interleaved=True, biases=(".bias",)),
    Architecture(name="arcee", layout=Arcee(), activation="relu2", interleaved=True, biases=ALL),
    Architecture(name="qwen2", layout=Qwen2(), activation="silu", interleaved=False, biases=ALL),
    Architecture(name="qwen3", layout=Qwen3(), activation="silu", interleaved=False, biases=ALL),
)
"""All architectures; of several that fit, and need equally many zeros, the first is taken."""


def find_architecture(shape: ModelShape, weights: Weights) -> Architecture:
    """Return the architecture that computes a model; of several, the one that needs the fewest zeros for biases.

    Raises:
        ConfigError: there is none; gives the reason for each.
    """
    reasons = {architecture.name: architecture.misfits(shape, weights) for architecture in ARCHITECTURES}
    if fitting := [architecture for architecture in ARCHITECTURES if not reasons[architecture.name]]:
        return min(fitting, key=lambda architecture: missing(architecture.layout.entries(shape), weights))
    listed = "".join(
        f"\n  {name}: {'; '.join(why)}" for name, why in sorted(reasons.items(), key=lambda row: len(row[1]))
    )
    raise ConfigError(f"no architecture of llama.cpp that is written here computes this model.{listed}")
