"""The transformer and its parts: embedding, position, attention, ffn, norm and block.

The names in `__all__` serve in a model of one's own, too: docs/layers_alone.md. Each is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nanotx.errors import did_you_mean

if TYPE_CHECKING:
    from nanotx.nn.attention import Attention as Attention
    from nanotx.nn.attention import MultiHead as MultiHead
    from nanotx.nn.attention import MultiHeadAttention as MultiHeadAttention
    from nanotx.nn.attention.blockwise import Blockwise as Blockwise
    from nanotx.nn.attention.flex import Flex as Flex
    from nanotx.nn.attention.fused import Fused as Fused
    from nanotx.nn.attention.gqa import GroupedQuery as GroupedQuery
    from nanotx.nn.attention.linear import LinearKernel as LinearKernel
    from nanotx.nn.attention.online_softmax import OnlineSoftmax as OnlineSoftmax
    from nanotx.nn.attention.per_head import PerHead as PerHead
    from nanotx.nn.attention.sdpa import Sdpa as Sdpa
    from nanotx.nn.attention.sliding_gqa import SlidingGroupedQuery as SlidingGroupedQuery
    from nanotx.nn.attention.sliding_window import SlidingWindow as SlidingWindow
    from nanotx.nn.block import Block as Block
    from nanotx.nn.block.parallel import Parallel as Parallel
    from nanotx.nn.block.parallel_norms import ParallelNorms as ParallelNorms
    from nanotx.nn.block.postnorm import PostNorm as PostNorm
    from nanotx.nn.block.prenorm import PreNorm as PreNorm
    from nanotx.nn.block.sandwich import Sandwich as Sandwich
    from nanotx.nn.block.token_shift import TokenShift as TokenShift
    from nanotx.nn.canonical import from_canonical as from_canonical
    from nanotx.nn.canonical import to_canonical as to_canonical
    from nanotx.nn.ffn import Ffn as Ffn
    from nanotx.nn.ffn.geglu import GeGlu as GeGlu
    from nanotx.nn.ffn.mlp import Mlp as Mlp
    from nanotx.nn.ffn.moe import MixtureOfExperts as MixtureOfExperts
    from nanotx.nn.ffn.relu2 import Relu2 as Relu2
    from nanotx.nn.ffn.swiglu import SwiGlu as SwiGlu
    from nanotx.nn.hooks import AuxLossModule as AuxLossModule
    from nanotx.nn.init import Init as Init
    from nanotx.nn.init import draw_weights as draw_weights
    from nanotx.nn.kv_cache import KVCache as KVCache
    from nanotx.nn.kv_cache import RewindableKVCache as RewindableKVCache
    from nanotx.nn.kv_cache import RollingKVCache as RollingKVCache
    from nanotx.nn.norm import Norm as Norm
    from nanotx.nn.norm.layernorm import LayerNorm as LayerNorm
    from nanotx.nn.norm.none import NoNorm as NoNorm
    from nanotx.nn.norm.rmsnorm import RmsNorm as RmsNorm
    from nanotx.nn.position import NO_POSITION as NO_POSITION
    from nanotx.nn.position import Position as Position
    from nanotx.nn.position import PositionalEncoding as PositionalEncoding
    from nanotx.nn.position.alibi import Alibi as Alibi
    from nanotx.nn.position.learned import Learned as Learned
    from nanotx.nn.position.rope import Rope as Rope
    from nanotx.nn.position.rope_linear import RopeLinear as RopeLinear
    from nanotx.nn.position.rope_llama3 import RopeLlama3 as RopeLlama3
    from nanotx.nn.position.rope_ntk import RopeNtk as RopeNtk
    from nanotx.nn.position.rope_partial import RopePartial as RopePartial
    from nanotx.nn.position.rope_yarn import RopeYarn as RopeYarn
    from nanotx.nn.position.sinusoidal import Sinusoidal as Sinusoidal
    from nanotx.nn.transformer import Model as Model

NAMES = {
    "attention": ("Attention", "MultiHead", "MultiHeadAttention"),
    "attention.blockwise": ("Blockwise",),
    "attention.flex": ("Flex",),
    "attention.fused": ("Fused",),
    "attention.gqa": ("GroupedQuery",),
    "attention.linear": ("LinearKernel",),
    "attention.online_softmax": ("OnlineSoftmax",),
    "attention.per_head": ("PerHead",),
    "attention.sdpa": ("Sdpa",),
    "attention.sliding_gqa": ("SlidingGroupedQuery",),
    "attention.sliding_window": ("SlidingWindow",),
    "block": ("Block",),
    "block.parallel": ("Parallel",),
    "block.parallel_norms": ("ParallelNorms",),
    "block.postnorm": ("PostNorm",),
    "block.prenorm": ("PreNorm",),
    "block.sandwich": ("Sandwich",),
    "block.token_shift": ("TokenShift",),
    "canonical": ("from_canonical", "to_canonical"),
    "ffn": ("Ffn",),
    "ffn.geglu": ("GeGlu",),
    "ffn.mlp": ("Mlp",),
    "ffn.moe": ("MixtureOfExperts",),
    "ffn.relu2": ("Relu2",),
    "ffn.swiglu": ("SwiGlu",),
    "hooks": ("AuxLossModule",),
    "init": ("Init", "draw_weights"),
    "kv_cache": ("KVCache", "RewindableKVCache", "RollingKVCache"),
    "norm": ("Norm",),
    "norm.layernorm": ("LayerNorm",),
    "norm.none": ("NoNorm",),
    "norm.rmsnorm": ("RmsNorm",),
    "position": ("NO_POSITION", "Position", "PositionalEncoding"),
    "position.alibi": ("Alibi",),
    "position.learned": ("Learned",),
    "position.rope": ("Rope",),
    "position.rope_linear": ("RopeLinear",),
    "position.rope_llama3": ("RopeLlama3",),
    "position.rope_ntk": ("RopeNtk",),
    "position.rope_partial": ("RopePartial",),
    "position.rope_yarn": ("RopeYarn",),
    "position.sinusoidal": ("Sinusoidal",),
    "transformer": ("Model",),
}
"""Public names by the module of this package that defines them."""

FROM = {name: f"nanotx.nn.{module}" for module, names in NAMES.items() for name in names}
__all__ = [*FROM]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in FROM:
        return getattr(importlib.import_module(FROM[name]), name)
    raise AttributeError(f"nanotx.nn has no attribute {name!r}.{did_you_mean(name, FROM)} It has: {', '.join(FROM)}.")


def __dir__() -> list[str]:
    return __all__
