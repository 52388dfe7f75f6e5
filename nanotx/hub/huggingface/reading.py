"""Read the `config.json` of a model of the Hugging Face world: its class, and the shape of the model.

Every key is understood, or known to change nothing here, or refused by name: what a key changes must not be guessed.
Where a key is missing that files leave out, the default of its class holds; a size that is missing is an error.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any, TypeVar

from nanotx.errors import ConfigError, RunError, did_you_mean
from nanotx.files import read_regular
from nanotx.hub.huggingface.layouts import LAYOUTS, GptNeoX, Layout, Llama
from nanotx.hub.huggingface.shape import (
    QK_NORM_EPS,
    Activation,
    BlockKind,
    FfnShape,
    LayerShape,
    ModelShape,
    NormShape,
    PositionShape,
)
from nanotx.nn.position.rope_llama3 import FAST, SLOW

T = TypeVar("T")

MOST = 2**20
"""The most bytes of a config.json; those of the largest models have a few thousand."""

MOST_LAYERS = 10_000
"""The most layers of a model."""

WITHOUT_EFFECT = {
    *("architectures", "auto_map", "transformers_version", "_name_or_path", "_attn_implementation"),
    *("torch_dtype", "dtype", "use_cache", "initializer_range", "return_dict", "output_attentions"),
    *("output_hidden_states", "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "finetuning_task"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id"),
    *("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout", "classifier_dropout"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout"),
    *(
        "task_specific_params",
        "is_llama_config",
        "transformers.js_config",
        "n_ctx",
        "gradient_checkpointing",
        "max_window_layers",
        "model_max_length",
    ),
}
"""Keys that change nothing in evaluation: names, sampling's ids, and dropout."""

ONLY = {
    "pretraining_tp": (1,),
    "use_mrope": (False,),
    "rope_interleaved": (False,),
    "is_encoder_decoder": (False,),
    "is_decoder": (False, True),
    "add_cross_attention": (False,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "quantization_config": (None,),
}
"""Keys of which other values change what is computed."""

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu2",
}

WITHOUT_GATE: tuple[Activation, ...] = ("relu", "gelu", "gelu_tanh", "relu2")
GATES: tuple[Activation, ...] = ("silu", "gelu", "relu")
"""Activations of feed-forwards that we have; a ReLU as a gate is one where it squares, see `settled`."""


class Keys:
    """The keys of a config.json, each to be taken once.

    Faults are collected, so that `end` can name them all: a value that is wrong is replaced by a default meanwhile.
    """

    def __init__(self, file: Path, table: Mapping[str, Any], faults: list[str] | None = None) -> None:
        self.file, self.left = file, dict(table)
        self.faults: list[str] = [] if faults is None else faults

    def take(self, name: str, default: T, *kinds: type) -> T:
        """Return the value of a key, of the type of its default or of others; the default if it is missing or null."""
        value = self.left.pop(name, None)
        if value is None:
            return default
        allowed = kinds or (type(default),)
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed:
            self.fault(name, value, " or ".join(kind.__name__ for kind in allowed))
            return default
        if type(value) in (int, float) and not 0 <= value < 2**40:
            self.fault(name, value, "a number from 0 to 2**40")
            return default
        result: T = value
        return result

    def count(self, name: str, default: int | None = None, most: int = 2**31) -> int:
        """Return a number of things, a whole number from 1 to `most`; 1 where it is a fault."""
        missing, before = self.left.get(name) is None, len(self.faults)
        value = self.take(name, default, int)
        if len(self.faults) > before:
            return 1
        if value is None or not 1 <= value <= most:
            self.fault(name, None if missing else value, f"a whole number from 1 to {most:,}")
            return 1
        return value

    def divisor(self, name: str, whole: int, of: str, default: int | None = None) -> int:
        """Return a number of things into which another number can be divided; 1 where it is a fault."""
        value = self.count(name, default)
        if whole % value:
            self.fault(name, value, f"a divisor of {of}, which is {whole:,}")
            return 1
        return value

    def eps(self, name: str, default: float) -> float:
        """Return the number that a norm adds to a variance, above 0."""
        value = self.take(name, default, float)
        if not 0 < value < 1:
            self.fault(name, value, "a number above 0 and below 1")
            return default
        return value

    def activation(self, name: str, default: str, gated: bool) -> Activation:
        """Return the activation of a feed-forward with or without a gate."""
        value, ours = self.take(name, default), GATES if gated else WITHOUT_GATE
        known = {name: activation for name, activation in ACTIVATIONS.items() if activation in ours}
        if value not in known:
            self.fault(name, value, " or ".join(map(repr, known)))
        return known.get(value, "gelu")

    def fault(self, name: str, value: object, wanted: str) -> None:
        """Add a fault."""
        self.faults.append(f"{name}: expected {wanted}, got {brief(value)}")

    def end(self) -> None:
        """Raise ConfigError with all faults, and with the keys that are left and may change something."""
        for name, allowed in ONLY.items():
            if name in self.left and (value := self.left.pop(name)) not in allowed:
                self.fault(name, value, f"{' or '.join(map(repr, allowed))}, which is all that is read")
        unknown = sorted(self.left.keys() - WITHOUT_EFFECT)
        if unknown:
            self.faults.append(
                f"{', '.join(map(repr, unknown))}: not known to nanotx, and may change what is computed; if you know "
                "that they change nothing, remove them from the file"
            )
        if self.faults:
            several = f"{len(self.faults)} faults: " if len(self.faults) > 1 else ""
            raise ConfigError(f"{self.file}: {several}{'; '.join(self.faults)}.")


def read_config(folder: Path) -> tuple[Layout, ModelShape]:
    """Return the class of a folder, and the shape of its model.

    Raises:
        RunError: there is no config.json that can be read.
        ConfigError: its class, a key or a value is not known; says which.
    """
    file = folder / "config.json"
    try:
        table = json.loads(read_regular(file, MOST))
    except OSError as error:
        raise RunError(
            f"{file}: cannot be read: {error.strerror}; a model's folder holds it beside its weights."
        ) from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{file}: no JSON: {error}.") from None
    if not isinstance(table, dict):
        raise RunError(f"{file}: expected an object, got {brief(table)}.")
    by_type = {layout.model_type: layout for layout in LAYOUTS}
    kind = table.pop("model_type", None)
    if not isinstance(kind, str) or kind not in by_type:
        near = did_you_mean(kind, by_type) if isinstance(kind, str) else ""
        raise ConfigError(f"{file}: model_type {brief(kind)} is not known.{near} Known: {', '.join(by_type)}.")
    layout, keys = by_type[kind], Keys(file, table)
    if isinstance(layout, Llama):
        shape = read_llama(layout, keys)
    elif isinstance(layout, GptNeoX):
        shape = read_neox(keys)
    else:
        shape = read_gpt2(keys)
    keys.end()
    return layout, shape


def read_gpt2(keys: Keys) -> ModelShape:
    """Return the shape of a GPT-2."""
    dim, layers = keys.count("n_embd"), keys.count("n_layer", most=MOST_LAYERS)
    heads = keys.divisor("n_head", dim, "n_embd")
    norm = NormShape(kind="layernorm", eps=keys.eps("layer_norm_epsilon", 1e-5), bias=True)
    ffn = FfnShape(gated=False, activation=keys.activation("activation_function", "gelu_new", gated=False), bias=True)
    return ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=keys.count("n_inner", 4 * dim),
        layers=layers,
        share=1,
        context=keys.count("n_positions"),
        tied=keys.take("tie_word_embeddings", True),
        layer=plain_layer("prenorm", norm, heads, dim // heads, True, ffn),
        windows=(None,) * layers,
        norm=norm,
        position=PositionShape(kind="table"),
    )


def plain_layer(block: BlockKind, norm: NormShape, heads: int, width: int, bias: bool, ffn: FfnShape) -> LayerShape:
    """Return the shape of a layer whose heads have keys and values of their own.

    Args:
        block, norm, heads, ffn: of the layer.
        width: of a head.
        bias: whether its attention has biases.
    """
    return LayerShape(
        block=block,
        norm=norm,
        heads=heads,
        kv_heads=heads,
        head_width=width,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=False,
        ffn=ffn,
    )


def read_neox(keys: Keys) -> ModelShape:
    """Return the shape of a GPT-NeoX, of which Pythia is."""
    dim, layers = keys.count("hidden_size"), keys.count("num_hidden_layers", most=MOST_LAYERS)
    heads = keys.divisor("num_attention_heads", dim, "hidden_size")
    norm = NormShape(kind="layernorm", eps=keys.eps("layer_norm_eps", 1e-5), bias=True)
    block: BlockKind = "parallel_norms" if keys.take("use_parallel_residual", True) else "prenorm"
    bias = keys.take("attention_bias", True)
    ffn = FfnShape(gated=False, activation=keys.activation("hidden_act", "gelu", gated=False), bias=True)
    return ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=keys.count("intermediate_size"),
        layers=layers,
        share=1,
        context=(context := keys.count("max_position_embeddings")),
        tied=keys.take("tie_word_embeddings", False),
        layer=plain_layer(block, norm, heads, dim // heads, bias, ffn),
        windows=(None,) * layers,
        norm=norm,
        position=read_rope(keys, dim // heads, context, partial=0.25),
    )


def read_llama(layout: Llama, keys: Keys) -> ModelShape:
    """Return the shape of a Llama, or of a class that differs from it in little."""
    dim, layers = keys.count("hidden_size"), keys.count("num_hidden_layers", most=MOST_LAYERS)
    heads, width = read_heads(layout, keys, dim)
    norm = NormShape(kind="rmsnorm", eps=keys.eps("rms_norm_eps", 1e-6), bias=False)
    if layout.qk_norm and norm.eps != QK_NORM_EPS:
        keys.fault("rms_norm_eps", norm.eps, f"{QK_NORM_EPS:g}, that of the norm of queries and keys")
    bias = keys.take("attention_bias", False) if layout.out_bias else layout.qkv_bias
    activation = keys.activation("hidden_act", "silu" if layout.gate else "relu2", layout.gate)
    layer = LayerShape(
        block="prenorm",
        norm=norm,
        heads=heads,
        kv_heads=keys.divisor("num_key_value_heads", heads, "num_attention_heads", None if layout.windows else heads),
        head_width=width,
        qkv_bias=bias,
        out_bias=bias and layout.out_bias,
        qk_norm=layout.qk_norm,
        ffn=FfnShape(
            gated=layout.gate, activation=activation, bias=keys.take("mlp_bias", False) if layout.mlp_bias else False
        ),
    )
    return ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=keys.count("intermediate_size"),
        layers=layers,
        share=1,
        context=(context := keys.count("max_position_embeddings")),
        tied=keys.take("tie_word_embeddings", False),
        layer=layer,
        windows=read_windows(layout, keys, layers),
        norm=norm,
        position=read_rope(keys, width, context),
    )


def read_heads(layout: Llama, keys: Keys, dim: int) -> tuple[int, int]:
    """Return the number of heads, and the width of one: its own, or its share of the stream."""
    if keys.left.get("head_dim") is None and not layout.qk_norm:
        heads = keys.divisor("num_attention_heads", dim, "hidden_size")
        return heads, keys.count("head_dim", dim // heads)
    return keys.count("num_attention_heads"), keys.count("head_dim", 128)


def read_windows(layout: Llama, keys: Keys, layers: int) -> tuple[int | None, ...]:
    """Return the window of each layer, None where it attends to all positions."""
    if not layout.windows:
        return (None,) * layers
    if layout.windows == "one":
        missing = "sliding_window" not in keys.left
        window = keys.take("sliding_window", 0)
        return ((4096 if missing else window or None),) * layers
    used, window = keys.take("use_sliding_window", False), keys.take("sliding_window", 0)
    first = keys.take("max_window_layers", 28)
    slides = [
        "sliding_attention" if used and window and layer >= first else "full_attention" for layer in range(layers)
    ]
    types = keys.take("layer_types", slides)
    if len(types) != layers or not all(kind in ("sliding_attention", "full_attention") for kind in types):
        keys.fault("layer_types", types, f"'sliding_attention' or 'full_attention' for each of {layers} layers")
    elif "sliding_attention" in types and not (used and window):
        keys.fault("sliding_window", window, "a number of positions, and use_sliding_window true")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def read_rope(keys: Keys, width: int, context: int, partial: float = 1.0) -> PositionShape:
    """Return the rotation: a scaling that is not null replaces `rope_parameters` whole, as in transformers.

    Args:
        keys: of the config.
        width: of a head.
        context: of the model, which is that of the first training if no other is named.
        partial: fraction of a head that is rotated, if none is named.
    """
    plain = keys.take("rope_theta", 10_000.0, float)
    plain = keys.take("rotary_emb_base", plain, float)
    partial = keys.take("rotary_pct", partial, float)
    partial = keys.take("partial_rotary_factor", partial, float)
    first = keys.take("original_max_position_embeddings", 0)
    parameters = keys.take("rope_parameters", dict[str, Any](), dict)
    scaling = keys.take("rope_scaling", parameters, dict)
    inner = Keys(keys.file, scaling, keys.faults)
    kind = inner.take("rope_type", inner.take("type", "default"))
    theta = inner.take("rope_theta", plain, float)
    partial = inner.take("partial_rotary_factor", partial, float)
    rotated = int(width * partial)
    if not 2 <= rotated <= width or rotated % 2:
        keys.fault("partial_rotary_factor", partial, f"a fraction that leaves pairs of the {width} channels of a head")
    if kind not in ("default", "linear", "llama3"):
        keys.fault("rope_type", kind, "'default', 'linear' or 'llama3'")
    if kind != "default" and rotated != width:
        keys.fault("rope_type", kind, "'default', where a part of each head is rotated")
    factor = inner.take("factor", 1.0, float) if kind in ("linear", "llama3") else 1.0
    original = inner.take("original_max_position_embeddings", context) if kind == "llama3" else 0
    if kind == "llama3":
        original = first or original
        for name, value in (("low_freq_factor", SLOW), ("high_freq_factor", FAST)):
            if (got := inner.take(name, 0.0, float)) != value:
                keys.fault(name, got, f"{value:g}, which is all that is read")
    if unknown := sorted(inner.left):
        keys.faults.append(f"rope_parameters: {', '.join(map(repr, unknown))}: not known to nanotx")
    if theta < 1 or factor < 1:
        keys.fault("rope_parameters", scaling, "a rope_theta and a factor of at least 1")
    return PositionShape(
        kind="rope",
        theta=theta,
        scaling="linear" if kind == "linear" and factor > 1 else "llama3" if kind == "llama3" else "none",
        factor=factor,
        original=original,
        rotated=None if rotated == width else rotated,
    )
