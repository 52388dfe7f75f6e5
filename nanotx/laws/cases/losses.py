"""The laws of losses, on random parts, sizes, weights and targets."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.hardware.lazy_compiler import meta_device
from nanotx.laws import losses
from nanotx.laws.fields import TRIES, fields_matter, gets_gradient, has_fields, untried
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.strategies import Drawn, batches, configs, seeds
from nanotx.laws.values import require_close
from nanotx.laws.weights import redraw, seeded
from nanotx.nn.loss import Head, LossModule
from nanotx.nn.shapes import Stream, Tokens

LONGEST = 12
"""Positions of the longest text; every loss takes one of 8, which is as far ahead as a small number points."""


@dataclass(frozen=True, kw_only=True)
class LossCase(Case):
    """A loss with random weights, a head, and random hidden states and targets."""

    vocab_size: int = 2
    dim: int = 1  # width of the stream
    batch: int = 1
    time: int = LONGEST
    chunk: int = 1  # tokens
    seed: int = 0  # of the weights, the stream and the targets
    scale: float = 1.0  # of the stream
    device: str = "cpu"

    def module(self, shift: int = 0) -> LossModule:
        """Return the loss, with weights drawn from a seed."""
        with seeded(self.seed + shift):
            module: LossModule = self.config.build(self.vocab_size, self.dim)
        redraw(module, self.seed + shift)
        return module.to(self.device).train()

    def head(self) -> nn.Linear:
        """The head of the model."""
        with seeded(self.seed):
            return nn.Linear(self.dim, self.vocab_size).to(self.device)

    def x(self) -> Stream:
        """The stream that the head reads."""
        generator = torch.Generator().manual_seed(self.seed)
        return (torch.randn(self.batch, self.time, self.dim, generator=generator) * self.scale).to(self.device)

    def targets(self) -> Tokens:
        """The next token at each position."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return torch.randint(self.vocab_size, (self.batch, self.time), generator=generator).to(self.device)

    def numbers(self, module: LossModule | None = None) -> dict[str, Tensor]:
        """Return the loss's two numbers and its gradients."""
        return losses.gradients(module or self.module(), self.head(), self.x(), self.targets(), 0)

    def fits(self) -> None:
        with meta_device():
            self.config.build(self.vocab_size, self.dim)


@st.composite
def draw_losses(draw: Drawn, part: type[Any], where: Where) -> LossCase:
    """Draw a loss of this part and its inputs."""
    return LossCase(
        config=draw(configs(part)),
        vocab_size=draw(st.integers(2, 20)),
        dim=draw(st.integers(1, 8)),
        batch=draw(batches),
        time=draw(st.integers(8, LONGEST)),
        chunk=draw(st.integers(1, 40)),
        seed=draw(seeds),
        scale=draw(st.sampled_from([1.0, 0.1, 10.0])),
        device=where.device,
    )


LAWS = LawBook()


@LAWS.law("loss", draw=draw_losses)
def reports_cross_entropy(case: LossCase) -> None:
    """It reports the plain cross-entropy of the next token, whatever it minimises."""
    losses.reports_cross_entropy(case.module(), case.head(), case.x(), case.targets())


@LAWS.law("loss", draw=draw_losses)
def chunk_invariant(case: LossCase) -> None:
    """In chunks of tokens it has the same value and gradients as at once."""
    losses.chunk_invariant(case.module(), case.head(), case.x(), case.targets(), case.chunk)


@LAWS.law("loss", draw=draw_losses)
def batch_mean(case: LossCase) -> None:
    """The loss of a batch is the mean of the losses of its rows."""
    losses.batch_mean(case.module(), case.head(), case.x(), case.targets())


@LAWS.law("loss", draw=draw_losses)
def state_complete(case: LossCase) -> None:
    """The state dict determines the outputs."""
    module, other = case.module(), case.module(shift=1)
    other.load_state_dict({name: tensor.clone() for name, tensor in module.state_dict().items()})
    for name, tensor in case.numbers(module).items():
        require_close("state_complete", case.numbers(other)[name], tensor, 1e-6, f"{name} with the same state")


@LAWS.law("loss", draw=draw_losses)
def finite(case: LossCase) -> None:
    """The loss and its gradients are finite, also where the logits are large."""
    for scale in (1.0, 1e3):
        for name, tensor in replace(case, scale=case.scale * scale).numbers().items():
            if not bool(tensor.isfinite().all()):
                raise LawBroken(f"finite: {name} is not finite, with a stream of scale {case.scale * scale:g}.")


@LAWS.law("loss", draw=draw_losses, name="gets_gradient", most=10)
def all_get_gradient(case: LossCase) -> None:
    """Every parameter of a loss gets a gradient."""

    def passes() -> Iterator[tuple[nn.Module, Tensor]]:
        for index in range(TRIES):
            again = replace(case, seed=case.seed + index)
            module, head = again.module(), again.head()
            yield module, module(Head(head, [*head.parameters()]), again.x(), again.targets())[0]

    gets_gradient(passes())


@LAWS.law(
    "loss",
    draw=draw_losses,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=untried,
    most=10,
)
def all_fields_matter(case: LossCase) -> None:
    """Every field changes the state, the loss or its gradients."""

    def outcome(config: Any) -> dict[str, Tensor]:
        other = replace(case, config=config, vocab_size=7, dim=5, time=LONGEST)
        state = {
            f"state {name} {tuple(tensor.shape)}": torch.zeros(0)
            for name, tensor in other.module().state_dict().items()
        }
        return state | {name: tensor.double() for name, tensor in other.numbers().items()}

    fields_matter(case.config, outcome)
