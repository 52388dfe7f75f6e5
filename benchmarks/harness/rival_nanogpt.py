"""nanoGPT's own `model.py`, from a checkout that the user names: its GPT, run by the step that all contenders take."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from harness.rival import Library, Named, has_biases, parts
from harness.rival_gpt2 import their_name
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe

CHECKOUT = "NANOGPT"
"""The variable that names the checkout: every contender lives in a process of its own, which inherits it."""


class NanoGpt(Library):
    """Its only dropout rate stands for all places, so a recipe with several is one it cannot express."""

    name, package = "nanogpt", "a checkout of nanoGPT (--nanogpt PATH)"

    def load(self) -> Any:
        file = Path(os.environ.get(CHECKOUT, "")) / "model.py"
        if not os.environ.get(CHECKOUT) or not file.is_file():
            raise ImportError(f"{file}: no such file")
        found = importlib.util.spec_from_file_location("nanogpt_model", file)
        assert found is not None and found.loader is not None, file
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        module = self.load()
        model, block, norm = recipe.model, *parts(recipe)
        rates = {model.dropout, block.dropout, block.attention.dropout}
        if len(rates) != 1 or norm.eps != 1e-5 or block.ffn.activation != "gelu" or not model.tied:
            raise ConfigError("nanogpt: it has one dropout rate, eps 1e-5, gelu and a tied head; this recipe's differ.")
        config = module.GPTConfig(
            block_size=model.context,
            vocab_size=vocab_size,
            n_layer=model.layers,
            n_head=block.attention.heads,
            n_embd=model.dim,
            dropout=model.dropout,
            bias=has_biases(recipe),
        )
        return AllLogits(module.GPT(config))

    def laid_out(self, weights: Named) -> Named:
        return {f"model.{their_name(name)}": weight for name, weight in weights.items()}

    def learns(self, recipe: Recipe) -> Recipe:
        return recipe


class AllLogits(nn.Module):
    """Their model, which by itself gives all logits only beside a loss of its own."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        inner = self.model.transformer
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = inner.drop(inner.wte(ids) + rearrange(inner.wpe(positions), "t d -> 1 t d"))
        for block in inner.h:
            x = block(x)
        logits: Tensor = self.model.lm_head(inner.ln_f(x))
        return logits
