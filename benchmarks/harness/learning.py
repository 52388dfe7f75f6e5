"""A contender's way through a recipe: timed steps, and the validation loss that they lead to."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from harness.builds import Built
from harness.timing import seconds
from nanotx.evaluation.loss import EvalText
from nanotx.hardware.device import Machine

MANY = 2**12
"""Tokens that are scored at once."""


class Learner:
    """A contender, told what to do next."""

    def __init__(self, built: Built, eval_text: EvalText, context: int) -> None:
        self.built, self.eval_text, self.context = built, eval_text, context

    def steps(self, count: int) -> None:
        """Take so many steps."""
        seconds(self.built.advance, count, self.built.machine.device)

    def restart(self, seed: int) -> None:
        """Back to step 0, with the weights and the batches of another seed."""
        self.built.restart(seed)

    def learn(self, count: int) -> tuple[float, float]:
        """Take so many steps; returns the seconds that they took, and the validation loss after them."""
        took = count * seconds(self.built.advance, count, self.built.machine.device)
        return took, validation_loss(self.built.model, self.eval_text, self.context, self.built.machine)


@torch.inference_mode()
def validation_loss(model: nn.Module, eval_text: EvalText, context: int, machine: Machine) -> float:
    """Nats per token over the whole text in windows side by side, as `nanotx.evaluation.loss` has it, of any module."""
    total = 0.0
    model.eval()
    with machine.autocast():
        for x, y in eval_text.batches(context, max(1, MANY // context)):
            logits = rearrange(model(x.to(machine.device)), "b t v -> (b t) v")
            targets = rearrange(y.to(machine.device), "b t -> (b t)")
            total += F.cross_entropy(logits.float(), targets, reduction="sum").item()
    model.train()
    return total / len(eval_text.ids)
