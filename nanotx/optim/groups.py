"""Parameter groups: learning rate and weight decay of some parameters, by a pattern of their names.

Groups apply to every optimizer, a part of one's own included: a group of the optimizer that holds parameters of several
kinds is split, and each piece keeps all its other settings.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer as TorchOptimizer

from nanotx.config.patterns import first_match
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """Settings of the parameters whose names match a pattern."""

    match: str = "*"  # pattern of the model's parameter names, such as `*norm.weight`; `*` stands for dots too
    lr_scale: float = 1.0  # factor on the learning rate that the optimizer gives them
    weight_decay: float | None = None  # None for the optimizer's own

    def __post_init__(self) -> None:
        check_min(self, 0, "lr_scale", "weight_decay")
        check_max(self, 1_000_000, "lr_scale", "weight_decay")


def apply_groups(
    optimizer: TorchOptimizer, groups: Sequence[ParamGroup], named: Iterable[tuple[str, nn.Parameter]]
) -> None:
    """Split an optimizer's groups so that each parameter has the settings of the first group that matches its name.

    Parameters that no group matches come first.

    Args:
        optimizer: as its part built it, before its first step.
        groups: in the order in which their patterns are tried.
        named: the model's parameters.

    Raises:
        ConfigError: a pattern matches no parameter, or the optimizer has no weight decay to change.
    """
    names = {parameter: name for name, parameter in named if parameter.requires_grad}
    chosen = first_match(names.values(), [group.match for group in groups], "optimizer.groups")
    plain, matched = list[dict[str, Any]](), list[dict[str, Any]]()
    for old in optimizer.param_groups:
        split: dict[int | None, list[nn.Parameter]] = {}
        for parameter in old["params"]:
            split.setdefault(chosen.get(names[parameter]), []).append(parameter)
        for index, parameters in split.items():
            new = old | {"params": parameters}
            if "param_names" in old:
                new["param_names"] = [names[parameter] for parameter in parameters]
            if index is None:
                plain.append(new)
            else:
                matched.append(changed(new, groups[index], f"optimizer.groups[{index}]"))
    optimizer.param_groups[:] = plain + matched


def changed(group: dict[str, Any], by: ParamGroup, where: str) -> dict[str, Any]:
    """Return a group of an optimizer with other settings."""
    rate = group["base_lr"] * by.lr_scale
    new = group | {"base_lr": rate, "lr": rate}
    if by.weight_decay is None:
        return new
    if "weight_decay" not in group:
        raise ConfigError(f"{where}.weight_decay: this optimizer has no weight decay; leave it out.")
    return new | {"weight_decay": by.weight_decay}
