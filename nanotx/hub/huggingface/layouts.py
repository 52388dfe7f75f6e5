"""The classes of `transformers` that compute a model of ours, and where each keeps its weights.

A layout says why it does not fit a shape, writes the `config.json` of one that it fits, and renames, splits and
transposes weights. What our parts leave out and a class has, such as a bias, is written as zeros; a squared ReLU is,
where a class knows gated feed-forwards alone, relu(x W) * (x W) with the same weights twice, which is the same number.

Source: the modules `modeling_*.py` and `configuration_*.py` of transformers 5, https://github.com/huggingface/transformers
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor

from nanotx.hub.huggingface.shape import QK_NORM_EPS, ModelShape, Weights

Config = dict[str, Any]


class Layout(ABC):
    """A class of `transformers`."""

    class_name: ClassVar[str]
    model_type: ClassVar[str]
    norm_kind: ClassVar[str]
    position_kind: ClassVar[str]

    def misfits(self, shape: ModelShape) -> list[str]:
        """Return why the class does not compute a model of this shape; nothing if it does."""
        reasons = []
        if shape.norm.kind != self.norm_kind or shape.layer.norm.kind != self.norm_kind:
            reasons.append(f"its norms are {self.norm_kind}")
        elif shape.norm.eps != shape.layer.norm.eps:
            reasons.append("its norms have one eps")
        if shape.position.kind != self.position_kind:
            kinds = {"table": "learned positions", "rope": "rope"}
            reasons.append(f"it has {kinds[self.position_kind]}")
        return reasons + self.other_misfits(shape)

    @abstractmethod
    def other_misfits(self, shape: ModelShape) -> list[str]:
        """Return further reasons."""

    def config(self, shape: ModelShape) -> Config:
        """Return the `config.json`: what its class does not have by default must not be left out."""
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
    def tensors(self, shape: ModelShape, weights: Weights, table: Tensor | None) -> Weights:
        """Return the weights as the class names and shapes them.

        Args:
            shape: of the model.
            weights: in the canonical layout.
            table: the vector that is added to a token at each position, or None where nothing is.
        """


def layers_of(shape: ModelShape, weights: Weights) -> list[Weights]:
    """Return the weights of each layer, by their names in the layer; layers that share a block all have it."""
    found: list[Weights] = [{} for _ in range(shape.layers // shape.share)]
    for name, weight in weights.items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            found[int(number)][rest] = weight
    return [layer for layer in found for _ in range(shape.share)]


def bias_or_zeros(layer: Weights, module: str) -> Tensor:
    """Return the bias of a module, or zeros where it has none."""
    bias = layer.get(f"{module}.bias")
    weight = layer[f"{module}.weight"]
    return bias if bias is not None else weight.new_zeros(weight.shape[0])


def with_biases(name: str, layer: Weights, module: str, transposed: bool = False) -> Weights:
    """Return the weight and bias of a module under another name; a missing bias is zeros."""
    weight = layer[f"{module}.weight"]
    return {
        f"{name}.weight": rearrange(weight, "out into -> into out") if transposed else weight,
        f"{name}.bias": bias_or_zeros(layer, module),
    }


class Gpt2(Layout):
    """GPT2LMHeadModel."""

    class_name = "GPT2LMHeadModel"
    model_type = "gpt2"
    norm_kind = "layernorm"
    position_kind = "table"

    def other_misfits(self, shape: ModelShape) -> list[str]:
        layer, reasons = shape.layer, []
        if layer.block != "prenorm":
            reasons.append("its blocks are prenorm")
        if layer.ffn.gated:
            reasons.append("its ffn has no gate")
        if layer.kv_heads != layer.heads:
            reasons.append("every head has keys and values of its own")
        if any(shape.windows):
            reasons.append("it attends to all positions")
        if layer.qk_norm:
            reasons.append("it does not norm queries and keys")
        return reasons

    def other_config(self, shape: ModelShape) -> Config:
        return {
            "n_positions": shape.context,
            "n_ctx": shape.context,  # llama.cpp reads this key
            "n_embd": shape.dim,
            "n_layer": shape.layers,
            "n_head": shape.layer.heads,
            "n_inner": shape.hidden_dim,
            "activation_function": shape.layer.ffn.activation,  # "gelu" is the exact one
            "layer_norm_epsilon": shape.norm.eps,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }

    def tensors(self, shape: ModelShape, weights: Weights, table: Tensor | None) -> Weights:
        named = {
            "transformer.wte.weight": weights["embedding.weight"],
            "transformer.wpe.weight": torch.zeros(shape.context, shape.dim) if table is None else table,
            **with_biases("transformer.ln_f", weights, "norm"),
        }
        for number, layer in enumerate(layers_of(shape, weights)):
            prefix = f"transformer.h.{number}"
            named |= with_biases(f"{prefix}.ln_1", layer, "attention_norm")
            named |= with_biases(f"{prefix}.ln_2", layer, "ffn_norm")
            named |= with_biases(f"{prefix}.attn.c_attn", layer, "attention.to_qkv", transposed=True)
            named |= with_biases(f"{prefix}.attn.c_proj", layer, "attention.to_out", transposed=True)
            named |= with_biases(f"{prefix}.mlp.c_fc", layer, "ffn.to_hidden", transposed=True)
            named |= with_biases(f"{prefix}.mlp.c_proj", layer, "ffn.to_out", transposed=True)
        return named | head(shape, weights, "lm_head")


class GptNeoX(Layout):
    """GPTNeoXForCausalLM, of Pythia."""

    class_name = "GPTNeoXForCausalLM"
    model_type = "gpt_neox"
    norm_kind = "layernorm"
    position_kind = "rope"

    def other_misfits(self, shape: ModelShape) -> list[str]:
        layer, reasons = shape.layer, []
        if layer.ffn.gated:
            reasons.append("its ffn has no gate")
        if layer.kv_heads != layer.heads:
            reasons.append("every head has keys and values of its own")
        if any(shape.windows):
            reasons.append("it attends to all positions")
        if layer.qk_norm:
            reasons.append("it does not norm queries and keys")
        return reasons

    def other_config(self, shape: ModelShape) -> Config:
        return {
            "max_position_embeddings": shape.context,
            "hidden_size": shape.dim,
            "intermediate_size": shape.hidden_dim,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.layer.heads,
            "hidden_act": shape.layer.ffn.activation,
            "layer_norm_eps": shape.norm.eps,
            "attention_bias": True,
            "use_parallel_residual": shape.layer.block == "parallel",
            "attention_dropout": 0.0,
            "hidden_dropout": 0.0,
            **rope(shape, partial_rotary_factor=1.0),
            "rotary_pct": 1.0,
        }

    def tensors(self, shape: ModelShape, weights: Weights, table: Tensor | None) -> Weights:
        named = {
            "gpt_neox.embed_in.weight": weights["embedding.weight"],
            **with_biases("gpt_neox.final_layer_norm", weights, "norm"),
        }
        for number, layer in enumerate(layers_of(shape, weights)):
            prefix = f"gpt_neox.layers.{number}"
            parallel = shape.layer.block == "parallel"
            named |= with_biases(f"{prefix}.input_layernorm", layer, "norm" if parallel else "attention_norm")
            named |= with_biases(f"{prefix}.post_attention_layernorm", layer, "norm" if parallel else "ffn_norm")
            qkv = with_biases(f"{prefix}.attention.query_key_value", layer, "attention.to_qkv")
            named |= {name: by_head(tensor, shape.layer.heads) for name, tensor in qkv.items()}
            named |= with_biases(f"{prefix}.attention.dense", layer, "attention.to_out")
            named |= with_biases(f"{prefix}.mlp.dense_h_to_4h", layer, "ffn.to_hidden")
            named |= with_biases(f"{prefix}.mlp.dense_4h_to_h", layer, "ffn.to_out")
        return named | head(shape, weights, "embed_out")


def by_head(rows: Tensor, heads: int) -> Tensor:
    """Return rows of q, k and v, each of all heads, as q, k and v of each head."""
    return rearrange(rows, "(three h k) ... -> (h three k) ...", three=3, h=heads)


class Llama(Layout):
    """LlamaForCausalLM, and the classes that differ from it in little."""

    class_name = "LlamaForCausalLM"
    model_type = "llama"
    norm_kind = "rmsnorm"
    position_kind = "rope"
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
            reasons.append(f"its norms have the eps of those of queries and keys, {QK_NORM_EPS:g}")
        wrong = [
            name
            for name, asked, can in (
                ("queries, keys and values", layer.qkv_bias, self.qkv_bias),
                ("the output projection", layer.out_bias, self.out_bias),
                ("the ffn", layer.ffn.bias, self.mlp_bias),
            )
            if asked and not can
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
            "head_dim": shape.dim // layer.heads,
            "hidden_act": "relu" if self.gate and layer.ffn.activation == "relu2" else layer.ffn.activation,
            "max_position_embeddings": shape.context,
            "rms_norm_eps": shape.norm.eps,
            "attention_bias": self.has_attention_bias(shape),
            "mlp_bias": layer.ffn.bias,
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

    def tensors(self, shape: ModelShape, weights: Weights, table: Tensor | None) -> Weights:
        named = {"model.embed_tokens.weight": weights["embedding.weight"], "model.norm.weight": weights["norm.weight"]}
        for number, layer in enumerate(layers_of(shape, weights)):
            prefix = f"model.layers.{number}"
            named[f"{prefix}.input_layernorm.weight"] = layer["attention_norm.weight"]
            named[f"{prefix}.post_attention_layernorm.weight"] = layer["ffn_norm.weight"]
            named |= self.attention_tensors(shape, layer, f"{prefix}.self_attn")
            named |= self.ffn_tensors(shape, layer, f"{prefix}.mlp")
        return named | head(shape, weights, "lm_head")

    def attention_tensors(self, shape: ModelShape, layer: Weights, prefix: str) -> Weights:
        """Return the weights of an attention."""
        own, width = shape.layer, shape.dim // shape.layer.heads
        sizes = [own.heads * width, own.kv_heads * width, own.kv_heads * width]
        kinds = {"weight": layer["attention.to_qkv.weight"]}
        if self.has_attention_bias(shape):
            kinds["bias"] = bias_or_zeros(layer, "attention.to_qkv")
        named = {
            f"{prefix}.{name}_proj.{kind}": rows
            for kind, tensor in kinds.items()
            for name, rows in zip("qkv", tensor.split(sizes), strict=True)
        }
        named[f"{prefix}.o_proj.weight"] = layer["attention.to_out.weight"]
        if self.has_attention_bias(shape) and self.out_bias:
            named[f"{prefix}.o_proj.bias"] = bias_or_zeros(layer, "attention.to_out")
        if self.qk_norm:
            named |= {f"{prefix}.{name}_norm.weight": layer[f"attention.{name}_norm.weight"] for name in "qk"}
        return named

    def ffn_tensors(self, shape: ModelShape, layer: Weights, prefix: str) -> Weights:
        """Return the weights of a feed-forward: of a squared ReLU, where there is a gate, its weights twice."""
        ffn = shape.layer.ffn
        named = {}
        for kind in ("weight", "bias") if ffn.bias else ("weight",):
            hidden = layer[f"ffn.to_hidden.{kind}"]
            gate, up = hidden.chunk(2) if ffn.gated else (hidden, hidden)
            if self.gate:
                named[f"{prefix}.gate_proj.{kind}"] = gate
            named[f"{prefix}.up_proj.{kind}"] = up
            named[f"{prefix}.down_proj.{kind}"] = layer[f"ffn.to_out.{kind}"]
        return named


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
        more = [f"its windows are alike, not {sorted(map(str, kinds))}"] if len(kinds) > 1 else []
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
"""All layouts; of several that fit, the first is taken."""


def rope(shape: ModelShape, **more: float) -> Config:
    """Return the keys about rope, as version 5 and as earlier versions read them."""
    base: Config = {"rope_type": "default", "rope_theta": shape.position.theta} | more
    if shape.position.factor == 1.0:
        return {"rope_theta": shape.position.theta, "rope_parameters": base}
    return {
        "rope_theta": shape.position.theta,
        "rope_parameters": base | {"rope_type": "linear", "factor": shape.position.factor},
    }


def head(shape: ModelShape, weights: Weights, name: str) -> Weights:
    """Return the weights of the head, which a tied one does not have."""
    return {} if shape.tied else {f"{name}.weight": weights["head.weight"]}
