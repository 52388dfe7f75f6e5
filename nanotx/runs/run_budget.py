"""The budget of a run as a number of steps: what is printed about it, and the columns that record it.

`training/budget.py` computes what a step takes. Here a run asks once, and a resumed one goes by what was recorded.
"""

from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.runs.folder import RunFolder
from nanotx.runs.resume_check import Survey, check_resumable, recorded_budget
from nanotx.training.budget import calibrate, step_cost, whole_steps, with_steps
from nanotx.training.dataset import Dataset
from nanotx.training.trainer import Row, Trainer

UNITS = {"tokens": "tokens", "bytes": "bytes", "flops": "FLOPs"}
TRIAL_STEPS = 1000
"""Nominal length of the trial run that times a step; it does not affect the time of one."""


class RunBudget:
    """The budget of a run, once it is a number of steps."""

    def __init__(self, folder: RunFolder, survey: Survey, allow_mismatch: bool) -> None:
        """Prepare to turn a budget into steps.

        Args:
            folder: of the run.
            survey: contents of the folder, if the run is resumed.
            allow_mismatch: whether a resumed run may differ from what it was.
        """
        self.folder, self.survey, self.allow_mismatch = folder, survey, allow_mismatch
        self.columns: Row = {}  # record the budget and how it was measured
        self.remarks: list[str] = []  # lines to print about it

    def count(self, recipe: Recipe, model: Transformer, texts: Dataset) -> Recipe:
        """Return the recipe with the number of steps in its budget of tokens, bytes or FLOPs, if it has one.

        Raises:
            ConfigError: a resumed run has taken more steps, or is to take more.
        """
        name, amount = recipe.train.budget
        if name in ("steps", "seconds"):
            return recipe
        model.add_loss(recipe.loss, recipe.seeds.weights)  # its weights take operations too
        cost = step_cost(recipe.train, model, texts)
        each = {"tokens": cost.tokens, "flops": cost.flops, "bytes": float(cost.bytes or 0)}[name]
        return self.apply(recipe, cost.steps(name, amount), f"of {each:,.10g} {UNITS[name]} each")

    def measure(self, recipe: Recipe, trainer: Trainer) -> Recipe:
        """Return the recipe with the number of steps in its budget of seconds, by taking steps with a trainer.

        Raises:
            ConfigError: a resumed run has taken more steps, or is to take more.
        """
        seconds = recipe.train.budget[1]
        trainer.recipe = with_steps(recipe, TRIAL_STEPS)
        measured = calibrate(trainer, seconds)
        recipe = self.apply(
            recipe,
            whole_steps(seconds, measured.step_seconds),
            f"of {1e3 * measured.step_seconds:.4g} ms each, the median of {measured.steps} that were measured in "
            f"{measured.seconds:.3g} s",
        )
        self.columns |= measured.row()
        return recipe

    def apply(self, recipe: Recipe, steps: int, each: str) -> Recipe:
        """Return a recipe with the number of steps in its budget, and record it.

        Raises:
            ConfigError: a resumed run has taken more steps, or is to take more.
        """
        name, amount = recipe.train.budget
        self.columns = {"budget": name, "budget_amount": amount}
        self.remarks.append(f"budget: train.{name} {amount:,.10g} is {steps:,} step{'s' * (steps > 1)} {each}")
        recipe = with_steps(recipe, steps)
        if self.survey.checkpoint and self.survey.recipe and not self.allow_mismatch:
            check_resumable(self.survey.recipe, recipe)
        return recipe

    def recall(self, recipe: Recipe, resumed: bool) -> None:
        """Record the budget of this process, or else of those before it."""
        earlier = recorded_budget(self.folder) if resumed and not self.columns else None
        same = self.survey.before is not None and self.survey.before.train.steps == recipe.train.steps
        if earlier is not None and same:
            self.columns = {key: earlier[key] for key in earlier if key.partition("_")[0] in ("budget", "calibration")}
        else:
            self.columns = self.columns or {"budget": "steps", "budget_amount": recipe.train.steps}
