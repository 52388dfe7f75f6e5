"""A model as other libraries describe one: widths, counts and kinds, without the names of our parts."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.attention.base import SOFTMAX, MultiHead
from nanotx.nn.attention.gqa import GroupedQuery
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
from nanotx.nn.position.learned import Learned
from nanotx.nn.position.none import NoPosition
from nanotx.nn.position.rope import Rope
from nanotx.nn.position.rope_linear import RopeLinear
from nanotx.nn.position.rope_llama3 import RopeLlama3
from nanotx.nn.position.rope_ntk import RopeNtk
from nanotx.nn.position.rope_partial import RopePartial
from nanotx.nn.position.sinusoidal import Sinusoidal
from nanotx.nn.transformer import Model

Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "relu2"]
BlockKind = Literal["prenorm", "parallel", "parallel_norms"]
Weights = dict[str, Tensor]
"""Weights by name, in the canonical layout."""

QK_NORM_EPS = RmsNorm().eps
"""The eps of the norm of queries and keys."""


@dataclass(frozen=True, kw_only=True)
class NormShape:
    """A norm."""

    kind: Literal["rmsnorm", "layernorm"]
    eps: float
    bias: bool


@dataclass(frozen=True, kw_only=True)
class PositionShape:
    """A position: a table of vectors that are added to tokens, or the rotation of queries and keys."""

    kind: Literal["table", "rope"]
    theta: float = 10_000.0  # base of the frequencies of rope
    scaling: Literal["none", "linear", "llama3"] = "none"  # of the frequencies of rope
    factor: float = 1.0  # by which they are divided, all of them or the slow ones
    original: int = 0  # context of the first training, where the scaling asks for it
    rotated: int | None = None  # channels of a head that rope rotates; None for all


@dataclass(frozen=True, kw_only=True)
class FfnShape:
    """A feed-forward."""

    gated: bool
    activation: Activation
    bias: bool


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A layer: all layers of a model that other libraries know are alike, but for their windows."""

    block: BlockKind
    norm: NormShape
    heads: int
    kv_heads: int
    head_width: int
    qkv_bias: bool
    out_bias: bool
    qk_norm: bool
    ffn: FfnShape

    @property
    def width(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A model, without what only training knows."""

    vocab_size: int
    dim: int
    hidden_dim: int
    layers: int
    share: int  # consecutive layers with the same weights
    context: int
    tied: bool
    layer: LayerShape
    windows: tuple[int | None, ...]  # positions that each layer attends to, its own included; None for all
    norm: NormShape  # after the last layer
    position: PositionShape


class Unfit(ConfigError):
    """A model that no class of the library computes; the message has every reason."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


def model_shape(config: Model, vocab_size: int, weights: Weights) -> ModelShape:
    """Return the shape of a model.

    Args:
        config: of the model.
        vocab_size: number of ids.
        weights: in the canonical layout; widths that a config leaves to a part are read from them.

    Raises:
        Unfit: a part of it is known to no other library.
    """
    reasons: list[str] = []
    if config.embedding.part != "tokens":
        reasons.append(f"embedding {config.embedding.part}: other libraries embed single tokens only")
    if config.head_bias:
        reasons.append("model.head-bias: their heads have no bias")
    if config.adapt.patterns:
        reasons.append(f"model.adapt {config.adapt.part}: an adapter beside the weights; merge it first: nanotx merge")
    if config.softcap:
        reasons.append("model.softcap: the classes that cap logits differ in other ways")
    layers = [layer_shape(block, config.dim, reasons) for block in config.pattern()]
    if len(set(layers)) > 1:
        reasons.append("model.blocks: layers may differ in their windows alone")
    position = position_shape(config, reasons)
    norm = norm_shape(config.norm, "model.norm", reasons)
    first = layers[0]
    if reasons or first is None or norm is None or position is None:
        raise Unfit(list(dict.fromkeys(reasons)))
    return ModelShape(
        vocab_size=vocab_size,
        dim=config.dim,
        hidden_dim=weights["blocks.0.ffn.to_out.weight"].shape[1],
        layers=config.layers,
        share=config.share,
        context=config.context,
        tied=config.tied,
        layer=first,
        windows=tuple(attention.attention_window for attention in config.attentions()),
        norm=norm,
        position=position,
    )


def layer_shape(block: Block, dim: int, reasons: list[str]) -> LayerShape | None:
    """Return the shape of a layer; None, with reasons added, where no library knows it."""
    if not isinstance(block, PreNorm | Parallel | ParallelNorms):
        reasons.append(f"block {block.part}: only prenorm, parallel and parallel_norms have classes")
        return None
    attention = attention_of(block.attention, reasons)
    norm = norm_shape(block.norm, "block.norm", reasons)
    ffn = ffn_shape(block.ffn, reasons)
    if attention is None or norm is None or ffn is None:
        return None
    return LayerShape(
        block="prenorm"
        if isinstance(block, PreNorm)
        else "parallel"
        if isinstance(block, Parallel)
        else "parallel_norms",
        norm=norm,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_width=attention.head_width(dim),
        qkv_bias=attention.bias,
        out_bias=attention.out_bias,
        qk_norm=attention.qk_norm,
        ffn=ffn,
    )


def attention_of(attention: Attention, reasons: list[str]) -> MultiHead | None:
    """Return an attention that is softmax(Q K^T / sqrt(k)) V, all of it, in groups or in a window."""
    known = (
        isinstance(attention, GroupedQuery | SlidingWindow | SlidingGroupedQuery) or attention.equivalent_to == SOFTMAX
    )
    if isinstance(attention, MultiHead) and known:
        return attention
    reasons.append(f"attention {attention.part}: it is no softmax(Q K^T / sqrt(k)) V")
    return None


def norm_shape(norm: Norm, field: str, reasons: list[str]) -> NormShape | None:
    """Return the shape of a norm; None, with a reason added, where no library knows it."""
    if isinstance(norm, RmsNorm):
        return NormShape(kind="rmsnorm", eps=norm.eps, bias=False)
    if isinstance(norm, LayerNorm):
        return NormShape(kind="layernorm", eps=norm.eps, bias=norm.bias)
    reasons.append(f"{field} {norm.part}: only rmsnorm and layernorm have classes")
    return None


def ffn_shape(ffn: Ffn, reasons: list[str]) -> FfnShape | None:
    """Return the shape of a feed-forward; None, with a reason added, where no library knows it."""
    if isinstance(ffn, Mlp):
        return FfnShape(gated=False, activation=ffn.activation, bias=ffn.bias)
    if isinstance(ffn, Relu2):
        return FfnShape(gated=False, activation="relu2", bias=ffn.bias)
    if isinstance(ffn, SwiGlu):
        return FfnShape(gated=True, activation="silu", bias=ffn.bias)
    if isinstance(ffn, GeGlu):
        return FfnShape(gated=True, activation="gelu", bias=ffn.bias)
    reasons.append(f"ffn {ffn.part}: only mlp, relu2, swiglu and geglu have classes")
    return None


def position_shape(config: Model, reasons: list[str]) -> PositionShape | None:
    """Return the shape of a position; None, with a reason added, where no library knows it."""
    position = config.position
    if isinstance(position, Learned | Sinusoidal | NoPosition):
        return PositionShape(kind="table")
    if isinstance(position, Rope):
        return PositionShape(kind="rope", theta=position.theta)
    if isinstance(position, RopeLinear):
        return PositionShape(kind="rope", theta=position.theta, scaling="linear", factor=position.factor)
    if isinstance(position, RopeNtk | RopePartial | RopeLlama3):
        return scaled_shape(position, config, reasons)
    why = "theirs ramps over other pairs" if position.part == "rope_yarn" else "no class has it"
    reasons.append(f"position {position.part}: {why}")
    return None


def scaled_shape(
    position: RopeNtk | RopePartial | RopeLlama3, config: Model, reasons: list[str]
) -> PositionShape | None:
    """Return the shape of a rope that depends on the width of heads, or on the context of the model."""
    heads = {(attention.heads, attention.heads_width(config.dim)) for attention in config.attentions()}
    if not heads:
        return None
    count, width = heads.pop()
    if isinstance(position, RopeNtk):
        return PositionShape(kind="rope", theta=position.grown_theta(width, count))
    if isinstance(position, RopePartial):
        rotated = position.rotated(width // count)
        return PositionShape(kind="rope", theta=position.theta, rotated=rotated if rotated < width // count else None)
    original = position.original or config.context / position.factor
    if original != int(original):
        reasons.append(f"position rope_llama3: its original length, {original:g}, is no whole number of tokens")
        return None
    return PositionShape(
        kind="rope", theta=position.theta, scaling="llama3", factor=position.factor, original=int(original)
    )
