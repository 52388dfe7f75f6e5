"""Label smoothing: cross-entropy with a target that gives a share of its probability to all tokens alike.

Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7
"""

from dataclasses import dataclass

from nanotx.config.schema import check_fraction, check_max, check_min
from nanotx.nn.loss.base import Loss, LossModule, z_loss
from nanotx.nn.loss.chunked_loss import RowLogits, RowTargets, Scalar


@Loss.register("label_smoothing")
@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Loss):
    """(1 - s) * cross-entropy + s * cross-entropy with the uniform distribution."""

    smoothing: float = 0.1  # probability that is spread evenly over all tokens, the target included
    z_loss: float = 0.0  # weight of the squared log of the partition function of the logits

    def __post_init__(self) -> None:
        check_fraction(self, "smoothing")
        check_min(self, 0, "z_loss")
        check_max(self, 1_000_000, "z_loss")

    def build(self, vocab_size: int, dim: int) -> LossModule:
        return LabelSmoothingLoss(self)


class LabelSmoothingLoss(LossModule):
    """(1 - s) * cross-entropy + s * cross-entropy with the uniform distribution."""

    def __init__(self, config: LabelSmoothing) -> None:
        super().__init__()
        self.config = config

    def objective(self, logits: RowLogits, targets: RowTargets, cross_entropy: Scalar) -> Scalar:
        share = self.config.smoothing
        uniform = (logits.logsumexp(dim=-1) - logits.mean(dim=-1)).sum()
        return (1 - share) * cross_entropy + share * uniform + z_loss(logits, self.config.z_loss)
