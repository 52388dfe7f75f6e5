"""Parts from elsewhere (`--load`, entry points): tried on a small input before a run begins, named where they fail."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nanotx.config import fields, inner
from nanotx.errors import ConfigError, NanotxError, is_memory_full
from nanotx.model import Model
from nanotx.past import Past
from nanotx.position import NOWHERE, Positioning
from nanotx.recipe import Recipe
from nanotx.registry import LOADED, Slot, file_of, is_foreign
from nanotx.tokenizers import Codec, Tokenizer, composed

TEXTS, TIME, IDS = 2, 5, 3
"""The size of the input on which a part is tried."""


def check_foreign(config: Recipe | Model, device: str = "cpu") -> None:
    """Try each part of a recipe that does not come with the package, as it is used in a run.

    Raises:
        ConfigError: one cannot be built or run, or returns something else than its slot has it; says which and where.
    """
    model = config.model if isinstance(config, Recipe) else config
    for where, part in slots(config):
        trial = TRIALS.get(part.slot)
        if is_foreign(type(part)) and trial and device in getattr(part, "trains_on", (device,)):
            with named(type(part)), torch.random.fork_rng(devices=[]), torch.device(device):
                trial(Told(part, where), part, model)


def slots(config: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Each part of a config, and where it stands."""
    for name, kind in fields(type(config)).items():
        item, where = getattr(config, name), f"{at}.{name}" if at else name
        for one in item if isinstance(item, tuple) else (item,):
            if isinstance(one, Slot):
                yield where, one
            if isinstance(one, Slot) or (hasattr(one, "__dataclass_fields__") and inner(kind) is type(one)):
                yield from slots(one, where)


class Told:
    """What to say of a part that is wrong."""

    def __init__(self, part: Any, where: str) -> None:
        self.part, self.where = part if isinstance(part, type) else type(part), where

    def wanted(self, right: bool, came: object, wish: str) -> None:
        """Raise ConfigError unless it is right."""
        if not right:
            raise ConfigError(f"{title(self.part)}: {came}; expected {wish}. Correct the file and try again.")

    def tensor(self, found: object, shape: tuple[int, ...], what: str) -> None:
        """Raise ConfigError unless what a method returned is a tensor of floating-point numbers of this shape."""
        right = isinstance(found, Tensor) and tuple(found.shape) == shape and found.is_floating_point()
        self.wanted(right, f"{what} returned {described(found)}", f"a tensor of floats of shape {shape}")
        narrow = isinstance(found, Tensor) and found.dtype != torch.float64  # which would widen all that comes after
        self.wanted(narrow, f"{what} returned {described(found)}", "a tensor of float32, as it was given")


def described(found: object) -> str:
    """A value, in a few words."""
    if isinstance(found, Tensor):
        return f"a tensor of {str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    if isinstance(found, np.ndarray):
        return f"an array of {found.dtype} of shape {found.shape}"
    return "None" if found is None else f"a {type(found).__name__}"


def try_layer(told: Told, part: Any, model: Model) -> None:
    """An attention, a block, a norm or a feed-forward layer: from stream to stream, with a past where it takes one."""
    layer, shape = part.build(model.dim), (TEXTS, TIME, model.dim)
    told.wanted(isinstance(layer, nn.Module), f"build returned {described(layer)}", "an nn.Module")
    reads = part.slot in {"attention", "block"}
    told.tensor(layer(torch.randn(shape), NOWHERE, None) if reads else layer(torch.randn(shape)), shape, "forward")
    if reads:
        with torch.no_grad():
            told.tensor(layer.eval()(torch.randn(shape), NOWHERE, Past()), shape, "forward with a past")


def try_embedding(told: Told, part: Any, model: Model) -> None:
    """Ids to stream."""
    table = part.build(IDS, model.dim)
    told.wanted(isinstance(table, nn.Module), f"build returned {described(table)}", "a TokenEmbedding")
    ids = torch.arange(TEXTS * TIME).reshape(TEXTS, TIME) % IDS
    told.tensor(table(ids, None), (TEXTS, TIME, model.dim), "forward")
    told.tensor(getattr(table, "weight", None), (IDS, model.dim), "weight")


def try_position(told: Told, part: Any, model: Model) -> None:
    """What is added to the stream, turned, and added to the scores."""
    heads = min((attention.heads for attention in model.attentions()), default=1)
    position, time = part.build(model.dim, heads, model.context), min(TIME, model.context)
    told.wanted(isinstance(position, Positioning), f"build returned {described(position)}", "a Positioning")
    x, q, at = torch.randn(1, time, model.dim), torch.randn(1, heads, time, model.dim // heads), torch.arange(time)
    told.tensor(position.embed(x, at), tuple(x.shape), "embed")
    turned = position.turn(q, q, at)
    told.wanted(isinstance(turned, tuple) and len(turned) == 2, f"turn returned {described(turned)}", "two tensors")
    for one in turned:
        told.tensor(one, tuple(q.shape), "turn")
    if (bias := position.bias(at, at)) is not None:
        told.tensor(bias, (heads, time, time), "bias")


def try_optimizer(told: Told, part: Any, model: Model) -> None:
    """One step on a small layer."""
    layer = nn.Linear(2, 2)
    optimizer = part.build([(f"layer.{name}", one) for name, one in layer.named_parameters()])
    right = isinstance(optimizer, torch.optim.Optimizer)
    told.wanted(right, f"build returned {described(optimizer)}", "a torch.optim.Optimizer")
    rated = all("base_lr" in group for group in optimizer.param_groups)
    told.wanted(rated, "a group of parameters without 'base_lr'", "each group to hold its own full rate under it")
    layer(torch.randn(1, 2)).sum().backward()
    optimizer.step()


def try_schedule(told: Told, part: Any, model: Model) -> None:
    """The factors of a short run."""
    for step in range(3):
        factor = part.factor(step, 3)
        right = isinstance(factor, int | float) and math.isfinite(factor)
        told.wanted(right, f"factor({step}, 3) returned {factor!r}", "a finite number")


TRIALS: dict[str, Callable[[Told, Any, Model], None]] = {
    "attention": try_layer,
    "block": try_layer,
    "ffn": try_layer,
    "norm": try_layer,
    "embedding": try_embedding,
    "position": try_position,
    "optimizer": try_optimizer,
    "schedule": try_schedule,
}
"""How a part of each slot is tried; corpora and tokenizers are used before a run has a folder, and checked there."""


def learn(tokenizer: Tokenizer, texts: Iterable[str], sample: str = "") -> Codec:
    """What a tokenizer from elsewhere learns from texts, tried on a sample; see `Tokenizer.learn_checked`."""
    told = Told(tokenizer, "tokenizer")
    with named(type(tokenizer)):
        codec = tokenizer.learn(texts)
        check_codec(told, codec, "learn", sample)
    return codec


def read(part: type[Any], table: dict[str, Any]) -> Codec:
    """The codec that a tokenizer from elsewhere reads from a table, tried on an empty text; see `Tokenizer.read`.

    Raises:
        ConfigError: it raises, or returns no codec that can be used; says which and where.
    """
    with named(part):
        codec: Codec = part.read(table)
        check_codec(Told(part, "tokenizer"), codec, "read", "")
    return codec


def check_codec(told: Told, codec: Any, method: str, sample: str) -> None:
    """Raise ConfigError unless what a method of a tokenizer from elsewhere returned is a codec that can be used."""
    told.wanted(isinstance(codec, Codec), f"{method} returned {described(codec)}", "a Codec")
    size = codec.vocab_size
    right = isinstance(size, int) and size > 0
    told.wanted(right, f"its codec has vocab_size={size!r}", "a whole number of at least 1")
    _ = codec.digest  # its table becomes JSON, without NaN or infinity
    ids = codec.ordinary(composed(sample) if codec.nfc else sample)
    right = isinstance(ids, np.ndarray) and ids.ndim == 1 and np.issubdtype(ids.dtype, np.integer)
    told.wanted(right, f"ordinary returned {described(ids)}", "an array of whole numbers, with one axis")
    low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
    told.wanted(low >= 0 and high < size, f"ordinary returned ids from {low} to {high}", f"ids from 0 to {size - 1}")
    back = codec.decode_bytes(ids)
    told.wanted(isinstance(back, bytes), f"decode_bytes returned {described(back)}", "bytes")


@contextmanager
def named(part: type[Any]) -> Iterator[None]:
    """Within, whatever a part raises becomes one message that names it."""
    try:
        yield
    except NanotxError:
        raise
    except (Exception, SystemExit) as error:  # a part may be anyone's, and raise anything
        if is_memory_full(error):
            raise
        raise ConfigError(f"{title(part)}{line_of(error, file_of(part))} {in_words(error)}.") from error


def blame(error: BaseException) -> ConfigError | None:
    """What to say of an error that passed through a file brought from elsewhere; None where it did not."""
    files = {file for part in parts() if (file := file_of(part))} | {
        str(module.__file__) for name, module in list(sys.modules.items()) if name.startswith(LOADED)
    }
    through = [frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__)]
    for file in reversed(through):
        if file in files:
            titles = sorted(title(part) for part in parts() if file_of(part) == file)
            name = titles[0] if len(titles) == 1 else f"{file}"
            return ConfigError(f"{name}{line_of(error, file)} {in_words(error)}.")
    return None


def parts() -> list[type[Any]]:
    """All parts from elsewhere that have been brought."""
    return [part for slot in Slot.__subclasses__() for part in slot.registered.values() if is_foreign(part)]


def title(part: type[Any]) -> str:
    """A part, and the file that it is from."""
    return f"{part.slot} {part.part!r} ({file_of(part) or part.__module__})"


def line_of(error: BaseException, file: str) -> str:
    """At which line of a file an error arose, as the end of a subject."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f": line {lines[-1]} raises" if lines else ": using it raises"


def in_words(error: BaseException) -> str:
    """An error's kind and its first line."""
    said = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
