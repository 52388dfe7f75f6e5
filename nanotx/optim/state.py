"""The state of any `torch.optim.Optimizer`, by parameter name: what a checkpoint holds of it, and how it comes back.

It is what `state_dict()` returns: of each parameter tensors of any shape and dtype and plain values, what training has
changed in the parameter groups, and whatever else the optimizer adds. Read back it is the same to the bit, which
`load_state_dict()` alone does not achieve: it casts each floating-point tensor to the dtype of its parameter.

State that is shaped like its parameter is saved in the canonical layout (`nanotx.nn.canonical`), so that a run can be
resumed with an equivalent implementation; a value that all parameters of a module share moves along. A module that has
any other state, such as a factored second moment, is saved in its own layout, and fits no other implementation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.errors import ConfigError, RunError
from nanotx.nn.canonical import CustomLayout, from_canonical, to_canonical
from nanotx.optim.packing import (
    Json,
    Tensors,
    Unsaveable,
    check_apart,
    check_packed,
    copied,
    join,
    pack,
    same,
    split,
    unpack,
)

State = dict[str, dict[str, Any]]
"""The state of each parameter by name: its values by key."""

Group = dict[str, Any]
Table = dict[str, Json]
"""All of a state but its tensors, as JSON: `groups`, `state`, `own_layout`, `shared`, `extra` (see `Saved`)."""

STEP = "step"
"""The key under which PyTorch's optimizers count steps; its value is never shaped like the parameter."""

LABELS = ("params", "param_names")
"""The entries of a parameter group that say whose it is."""


@dataclass(kw_only=True)
class Saved:
    """The state of an optimizer as a checkpoint holds it."""

    state: State = field(default_factory=dict)  # canonical names, but for the modules of `own_layout`
    own_layout: list[str] = field(default_factory=list)  # modules with a layout of their own that are saved in it
    groups: list[Group] = field(default_factory=list)  # by key what changed since they were built: `built` and `now`
    shared: dict[str, Any] = field(default_factory=dict)  # state of no parameter
    extra: dict[str, Any] = field(default_factory=dict)  # what the optimizer's own `state_dict` adds

    def encode(self) -> tuple[Tensors, Table]:
        """Return the tensors by `<parameter>/<key>`, and the rest.

        Raises:
            Unsaveable: a value is neither plain nor a tensor that a file can hold.
        """
        tensors: Tensors = {}
        table: Table = {"groups": [], "state": {}, "own_layout": self.own_layout}
        for name, values in self.state.items():
            packed = {key: pack(value, join(name, key), tensors) for key, value in values.items()}
            plain = {key: packed[key] for key, value in values.items() if not isinstance(value, Tensor)}
            table["state"] |= {name: plain} if plain else {}
        for index, group in enumerate(self.groups):
            table["groups"].append(pack(group, f"*groups/{index}", tensors)["dict"])
        table |= {name: pack(rest, f"*{name}", tensors)["dict"] for name, rest in self.rest().items() if rest}
        return tensors, table

    @classmethod
    def decode(cls, tensors: Tensors, table: Table) -> "Saved":
        """Return the state of tensors and of a table that `check_table` accepted: the inverse of `encode`.

        Raises:
            KeyError: a tensor is missing, or is not one that `encode` writes.
        """
        left, saved = dict(tensors), cls(own_layout=table.get("own_layout", []))
        for name, values in table.get("state", {}).items():
            saved.state[name] = {key: unpack(item, join(name, key), left) for key, item in values.items()}
        for index, group in enumerate(table.get("groups", [])):
            saved.groups.append(unpack({"dict": group}, f"*groups/{index}", left))
        for name, rest in saved.rest().items():
            rest |= unpack({"dict": table.get(name, {})}, f"*{name}", left)
        for path, tensor in left.items():
            keys = split(path)
            if len(keys) != 2 or keys[1] in saved.state.get(keys[0], {}):
                raise KeyError(path)
            saved.state.setdefault(keys[0], {})[keys[1]] = tensor
        return saved

    def rest(self) -> dict[str, dict[str, Any]]:
        """Return what is of no parameter and no group."""
        return {"shared": self.shared, "extra": self.extra}


def check_table(table: Table) -> None:
    """Raise ValueError unless a table from a file is one that `Saved.encode` returns; says where. {} is no state."""
    kinds = {"groups": list, "state": dict, "own_layout": list, "shared": dict, "extra": dict}
    for name, item in table.items():
        if name not in kinds or not isinstance(item, kinds[name]):
            raise ValueError(f"{name:.60}: {item!r:.60} is not what nanotx writes there.")
    for prefix in table.get("own_layout", []):
        if not isinstance(prefix, str):
            raise ValueError(f"own_layout: {prefix!r:.60} is not what nanotx writes there.")
    for index, group in enumerate(table.get("groups", [])):
        if not isinstance(group, dict):
            raise ValueError(f"groups/{index}: {group!r:.60} is not what nanotx writes there.")
        for key, item in group.items():
            check_packed(item, f"groups/{index}/{key:.60}")
            inside = item.get("dict") if isinstance(item, dict) else None
            if key in LABELS or not inside or "now" not in inside or not inside.keys() <= {"now", "built"}:
                raise ValueError(f"groups/{index}/{key:.60}: {item!r:.60} is not what nanotx writes there.")
    for name, values in table.get("state", {}).items():
        check_packed({"dict": values}, f"state/{name:.60}")
    for name in ("shared", "extra"):
        check_packed({"dict": table.get(name, {})}, name)


class StateCodec:
    """Save and load the state of one optimizer."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], model: nn.Module | None = None
    ) -> None:
        """Remember the parameter groups as they were built: where they differ later, that is state.

        Args:
            optimizer: before its first step.
            parameters: by name; among them all of the optimizer's.
            model: whose they are, where some of its modules may have a layout of their own.

        Raises:
            ConfigError: the optimizer's `state_dict()` is not as PyTorch documents it, or has other parameters.
        """
        self.optimizer, self.parameters = optimizer, dict(parameters)
        self.model = model or nn.Module()
        state_dict = self.state_dict()
        self.initial: list[Group] = [copied(group) for group in state_dict["param_groups"]]
        names = self.names(self.initial)  # some optimizers have state before their first step
        self.initial_state: State = {
            names[index]: copied(values) for index, values in state_dict["state"].items() if index in names
        }

    def save(self) -> tuple[Tensors, Table]:
        """Return the state as tensors by name, and a table that JSON can hold; `load` takes both.

        A tensor that needs no other layout is the optimizer's own: write it before the next step.

        Raises:
            ConfigError: some of it cannot be saved; names the parameter and the key.
        """
        return self.in_canonical_layout(self.read()).encode()

    def read(self) -> Saved:
        """Return the state in the model's own layout; its tensors are the optimizer's own.

        Raises:
            ConfigError: some of it cannot be saved; names the parameter and the key.
        """
        state_dict = self.state_dict()
        names, state = self.names(state_dict["param_groups"]), state_dict["state"]
        own = Saved(
            state={name: state[index] for index, name in names.items() if index in state},
            groups=[self.group(*pair) for pair in zip(self.initial, state_dict["param_groups"], strict=True)],
            shared={key: value for key, value in state.items() if key not in names},
            extra={key: value for key, value in state_dict.items() if key not in ("state", "param_groups")},
        )
        try:
            for name, values in own.state.items():
                if type(values) is not dict or not all(type(key) is str for key in values):
                    raise Unsaveable(f"{name}: {values!r:.60}; expected a dict with str keys")
            tensors, _ = own.encode()
            check_apart(tensors | {f"the parameter {name}": param.detach() for name, param in self.parameters.items()})
        except Unsaveable as error:
            raise ConfigError(
                f"optimizer {type(self.optimizer).__name__}: its state cannot be saved: {error}."
            ) from None
        return own

    def load(self, tensors: Tensors, table: Table, where: str = "optimizer", reset: bool = False) -> list[str]:
        """Load what `save` returned into the optimizer, copying every tensor; an empty table resets it.

        Args:
            tensors: by name.
            table: one that `check_table` accepts.
            where: the file that they are from, for messages.
            reset: reset state that fits only another implementation, instead of refusing it.

        Returns:
            What starts again, a sentence for each.

        Raises:
            RunError: it is no state of this optimizer and these parameters; says what does not fit.
        """
        try:
            saved = Saved.decode(tensors, table)
        except KeyError as error:
            raise RunError(f"{where}: the tensor {error} is missing, or is not one that nanotx writes.") from None
        state, foreign = self.in_own_layout(saved)
        if foreign and not reset:
            raise RunError(
                f"{where}: what the optimizer keeps for {foreign[0]} fits the implementation that it was saved with "
                "alone; resume with that one, or reset this state by --allow-mismatch."
            )
        for name in sorted(state.keys() - self.parameters.keys()):
            raise RunError(f"{where}: {name!r} is no parameter of this model.")
        for name, values in self.initial_state.items():
            if not table or any(is_under(prefix, name) for prefix in foreign):
                state[name] = values
        notes = self.put(saved, state, where)
        return [f"optimizer: what it keeps for {module} starts again." for module in foreign] + notes

    def put(self, saved: Saved, state: State, where: str) -> list[str]:
        """Put a state into the optimizer, that of the parameters by their own names; return what starts again.

        Raises:
            RunError: the optimizer refuses it.
        """
        state_dict = self.state_dict()
        groups, notes = self.groups(state_dict["param_groups"], saved.groups)
        names = self.names(state_dict["param_groups"])
        state = {
            name: {key: laid_out(value, self.parameters[name]) for key, value in state[name].items()}
            for name in names.values()
            if name in state
        }
        check_fused(where, groups, names, state, self.parameters)
        indexed: dict[Any, Any] = {index: state[name] for index, name in names.items() if name in state}
        extra = {key: value for key, value in state_dict.items() if key not in ("state", "param_groups")} | saved.extra
        try:
            self.optimizer.load_state_dict(extra | {"state": indexed | saved.shared, "param_groups": groups})
        except Exception as error:  # of any optimizer, which may be the user's own
            raise RunError(f"{where}: what was saved does not fit this optimizer: {error!r}.") from None
        for name, values in state.items():
            self.undo_casts(self.parameters[name], values)
        for live, group in zip(self.optimizer.param_groups, groups, strict=True):  # objects that were copied too
            shared_keys = live.keys() & group.keys() - {*LABELS}
            live.update({key: on_devices_of(live[key], group[key]) for key in shared_keys})
        return notes

    def undo_casts(self, parameter: nn.Parameter, values: dict[str, Any]) -> None:
        """Give back the dtypes that `load_state_dict` changed, on the devices that it chose."""
        loaded = self.optimizer.state.get(parameter)
        if isinstance(loaded, dict) and loaded.keys() == values.keys():  # otherwise the optimizer has its own form
            loaded.update({key: on_devices_of(loaded[key], value) for key, value in values.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return what the optimizer's own `state_dict` does.

        Raises:
            ConfigError: it is not as PyTorch documents it.
        """
        state = self.optimizer.state_dict()
        groups = state.get("param_groups") if isinstance(state, dict) else None
        if not isinstance(groups, list) or not isinstance(state.get("state"), dict):
            raise ConfigError(
                f"optimizer {type(self.optimizer).__name__}: state_dict() returned {state!r:.60}; expected a dict with "
                "'state' and 'param_groups', as that of torch.optim.Optimizer."
            )
        return state

    def names(self, groups: list[Group]) -> dict[Any, str]:
        """Return the name of each parameter, by the number that `state_dict` gives it.

        Raises:
            ConfigError: one is no parameter of the model.
        """
        known, names = {id(param): name for name, param in self.parameters.items()}, dict[Any, str]()
        for index, (group, live) in enumerate(zip(groups, self.optimizer.param_groups, strict=True)):
            for number, parameter in zip(group["params"], live["params"], strict=True):
                if id(parameter) not in known:
                    raise ConfigError(
                        f"optimizer {type(self.optimizer).__name__}: group {index} holds a tensor of shape "
                        f"{tuple(parameter.shape)} that is no parameter of the model; a checkpoint would miss it."
                    )
                names[number] = known[id(parameter)]
        return names

    def group(self, built: Group, now: Group) -> Group:
        """Return what changed in a group since it was built: by key the value now, and the one then if any."""
        return {
            key: {"now": value} | ({"built": built[key]} if key in built else {})
            for key, value in now.items()
            if key not in LABELS and not (key in built and same(built[key], value))
        }

    def groups(self, current: list[Group], saved: list[Group]) -> tuple[list[Group], list[str]]:
        """Return the groups to load, and what of them starts again.

        A value that the recipe gives is the recipe's, if it was another one when the saved group was built.
        """
        labels = [{key: group[key] for key in LABELS if key in group} for group in current]
        groups = [copied(built) | label for built, label in zip(self.initial, labels, strict=True)]
        if saved and len(saved) != len(groups):
            return groups, [
                f"optimizer: {len(groups)} groups, and {len(saved)} are saved: what they hold starts again."
            ]
        for group, changed in zip(groups, saved, strict=False):
            for key, values in changed.items():
                if ("built" in values) == (key in group) and same(values.get("built"), group.get(key)):
                    group[key] = on_devices_of(group.get(key), copied(values["now"]))
        return groups, []

    def in_canonical_layout(self, own: Saved, like: Mapping[str, Tensor] | None = None) -> Saved:
        """Return a state whose modules are in the canonical layout, where all that they have can be moved there.

        Args:
            own: the state.
            like: tensors shaped like the parameters that it is of; None for the parameters.
        """
        saved = Saved(groups=own.groups, shared=own.shared, extra=own.extra)
        modules = custom_layouts(self.model)
        for prefix, state in by_module(own.state, modules).items():
            moved = (
                translate(state, like or self.parameters, self.to_canonical, self.from_canonical) if prefix else state
            )
            if moved is None:
                saved.own_layout.append(prefix)
            saved.state |= state if moved is None else moved
        return saved

    def in_own_layout(self, saved: Saved) -> tuple[State, list[str]]:
        """Return the state of each parameter of this model, and the modules whose state fits others alone."""
        modules = custom_layouts(self.model)
        like = self.to_canonical({name: param.detach() for name, param in self.parameters.items()}) if modules else {}
        state: State = {}
        foreign: list[str] = []
        for prefix, local in by_module(saved.state, [*modules, *saved.own_layout]).items():
            moved: State | None = local
            if prefix in saved.own_layout:
                moved = local if prefix in modules and local.keys() <= self.parameters.keys() else None
            elif prefix:
                moved = translate(local, like, self.from_canonical, self.to_canonical)
            if moved is None:
                foreign.append(prefix)
            state |= moved or {}
        return state, foreign

    def to_canonical(self, tensors: Tensors) -> Tensors:
        """Return tensors named and shaped like parameters of the model in the canonical layout."""
        return to_canonical(self.model, tensors)

    def from_canonical(self, tensors: Tensors) -> Tensors:
        """Return tensors of the canonical layout in that of the model."""
        return from_canonical(self.model, tensors)


def custom_layouts(model: nn.Module) -> list[str]:
    """Return the names of the modules with a layout of their own; of nested ones, the outer."""
    names: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, CustomLayout) and not any(is_under(prefix, name) for prefix in names):
            names.append(name)
    return names


def is_under(prefix: str, name: str) -> bool:
    """Return whether a name is that of something inside a module."""
    return name.startswith(f"{prefix}.")


def by_module(state: State, modules: list[str]) -> dict[str, State]:
    """Return the states of the parameters by the module, of those given, that they are in; "" for none."""
    grouped: dict[str, State] = {}
    for name, values in state.items():
        prefix = next((prefix for prefix in modules if is_under(prefix, name)), "")
        grouped.setdefault(prefix, {})[name] = values
    return grouped


Convert = Callable[[Tensors], Tensors]


def translate(state: State, like: Mapping[str, Tensor], convert: Convert, invert: Convert) -> State | None:
    """Return the state of a module's parameters in another layout, or None where some of it cannot be moved there.

    What can be are tensors shaped like their parameters, and values that are the same for all parameters.

    Args:
        state: by the names of this layout.
        like: tensors shaped like the parameters, by the same names.
        convert: from this layout to the other.
        invert: from the other layout to this one.
    """
    moved: State = {}
    for key in dict.fromkeys(key for values in state.values() for key in values):
        values = {name: entries[key] for name, entries in state.items() if key in entries}
        if not values.keys() <= like.keys():
            return None
        shaped = all(is_shaped(key, value, like[name]) for name, value in values.items())
        source = values if shaped else {name: like[name].detach() for name in values}
        first = next(iter(values.values()))
        try:
            made = convert(source)
            inverted = invert(made)
        except Exception:  # of a layout that some of its parameters, or other shapes, cannot go through
            return None
        inverts = same(inverted, source) if shaped else all(same(value, first) for value in values.values())
        if not inverts or inverted.keys() != source.keys():
            return None
        for name, tensor in made.items():
            moved.setdefault(name, {})[key] = tensor if shaped else copied(first)
    return moved


def is_shaped(key: str, value: Any, like: Tensor) -> bool:
    """Return whether a value has the shape of its parameter. With no dimensions, the number of steps has it too."""
    return isinstance(value, Tensor) and key != STEP and value.shape == like.shape


def laid_out(value: Any, parameter: Tensor) -> Any:
    """Return a copy of a value whose tensors are laid out in memory as the parameter is, where they are shaped so."""
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        return torch.empty_strided(parameter.shape, parameter.stride(), dtype=value.dtype).copy_(value)
    return copied(value)


def on_devices_of(loaded: Any, value: Any) -> Any:
    """Return a value whose tensors are on the devices of those that were loaded from it."""
    if isinstance(value, Tensor):
        return value.to(loaded.device) if isinstance(loaded, Tensor) else value
    if isinstance(value, dict) and isinstance(loaded, dict) and loaded.keys() == value.keys():
        return {key: on_devices_of(loaded[key], item) for key, item in value.items()}
    if isinstance(value, list | tuple) and isinstance(loaded, list | tuple) and len(loaded) == len(value):
        return type(value)(on_devices_of(loaded_item, item) for loaded_item, item in zip(loaded, value, strict=True))
    return value


def device_of(key: str, parameter: Tensor, group: Group) -> torch.device:
    """Return the device on which PyTorch's optimizers keep a tensor of their state of a parameter.

    Args:
        key: of the tensor.
        parameter: whose state it is.
        group: the optimizer's group of the parameter.
    """
    on_device = key != STEP or group.get("fused") or group.get("capturable")
    return parameter.device if on_device else torch.device("cpu")


FUSED = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "sum"}
"""State besides `step` that PyTorch's fused kernels read: one number per element of the parameter, unchecked."""


def check_fused(
    where: str, groups: list[Group], names: dict[Any, str], state: State, parameters: Mapping[str, Tensor]
) -> None:
    """Raise RunError where a tensor that a fused kernel reads has not the shape and dtype that it assumes."""
    for name in [names[number] for group in groups if group.get("fused") for number in group["params"]]:
        for key, value in state.get(name, {}).items():
            like = torch.zeros(()) if key == STEP else parameters[name]
            if not isinstance(value, Tensor) or key not in FUSED | {STEP}:
                continue
            if value.shape != like.shape or value.dtype != like.dtype:
                raise RunError(
                    f"{where}: {name!r}: {key!r} has shape {tuple(value.shape)} and {value.dtype}; expected "
                    f"{tuple(like.shape)} and {like.dtype}."
                )
