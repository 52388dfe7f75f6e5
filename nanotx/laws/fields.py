"""Laws of what a part declares: every parameter gets a gradient, and every field changes something."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn

from nanotx.config import fields, inner, is_slot
from nanotx.errors import ConfigError, LawBroken
from nanotx.laws.values import cotangent
from nanotx.pace import Paced
from nanotx.penalty import Penalised

Outcome = Mapping[str, Tensor]
"""What comes of a config, by name; `state` names and shapes are names too."""
TRIES = 8
"""How many random weights and inputs a parameter may stay without a gradient in, as an expert that is not chosen."""


# Gradients.


def gets_gradient(passes: Iterable[tuple[nn.Module, Tensor]], also: Callable[[], Outcome] | None = None) -> None:
    """Every parameter gets a gradient, and so does every row of a linear map's weight.

    Args:
        passes: a module and its outputs, again and again with other weights and inputs; only as many are read as are
            needed until each parameter has met a gradient.
        also: where a parameter may meet one instead, by name, such as the part's defaults.

    Raises:
        LawBroken: which parameter gets none.
    """
    met: dict[str, Tensor] = {}
    missing: list[str] = []
    for module, y in passes:
        for name, rows in rows_met(module, y).items():
            met[name] = met[name] | rows if name in met else rows
        missing = [name for name, rows in met.items() if not rows.all()]
        if not missing:
            return
    elsewhere = also() if also is not None else {}
    missing = [name for name in missing if name not in elsewhere or not elsewhere[name].all()]
    if missing:
        rows = met[missing[0]]
        some = f" in {int((~rows).sum())} of its {len(rows)} rows" if len(rows) > 1 else ""
        raise LawBroken(f"gets_gradient: {missing[0]} gets no gradient{some}, with several weights and inputs.")


def rows_met(module: nn.Module, y: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """For each parameter, whether a gradient arrives; for the weight of a linear map, at which rows."""
    named = dict(module.named_parameters())
    learned = {name: one for name, one in named.items() if one.requires_grad and y.requires_grad}
    gradients: dict[str, Tensor | None] = {}
    if learned:
        arrived = torch.autograd.grad(y, list(learned.values()), cotangent(y.shape, seed).to(y), allow_unused=True)
        gradients = dict(zip(learned, arrived, strict=True))
    maps = {f"{name}.weight" for name, one in module.named_modules() if isinstance(one, nn.Linear)}
    found = {}
    for name, parameter in named.items():
        gradient = gradients.get(name)
        dense = torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
        rows = (
            dense.flatten(1)
            if name.removeprefix(".") in {one.removeprefix(".") for one in maps}
            else dense.reshape(1, -1)
        )
        found[name] = (rows != 0).any(dim=1)
    return found


# Fields.


def fields_matter(idea: Any, outcome: Callable[[Any], Outcome], usual: Callable[[Any], Outcome]) -> None:
    """Every field of a config changes something; those that its part names under `cost_only` change no value.

    A field of which nothing hangs here, as heads in a window of one position, may matter in the default config
    instead. A field of which no other value is accepted is left out: the part has said so itself.

    Args:
        idea: the config.
        outcome: what comes of a config like it: names and shapes of the state, values in evaluation and in training.
        usual: the same for configs like the default one.

    Raises:
        LawBroken: which field changes nothing, with which values; or changes a value against its part's word.
    """
    default = type(idea)()
    for name in fields(type(idea)):
        if name in idea.cost_only:
            costs_alone(idea, name, outcome)
            continue
        asked = False
        for base, come in ((idea, outcome), (default, usual)):
            others = Others(base, name, come)
            if any(differ(others.want, got) for got in others):
                break
            asked = asked or bool(others.tried)
        else:
            if asked:
                tried = ", ".join(map(repr, others.tried))
                raise LawBroken(
                    f"field_matters: {name}={getattr(default, name)!r} and {name}={tried} come out alike, while "
                    f"training too; use the field, refuse the value in __post_init__, or name it in `cost_only`."
                )


def costs_alone(idea: Any, name: str, outcome: Callable[[Any], Outcome]) -> None:
    """Raise LawBroken where a field that is to change no value changes one."""
    others = Others(idea, name, outcome)
    for got in others:
        shared = {key: one for key, one in got.items() if not key.startswith("training")}
        if differ({key: one for key, one in others.want.items() if key in shared}, shared, tolerance=1e-3):
            values = f"{getattr(idea, name)!r} and {others.tried[-1]!r}"
            raise LawBroken(f"field_matters: {name} is named in `cost_only`, and {values} come out otherwise.")


class Others:
    """What comes of a config with other values of a field, one after another; what is refused is left out."""

    def __init__(self, idea: Any, name: str, outcome: Callable[[Any], Outcome]) -> None:
        self.idea, self.name, self.outcome = idea, name, outcome
        self.tried: list[Any] = []
        self.want: Outcome = {}

    def __iter__(self) -> Iterator[Outcome]:
        with suppress(ConfigError):
            self.want = self.outcome(self.idea)
        for value in (
            other_values(fields(type(self.idea))[self.name], getattr(self.idea, self.name)) if self.want else ()
        ):
            try:
                got = self.outcome(replace(self.idea, **{self.name: value}))
            except ConfigError:
                continue
            self.tried.append(value)
            yield got


def other_values(kind: Any, value: Any) -> list[Any]:
    """Values of a field's type that are not this one; none where the type is none of the known ones."""
    found: list[Any] = []
    if inner(kind) is not kind:
        found = [None, *other_values(inner(kind), value)]
    elif is_slot(kind):
        found = [kind.find(name)() for name in sorted(kind.shipped())]
    elif get_origin(kind) is Literal:
        found = list(get_args(kind))
    elif kind is bool:
        found = [False, True]
    elif kind is int:
        found = [2, 1, 3, 4, 8, 5]
    elif kind is float:
        found = [0.5, 0.1, 5.0] if not value else [value * 10, value / 10, 0.5, 0.0, value * 100]
    return [one for one in found if one != value]


def differ(one: Outcome, other: Outcome, tolerance: float = 1e-5) -> bool:
    """Whether two outcomes are not one, in a name, a shape, or a value beyond rounding."""
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        return True
    for name, tensor in one.items():
        limit = tolerance * max(1.0, float(tensor.abs().max())) if tensor.numel() else 0.0
        if not bool(((tensor - other[name]).abs() <= limit).all()):
            return True
    return False


@torch.no_grad()
def come_of(module: nn.Module, *inputs: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """What comes of a module: the names and shapes of its state, outputs in evaluation, in training, and after a pace.

    Args:
        module: a module of a stream or of ids.
        inputs: what it is given, one after another.
        seed: of what is random in training.
    """
    come = {f"state {name} {tuple(one.shape)}": torch.zeros(0) for name, one in module.state_dict().items()}
    for index, x in enumerate(inputs):
        come[f"outputs {index}"] = module.eval()(x).double()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        come["training"] = module.train()(inputs[0]).double()
        owed = [one.penalty().double() for one in module.modules() if isinstance(one, Penalised)]
    come["training, beside the loss"] = torch.stack(owed).sum() if owed else torch.zeros(())
    for one in module.modules():
        if isinstance(one, Paced):
            one.pace(1, 2)
    come["training, half of it done"] = module.eval()(inputs[0]).double()
    return come
