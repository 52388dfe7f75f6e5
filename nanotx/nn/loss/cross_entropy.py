"""Cross-entropy of the next token: the mean negative log-likelihood, in nats per token.

Source: Shannon 1948, https://doi.org/10.1002/j.1538-7305.1948.tb01338.x, section 6
"""

from dataclasses import dataclass

from nanotx.config.schema import check_max, check_min
from nanotx.nn.loss.base import Loss, LossModule, z_loss
from nanotx.nn.loss.chunked_loss import RowLogits, RowTargets, Scalar


@Loss.register("cross_entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Loss):
    """The cross-entropy, -log p(target), and with a weight the z-loss."""

    z_loss: float = 0.0  # weight of the squared log of the partition function of the logits

    def __post_init__(self) -> None:
        check_min(self, 0, "z_loss")
        check_max(self, 1_000_000, "z_loss")

    def build(self, vocab_size: int, dim: int) -> LossModule:
        return CrossEntropyLoss(self)


class CrossEntropyLoss(LossModule):
    """The cross-entropy, which `Head.sums` computes for every loss, and with a weight the z-loss."""

    def __init__(self, config: CrossEntropy) -> None:
        super().__init__()
        self.config = config

    def objective(self, logits: RowLogits, targets: RowTargets, cross_entropy: Scalar) -> Scalar:
        return cross_entropy + z_loss(logits, self.config.z_loss)
