"""`x-transformers`, with the library's attention kernel ("flash") and the few switches that make it GPT-2."""

from typing import Any

from torch import nn

from harness.rival import Library, Named, has_biases, parts
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe

OUTER = {"embedding.": "token_emb.emb.", "position.table.": "pos_emb.emb.", "norm.": "attn_layers.final_norm."}
BRANCHES = {
    "attention_norm.weight": (0, "0.0.gamma"),
    "attention.to_out.weight": (0, "1.to_out.weight"),
    "ffn_norm.weight": (1, "0.0.gamma"),
    "ffn.to_hidden.weight": (1, "1.ff.0.0.weight"),
    "ffn.to_out.weight": (1, "1.ff.2.weight"),
}
"""Of each weight of a block: which of the two layers that a block is there, and its name in it."""


class XTransformers(Library):
    """It has no biases where GPT-2 has them, so a recipe with biases is none it can write."""

    name, package = "x_transformers", "x-transformers"

    def load(self) -> Any:
        from x_transformers import Decoder, TransformerWrapper  # an extra

        return Decoder, TransformerWrapper

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        make_layers, make_model = self.load()
        model, block, norm = recipe.model, *parts(recipe)
        if has_biases(recipe) or norm.eps != 1e-5 or block.norm.eps != 1e-5:
            raise ConfigError("x_transformers: its norms have no biases, and add 1e-5; this recipe's are others.")
        layers = make_layers(
            dim=model.dim,
            depth=model.layers,
            heads=block.attention.heads,
            attn_dim_head=block.attention.head_width(model.dim),
            attn_flash=True,
            norm_add_unit_offset=False,
            attn_dropout=block.attention.dropout,
            attn_sublayer_dropout=block.dropout,
            ff_mult=4 if block.ffn.hidden_dim is None else block.ffn.hidden_dim / model.dim,
            ff_custom_activation={"gelu": nn.GELU(), "relu": nn.ReLU()}[block.ffn.activation],
            ff_no_bias=True,
            ff_sublayer_dropout=block.dropout,
        )
        theirs: nn.Module = make_model(
            num_tokens=vocab_size,
            max_seq_len=model.context,
            emb_dropout=model.dropout,
            tie_embedding=model.tied,
            tie_embedding_scale=1.0,
            attn_layers=layers,
        )
        theirs.get_submodule("pos_emb").scale = 1.0  # type: ignore[assignment]  # it scales positions down, so they would learn at another pace
        return theirs

    def laid_out(self, weights: Named) -> Named:
        laid: Named = {}
        for name, weight in weights.items():
            if name.startswith("blocks."):
                _, index, inner = name.split(".", 2)
                if inner == "attention.to_qkv.weight":
                    place = f"attn_layers.layers.{2 * int(index)}.1"
                    laid |= {f"{place}.to_{one}.weight": w for one, w in zip("qkv", weight.chunk(3), strict=True)}
                else:
                    second, theirs = BRANCHES[inner]
                    laid[f"attn_layers.layers.{2 * int(index) + second}.{theirs}"] = weight
            else:
                laid[outer_name(name)] = weight
        return laid

    def learns(self, recipe: Recipe) -> Recipe:
        return recipe


def outer_name(name: str) -> str:
    """What a parameter of ours that is in no block is called there."""
    if name.startswith("head."):
        return name.replace("head.", "to_logits.")
    for ours, theirs in OUTER.items():
        name = name.replace(ours, theirs)
    return name.replace("final_norm.weight", "final_norm.gamma")
