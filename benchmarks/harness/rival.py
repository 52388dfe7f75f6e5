"""Other libraries' implementations of GPT-2, with the sizes of one of our recipes and its weights.

Only their names, their layouts and their speed are theirs: `judging.py` shows that the same weights give the same
logits before anything is timed. Biases that a library cannot leave out begin at zero, and learn.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge
from nanotx.errors import ConfigError
from nanotx.nn.attention import SOFTMAX, Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import to_canonical
from nanotx.recipe import Recipe

Named = dict[str, Tensor]


class Library(ABC):
    """A library that can write the model of a recipe of GPT-2's kind."""

    name: str  # in rows
    package: str  # as pip calls it

    def require(self) -> None:
        """Raise ConfigError where the package is not installed."""
        try:
            self.load()
        except ImportError:
            raise ConfigError(
                f"training.py: expected {self.package} to compare with, and it is not installed; "
                f"try pip install -c constraints.txt {self.package}, or --no-peers."
            ) from None

    @abstractmethod
    def load(self) -> Any:
        """Import what is needed of the package, and give it."""

    @abstractmethod
    def build(self, recipe: Recipe, vocab_size: int) -> nn.Module:
        """Their module, called as `module(ids)`, which gives logits.

        Raises:
            ConfigError: the package cannot write this model; says what it lacks.
        """

    @abstractmethod
    def laid_out(self, weights: Named) -> Named:
        """Our weights under their names, in their shapes."""

    @abstractmethod
    def learns(self, recipe: Recipe) -> Recipe:
        """The recipe with the biases that theirs learns."""


@torch.no_grad()
def give_weights(ours: nn.Module, theirs: nn.Module, library: Library) -> None:
    """Copy our weights into their module; biases that we have not become zeros."""
    named = library.laid_out(to_canonical(ours, dict(ours.named_parameters())))
    for name, parameter in theirs.named_parameters():
        weight = named.pop(name, None)
        if weight is None:
            assert "bias" in name, name
            parameter.zero_()
        else:
            assert weight.shape == parameter.shape, name
            parameter.copy_(weight)
    assert not named, named.keys()


BIASES = {
    "norm": {"bias": True},
    "block": {"norm": {"bias": True}, "attention": {"bias": True, "out_bias": True}, "ffn": {"bias": True}},
}


def biased(recipe: Recipe) -> Recipe:
    """The recipe with every bias that GPT-2 has."""
    changed: Recipe = from_table(Recipe, merge(Recipe, to_table(recipe), {"model": BIASES}))
    return changed


def has_biases(recipe: Recipe) -> bool:
    """Whether a recipe of GPT-2's kind has any bias."""
    block, norm = parts(recipe)
    attention = block.attention
    return bool(norm.bias or block.norm.bias or attention.bias or attention.out_bias or block.ffn.bias)


def with_dropout(recipe: Recipe, share: float) -> Recipe:
    """The recipe with one share dropped everywhere GPT-2 drops: embedding, attention weights, branches."""
    drops = {"dropout": share, "block": {"dropout": share, "attention": {"dropout": share}}}
    changed: Recipe = from_table(Recipe, merge(Recipe, to_table(recipe), {"model": drops}))
    return changed


def parts(recipe: Recipe) -> tuple[Any, Any]:
    """The block and the norm of a recipe of GPT-2's kind.

    Raises:
        ConfigError: it is of another kind; says what would do.
    """
    model, block = recipe.model, recipe.model.block
    wanted: dict[str, tuple[Any, ...]] = {
        "model.block": (block, "prenorm"),
        "model.position": (model.position, "learned"),
        "model.embedding": (model.embedding, "tokens"),
    }
    wanted |= {"model.norm": (model.norm, "layernorm"), "optimizer": (recipe.optimizer, "adamw")}
    if isinstance(block, PreNorm):
        wanted |= {"model.block.norm": (block.norm, "layernorm"), "model.block.ffn": (block.ffn, "mlp")}
        wanted["model.block.attention"] = (block.attention, *written(SOFTMAX))
    for field, (part, *names) in wanted.items():
        if part is None or part.part not in names:
            got = part.part if part else "several blocks"
            raise ConfigError(f"{field}: GPT-2 has {' or '.join(names)}, this recipe {got}; try --recipe macbook.")
    attention: Any = recipe.model.attentions()[0]
    for field, value in {
        "model.head_bias": model.head_bias,
        "model.softcap": model.softcap,
        "model.block.attention.qk_norm": attention.qk_norm,
    }.items():
        if value:
            raise ConfigError(f"{field}: GPT-2 has none, this recipe has {value}; try --recipe macbook.")
    return block, model.norm


def written(function: str) -> list[str]:
    """The attentions that write this function."""
    return [name for name in Attention.names() if Attention.find(name).equivalent_to == function]
