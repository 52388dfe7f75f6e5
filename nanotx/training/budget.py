"""The budget of a run: tokens, bytes, FLOPs or seconds, from which the number of steps follows before the first one.

A budget buys whole steps: the budget divided by what a step takes, rounded down, and at least one step. Tokens, bytes
and FLOPs are arithmetic. Seconds are measured once, at the start; the steps that follow are recorded in place of the
budget, so that neither resume nor replay asks the clock again.
"""

import math
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any

from nanotx.errors import ConfigError, DataError
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe, Train
from nanotx.training.dataset import Dataset
from nanotx.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a training step takes."""

    tokens: int  # batch size times context
    flops: int  # forward and backward, from the shapes of the modules; see `Transformer.flops_per_token`
    bytes: Fraction | None  # tokens times the mean bytes of a token of the training text; None if that is unknown

    def steps(self, budget: str, amount: int | float) -> int:
        """Return the steps that a budget of tokens, bytes or FLOPs buys.

        Raises:
            DataError: the budget is bytes, and the bytes of a token are unknown.
        """
        per_step = {"tokens": self.tokens, "flops": self.flops, "bytes": self.bytes}[budget]
        if per_step is None:
            raise DataError(
                "train.bytes: the token files of this corpus do not record the bytes of their text; try --train.tokens."
            )
        return whole_steps(amount, per_step)


def step_cost(train: Train, model: Transformer, texts: Dataset) -> StepCost:
    """Return what a step of a run takes.

    Args:
        train: the plan of the run.
        model: its model, with the module of the training loss.
        texts: its data.
    """
    tokens = train.batch_size * model.context
    mean = texts.bytes_per_token
    return StepCost(tokens=tokens, flops=tokens * model.flops_per_token, bytes=None if mean is None else tokens * mean)


def whole_steps(amount: int | float, per_step: int | float | Fraction) -> int:
    """Return the steps in a budget: rounded down, and at least one. Exact: no rounding of floats intervenes."""
    return max(1, math.floor(Fraction(amount) / Fraction(per_step)))


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Return a recipe with the steps that its budget buys in place of the budget.

    Raises:
        ConfigError: they are more than a run can have.
    """
    try:
        return replace(recipe, train=recipe.train.with_steps(steps))
    except ConfigError as error:
        name, amount = recipe.train.budget
        raise ConfigError(f"train.{name}: {amount:,.10g} is too many {error}") from None


# Seconds.


WARM_UP = 2
"""Steps before the measurement; the first allocates memory, and compiles if the run is compiled."""

FEWEST, MOST = 5, 50
"""Steps that are measured."""

FRACTION = 0.02
"""Fraction of the budget that the measured steps take before they are enough."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The one measurement that makes steps of seconds."""

    steps: int  # that were measured
    seconds: float  # that they took
    step_seconds: float  # their median

    def row(self) -> dict[str, Any]:
        """Return the columns of metrics.jsonl that record it."""
        return {
            "calibration_steps": self.steps,
            "calibration_seconds": self.seconds,
            "calibration_step_seconds": self.step_seconds,
        }


def calibrate(trainer: Trainer, budget: float) -> Calibration:
    """Measure how long a training step takes; the trainer takes steps, so the run needs a new one.

    Args:
        trainer: of the run, before its first step.
        budget: seconds; steps that take longer than it are not measured again.
    """
    for _ in range(WARM_UP):
        trainer.train_step()
    times: list[float] = []
    while len(times) < FEWEST or (len(times) < MOST and sum(times) < FRACTION * budget):
        began = time.perf_counter()
        trainer.train_step()
        times.append(time.perf_counter() - began)
        if sum(times) >= budget:
            break
    return Calibration(steps=len(times), seconds=sum(times), step_seconds=median(times))
