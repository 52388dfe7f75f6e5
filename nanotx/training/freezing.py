"""Freeze parameters: they keep every bit, get no gradient, and have no optimizer state."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from nanotx.errors import ConfigError
from nanotx.nn.canonical import added_names
from nanotx.nn.transformer import LOSS_PREFIX

SHOWN = 6
"""Names that a message lists."""

NEAR = 0.4
"""Similarity from which a name is listed beside a pattern that matches nothing."""


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Freeze the parameters whose names match any of some patterns; return the names of all that are frozen.

    Of a model with an adapter, all is frozen but what the adapter added, and the parameters of the training loss.

    In a pattern `*` stands for any characters, dots included, and `?` for one, as on a shell: `blocks.*.norm.weight`.

    Args:
        model: the model as it is trained, with its loss.
        patterns: of the names of its parameters.

    Raises:
        ConfigError: a pattern matches no parameter, or none is left to train.
    """
    parameters, frozen = dict(model.named_parameters()), set[str]()
    if added := {*added_names(model)}:
        frozen |= {name for name in parameters if name not in added and not name.startswith(LOSS_PREFIX)}
    for pattern in patterns:
        matched = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matched:
            raise ConfigError(f"freeze: {pattern!r} matches no parameter. {near(pattern, list(parameters))}.")
        frozen |= {*matched}
    if patterns and frozen == parameters.keys():
        raise ConfigError(
            f"freeze: {' '.join(patterns)} leaves none of {len(parameters)} parameters to train; name fewer."
        )
    for name in frozen:
        parameters[name].requires_grad_(False)
    return [name for name in parameters if name in frozen]


def near(pattern: str, names: list[str]) -> str:
    """Return the names of parameters that a pattern may have meant, or else the first ones."""
    if close := get_close_matches(pattern, names, SHOWN, NEAR):
        return f"Near: {', '.join(close)}"
    return f"Parameters: {', '.join(names[:SHOWN])}" + f", ... ({len(names)} in all)" * (len(names) > SHOWN)


def describe_frozen(model: nn.Module) -> list[str]:
    """Return a line about the parameters that are not trained, if there are any."""
    sizes = {name: param.numel() for name, param in model.named_parameters()}
    frozen = [name for name, param in model.named_parameters() if not param.requires_grad]
    if not frozen:
        return []
    held, more = sum(sizes[name] for name in frozen), len(frozen) - SHOWN
    listed = ", ".join([*frozen[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
    return [
        f"frozen: {held:,} of {sum(sizes.values()):,} weights, in {len(frozen)} of {len(sizes)} tensors: {listed}; "
        f"{sum(sizes.values()) - held:,} are trained"
    ]
