"""No adapter: the model as it is."""

from dataclasses import dataclass

from torch import nn

from nanotx.errors import ConfigError
from nanotx.nn.adapt.base import Adapt, AdaptedLinear


@Adapt.register("none")
@dataclass(frozen=True, kw_only=True)
class NoAdapter(Adapt):
    """The model as it is; all of it is trained."""

    @property
    def patterns(self) -> tuple[str, ...]:
        return ()

    def wrap(self, linear: nn.Linear, name: str) -> AdaptedLinear:
        raise ConfigError(f"none: wraps no linear map, such as {name}.")
