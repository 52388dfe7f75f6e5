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
    FfnShape,
    LayerShape,
    ModelShape,
    NormShape,
    PositionShape,
)

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
    *("task_specific_params", "n_ctx", "gradient_checkpointing", "max_window_layers", "model_max_length"),
}
"""Keys that change nothing in evaluation: names, sampling's ids, and dropout."""

ONLY = {
    "pretraining_tp": (1,),
    "use_mrope": (False,),
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


class Keys:
    """The keys of a config.json, each to be taken once; what is left at the end is refused."""

    def __init__(self, file: Path, table: Mapping[str, Any]) -> None:
        self.file, self.left = file, dict(table)

    def take(self, name: str, default: T, *kinds: type) -> T:
        """Return the value of a key, of the type of its default or of others; the default where it is missing or null.

        Raises:
            ConfigError: it is of another type.
        """
        value = self.left.pop(name, None)
        if value is None:
            return default
        allowed = kinds or (type(default),)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if float in allowed and whole:
            value = float(value)
        if type(value) not in allowed:
            raise self.wrong(name, value, " or ".join(kind.__name__ for kind in allowed))
        if type(value) in (int, float) and not 0 <= value < 2**40:
            raise self.wrong(name, value, "a number from 0 to 2**40")
        result: T = value
        return result

    def count(self, name: str, default: int | None = None, most: int = 2**31) -> int:
        """Return a number of things: a whole number from 1 to `most`.

        Raises:
            ConfigError: it is missing without a default, or no such number.
        """
        value = self.take(name, default, int)
        if value is None or not 1 <= value <= most:
            raise self.wrong(name, value, f"a whole number from 1 to {most:,}")
        return value

    def wrong(self, name: str, value: object, wanted: str) -> ConfigError:
        """Return the error for a value."""
        return ConfigError(f"{self.file}: {name}: expected {wanted}, got {brief(value)}.")

    def activation(self, name: str, default: str) -> Activation:
        """Return an activation.

        Raises:
            ConfigError: nanotx has no such activation.
        """
        value = self.take(name, default)
        if value not in ACTIVATIONS:
            raise self.wrong(name, value, " or ".join(map(repr, ACTIVATIONS)))
        return ACTIVATIONS[value]

    def end(self) -> None:
        """Raise ConfigError if a key is left that may change something."""
        for name, allowed in ONLY.items():
            if name in self.left and (value := self.left.pop(name)) not in allowed:
                raise self.wrong(name, value, f"{' or '.join(map(repr, allowed))}, which is all that is read")
        unknown = sorted(self.left.keys() - WITHOUT_EFFECT)
        if unknown:
            raise ConfigError(
                f"{self.file}: {', '.join(map(repr, unknown))}: not known to nanotx, and may change what is computed; "
                "if you know that they change nothing, remove them from the file."
            )


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
    heads = keys.count("n_head")
    norm = NormShape(kind="layernorm", eps=keys.take("layer_norm_epsilon", 1e-5), bias=True)
    ffn = FfnShape(gated=False, activation=keys.activation("activation_function", "gelu_new"), bias=True)
    return ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=keys.count("n_inner", 4 * dim),
        layers=layers,
        share=1,
        context=keys.count("n_positions"),
        tied=keys.take("tie_word_embeddings", True),
        layer=plain_layer(norm, heads, True, ffn),
        windows=(None,) * layers,
        norm=norm,
        position=PositionShape(kind="table"),
    )


def plain_layer(norm: NormShape, heads: int, bias: bool, ffn: FfnShape) -> LayerShape:
    """Return the shape of a layer whose heads have keys and values of their own.

    Args:
        norm, heads, ffn: of the layer.
        bias: whether its attention has biases.
    """
    return LayerShape(
        block="prenorm", norm=norm, heads=heads, kv_heads=heads, qkv_bias=bias, out_bias=bias, qk_norm=False, ffn=ffn
    )


def read_neox(keys: Keys) -> ModelShape:
    """Return the shape of a GPT-NeoX.

    Raises:
        ConfigError: it rotates a part of each head, or has two norms beside one another, as Pythia does.
    """
    dim, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    layers = keys.count("num_hidden_layers", most=MOST_LAYERS)
    if keys.take("use_parallel_residual", True):
        raise keys.wrong("use_parallel_residual", True, "false: in nanotx parallel branches read one norm, here two")
    norm = NormShape(kind="layernorm", eps=keys.take("layer_norm_eps", 1e-5), bias=True)
    bias = keys.take("attention_bias", True)
    ffn = FfnShape(gated=False, activation=keys.activation("hidden_act", "gelu"), bias=True)
    return ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=keys.count("intermediate_size"),
        layers=layers,
        share=1,
        context=keys.count("max_position_embeddings"),
        tied=keys.take("tie_word_embeddings", False),
        layer=plain_layer(norm, heads, bias, ffn),
        windows=(None,) * layers,
        norm=norm,
        position=read_rope(keys, dim // heads, partial=0.25),
    )


def read_llama(layout: Llama, keys: Keys) -> ModelShape:
    """Return the shape of a Llama, or of a class that differs from it in little.

    Raises:
        ConfigError: the heads are wider or narrower than the stream divided among them.
    """
    dim, heads = keys.count("hidden_size"), keys.count("num_attention_heads")
    layers, wide = keys.count("num_hidden_layers", most=MOST_LAYERS), 128 if layout.qk_norm else dim // heads
    width = keys.count("head_dim", wide)
    if width * heads != dim:
        raise keys.wrong("head_dim", width, f"{dim / heads:g}, which is hidden_size / num_attention_heads")
    norm = NormShape(kind="rmsnorm", eps=keys.take("rms_norm_eps", 1e-6), bias=False)
    if layout.qk_norm and norm.eps != QK_NORM_EPS:
        raise keys.wrong("rms_norm_eps", norm.eps, f"{QK_NORM_EPS:g}, that of the norm of queries and keys")
    bias = keys.take("attention_bias", False) if layout.out_bias else layout.qkv_bias
    activation = keys.activation("hidden_act", "silu" if layout.gate else "relu2")
    return ModelShape(
        vocab_size=keys.count("vocab_size"),
        dim=dim,
        hidden_dim=keys.count("intermediate_size"),
        layers=layers,
        share=1,
        context=keys.count("max_position_embeddings"),
        tied=keys.take("tie_word_embeddings", False),
        layer=LayerShape(
            block="prenorm",
            norm=norm,
            heads=heads,
            kv_heads=keys.count("num_key_value_heads", None if layout.windows else heads),
            qkv_bias=bias,
            out_bias=bias and layout.out_bias,
            qk_norm=layout.qk_norm,
            ffn=FfnShape(
                gated=layout.gate,
                activation=activation,
                bias=keys.take("mlp_bias", False) if layout.mlp_bias else False,
            ),
        ),
        windows=read_windows(layout, keys, layers),
        norm=norm,
        position=read_rope(keys, width),
    )


def read_windows(layout: Llama, keys: Keys, layers: int) -> tuple[int | None, ...]:
    """Return the window of each layer, None where it attends to all positions.

    Raises:
        ConfigError: a layer is of another kind, or there is no window to slide.
    """
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
    if len(types) != layers or not set(types) <= {"sliding_attention", "full_attention"}:
        raise keys.wrong("layer_types", types, f"'sliding_attention' or 'full_attention' for each of {layers} layers")
    if "sliding_attention" in types and not (used and window):
        raise keys.wrong("sliding_window", window, "a number of positions, and use_sliding_window true")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def read_rope(keys: Keys, width: int, partial: float = 1.0) -> PositionShape:
    """Return the rotation: a scaling that is not null replaces `rope_parameters` whole, as in transformers.

    Raises:
        ConfigError: it rotates a part of each head, or is of a kind that nanotx does not compute.
    """
    plain = keys.take("rope_theta", 10_000.0, float)
    plain = keys.take("rotary_emb_base", plain, float)
    partial = keys.take("rotary_pct", partial, float)
    partial = keys.take("partial_rotary_factor", partial, float)
    parameters = keys.take("rope_parameters", dict[str, Any](), dict)
    scaling = keys.take("rope_scaling", parameters, dict)
    inner = Keys(keys.file, scaling)
    kind = inner.take("rope_type", inner.take("type", "default"))
    theta = inner.take("rope_theta", plain, float)
    partial = inner.take("partial_rotary_factor", partial, float)
    if round(width * partial) != width:
        raise keys.wrong("partial_rotary_factor", partial, "1: nanotx rotates whole heads")
    if kind not in ("default", "linear"):
        raise keys.wrong("rope_type", kind, "'default' or 'linear'")
    factor = inner.take("factor", 1.0, float) if kind == "linear" else 1.0
    inner.end()
    if theta < 1 or factor < 1:
        raise keys.wrong("rope_parameters", scaling, "a rope_theta and a factor of at least 1")
    return PositionShape(kind="rope", theta=theta, factor=factor)
