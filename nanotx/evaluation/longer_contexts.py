"""A trained model that reads longer windows than it learned with, its positions as they were or stretched.

What it learned stays as it is, to the number: a position that is a formula is worked out for more places, and one
that is a table has none to give.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from nanotx.config.flags import collect_flags
from nanotx.config.schema import fields, from_table, to_table
from nanotx.errors import ConfigError
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model, Transformer
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe


def read_position(recipe: Recipe, context: int, words: Sequence[str], prog: str) -> Position:
    """Return the position with which a run's model reads windows of a context's length.

    It is the run's own, unless the words name another. What is named stretches, if it has a `factor`, from the run's
    context to this one, and never shrinks; of an `original` length the run's context is taken. Words may say both.

    Args:
        recipe: the run's.
        context: how many tokens a window has.
        words: flags of the position and of its fields, as a recipe takes them.
        prog: the command, for its errors.

    Raises:
        ConfigError: a name, a field or a value that cannot be; says what would.
    """
    said, learned = collect_flags(words), recipe.model
    own = replace(recipe, model=replace(learned, position=explicit_position(learned)))
    position: Position = read_recipe(own, words, prog)[0].model.position if words else own.model.position
    if "position" not in said:
        return position
    usual = {"factor": max(1.0, context / learned.context), "original": learned.context}
    known = {name for name in fields(type(position)) if f"position.{name}" not in said}
    return from_table(Position, to_table(position) | {name: usual[name] for name in usual if name in known})


def explicit_position(model: Model) -> Position:
    """Return a model's position, with what it takes from the context's length said outright."""
    position, table = model.position, to_table(model.position)
    if "original" in fields(type(position)) and "original" not in table:
        table["original"] = max(1, round(model.context / table["factor"]))
    return from_table(Position, table)


def moved(model: Transformer, context: int, position: Position) -> Transformer:
    """Return the same model with a position and room for a context's length, or for as many tokens as it had room for.

    Raises:
        ConfigError: what it learned has no place for each of these tokens, or not in this position.
    """
    config = replace(model.config, context=max(context, model.context), position=position)
    if config == model.config:
        return model
    new = config.build(model.vocab_size)
    shapes = [{name: one.shape for name, one in each.named_parameters()} for each in (model, new)]
    if odd := sorted({name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items())}):
        raise ConfigError(refusal(model, context, position, odd[0]))
    new.load_state_dict(model.state_dict())
    return new.to(next(model.parameters()).device).train(model.training)


def refusal(model: Transformer, context: int, position: Position, weight: str) -> str:
    """Return why a model cannot be moved, and what could be."""
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
    heads, found = min((attention.heads for attention in model.attentions()), default=1), list[str]()
    for name in Position.names():
        with suppress(ConfigError), torch.device("meta"):
            one, two = (Position.find(name)().build(model.dim, heads, model.context * times) for times in (1, 2))
            if [each.shape for each in one.parameters()] == [each.shape for each in two.parameters()]:
                found.append(name)
    return found
