"""Who takes a training step of one and the same model, and how: ours, and other libraries', plain and at their best.

Plain is what nanoGPT does on a CPU: as written, in float32, dropout by the library. At its best is what this machine
would do by itself: autocast to bfloat16 where the hardware multiplies in it, and compiled.
"""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import nn
from torch.nn import functional as F

from harness.rival import Library, parts
from harness.rival_encoder import TorchEncoder
from harness.rival_gpt2 import Gpt2
from harness.rival_nanogpt import CHECKOUT, NanoGpt
from harness.rival_x import XTransformers
from nanotx.config.presets import presets
from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge, read_toml
from nanotx.data.corpus import Corpus, Unavailable
from nanotx.errors import ConfigError, did_you_mean
from nanotx.nn.attention.base import Bias
from nanotx.nn.attention.sdpa import SdpaAttention
from nanotx.nn.dropout import Dropout
from nanotx.nn.shapes import Keys, Queries, Values
from nanotx.recipe import Recipe
from nanotx.training.dataset import Dataset, load_dataset

LIBRARIES: dict[str, Library] = {one.name: one for one in (Gpt2(), XTransformers(), TorchEncoder(), NanoGpt())}
REFERENCE = "nanotx_plain"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model's implementation, and how it is run."""

    library: str = ""  # of LIBRARIES; empty for ours
    best: bool = False  # as the machine would by itself; else plain
    attention: str = ""  # of ours; empty for the recipe's
    usual: bool = True  # whether it runs where none are named


CONTENDERS = {
    REFERENCE: Contender(),
    "nanotx": Contender(best=True),
    "nanotx_blockwise": Contender(best=True, attention="blockwise"),
    "transformers": Contender(library="transformers"),
    "transformers_compiled": Contender(library="transformers", best=True),
    "x_transformers": Contender(library="x_transformers"),
    "x_transformers_compiled": Contender(library="x_transformers", best=True, usual=False),
    "torch_encoder": Contender(library="torch_encoder"),
    "torch_encoder_compiled": Contender(library="torch_encoder", best=True, usual=False),
    "nanogpt": Contender(library="nanogpt", usual=False),
    "nanogpt_compiled": Contender(library="nanogpt", best=True, usual=False),
}


def chosen(names: str, peers: bool) -> list[str]:
    """The contenders of these names, separated by commas, the reference always first; the usual ones for none.

    Raises:
        ConfigError: there is none of some name.
    """
    asked = [name.strip() for name in names.split(",")] if names else []
    for name in asked:
        if name not in (*CONTENDERS, "all"):
            known = ", ".join((*CONTENDERS, "all"))
            raise ConfigError(f"--contenders {name}: no such one.{did_you_mean(name, CONTENDERS)} Known: {known}.")
    at_hand = [name for name, one in CONTENDERS.items() if one.library != NanoGpt.name or os.environ.get(CHECKOUT)]
    usual = [name for name, one in CONTENDERS.items() if one.usual]
    wanted = {REFERENCE, *(asked or usual), *(at_hand if "all" in asked else ())}
    return [name for name, one in CONTENDERS.items() if name in wanted and (peers or not one.library)]


def read_recipe(name: str, batch: int = 0, layers: int = 0) -> Recipe:
    """A preset recipe, or one of a file, that is of GPT-2's kind; where `batch` or `layers` is 0 it keeps its own.

    Raises:
        ConfigError: there is none of this name, or it is no GPT-2.
    """
    known = sorted(path.stem for path in presets("recipes").glob("*.toml"))
    file = Path(name) if name.endswith(".toml") else presets("recipes") / f"{name}.toml"
    if not file.is_file():
        raise ConfigError(f"--recipe {name}: no such recipe.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    table = merge(Recipe, to_table(Recipe()), read_toml(file))
    changes = {"train": {"batch_size": batch} if batch else {}, "model": {"layers": layers} if layers else {}}
    recipe: Recipe = from_table(Recipe, merge(Recipe, table, changes))
    parts(recipe)
    return recipe


def texts_of(recipe: Recipe) -> Dataset:
    """What the recipe learns from, or where that cannot be had, a play of ours: a step takes as long with it."""
    try:
        return load_dataset(recipe)
    except Unavailable:
        return load_dataset(replace(recipe, corpus=Corpus.find("playhouse")()))


def with_attention(recipe: Recipe, attention: str) -> Recipe:
    """The recipe with the same attention, written otherwise; as it is for no name."""
    if not attention:
        return recipe
    changes = {"model": {"block": {"attention": attention}}}
    changed: Recipe = from_table(Recipe, merge(Recipe, to_table(recipe), changes))
    return changed


def drop_by_library(model: nn.Module) -> None:
    """Put torch's own dropout where ours was, and into its attention kernel the kernel's own."""
    for module in list(model.modules()):
        if isinstance(module, SdpaAttention):
            module.attend = partial(attend_in_kernel, module)  # type: ignore[method-assign]
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.fraction))


def attend_in_kernel(layer: SdpaAttention, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
    """Attention by the kernel alone, which drops weights by torch's generator."""
    assert bias is None, "no contender's position adds to scores"
    p = layer.config.dropout if layer.training else 0.0
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
