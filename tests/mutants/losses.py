"""Losses that are wrong in one way each."""

from dataclasses import dataclass

from nanotx.nn.loss import Loss, LossModule

CATCHES = {}
"""The first law that catches each."""


def mutant(name, law):
    """Register a mutant built from its module's class, with the law that catches it first."""

    def enter(module):
        @Loss.register(f"mutant_{name}")
        @dataclass(frozen=True, kw_only=True)
        class Config(Loss):
            def build(self, vocab_size, dim):
                return module()

        CATCHES[f"loss/mutant_{name}"] = law
        return module

    return enter


@mutant("reports_itself", "reports_cross_entropy")
class ReportsItself(LossModule):
    """What it minimises is reported as the cross-entropy."""

    def forward(self, head, x, targets):
        total, _ = head.mean(x, targets, lambda logits, targets, cross: cross + logits.square().sum())
        return total, total.detach()


@mutant("mean_of_chunk", "chunk_invariant")
class MeanOfChunk(LossModule):
    """A mean over the chunk is added once for each chunk."""

    def objective(self, logits, targets, cross_entropy):
        return cross_entropy + logits.square().mean()


@mutant("all_logits", "chunk_invariant")
class AllLogits(LossModule):
    """The logits of all tokens exist at once."""

    def forward(self, head, x, targets):
        total, cross = super().forward(head, x, targets)
        return total + head.logits(x).square().mean(), cross


@mutant("between_rows", "batch_mean")
class BetweenRows(LossModule):
    """Rows of a batch are compared with one another."""

    def forward(self, head, x, targets):
        total, cross = super().forward(head, x, targets)
        return total + (x - x.mean(dim=0)).square().mean(), cross
