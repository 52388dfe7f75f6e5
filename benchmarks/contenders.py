"""Three that take the same step: a recipe, the recipe with every bias that GPT-2 has, and Hugging Face's GPT-2.

The middle one is the same function as the last with the same weights to learn, so their losses must agree too.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from reporting import PASS
from rival import Rival, give_weights, gpt2, library, parts, same_function
from timing import forget_peak

from nanotx.config import from_table, to_table
from nanotx.corpus import Corpus, Unavailable
from nanotx.device import Machine, choose
from nanotx.errors import ConfigError, LawBroken, did_you_mean
from nanotx.layers import merge, read_toml
from nanotx.recipe import Recipe
from nanotx.schedules.constant import Constant
from nanotx.shelf import shelf
from nanotx.texts import Texts, read_texts
from nanotx.trainer import Trainer

REFERENCE, OURS, BIASED = "transformers", "nanotx", "nanotx_with_biases"
RIVALS = (OURS, BIASED, REFERENCE)
BIASES = {
    "norm": {"bias": True},
    "block": {"norm": {"bias": True}, "attention": {"bias": True, "out_bias": True}, "ffn": {"bias": True}},
}
LOGITS, LOSSES = 1e-4, 1e-3
"""By how much the scores may differ, relative to the largest (or 1), and the losses of the first steps."""
FIRST = 8
"""How many batches are compared, and how many steps."""
Advance = Callable[[], Any]


def read_recipe(name: str, batch: int) -> Recipe:
    """A recipe of the shelf, eager and in float32; a `batch` of 0 leaves its own.

    Raises:
        ConfigError: there is none of this name, or it is no GPT-2.
    """
    known = sorted(path.stem for path in shelf("recipes").glob("*.toml"))
    if name not in known:
        raise ConfigError(f"--recipe {name}: no such recipe.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    table = merge(Recipe, to_table(Recipe()), read_toml(shelf("recipes") / f"{name}.toml"))
    if batch:
        table = merge(Recipe, table, {"train": {"batch": batch}})
    recipe: Recipe = replace(from_table(Recipe, table), dtype="float32", compile=False)
    parts(recipe)
    return recipe


def biased(recipe: Recipe) -> Recipe:
    """The recipe with every bias that GPT-2 has."""
    changed: Recipe = from_table(Recipe, merge(Recipe, to_table(recipe), {"model": BIASES}))
    return changed


def texts_of(recipe: Recipe) -> Texts:
    """What the recipe learns from, or where that cannot be had, a play of ours: a step takes as long with it."""
    try:
        return read_texts(recipe)
    except Unavailable:
        return read_texts(replace(recipe, corpus=Corpus.find("playhouse")()))


def contender(name: str, recipe: Recipe, texts: Texts, machine: Machine) -> Advance:
    """What takes a step of one of the three, all from the same weights."""
    recipe = biased(recipe) if name == BIASED else recipe
    ours = recipe.model.build(texts.codec.vocab_size, recipe.seed)
    if name != REFERENCE:
        return Trainer(recipe, ours, texts.windows, machine).advance
    theirs = gpt2(recipe, texts.codec.vocab_size)
    give_weights(ours, theirs)
    return Rival(recipe, theirs, texts.windows, machine).advance


def judge(name: str, recipe: Recipe, texts: Texts, machine: Machine) -> str:
    """ "pass", or how it is another function than theirs, or learns otherwise."""
    if name == REFERENCE:
        return PASS
    size, own = texts.codec.vocab_size, biased(recipe) if name == BIASED else recipe
    ours, theirs = (one.to(machine.device) for one in (own.model.build(size), gpt2(recipe, size)))
    try:
        for case in range(FIRST):
            torch.manual_seed(case)
            same_function(ours, theirs, texts.windows.batch(case, recipe.train.batch)[0].to(machine.device), LOGITS)
        if name == BIASED and not dropped(recipe):
            same_losses(recipe, texts, machine)
    except LawBroken as error:
        return f"failed: {error}"
    return PASS


def dropped(recipe: Recipe) -> bool:
    """Whether anything is dropped at random in a step; two implementations drop different things."""
    block: Any = recipe.model.block
    return bool(recipe.model.dropout or block.dropout or block.attention.dropout)


def same_losses(recipe: Recipe, texts: Texts, machine: Machine) -> None:
    """The first steps of both go the same way, at the full rate from the first on.

    Raises:
        LawBroken: the step after which they do not.
    """
    recipe = replace(recipe, schedule=Constant())
    ours, theirs = (contender(name, recipe, texts, machine) for name in (BIASED, REFERENCE))
    for step in range(FIRST):
        one, other = ours()["loss"], theirs()
        if not abs(one - other) <= LOSSES:
            raise LawBroken(f"same_losses: after {step} steps, ours is {one:.6f} and theirs {other:.6f}.")


def alone(name: str, recipe: Recipe, device: str, threads: int) -> None:
    """Two steps of one, in a process that knows nothing yet; of none of them, all that comes before the first."""
    machine, texts = choose(device, "float32", threads), texts_of(recipe)
    library()
    forget_peak()
    if name:
        twice(contender(name, recipe, texts, machine))


def twice(advance: Advance) -> None:
    """Two steps: the second one holds the optimizer's averages too."""
    for _ in range(2):
        advance()
