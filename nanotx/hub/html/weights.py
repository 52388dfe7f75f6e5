"""The weights of a page: bytes, and a table of the place of each tensor.

In 8 bits, the numbers of a row are cut into groups; each group has a scale, its largest magnitude divided by 127, and
each number is the nearest multiple of it. Vectors (norms and biases) stay in float32: they are few.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Kind = Literal["int8", "float32"]

GROUP = 64
"""Numbers of a row that share a scale: 4 bytes more for each 64."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors as the bytes of a page."""

    table: list[dict[str, Any]]  # for each tensor: its name, shape, kind, and where its bytes are
    data: bytes


def encoded(tensors: dict[str, Tensor], kind: Kind) -> Weights:
    """Return tensors as bytes.

    Args:
        tensors: by name, in float32.
        kind: int8 for matrices in 8 bits, or float32 for all as they are.
    """
    table, data = list[dict[str, Any]](), bytearray()
    for name, tensor in tensors.items():
        entry: dict[str, Any] = {"name": name, "shape": list(tensor.shape), "kind": "float32", "at": len(data)}
        if kind == "int8" and tensor.ndim == 2:
            codes, scales = quantized(tensor)
            entry |= {"kind": "int8", "group": GROUP}
            data += codes.tobytes()
            data += bytes(-len(data) % 4)
            entry["scales_at"] = len(data)
            data += scales.tobytes()
        else:
            data += tensor.detach().float().contiguous().numpy().astype("<f4").tobytes()
        table.append(entry)
    return Weights(table=table, data=bytes(data))


def quantized(matrix: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a matrix in 8 bits, and the scale of each group of its rows."""
    columns = matrix.shape[1]
    padded = F.pad(matrix.detach().float(), (0, -columns % GROUP))
    groups = rearrange(padded, "row (group k) -> row group k", k=GROUP)
    scales = groups.abs().amax(dim=-1) / 127
    codes = (groups / rearrange(scales, "row group -> row group 1").clamp(min=torch.finfo(torch.float32).tiny)).round()
    whole = rearrange(codes, "row group k -> row (group k)")[:, :columns]
    return whole.contiguous().numpy().astype(np.int8), scales.numpy().astype("<f4")


def decoded(weights: Weights) -> dict[str, Tensor]:
    """Return the tensors of a page from its bytes, as the page itself reads them."""
    return {entry["name"]: decoded_tensor(entry, weights.data) for entry in weights.table}


def decoded_tensor(entry: dict[str, Any], data: bytes) -> Tensor:
    """Return one tensor of a page."""
    shape = tuple(entry["shape"])
    if entry["kind"] == "float32":
        return torch.from_numpy(np.frombuffer(data, "<f4", int(np.prod(shape)), entry["at"]).reshape(shape).copy())
    rows, columns = shape
    groups = -(-columns // entry["group"])
    codes = np.frombuffer(data, np.int8, rows * columns, entry["at"]).reshape(shape).astype(np.float32)
    scales = np.frombuffer(data, "<f4", rows * groups, entry["scales_at"]).reshape(rows, groups)
    return torch.from_numpy(codes * np.repeat(scales, entry["group"], axis=1)[:, :columns])
