"""What a module may ask of training: an auxiliary loss, and to be called at each step."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class OnStepModule(nn.Module, ABC):
    """A module that is told where a run is before each of its steps, and may change itself by that alone."""

    @abstractmethod
    def on_step(self, step: int, steps: int) -> None:
        """Take note that `step` of the run's `steps` are done; told twice, it does no more than told once."""


class AuxLossModule(nn.Module, ABC):
    """A module with a term of its own in what training lowers; the loss that is told never holds it."""

    @abstractmethod
    def aux_loss(self) -> Tensor:
        """What its last pass owes, in nats per token; zero after a pass that was not training."""
