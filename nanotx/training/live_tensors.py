"""The bytes of tensors that are alive while a training step runs, by kind."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type
from torch.utils._pytree import tree_leaves

KINDS = ("weights", "gradients", "optimizer", "activations", "logits")

GATHER = "fsdp.split_with_sizes_copy.default"
"""Operation of FSDP2 that puts the weights of all ranks into the tensors that modules compute with."""

SENT = {
    "fsdp.all_gather_copy_in.default": "weights",
    GATHER: "weights",
    "fsdp.chunk_cat.default": "gradients",
    "c10d._reduce_scatter_base_.default": "gradients",
    "c10d.allreduce_.default": "gradients",
    "c10d.send.default": "gradients",
    "c10d.recv_.default": "gradients",
    "c10d.broadcast_.default": "weights",
}
"""Operations by which ranks send tensors, and the kind of all tensors that they read and write."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of tensors at the peak of a step, by kind."""

    weights: int  # and buffers
    gradients: int  # of all sums of micro-batches that are alive
    optimizer: int  # its state, and the average of the weights if there is one
    activations: int  # kept for the backward pass, and temporary tensors
    logits: int  # and tensors of their shape

    @property
    def total(self) -> int:
        """Return the bytes of all kinds."""
        return sum(getattr(self, kind) for kind in KINDS)


class LiveTensors(TorchDispatchMode):
    """Context that counts the bytes of tensors that are alive, by kind, and keeps the counts of the fullest moment.

    FSDP2 keeps the tensors into which it gathers weights, and takes their memory away in between. No operation tells of
    that, so the storages of gathered weights are looked at before each.
    """

    def __init__(self, shapes: set[tuple[int, ...]], vocab_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes, self.vocab_size = shapes, vocab_size
        self.known = dict[int, tuple[str, int]]()  # the kind and the bytes of a storage
        self.gathered = dict[int, UntypedStorage]()  # of weights
        self.now, self.peak = Counter[str](), Counter[str]()
        self.most_computed = 0  # bytes of activations and logits at once, since it was set to 0

    def add(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Count tensors whose memory is not counted yet, until it is freed."""
        for tensor in tensors:
            if tensor.layout is not torch.strided:
                self.add([tensor._indices(), tensor._values()], kind)
            elif is_traceable_wrapper_subclass_type(type(tensor)):
                continue  # its own tensors are counted
            elif (storage := tensor.untyped_storage())._cdata not in self.known:
                weakref.finalize(storage, self.free, storage._cdata)
                self.count(storage, kind)
        self.most_computed = max(self.most_computed, self.now["activations"] + self.now["logits"])
        if self.now.total() > self.peak.total():
            self.peak = self.now.copy()

    def mark(self, tensors: Sequence[Tensor], kind: str) -> None:
        """Count tensors as of a kind, with the bytes that they have now."""
        self.add(tensors, kind)
        for tensor in tensors:
            self.count(tensor.untyped_storage(), kind)
        self.add((), kind)

    def fullest(self) -> Memory:
        """Return the bytes of the fullest moment up to now, and begin anew."""
        peak, self.peak = self.peak, self.now.copy()
        return Memory(**{kind: peak[kind] for kind in KINDS})

    def count(self, storage: UntypedStorage, kind: str) -> None:
        """Count memory as one of a kind, with the bytes that it has now."""
        self.now.subtract(dict([self.known.get(storage._cdata, (kind, 0))]))
        self.known[storage._cdata] = kind, storage.nbytes()
        self.now[kind] += storage.nbytes()

    def free(self, key: int) -> None:
        """Count memory no longer."""
        self.now.subtract(dict([self.known.pop(key)]))

    def kind(self, tensor: Tensor) -> str:
        """Return the kind of a tensor that an operation has made."""
        shape = tuple(tensor.shape)
        if shape in self.shapes or shape[::-1] in self.shapes:
            return "gradients"
        return "logits" if shape and shape[-1] == self.vocab_size else "activations"

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and count the tensors that it returns."""
        if func is torch.ops.prim.device.default:
            return func(*args)
        if any(map(is_traceable_wrapper_subclass_type, types)):
            return NotImplemented  # of a tensor in slices: what it does with its own slice comes here
        for key in [key for key, storage in self.gathered.items() if not storage.nbytes()]:
            self.count(self.gathered.pop(key), "weights")
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add([leaf], self.kind(leaf))
        name = str(func)
        if kind := SENT.get(name):
            self.mark([leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)], kind)
        if name == GATHER:
            storages = [tensor.untyped_storage() for tensor in (kwargs or {})["out"]]
            self.gathered |= {storage._cdata: storage for storage in storages}
        return result
