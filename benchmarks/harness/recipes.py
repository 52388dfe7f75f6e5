"""The recipes that are timed: presets or files, with a few changes, their texts, and a trainer for their steps."""

from dataclasses import replace
from pathlib import Path

from nanotx.config.presets import presets
from nanotx.config.schema import Table, from_table, to_table
from nanotx.config.toml import merge, read_toml
from nanotx.data.corpus import Corpus, Unavailable
from nanotx.errors import ConfigError, did_you_mean
from nanotx.hardware.device import Machine
from nanotx.recipe import Recipe
from nanotx.training.dataset import Dataset, load_dataset
from nanotx.training.trainer import Trainer


def read_recipe(name: str, flag: str = "--recipe", changes: Table | None = None) -> Recipe:
    """Return a preset recipe, or that of a file, with changes.

    Raises:
        ConfigError: there is no such recipe.
    """
    known = sorted(path.stem for path in presets("recipes").glob("*.toml"))
    file = Path(name) if name.endswith(".toml") else presets("recipes") / f"{name}.toml"
    if not file.is_file():
        raise ConfigError(f"{flag} {name}: no such recipe.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    recipe: Recipe = from_table(Recipe, merge(Recipe, to_table(Recipe()), read_toml(file)))
    return changed(recipe, changes or {})


def changed(recipe: Recipe, changes: Table) -> Recipe:
    """Return the recipe with changes, as a table."""
    other: Recipe = from_table(Recipe, merge(Recipe, to_table(recipe), changes))
    return other


def with_dropout(recipe: Recipe, fraction: float) -> Recipe:
    """Return the recipe with dropout everywhere GPT-2 has it: embedding, attention weights, branches."""
    block = {"dropout": fraction, "attention": {"dropout": fraction}}
    return changed(recipe, {"model": {"dropout": fraction, "block": block}})


def dataset_of(recipe: Recipe) -> Dataset:
    """Return the recipe's dataset, or where it is out of reach, that of a playhouse: a step takes as long with it."""
    try:
        return load_dataset(recipe)
    except Unavailable:
        return load_dataset(replace(recipe, corpus=Corpus.find("playhouse")()))


def trainer_of(name: str, machine: Machine) -> tuple[Trainer, Dataset]:
    """Return a trainer of a recipe of `--recipes`, eager and in float32, and its texts; its steps have no end."""
    recipe = read_recipe(name, "--recipes", {"dtype": "float32", "compile": False})
    data = dataset_of(recipe)
    recipe = replace(recipe, train=replace(recipe.train, steps=1_000_000))
    model = recipe.model.build(data.codec.vocab_size, recipe.seeds.weights)
    return Trainer(recipe, model, data.windows, machine), data
