"""What a module asks of training beside the loss, such as an even load for its experts."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Penalised(nn.Module, ABC):
    """A module with a term of its own in what training lowers; the loss that is told never holds it."""

    @abstractmethod
    def penalty(self) -> Tensor:
        """What its last pass owes, in nats per token; zero after a pass that was not training."""
