"""Checks of parts from outside the package (`--load`, entry points) on a small input, before a run starts."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.config.plugin_errors import PartCheck, describe_value, name_part_in_errors
from nanotx.config.registry import Slot, file_of, is_foreign
from nanotx.config.schema import fields, without_none
from nanotx.errors import shell_quoted
from nanotx.nn.adapt import AdaptedLinear
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.loss import Head, LossModule
from nanotx.nn.position import NO_POSITION, PositionalEncoding
from nanotx.nn.transformer import Model
from nanotx.optim.state import StateCodec
from nanotx.recipe import Recipe


def check_foreign(config: Recipe | Model, device: str = "cpu") -> None:
    """Try each part of a recipe that does not come with the package, as a run uses it.

    Raises:
        ConfigError: a part cannot be built or run, or returns something else than its slot requires; the message says
            which part, and where.
    """
    model = config.model if isinstance(config, Recipe) else config
    for where, part in slots(config):
        trial = TRIALS.get(part.slot)
        if is_foreign(type(part)) and trial and device in getattr(part, "trains_on", (device,)):
            with name_part_in_errors(type(part)), torch.random.fork_rng(devices=[]), torch.device(device):
                trial(PartCheck(part, where), part, model)


def laws_of_foreign(recipe: Recipe, load: Sequence[str]) -> list[str]:
    """Return a line that names the command which checks the laws of the parts that do not come with the package.

    Args:
        recipe: of the run.
        load: the files of the user's own, as they were named.
    """
    parts = {f"{part.slot}/{part.part}": file_of(type(part)) for _, part in slots(recipe) if is_foreign(type(part))}
    if not parts:
        return []
    files = [file for file in load if str(Path(file).resolve()) in parts.values()]
    words = ["nanotx", "laws", *parts, *(word for file in files for word in ("--load", shell_quoted(file)))]
    are, its = ("is a part", "its") if len(parts) == 1 else ("are parts", "their")
    return [f"{' and '.join(parts)} {are} of your own; to check {its} laws: {' '.join(words)}"]


TEXTS, TIME, IDS = 2, 5, 3
"""The size of the input on which a part is tried."""


def check_tensor(check: PartCheck, value: object, shape: tuple[int, ...], method: str) -> None:
    """Raise ConfigError unless a method returned a floating-point tensor of this shape."""
    ok = isinstance(value, Tensor) and tuple(value.shape) == shape and value.is_floating_point()
    check.expect(ok, f"{method} returned {describe_value(value)}", f"a tensor of floats of shape {shape}")
    narrow = isinstance(value, Tensor) and value.dtype != torch.float64  # which would widen all later tensors
    check.expect(narrow, f"{method} returned {describe_value(value)}", "a tensor of float32, as it was given")


def slots(config: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each part of a config, and its place."""
    for name, kind in fields(type(config)).items():
        item, where = getattr(config, name), f"{at}.{name}" if at else name
        for part in item if isinstance(item, tuple) else (item,):
            if isinstance(part, Slot):
                yield where, part
            if isinstance(part, Slot) or (hasattr(part, "__dataclass_fields__") and without_none(kind) is type(part)):
                yield from slots(part, where)


def try_layer(check: PartCheck, part: Any, model: Model) -> None:
    """Try an attention, a block, a norm or a feed-forward layer, with a cache if it takes one."""
    layer, shape = part.build(model.dim), (TEXTS, TIME, model.dim)
    check.expect(isinstance(layer, nn.Module), f"build returned {describe_value(layer)}", "an nn.Module")
    reads = part.slot in {"attention", "block"}
    check_tensor(
        check, layer(torch.randn(shape), NO_POSITION, None) if reads else layer(torch.randn(shape)), shape, "forward"
    )
    if reads:
        with torch.no_grad():
            check_tensor(check, layer.eval()(torch.randn(shape), NO_POSITION, KVCache()), shape, "forward with a cache")


def try_embedding(check: PartCheck, part: Any, model: Model) -> None:
    """Try an embedding on ids."""
    table = part.build(IDS, model.dim)
    check.expect(isinstance(table, nn.Module), f"build returned {describe_value(table)}", "a TokenEmbedding")
    ids = torch.arange(TEXTS * TIME).reshape(TEXTS, TIME) % IDS
    check_tensor(check, table(ids, None), (TEXTS, TIME, model.dim), "forward")
    check_tensor(check, getattr(table, "weight", None), (IDS, model.dim), "weight")


def try_position(check: PartCheck, part: Any, model: Model) -> None:
    """Try the methods of a position."""
    attention = model.attentions()[0] if model.attentions() else Sdpa(heads=1)
    heads, time = attention.heads, min(TIME, model.context)
    position = part.build(attention.position_width(part, model.dim), heads, model.context)
    check.expect(
        isinstance(position, PositionalEncoding), f"build returned {describe_value(position)}", "a PositionalEncoding"
    )
    x, q, positions = (
        torch.randn(1, time, model.dim),
        torch.randn(1, heads, time, attention.heads_width(model.dim) // heads),
        torch.arange(time),
    )
    check_tensor(check, position.embed(x, positions), tuple(x.shape), "embed")
    rotated = position.rotate(q, q, positions)
    check.expect(
        isinstance(rotated, tuple) and len(rotated) == 2, f"rotate returned {describe_value(rotated)}", "two tensors"
    )
    for tensor in rotated:
        check_tensor(check, tensor, tuple(q.shape), "rotate")
    if (bias := position.bias(positions, positions)) is not None:
        check_tensor(check, bias, (heads, time, time), "bias")


def try_optimizer(check: PartCheck, part: Any, model: Model) -> None:
    """Try one step on a small layer, and save the state."""
    layer = nn.Linear(2, 2)
    parameters = {f"layer.{name}": parameter for name, parameter in layer.named_parameters()}
    optimizer = part.build(parameters.items())
    ok = isinstance(optimizer, torch.optim.Optimizer)
    check.expect(ok, f"build returned {describe_value(optimizer)}", "a torch.optim.Optimizer")
    rated = all("base_lr" in group for group in optimizer.param_groups)
    check.expect(rated, "a group of parameters without 'base_lr'", "each group to hold its own full rate under it")
    codec = StateCodec(optimizer, parameters)
    layer(torch.randn(1, 2)).sum().backward()
    optimizer.step()
    codec.save()


def try_schedule(check: PartCheck, part: Any, model: Model) -> None:
    """Try the factors of a short run."""
    for step in range(3):
        factor = part.factor(step, 3)
        ok = isinstance(factor, int | float) and math.isfinite(factor)
        check.expect(ok, f"factor({step}, 3) returned {factor!r}", "a finite number")


def try_loss(check: PartCheck, part: Any, model: Model) -> None:
    """Try a loss on a stream and targets, at once and in chunks."""
    loss, time = part.build(IDS, model.dim), model.context
    check.expect(isinstance(loss, LossModule), f"build returned {describe_value(loss)}", "a LossModule")
    layer, targets = nn.Linear(model.dim, IDS), torch.arange(TEXTS * time).reshape(TEXTS, time) % IDS
    for chunk in (0, 1 + time):
        got = loss(Head(layer, [*layer.parameters()], chunk), torch.randn(TEXTS, time, model.dim), targets)
        ok = isinstance(got, tuple) and len(got) == 2
        check.expect(ok, f"forward returned {describe_value(got)}", "the training objective and the cross-entropy")
        for value in got:
            check_tensor(check, value, (), "forward")


def try_adapt(check: PartCheck, part: Any, model: Model) -> None:
    """Try what a linear map is wrapped in."""
    layer = part.wrap(nn.Linear(model.dim, model.dim), "a map")
    check.expect(isinstance(layer, AdaptedLinear), f"wrap returned {describe_value(layer)}", "an AdaptedLinear")
    check_tensor(check, layer(torch.randn(TEXTS, model.dim)), (TEXTS, model.dim), "forward")
    check_tensor(check, layer.delta(), (model.dim, model.dim), "delta")


TRIALS: dict[str, Callable[[PartCheck, Any, Model], None]] = {
    "attention": try_layer,
    "block": try_layer,
    "ffn": try_layer,
    "norm": try_layer,
    "embedding": try_embedding,
    "position": try_position,
    "optimizer": try_optimizer,
    "schedule": try_schedule,
    "loss": try_loss,
    "adapt": try_adapt,
}
"""How a part of each slot is tried; corpora and tokenizers are used before a run has a folder, and checked there."""
