"""`torch.nn.TransformerEncoder` made causal, between an embedding, learned positions and a head."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.rival import Library, Named, biased, has_biases, parts
from nanotx.recipe import Recipe

NAMES = {
    "attention_norm.": "norm1.",
    "ffn_norm.": "norm2.",
    "attention.to_qkv.": "self_attn.in_proj_",
    "attention.to_out.": "self_attn.out_proj.",
    "ffn.to_hidden.": "linear1.",
    "ffn.to_out.": "linear2.",
    "blocks.": "encoder.layers.",
    "position.table.": "position.",
}


class TorchEncoder(Library):
    """It has all biases or none."""

    name, package = "torch_encoder", "torch"

    def load(self) -> Any:
        return nn.TransformerEncoder  # torch is here

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        return Encoder(recipe, vocab_size)

    def laid_out(self, weights: Named) -> Named:
        laid = {}
        for name, weight in weights.items():
            theirs = name.replace("norm.", "encoder.norm.") if name.startswith("norm.") else name
            for ours, other in NAMES.items():
                theirs = theirs.replace(ours, other)
            laid[theirs] = weight
        return laid

    def learns(self, recipe: Recipe) -> Recipe:
        return biased(recipe) if has_biases(recipe) else recipe


class Encoder(nn.Module):
    """What one writes around it to have a language model."""

    def __init__(self, recipe: Recipe, vocab_size: int) -> None:
        super().__init__()
        model, block, norm = recipe.model, *parts(recipe)
        bias = has_biases(recipe)
        layer = nn.TransformerEncoderLayer(
            model.dim,
            block.attention.heads,
            4 * model.dim if block.ffn.hidden_dim is None else block.ffn.hidden_dim,
            dropout=block.dropout,
            activation=block.ffn.activation,
            layer_norm_eps=block.norm.eps,
            batch_first=True,
            norm_first=True,
            bias=bias,
        )
        layer.dropout.p = 0.0  # between the two maps of the feed-forward GPT-2 drops nothing
        layer.self_attn.dropout = block.attention.dropout
        last = nn.LayerNorm(model.dim, norm.eps, bias=bias)
        self.embedding = nn.Embedding(vocab_size, model.dim)
        self.position = nn.Embedding(model.context, model.dim)
        self.dropout = nn.Dropout(model.dropout)
        self.encoder = nn.TransformerEncoder(layer, model.layers, last, enable_nested_tensor=False)
        self.head = nn.Linear(model.dim, vocab_size, bias=False)
        if model.tied:
            self.head.weight = self.embedding.weight
        mask = nn.Transformer.generate_square_subsequent_mask(model.context)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        x = self.dropout(self.embedding(ids) + self.position(torch.arange(length, device=ids.device)))
        mask: Tensor = self.get_buffer("mask")
        logits: Tensor = self.head(self.encoder(x, mask[:length, :length], is_causal=True))
        return logits
