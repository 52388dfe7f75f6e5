"""Plain values and tensors as a JSON table and named tensors, and back, to the bit; nothing else is let through."""

import math
from itertools import pairwise
from typing import Any
from urllib.parse import quote, unquote

import torch
from torch import Tensor

from nanotx.config.schema import INT_LIMIT
from nanotx.nn.buffers import DTYPES, bits

Tensors = dict[str, Tensor]
Json = Any

MAX_DEPTH = 16
"""Of lists and tables in one another."""

PLAIN = "a tensor, a number, a str, None, or lists, tuples and dicts of these"


class Unsaveable(Exception):
    """A value that no checkpoint can hold; says where and why."""


def join(*keys: str) -> str:
    """Return a path of keys, separated by `/`, in which each key can be told from its neighbours."""
    return "/".join(quote(key, safe="", errors="surrogatepass") for key in keys)


def split(path: str) -> tuple[str, ...]:
    """Return the keys of a path: the inverse of `join`."""
    return tuple(unquote(key, errors="surrogatepass") for key in path.split("/"))


def pack(value: Any, path: str, tensors: Tensors, depth: int = 0) -> Json:
    """Return a value as JSON can hold it; its tensors are added to `tensors` under their paths.

    Raises:
        Unsaveable: the value, or one inside it, is neither plain nor a tensor that a file can hold.
    """
    kind = type(value)
    if depth > MAX_DEPTH:
        raise Unsaveable(f"{path}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, Tensor):
        check_tensor(path, value)
        tensors[path] = value
        return {"tensor": None}
    if value is None or kind in (bool, str):
        return value
    if kind is int and abs(value) < INT_LIMIT:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in (list, tuple):
        items = [pack(item, f"{path}/{index}", tensors, depth + 1) for index, item in enumerate(value)]
        return items if kind is list else {"tuple": items}
    if kind is dict and all(type(key) is str for key in value):
        return {"dict": {key: pack(item, f"{path}/{join(key)}", tensors, depth + 1) for key, item in value.items()}}
    raise Unsaveable(f"{path}: {value!r:.60} of type {kind.__module__}.{kind.__qualname__}; expected {PLAIN}")


def check_tensor(path: str, tensor: Tensor) -> None:
    """Raise Unsaveable unless a file can hold a tensor so that it comes back as it is."""
    reasons = {
        f"a tensor of the class {type(tensor).__name__}": type(tensor) is not Tensor,
        f"a tensor of layout {tensor.layout}": tensor.layout is not torch.strided,
        f"a tensor of dtype {tensor.dtype}": tensor.dtype not in DTYPES,
        "a tensor without storage, on the meta device": tensor.is_meta,
        "a tensor that requires a gradient": tensor.requires_grad,
    }
    for reason, applies in reasons.items():
        if applies:
            raise Unsaveable(f"{path}: {reason}; expected a plain, dense, detached tensor of real numbers")


def check_apart(tensors: Tensors) -> None:
    """Raise Unsaveable where two tensors share memory: read back they would not, and a change of one miss the other."""
    spans = []
    for path, tensor in tensors.items():
        if tensor.numel():
            extent = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
            start = tensor.data_ptr()
            spans.append((str(tensor.device), start, start + extent * tensor.element_size(), path))
    for (device, _, end, path), (other, start, _, after) in pairwise(sorted(spans)):
        if device == other and start < end:
            raise Unsaveable(f"{after}: shares memory with {path}; expected a tensor of its own, such as a clone")


def check_packed(item: Json, path: str, depth: int = 0) -> None:
    """Raise ValueError unless an item of a JSON file is one that `pack` returns; says where."""
    if depth > MAX_DEPTH + 1:
        raise ValueError(f"{path}: nested deeper than {MAX_DEPTH}.")
    if isinstance(item, list):
        for index, entry in enumerate(item):
            check_packed(entry, f"{path}/{index}", depth + 1)
    elif isinstance(item, dict):
        [(kind, inside)] = item.items() if len(item) == 1 else [("", None)]
        if kind == "dict" and isinstance(inside, dict):
            for key, entry in inside.items():
                check_packed(entry, f"{path}/{join(key)}", depth + 1)
        elif kind == "tuple" and isinstance(inside, list):
            check_packed(inside, path, depth + 1)
        elif not ((kind == "tensor" and inside is None) or (kind == "float" and inside in ("nan", "inf", "-inf"))):
            raise ValueError(f"{path}: {item!r:.60} is not what nanotx writes there.")
    elif not (abs(item) < INT_LIMIT if isinstance(item, int) else not isinstance(item, float) or math.isfinite(item)):
        raise ValueError(f"{path}: {item!r:.60} is not what nanotx writes there.")


def unpack(item: Json, path: str, tensors: Tensors) -> Any:
    """Return the value of an item that `check_packed` accepted: the inverse of `pack`; takes its tensors out.

    Raises:
        KeyError: there is no such tensor.
    """
    if isinstance(item, list):
        return [unpack(entry, f"{path}/{index}", tensors) for index, entry in enumerate(item)]
    if not isinstance(item, dict):
        return item
    [(kind, inside)] = item.items()
    if kind == "tuple":
        return tuple(unpack(inside, path, tensors))
    if kind == "dict":
        return {key: unpack(entry, f"{path}/{join(key)}", tensors) for key, entry in inside.items()}
    return tensors.pop(path) if kind == "tensor" else float(inside)


def copied(value: Any) -> Any:
    """Return a value whose tensors and containers are its own; what is neither is the same object."""
    if type(value) is Tensor:
        return value.detach().clone()
    if type(value) in (list, tuple):
        return type(value)(map(copied, value))
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return value


def same(first: Any, other: Any) -> bool:
    """Return whether two values are of one type and equal to the bit; what is neither plain nor a tensor, identical."""
    if first is other:
        return True
    if type(first) is not type(other):
        return False
    if isinstance(first, Tensor):
        alike = first.shape == other.shape and first.dtype == other.dtype
        return alike and torch.equal(bits(first), bits(other))
    if isinstance(first, list | tuple):
        return len(first) == len(other) and all(map(same, first, other))
    if isinstance(first, dict):
        return first.keys() == other.keys() and all(same(item, other[key]) for key, item in first.items())
    return isinstance(first, bool | int | float | str) and repr(first) == repr(other)
