"""A block from outside nanotx, which ours are compared with; it bears a name, and obeys the same laws."""

from dataclasses import dataclass

from torch import Tensor, nn

from harness.references import TorchMha
from nanotx.nn.attention import Attention, causal_mask
from nanotx.nn.block import Block
from nanotx.nn.canonical import CustomLayout, Tensors
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.shapes import Stream


@Block.register("torch_encoder")
@dataclass(frozen=True, kw_only=True)
class TorchEncoder(Block):
    """`torch.nn.TransformerEncoderLayer`, told to look back only: a `prenorm` as GPT-2 has it."""

    heads: int = 4  # of its attention

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return (TorchMha(heads=self.heads),)

    def build(self, dim: int) -> nn.Module:
        TorchMha(heads=self.heads).check_width(dim)
        return TorchEncoderBlock(self.heads, dim)


class TorchEncoderBlock(CustomLayout):
    """The library's layer. It keeps no keys, so the cache keeps inputs, and all are read again."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=False
        )

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        known = x if cache is None else cache.append(x, x)[0]
        length = known.shape[1]
        y: Tensor = self.layer(known, src_mask=~causal_mask(length, length, x.device), is_causal=True)
        return y[:, length - x.shape[1] :]

    def to_canonical(self, tensors: Tensors) -> Tensors:
        return {THEIRS.get(name, name): tensor for name, tensor in tensors.items()}

    def from_canonical(self, canonical: Tensors) -> Tensors:
        return {OURS.get(name, name): tensor for name, tensor in canonical.items()}


THEIRS = {
    "layer.self_attn.in_proj_weight": "attention.to_qkv.weight",
    "layer.self_attn.out_proj.weight": "attention.to_out.weight",
    "layer.linear1.weight": "ffn.to_hidden.weight",
    "layer.linear2.weight": "ffn.to_out.weight",
    "layer.norm1.weight": "attention_norm.weight",
    "layer.norm2.weight": "ffn_norm.weight",
}
"""The library's names of the weights, and ours."""
OURS = {ours: theirs for theirs, ours in THEIRS.items()}
"""The other way about."""
