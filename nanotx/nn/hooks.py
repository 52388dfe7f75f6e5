"""Hooks of training that a module may implement: an auxiliary loss, and a call at each step."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class OnStepModule(nn.Module, ABC):
    """A module that is called before each training step, and may change itself as a function of the step."""

    @abstractmethod
    def on_step(self, step: int, steps: int) -> None:
        """Handle that `step` of the run's `steps` are done; calling it twice has the effect of calling it once."""

    def step_note(self, step: int, steps: int) -> str:
        """Return a sentence for the run's log about a change by `on_step` that the loss will show; "" for none."""
        return ""


class AuxLossModule(nn.Module, ABC):
    """A module that adds a term to the training objective; the reported loss never includes it."""

    @abstractmethod
    def aux_loss(self) -> Tensor:
        """Return the auxiliary loss of the last pass, in nats per token; zero after a pass in evaluation mode."""
