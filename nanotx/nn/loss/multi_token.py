"""Multi-token prediction: beside the next token, the tokens further ahead are predicted from the same hidden state.

Each distance has a linear map of its own, added to the hidden state; the model's head turns the result into logits.
The maps are trained and saved, and are not used to evaluate or sample.

Source: Gloeckle et al. 2024, https://arxiv.org/abs/2404.19737, section 2, whose maps are transformer layers; weights of
DeepSeek-AI 2024, https://arxiv.org/abs/2412.19437, equation 25
"""

from dataclasses import dataclass

from torch import nn

from nanotx.config.registry import default_part
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError
from nanotx.nn.linear import Linear
from nanotx.nn.loss.base import Loss, LossModule
from nanotx.nn.loss.chunked_loss import Head, Scalar
from nanotx.nn.shapes import Stream, Tokens


@Loss.register("multi_token")
@dataclass(frozen=True, kw_only=True)
class MultiToken(Loss):
    """Another loss, of the next token and of those further ahead: L_1 + weight * mean(L_2, ..., L_ahead)."""

    ahead: int = 2  # distance of the farthest predicted token; 1 is the next token
    weight: float = 0.3  # weight of the tokens after the next one
    loss: Loss = default_part(Loss, "cross_entropy")  # of each of them

    def __post_init__(self) -> None:
        check_min(self, 2, "ahead")
        check_max(self, 64, "ahead")
        check_min(self, 0, "weight")
        check_max(self, 1_000_000, "weight")
        if isinstance(self.loss, MultiToken):
            raise ConfigError("loss: multi_token inside multi_token; set a larger ahead in its place.")

    def build(self, vocab_size: int, dim: int) -> LossModule:
        return MultiTokenLoss(self, vocab_size, dim)


class MultiTokenLoss(LossModule):
    """The inner loss, and a map of the hidden state for each further distance."""

    def __init__(self, config: MultiToken, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.config = config
        self.loss = config.loss.build(vocab_size, dim)
        self.to_ahead = nn.ModuleList(Linear(dim, dim, bias=False) for _ in range(config.ahead - 1))

    def forward(self, head: Head, x: Stream, targets: Tokens) -> tuple[Scalar, Scalar]:
        if x.shape[1] < self.config.ahead:
            raise ConfigError(
                f"multi_token: ahead={self.config.ahead} needs texts of as many tokens, got {x.shape[1]}; try a larger "
                "--model.context, or a smaller --loss.ahead."
            )
        total, cross_entropy = self.loss(head, x, targets)
        weight = self.config.weight / len(self.to_ahead)
        for distance, to_ahead in enumerate(self.to_ahead, start=1):
            ahead = x[:, :-distance]
            total = total + weight * self.loss(head, ahead + to_ahead(ahead), targets[:, distance:])[0]
        return total, cross_entropy
