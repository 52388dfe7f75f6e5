"""What a module asks to be told of training: how far it has come, such as a table that begins anew."""

from abc import ABC, abstractmethod

from torch import nn


class Paced(nn.Module, ABC):
    """A module that is told where a run is before each of its steps, and may change itself by that alone."""

    @abstractmethod
    def pace(self, step: int, steps: int) -> None:
        """Take note that `step` of the run's `steps` are done; told twice, it does no more than told once."""
