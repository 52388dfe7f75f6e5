"""Laws of a part's parameters and fields: every parameter gets a gradient, and every field changes something."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn

from nanotx.config.registry import Slot
from nanotx.config.schema import fields, is_slot, without_none
from nanotx.errors import ConfigError, LawBroken
from nanotx.laws.values import cotangent
from nanotx.nn.hooks import AuxLossModule, OnStepModule

Outcome = Mapping[str, Tensor]
"""What comes of a config, by name; `state` names and shapes are names too."""
TRIES = 8
"""How many random weights and inputs a parameter may stay without a gradient in, as an expert that is not chosen."""


# Gradients.


def gets_gradient(
    passes: Iterable[tuple[nn.Module, Tensor]],
    also: Callable[[], Outcome] | None = None,
    name_of: Callable[[str], str] = str,
) -> None:
    """Raise LawBroken unless every parameter, and every row of a linear map's weight, gets a gradient.

    Args:
        passes: a module and its outputs, repeatedly with other weights and inputs; read only until each parameter has
            had a gradient.
        also: further passes by parameter name, such as with the part's defaults, in which it may get a gradient.
        name_of: returns the name under which a parameter counts; one gradient is enough for all with the same name.

    Raises:
        LawBroken: a parameter gets none; the message names it.
    """
    met: dict[str, Tensor] = {}
    missing: list[str] = []
    for module, y in passes:
        for full_name, rows in rows_met(module, y).items():
            name = name_of(full_name)
            met[name] = met[name] | rows if name in met else rows
        missing = [name for name, rows in met.items() if not rows.all()]
        if not missing:
            return
    other_passes = {name_of(name): rows for name, rows in also().items()} if also is not None else {}
    missing = [name for name in missing if name not in other_passes or not other_passes[name].all()]
    if missing:
        rows = met[missing[0]]
        some = f" in {int((~rows).sum())} of its {len(rows)} rows" if len(rows) > 1 else ""
        raise LawBroken(f"gets_gradient: {missing[0]} gets no gradient{some}, with several weights and inputs.")


def rows_met(module: nn.Module, y: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Return, for each parameter, whether a gradient arrives; for the weight of a linear map, at which rows."""
    named = dict(module.named_parameters())
    learned = {name: param for name, param in named.items() if param.requires_grad and y.requires_grad}
    gradients: dict[str, Tensor | None] = {}
    if learned:
        arrived = torch.autograd.grad(y, list(learned.values()), cotangent(y.shape, seed).to(y), allow_unused=True)
        gradients = dict(zip(learned, arrived, strict=True))
    maps = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    met = {}
    for name, parameter in named.items():
        gradient = gradients.get(name)
        dense = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        rows = (
            dense.flatten(1)
            if name.removeprefix(".") in {weight.removeprefix(".") for weight in maps}
            else dense.reshape(1, -1)
        )
        met[name] = (rows != 0).any(dim=1)
    return met


# Fields.


def has_fields(part: type[Any]) -> bool:
    """Return whether a part declares any field."""
    return bool(fields(part))


def fields_matter(
    config: Any,
    outcome: Callable[[Any], Outcome],
    usual: Callable[[Any], Outcome] | None = None,
    *,
    defaults: Sequence[Any] = (),
    changes: Callable[[Any, str], dict[str, list[Any]]] | None = None,
) -> None:
    """Raise LawBroken unless every field of a config changes something, and those in `cost_only` change no value.

    A field without effect in this config, such as heads in a window of one position, may matter in the default config
    instead. A field of which the part accepts no other value is skipped.

    Args:
        config: the config.
        outcome: returns the outcome of a similar config: names and shapes of the state, values in evaluation and in
            training; raises ConfigError if the config is invalid.
        usual: the same for configs like the default one.
        defaults: the default config, or several, if it is not the part without arguments.
        changes: returns other values of a field; see `other_choices`.

    Raises:
        LawBroken: a field changes nothing, or changes a value although it is in `cost_only`; the message says which.
    """
    changes = changes or other_choices
    bases = [Base(config, outcome), *(Base(default, usual or outcome) for default in defaults or [type(config)()])]
    for name in fields(type(config)):
        if isinstance(config, Slot) and name in config.cost_only:
            costs_alone(bases[0], name, changes)
            continue
        for choice in changes(config, name):
            matters(bases, name, choice, changes)


def matters(
    bases: Sequence["Base"], name: str, choice: str, changes: Callable[[Any, str], dict[str, list[Any]]]
) -> None:
    """Raise LawBroken if no other value of a field, or of one place in it, changes anything in any of the bases."""
    alike: tuple[Any, list[Any]] | None = None
    for base in bases:
        tried = []
        for value, got in base.others(name, changes(base.config, name).get(choice, [])):
            tried.append(value)
            if differ(base.own, got):
                return
        alike = (getattr(base.config, name), tried) if tried else alike
    if alike is not None:
        value, tried = alike
        raise LawBroken(
            f"field_matters: {name}={value!r} and {name}={', '.join(map(repr, tried))} come out alike, while "
            f"training too; use the field, refuse the value in __post_init__, or name it in `cost_only`."
        )


def costs_alone(base: "Base", name: str, changes: Callable[[Any, str], dict[str, list[Any]]]) -> None:
    """Raise LawBroken if a field in `cost_only` changes a value."""
    for values in changes(base.config, name).values():
        for value, got in base.others(name, values):
            shared = {key: tensor for key, tensor in got.items() if not key.startswith("training")}
            if differ({key: tensor for key, tensor in base.own.items() if key in shared}, shared, tolerance=1e-3):
                both = f"{getattr(base.config, name)!r} and {value!r}"
                raise LawBroken(f"field_matters: {name} is named in `cost_only`, and {both} come out otherwise.")


class Base:
    """A config, its outcome and the outcomes of similar configs; nothing if it is refused."""

    def __init__(self, config: Any, outcome: Callable[[Any], Outcome]) -> None:
        self.config, self.outcome = config, outcome

    @cached_property
    def own(self) -> Outcome:
        """The outcome of the config itself; empty if it is refused."""
        with suppress(ConfigError):
            return self.outcome(self.config)
        return {}

    def others(self, name: str, values: Iterable[Any]) -> Iterator[tuple[Any, Outcome]]:
        """Yield other values of a field with the outcome of each, without those that are refused."""
        for value in values if self.own else ():
            try:
                got = self.outcome(replace(self.config, **{name: value}))
            except ConfigError:
                continue
            yield value, got


def other_choices(config: Any, name: str) -> dict[str, list[Any]]:
    """Return other values of a field of a config, by what they change: the field, or one place of several in it."""
    kind, value = fields(type(config))[name], getattr(config, name)
    if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
        return {
            f"{name}[{at}]": [(*value[:at], other, *value[at + 1 :]) for other in other_values(inside, value[at])]
            for at, inside in enumerate(get_args(kind))
        }
    return {name: other_values(kind, value)}


def untried(part: type[Any], changes: Callable[[Any, str], dict[str, list[Any]]] = other_choices) -> dict[str, str]:
    """Return the fields of a part of which no other value is known, and the reason."""
    config = part()
    return {
        name: "no other value of it is known"
        for name in fields(part)
        if not any(changes(config, name).values()) and not (isinstance(config, Slot) and name in config.cost_only)
    }


def other_values(kind: Any, value: Any) -> list[Any]:
    """Return other values of a field's type than this one; none if the type is unknown."""
    values: list[Any] = []
    if without_none(kind) is not kind:
        values = [None, *other_values(without_none(kind), value)]
    elif is_slot(kind):
        values = [kind.find(name)() for name in sorted(kind.shipped())]
    elif get_origin(kind) is Literal:
        values = list(get_args(kind))
    elif get_origin(kind) is tuple and Ellipsis in get_args(kind):
        values = [(), *((item,) for item in other_values(get_args(kind)[0], None))]
    elif kind is bool:
        values = [False, True]
    elif kind is int:
        values = [2, 1, 3, 4, 8, 5]
    elif kind is float:
        values = [0.5, 0.1, 5.0] if not value else [value * 10, value / 10, 0.5, 0.0, value * 100]
    return [other for other in values if other != value]


def differ(first: Outcome, other: Outcome, tolerance: float = 1e-5) -> bool:
    """Return whether two outcomes differ in a name, a shape, or a value beyond rounding."""
    if first.keys() != other.keys() or any(first[name].shape != other[name].shape for name in first):
        return True
    for name, tensor in first.items():
        limit = tolerance * max(1.0, float(tensor.abs().max())) if tensor.numel() else 0.0
        if not bool(((tensor - other[name]).abs() <= limit).all()):
            return True
    return False


@torch.no_grad()
def come_of(module: nn.Module, *inputs: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Return a module's outcome: names and shapes of its state; outputs in evaluation, in training and after `on_step`.

    Args:
        module: a module of a stream or of ids.
        inputs: its inputs, one after another.
        seed: of the randomness in training.
    """
    outcome = {f"state {name} {tuple(tensor.shape)}": torch.zeros(0) for name, tensor in module.state_dict().items()}
    for index, x in enumerate(inputs):
        outcome[f"outputs {index}"] = module.eval()(x).double()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        outcome["training"] = module.train()(inputs[0]).double()
        aux_losses = [layer.aux_loss().double() for layer in module.modules() if isinstance(layer, AuxLossModule)]
    outcome["training, auxiliary loss"] = torch.stack(aux_losses).sum() if aux_losses else torch.zeros(())
    for layer in module.modules():
        if isinstance(layer, OnStepModule):
            layer.on_step(1, 2)
    outcome["training, after half of the steps"] = module.eval()(inputs[0]).double()
    return outcome
