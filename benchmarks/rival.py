"""Hugging Face's GPT-2 with the sizes of one of our recipes, and the step that a good plain loop would take with it.

Only the names and layouts are theirs: the same weights give the same function, which `same_function` shows before
anything is timed. GPT-2 has biases that a recipe may leave out: they start at zero, and learn.
"""

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.attention import SOFTMAX, Attention
from nanotx.block.prenorm import PreNorm
from nanotx.data import Windows
from nanotx.device import Machine
from nanotx.errors import ConfigError, LawBroken
from nanotx.layout import to_shared
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


def parts(recipe: Recipe) -> tuple[Any, Any]:
    """The block and the norm of a recipe of GPT-2's kind.

    Raises:
        ConfigError: it is of another kind; says what would do.
    """
    model, block = recipe.model, recipe.model.block
    wanted: dict[str, tuple[Any, ...]] = {
        "model.block": (block, "prenorm"),
        "model.position": (model.position, "learned"),
    }
    wanted |= {"model.norm": (model.norm, "layer"), "optimizer": (recipe.optimizer, "adamw")}
    if isinstance(block, PreNorm):
        wanted |= {"model.block.norm": (block.norm, "layer"), "model.block.ffn": (block.ffn, "mlp")}
        wanted["model.block.attention"] = (block.attention, *written(SOFTMAX))
    for field, (part, *names) in wanted.items():
        if part is None or part.part not in names:
            got = part.part if part else "several blocks"
            raise ConfigError(f"{field}: GPT-2 has {' or '.join(names)}, this recipe {got}; try --recipe macbook.")
    if model.head_bias:
        raise ConfigError("model.head_bias: GPT-2 has none, this recipe has one; try --recipe macbook.")
    return block, model.norm


def written(function: str) -> list[str]:
    """The attentions that write this function."""
    return [name for name in Attention.names() if Attention.find(name).function == function]


def library() -> tuple[Any, Any]:
    """Their config and their model, imported now.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        raise ConfigError(
            "training.py: expected Hugging Face's transformers to compare with, and it is not installed; "
            "try pip install -c constraints.txt transformers."
        ) from None
    return GPT2Config, GPT2LMHeadModel


def gpt2(recipe: Recipe, vocab_size: int) -> nn.Module:
    """Their module of the recipe's sizes, at its fastest: the library's attention kernel, and no cache."""
    make_config, make_model = library()
    model, block, norm = recipe.model, *parts(recipe)
    config = make_config(
        vocab_size=vocab_size,
        n_positions=model.context,
        n_embd=model.dim,
        n_layer=model.layers,
        n_head=block.attention.heads,
        n_inner=block.ffn.width,
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
    theirs: nn.Module = make_model(config)
    return theirs


@torch.no_grad()
def give_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy our weights into their layout, biases that we have not as zeros."""
    named = {their_name(name): one for name, one in to_shared(ours, dict(ours.named_parameters())).items()}
    for name, parameter in theirs.named_parameters():
        weight = named.pop(name) if name in named else None
        if weight is None:
            assert name.endswith(".bias"), name
            parameter.zero_()
        else:
            conv = ".h." in name and weight.ndim == 2
            parameter.copy_(rearrange(weight, "out into -> into out") if conv else weight)
    assert not named, named.keys()


def their_name(name: str) -> str:
    """What a parameter of ours is called there."""
    if name.startswith(("norm.", "head.")):
        return name.replace("norm.", "transformer.ln_f.").replace("head.", "lm_head.")
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


@torch.no_grad()
def same_function(ours: nn.Module, theirs: nn.Module, ids: Tensor, tolerance: float) -> None:
    """With the same weights, both give the same scores; these weights are drawn anew, and far from small.

    Raises:
        LawBroken: by how much they differ.
    """
    for parameter in ours.parameters():
        parameter.normal_(std=0.2).add_(float(parameter.ndim == 1))
    give_weights(ours, theirs)
    want, got = ours.eval()(ids), theirs.eval()(ids).logits
    difference, limit = (want - got).abs().max().item(), tolerance * max(1.0, want.abs().max().item())
    if not difference <= limit:
        raise LawBroken(f"same_function: scores differ by {difference:.3g}, more than {limit:.3g}.")


class Rival:
    """Their model in a plain loop: the same batches, the same groups of weights, the same rates."""

    def __init__(self, recipe: Recipe, model: nn.Module, windows: Windows, machine: Machine) -> None:
        self.recipe, self.windows, self.machine, self.step = recipe, windows, machine, 0
        self.model = model.to(machine.device).train()
        self.optimizer = recipe.optimizer.build(self.model.named_parameters())

    def advance(self) -> float:
        """Take one step; returns the loss."""
        plan, device = self.recipe.train, self.machine.device
        factor = self.recipe.schedule.factor(self.step, plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        x, y = (one.to(device) for one in self.windows.batch(self.step, plan.batch))
        self.optimizer.zero_grad(set_to_none=True)
        with self.machine.autocast():
            logits = self.model(x).logits
            loss = F.cross_entropy(rearrange(logits, "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"))
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip or math.inf)
        self.optimizer.step()
        self.step += 1
        return loss.item()
