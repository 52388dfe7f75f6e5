"""Hugging Face's `GPT2LMHeadModel`, at its fastest: the library's attention kernel, no cache, no labels."""

from typing import Any

from einops import rearrange
from torch import Tensor, nn

from harness.rival import Library, Named, biased, parts
from nanotx.recipe import Recipe

NAMES = {
    "attention_norm.": "ln_1.",
    "ffn_norm.": "ln_2.",
    "attention.to_qkv.": "attn.c_attn.",
    "attention.to_out.": "attn.c_proj.",
    "ffn.to_hidden.": "mlp.c_fc.",
    "ffn.to_out.": "mlp.c_proj.",
    "blocks.": "transformer.h.",
    "embedding.": "transformer.wte.",
    "position.table.": "transformer.wpe.",
}
"""Ours and theirs. The last norm is `transformer.ln_f.`, the head `lm_head.`; matrices of blocks are transposed."""


class Gpt2(Library):
    """It has every bias, whatever the recipe has."""

    name, package = "transformers", "transformers"

    def load(self) -> Any:
        from transformers import GPT2Config, GPT2LMHeadModel  # an extra

        return GPT2Config, GPT2LMHeadModel

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        make_config, make_model = self.load()
        model, block, norm = recipe.model, *parts(recipe)
        config = make_config(
            vocab_size=vocab_size,
            n_positions=model.context,
            n_embd=model.dim,
            n_layer=model.layers,
            n_head=block.attention.heads,
            n_inner=block.ffn.hidden_dim,
            activation_function=block.ffn.activation,
            layer_norm_epsilon=norm.eps,
            embd_pdrop=model.dropout,
            attn_pdrop=block.attention.dropout,
            resid_pdrop=block.dropout,
            tie_word_embeddings=model.tied,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
            attn_implementation="sdpa",
        )
        return LogitsOnly(make_model(config))

    def laid_out(self, weights: Named) -> Named:
        laid = {}
        for name, weight in weights.items():
            theirs = f"model.{their_name(name)}"
            conv = ".h." in theirs and weight.ndim == 2
            laid[theirs] = rearrange(weight, "out into -> into out") if conv else weight
        return laid

    def learns(self, recipe: Recipe) -> Recipe:
        return biased(recipe)


def their_name(name: str) -> str:
    """What a parameter of ours is called there."""
    if name.startswith(("norm.", "head.")):
        return name.replace("norm.", "transformer.ln_f.").replace("head.", "lm_head.")
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


class LogitsOnly(nn.Module):
    """Their model, which answers with the logits alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(ids).logits
        return logits
