"""The store of one forward pass: values that a module writes and later modules of the same pass read.

A module that derives from `StoreModule` has the store as `self.store`; `Transformer` gives one store to all its modules
and opens a new pass for each forward pass, so nothing is left for the next one. A pass spans a micro-batch in training,
its loss included, one window in evaluation, and the new tokens in sampling, where a KV cache holds the earlier ones.

    class ValueResidualAttention(SdpaAttention, StoreModule):
        def attend(self, q, k, v, bias):
            first = self.store.first("values", v)  # those of the first layer
            return super().attend(q, k, (v + first) / 2, bias)
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from nanotx.errors import ConfigError, did_you_mean

State = tuple[dict[str, Tensor], frozenset[str]]
"""The values of a pass by name, and the names of those that are not read yet."""


class PassStore:
    """Values by name, for the length of one forward pass.

    Outside of a pass, as where an attention is called by itself, nothing is kept: `first` returns its own value.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor] | None = None  # None outside of a pass
        self.unread: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether a forward pass is running."""
        return self.values is not None

    def write(self, name: str, value: Tensor) -> None:
        """Keep a value for the modules after this one; replaces an earlier value of the name."""
        if self.values is not None:
            self.values = self.values | {name: value}
            self.unread = self.unread | {name}

    def read(self, name: str) -> Tensor:
        """Return the value that a module before this one wrote.

        Raises:
            ConfigError: no module wrote it in this pass.
        """
        if self.values is None or name not in self.values:
            raise ConfigError(f"store: {name!r} is read before it is written.{self._what_is_there(name)}")
        self.unread = self.unread - {name}
        return self.values[name]

    def first(self, name: str, value: Tensor) -> Tensor:
        """Return the value that the first module of this pass passed here under the name: `value`, in that module."""
        if self.values is None:
            return value
        if name in self.values:
            return self.read(name)
        self.values = self.values | {name: value}
        return value

    def _what_is_there(self, name: str) -> str:
        if self.values is None:
            return " No forward pass of a model is under way; `first` returns its own value then."
        written = ", ".join(map(repr, self.values)) or "nothing"
        return f"{did_you_mean(name, self.values)} Modules before it wrote {written} in this pass."

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Context of one forward pass; within a pass that is under way, part of that one.

        Raises:
            ConfigError: a value was written and never read.
        """
        if self.is_open:
            yield
            return
        self.values, self.unread = {}, frozenset()
        try:
            yield
            if self.unread:
                raise ConfigError(
                    f"store: {', '.join(map(repr, sorted(self.unread)))} is written and never read in this pass; leave "
                    "the write out, or write it in training alone where the loss reads it."
                )
        finally:
            self.values, self.unread = None, frozenset()

    @property
    def state(self) -> State | None:
        """The contents of the store; None outside of a pass."""
        return None if self.values is None else (self.values, self.unread)

    @state.setter
    def state(self, state: State | None) -> None:
        self.values, self.unread = state if state is not None else (None, frozenset())

    @contextmanager
    def replaced(self, state: State | None) -> Iterator[None]:
        """Context in which the store has other contents, for a layer that is computed again in the backward pass."""
        outer = self.values, self.unread
        self.state = state
        try:
            yield
        finally:
            self.values, self.unread = outer


class StoreModule(nn.Module):
    """A module with the store of the forward pass as `self.store`."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.store = PassStore()


def connect(model: nn.Module) -> PassStore | None:
    """Give all modules of a model that use a store the same one, and return it; None if no module uses one."""
    store = PassStore()
    users = [module for module in model.modules() if isinstance(module, StoreModule)]
    for module in users:
        module.store = store
    return store if users else None
