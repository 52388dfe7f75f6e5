"""The laws of schedules, optimizers and data, and their random cases."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from nanotx.config.schema import fields
from nanotx.data.batches import Windows
from nanotx.laws import dividing, learning, windows
from nanotx.laws.fields import fields_matter, has_fields, untried
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.learning import Parameters
from nanotx.laws.random_texts import with_other_fields
from nanotx.laws.strategies import Drawn, configs, seeds
from nanotx.optim import Optimizer
from nanotx.optim.schedules import Schedule

LAWS = LawBook()
RUN_LENGTHS = (40, 400)
"""Lengths of runs, shorter and longer than any usual warm-up."""

# Schedules.


@dataclass(frozen=True, kw_only=True)
class History(Case):
    """A schedule, the lengths of two runs, and the steps to check."""

    steps: int = 1
    other: int = 1
    at: tuple[int, ...] = ()


@st.composite
def draw_schedule(draw: Drawn, part: type[Schedule], where: Where) -> History:
    """Draw any schedule, also one of zeros, and any run, also one as long as the warm-up."""
    config = draw(configs(part))
    for name, kind in fields(part).items():
        if kind in (int, float) and draw(st.integers(0, 3)) == 3:
            config = with_other_fields(config, **{name: kind(0)})
    sizes = [getattr(config, name) for name, kind in fields(part).items() if kind is int]
    edges = [1, 200, *(max(1, size + beside) for size in sizes for beside in (-1, 0, 1))]
    lengths, far = st.integers(1, 40) | st.sampled_from(edges), st.sampled_from([10**4, 10**9])
    at = draw(st.lists(st.integers(0, 220) | far, max_size=8))
    return History(config=config, steps=draw(lengths), other=draw(lengths), at=tuple(at))


@LAWS.law("schedule", draw=draw_schedule)
def finite_factor(case: History) -> None:
    """Any step has a factor, finite and not below zero, and no run is all zeros."""
    learning.finite_factor(case.config, case.at, case.steps)


@LAWS.law("schedule", draw=draw_schedule)
def pure(case: History) -> None:
    """The factor of a step does not depend on the steps asked before."""
    learning.pure(case.config, (*case.at, *range(min(case.steps, 12))), case.steps, case.other)


@LAWS.law(
    "schedule",
    draw=draw_schedule,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=untried,
    most=10,
)
def schedule_field_matters(case: History) -> None:
    """Every field changes the factor of some step."""
    fields_matter(case.config, lambda config: learning.factors(config, (*RUN_LENGTHS, case.steps)))


# Optimizers.


@dataclass(frozen=True, kw_only=True)
class OptimizerCase(Case):
    """An optimizer, and the parameters of a tiny model."""

    seed: int = 0  # of the parameters and their gradients
    layers: int = 1
    frozen: tuple[int, ...] = ()  # those that do not learn, counted from 1; the first always does
    steps: int = 1
    cut: int = 0  # the number of steps after which it is stopped
    missing: tuple[int, ...] = ()  # the missing gradients, numbered by steps and then parameters
    rows: tuple[int, ...] = ()  # of the table, whose sparse gradient holds only these; empty for a dense one

    def parameters(self, scale: float = 1.0) -> Parameters:
        """Return matrices, stacks of them, biases, norms and a scalar, by name."""
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (5, 4)}
        for layer in range(self.layers):
            inside = {"attention.to_out.weight": (4, 4), "ffn.to_hidden.weight": (6, 4), "ffn.to_hidden.bias": (6,)}
            inside["ffn.experts"] = (3, 2, 4)
            shapes |= {f"blocks.{layer}.{name}": shape for name, shape in inside.items()}
        shapes |= {"norm.weight": (4,), "norm.scale": ()}
        generator = torch.Generator().manual_seed(self.seed)
        return {
            name: nn.Parameter(torch.randn(shape, generator=generator) * scale, index not in self.frozen)
            for index, (name, shape) in enumerate(shapes.items())
        }

    def gradients(self) -> list[dict[str, Tensor]]:
        """Return the gradients of each step."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        named = self.parameters()
        draw = {name: torch.randn((self.steps, *param.shape), generator=generator) for name, param in named.items()}
        return [{name: gradients[step] for name, gradients in draw.items()} for step in range(self.steps)]

    def some_gradients(self) -> list[dict[str, Tensor]]:
        """Return the gradients of each step without the missing ones; that of the table is sparse if it has `rows`."""
        steps, count = self.gradients(), 0
        for gradients in steps:
            if self.rows:
                rows, table = torch.tensor([self.rows]), gradients["embedding.weight"]
                gradients["embedding.weight"] = torch.sparse_coo_tensor(
                    rows, table[rows[0]], table.shape, check_invariants=True
                )
            for name in [*gradients]:
                if count in self.missing:
                    del gradients[name]
                count += 1
        return steps

    def targets(self) -> dict[str, Tensor]:
        """Return targets far from every parameter of a small scale, on either side."""
        generator = torch.Generator().manual_seed(self.seed + 2)
        return {
            name: 10 * torch.randn(param.shape, generator=generator).sign() for name, param in self.parameters().items()
        }


@st.composite
def draw_optimizer(draw: Drawn, part: type[Optimizer], where: Where) -> OptimizerCase:
    """Draw any optimizer, parameters, and step at which it is stopped."""
    steps, layers = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    count = steps * (3 + 4 * layers)
    rows = st.sets(st.integers(0, 4), max_size=3) if part.takes_sparse else st.just(set[int]())
    return OptimizerCase(
        config=draw(configs(part)),
        seed=draw(seeds),
        layers=layers,
        frozen=tuple(sorted(draw(st.sets(st.integers(1, 1 + 4 * layers), max_size=3)))),
        steps=steps,
        cut=draw(st.integers(0, steps)),
        missing=tuple(sorted(draw(st.sets(st.integers(0, count - 1), max_size=count)))),
        rows=tuple(sorted(draw(rows))),
    )


def is_separable(part: type[Optimizer]) -> bool:
    """Return whether an optimizer says that it steps each parameter by itself."""
    return part.separable


def steps_slices(part: type[Optimizer]) -> bool:
    """Return whether an optimizer says that it steps rows by themselves, or all but what it asks of whole matrices."""
    return part.elementwise or part.by_matrices


@LAWS.law("optimizer", draw=draw_optimizer)
def groups(case: OptimizerCase) -> None:
    """Every trainable parameter is in one group, and every group has its base_lr."""
    learning.grouped(case.config, case.parameters())


@LAWS.law("optimizer", draw=draw_optimizer)
def no_grad_no_move(case: OptimizerCase) -> None:
    """Without a gradient nothing moves, except by the weight decay of its group."""
    learning.no_grad_no_move(case.config, case.parameters())


@LAWS.law("optimizer", draw=draw_optimizer)
def descends(case: OptimizerCase) -> None:
    """Small steps from a fresh start lower a convex loss, of every parameter."""
    learning.descends(case.config, case.parameters(0.1), case.targets(), case.steps, rate=0.01)


@LAWS.law("optimizer", draw=draw_optimizer)
def zero_lr_no_move(case: OptimizerCase) -> None:
    """At a learning rate of zero nothing moves, whatever the gradient."""
    learning.zero_lr_no_move(case.config, case.parameters(), case.gradients())


@LAWS.law("optimizer", draw=draw_optimizer)
def resumes(case: OptimizerCase) -> None:
    """Stopped, saved and loaded, it continues as if it had not been, to the bit."""
    learning.resumes(case.config, case.parameters(), case.some_gradients(), case.cut)


@LAWS.law("optimizer", draw=draw_optimizer)
def honours_groups(case: OptimizerCase) -> None:
    """A group of the recipe decides rate and decay of the parameters that it matches, and of no others."""
    learning.honours_groups(case.config, case.parameters(), case.gradients(), "embedding.weight")


@LAWS.law("optimizer", draw=draw_optimizer, fits=is_separable, unless="it does not say that it is separable")
def steps_apart(case: OptimizerCase) -> None:
    """A parameter moves as it does when others have no gradient, to the bit."""
    names = [*case.parameters()]
    owned = {name for index, name in enumerate(names) if index % 2 == case.seed % 2}
    dividing.steps_apart(case.config, case.parameters(), case.some_gradients(), owned)


@LAWS.law("optimizer", draw=draw_optimizer, fits=steps_slices, unless="it does not say that it steps rows")
def steps_rows(case: OptimizerCase) -> None:
    """Some rows of a parameter move by themselves as they do in the whole."""
    rows = {name: param for name, param in case.parameters().items() if param.ndim}
    gradients = [{name: step[name] for name in rows.keys() & step.keys()} for step in case.some_gradients()]
    dividing.steps_rows(case.config, rows, gradients, cut=case.seed % 7)


@LAWS.law(
    "optimizer",
    draw=draw_optimizer,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=untried,
    most=5,
)
def optimizer_field_matters(case: OptimizerCase) -> None:
    """Every field changes the parameters after some steps."""
    longer = replace(case, steps=4, frozen=())
    fields_matter(case.config, lambda config: learning.learned(config, longer.parameters(), longer.gradients()))


# Data.


@dataclass(frozen=True, kw_only=True)
class Data:
    """A text in which each token is its own index, and how it is cut into windows."""

    kind: ClassVar[type[Windows]] = Windows
    length: int = 2
    context: int = 1
    seed: int = 0

    def build(self) -> Windows:
        """Return the training examples."""
        return self.kind(ids=np.arange(self.length), context=self.context, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class WindowsCase(Case):
    """A text, and the rows and steps to check."""

    batch: int = 1
    steps: tuple[int, ...] = (0,)
    other: int = 1  # by which another seed is higher


@st.composite
def draw_windows(draw: Drawn, part: type[Any], where: Where, many: bool = False) -> WindowsCase:
    """Draw a text of any length, or of so many windows that no two orders are equal by chance."""
    context = draw(st.integers(4, 9) if many else st.integers(1, 9))
    length = context + draw(st.integers(15, 20)) * context if many else context + 1 + draw(st.integers(0, 60))
    steps = tuple(draw(st.lists(st.integers(0, 4) | st.integers(0, 60), min_size=1, max_size=5, unique=True)))
    config = part(length=length, context=context, seed=draw(seeds | st.integers(0, 2**62)))
    return WindowsCase(config=config, batch=draw(st.integers(1, 7)), steps=steps, other=draw(st.integers(1, 9)))


def draw_many_windows(part: type[Any], where: Where) -> st.SearchStrategy[WindowsCase]:
    """Draw a text of so many windows that no two orders are equal by chance."""
    return draw_windows(part, where, many=True)


@LAWS.law("data", draw=draw_windows)
def targets_shifted(case: WindowsCase) -> None:
    """Each row is a window of the text, and its targets are the next tokens."""
    windows.targets_shifted(case.config.build(), case.steps[0], case.batch)


@LAWS.law("data", draw=draw_windows)
def each_window_once(case: WindowsCase) -> None:
    """Every epoch visits each window once, and so each token as a target once, whatever the batch."""
    windows.each_window_once(case.config.build(), case.batch, epochs=3)


@LAWS.law("data", draw=draw_windows)
def batch_invariant_order(case: WindowsCase) -> None:
    """One order of rows, a pure function of seed and step, for any batch and so for any ranks."""
    windows.batch_invariant_order(case.config.build(), case.steps, case.batch)


@LAWS.law("data", draw=draw_many_windows)
def reshuffled(case: WindowsCase) -> None:
    """Each epoch and each seed has another order, and another first cut."""
    windows.reshuffled(case.config.build(), 12, case.config.seed + case.other)


@LAWS.law("data", draw=draw_windows)
def covers_both_ends(case: WindowsCase) -> None:
    """Over its epochs every token but the first is a target, to both ends of the text."""
    windows.covers_both_ends(case.config.build(), 40 * case.config.context)
