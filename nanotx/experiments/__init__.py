"""Experiments: arms of a recipe trained on the same seeds, and verdicts on them."""

from nanotx.experiments.statistics import Verdict, judge

__all__ = ["Verdict", "judge"]
