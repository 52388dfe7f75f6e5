"""A trained model that reads longer windows than in training, with its own positions or stretched ones.

The trained weights are not changed: a position that is a formula is computed for more places, and a learned table has
no rows for them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from nanotx.config.command_line import collect_flags
from nanotx.config.schema import fields, from_table, to_table
from nanotx.errors import ConfigError
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model, Transformer
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe


def read_position(recipe: Recipe, context: int, words: Sequence[str], prog: str) -> Position:
    """Return the position with which a run's model reads windows of a context's length.

    It is the run's own, unless the flags name another. A named position that has a `factor` stretches from the run's
    context to this one, and never shrinks; an `original` length is the run's context. Flags may set both.

    Args:
        recipe: the run's.
        context: tokens of a window.
        words: flags of the position and of its fields, as for a recipe.
        prog: the command, for its errors.

    Raises:
        ConfigError: a name, a field or a value is invalid; the message suggests valid ones.
    """
    flags, learned = collect_flags(words), recipe.model
    own = replace(recipe, model=replace(learned, position=explicit_position(learned)))
    position: Position = read_recipe(own, words, prog)[0].model.position if words else own.model.position
    if "position" not in flags:
        return position
    defaults = {"factor": max(1.0, context / learned.context), "original": learned.context}
    unset = {name for name in fields(type(position)) if f"position.{name}" not in flags}
    return from_table(Position, to_table(position) | {name: defaults[name] for name in defaults if name in unset})


def explicit_position(model: Model) -> Position:
    """Return a model's position, with the fields that default to the context's length made explicit."""
    position, table = model.position, to_table(model.position)
    if "original" in fields(type(position)) and "original" not in table:
        table["original"] = max(1, round(model.context / table["factor"]))
    return from_table(Position, table)


def moved(model: Transformer, context: int, position: Position) -> Transformer:
    """Return the same model with another position, for this context or its own, whichever is longer.

    Raises:
        ConfigError: a learned position has no row for each of these tokens, or the positions have different weights.
    """
    config = replace(model.config, context=max(context, model.context), position=position)
    if config == model.config:
        return model
    new = config.build(model.vocab_size)
    shapes = [{name: param.shape for name, param in each.named_parameters()} for each in (model, new)]
    if odd := sorted({name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items())}):
        raise ConfigError(refusal(model, context, position, odd[0]))
    new.load_state_dict(model.state_dict())
    return new.to(next(model.parameters()).device).train(model.training)


def refusal(model: Transformer, context: int, position: Position, weight: str) -> str:
    """Return the message for a model that cannot be moved, with the positions that can be."""
    old, those = model.config.position.part, ", ".join(extending(model.config))
    if position.part == old:
        return (
            f"context: position {old!r} learned a place for each of {model.context} tokens, and has none for the "
            f"others of {context}; try at most {model.context}, or a run that was trained with one of {those}."
        )
    return (
        f"position: {position.part!r} cannot stand in for {old!r}, with which the run was trained: only one of them "
        f"learns {weight}. What learns nothing can be exchanged: {those}."
    )


def extending(model: Model) -> list[str]:
    """Return the positions whose weights, if they have any, are the same for a context twice as long."""
    heads, names = min((attention.heads for attention in model.attentions()), default=1), list[str]()
    for name in Position.names():
        with suppress(ConfigError), torch.device("meta"):
            short, long = (Position.find(name)().build(model.dim, heads, model.context * times) for times in (1, 2))
            if [param.shape for param in short.parameters()] == [param.shape for param in long.parameters()]:
                names.append(name)
    return names
