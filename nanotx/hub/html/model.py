"""What the page computes: the parts of a model and of its tokenizer, as plain values; any other part is refused.

`engine.js` reads these values. Attentions that are equivalent to softmax(Q K^T / sqrt(k)) V share their weights in the
canonical layout, so one way of computing them is enough.
"""

from typing import Any

from nanotx.errors import ConfigError
from nanotx.hub.html.pattern import translated
from nanotx.nn.attention.base import MultiHead
from nanotx.nn.block.base import TwoBranches
from nanotx.nn.ffn.gated import Gated
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position.alibi import AlibiPosition
from nanotx.nn.position.rope_base import RotaryPosition
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec
from nanotx.tokenizers.base import UNKNOWN
from nanotx.tokenizers.bpe.tokenizer import BpeCodec
from nanotx.tokenizers.byte import ByteCodec
from nanotx.tokenizers.char import CharCodec

PARTS = {
    "embedding": ("tokens",),
    "position": ("rope", "learned", "alibi", "none"),
    "norm": ("rmsnorm", "layernorm", "none"),
    "block": ("prenorm",),
    "attention": ("fused", "sdpa", "per_head", "gqa", "online_softmax", "blockwise"),
    "ffn": ("mlp", "relu2", "swiglu", "geglu"),
    "tokenizer": ("char", "byte", "bpe"),
}
"""The parts that the page computes, by slot."""

GATES = {"swiglu": "silu", "geglu": "gelu"}
"""Activation of each gated feed-forward."""

Values = dict[str, Any]


def check_part(slot: str, part: object, name: str) -> None:
    """Raise ConfigError unless the page computes a part; the error lists those that it does.

    Args:
        slot: of the part.
        part: its config, or a tokenizer's codec.
        name: of the part.
    """
    known = PARTS[slot]
    if name not in known or not type(part).__module__.startswith("nanotx."):
        raise ConfigError(
            f"html: the page cannot compute {slot} {name!r}; it can compute {', '.join(known)}. Train with one of "
            "them, or hand the run on with nanotx pack."
        )


def described_model(model: Transformer) -> Values:
    """Return the parts of a model as plain values.

    Raises:
        ConfigError: the page cannot compute one of them.
    """
    config = model.config
    check_part("embedding", config.embedding, config.embedding.part)
    return {
        "dim": config.dim,
        "context": config.context,
        "vocab_size": model.vocab_size,
        "tied": config.tied,
        "softcap": config.softcap,
        "share": config.share,
        "position": described_position(model),
        "norm": described_norm(config.norm),
        "layers": [described_block(block) for block in config.pattern()],
    }


def described_position(model: Transformer) -> Values:
    """Return the position as plain values; those that rotate or add a bias have their tables from the module."""
    config, module = model.config.position, model.position
    check_part("position", config, config.part)
    if isinstance(module, RotaryPosition):
        return {"kind": "rotary", "rates": module.rates.tolist(), "scale": module.attention_scale}
    if isinstance(module, AlibiPosition):
        return {"kind": "bias", "slopes": module.slopes.tolist()}
    return {"kind": "table" if config.part == "learned" else "none"}


def described_norm(config: Any) -> Values:
    """Return a norm as plain values."""
    check_part("norm", config, config.part)
    return {"kind": config.part} | ({"eps": config.eps} if isinstance(config, RmsNorm | LayerNorm) else {})


def described_block(block: Any) -> Values:
    """Return a block as plain values, with its attention, feed-forward and norm."""
    check_part("block", block, block.part)
    assert isinstance(block, TwoBranches)
    attention, ffn = block.attention, block.ffn
    check_part("attention", attention, attention.part)
    check_part("ffn", ffn, ffn.part)
    assert isinstance(attention, MultiHead)
    if attention.head_dim is not None:
        raise ConfigError(
            f"html: the page cannot compute heads of their own width (head_dim={attention.head_dim}); hand the run on "
            "with nanotx pack."
        )
    activation = ffn.activation if isinstance(ffn, Mlp) else "relu2" if isinstance(ffn, Relu2) else GATES[ffn.part]
    return {
        "norm": described_norm(block.norm),
        "attention": {
            "heads": attention.heads,
            "kv_heads": attention.kv_heads,
            "qk_norm": described_norm(RmsNorm()) if attention.qk_norm else None,
        },
        "ffn": {"activation": activation, "gated": isinstance(ffn, Gated)},
    }


def described_tokenizer(codec: Codec) -> Values:
    """Return a tokenizer as plain values.

    Raises:
        ConfigError: the page cannot compute it, or its pattern cannot be translated exactly.
    """
    check_part("tokenizer", codec, codec.part)
    values: Values = {"kind": codec.part, "nfc": codec.nfc, "special_tokens": dict(codec.special_tokens)}
    if isinstance(codec, CharCodec):
        return values | {"alphabet": codec.alphabet, "unknown": codec.special_tokens.get(UNKNOWN)}
    if isinstance(codec, BpeCodec):
        merges = [list(pair) for pair in codec.merges]
        pattern = {"pattern": translated(codec.source)}
        return values | pattern | {"merges": merges, "ids": list(codec.ids)}
    assert isinstance(codec, ByteCodec)
    return values
