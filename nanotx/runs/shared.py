"""What the runs of one process have in common: it is computed by the first of them, and equal for the others."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from nanotx.evaluation.texts import eval_tokens
from nanotx.hardware.device import Machine, peak_flops
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec
from nanotx.training.dataset import Dataset, load_dataset

KEEP = 4
"""Datasets that are kept: an experiment seldom has more kinds of arms."""


@dataclass(kw_only=True)
class Shared:
    """The machine's peak and the tokenized texts, for runs that one process trains after each other."""

    peaks: dict[Machine, float] = field(default_factory=dict)
    datasets: OrderedDict[Any, Dataset] = field(default_factory=OrderedDict)  # the least recently used first

    def peak(self, machine: Machine) -> float:
        """Return the machine's peak operations per second, measured once."""
        if machine not in self.peaks:
            self.peaks[machine] = peak_flops(machine)
        return self.peaks[machine]

    def dataset(
        self,
        recipe: Recipe,
        codec: Codec | None = None,
        check: Callable[[str, int], None] = lambda digest, size: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> Dataset:
        """Return the dataset of a recipe; arguments and errors are those of `load_dataset`.

        Seeds move the windows alone, so recipes of one corpus, tokenizer and context have one dataset.
        """
        train, context = recipe.train, recipe.model.context
        key = (recipe.corpus, recipe.tokenizer, context, train.eval_tokens, eval_tokens(train, context))
        data = self.datasets.pop(key, None)
        if data is None or (codec is not None and codec.digest != data.codec.digest):
            data = load_dataset(recipe, codec, check, say)
        else:
            check(data.sha256, data.size)
            data = replace(data, windows=replace(data.windows, seed=recipe.seeds.data))
        self.datasets[key] = data
        while len(self.datasets) > KEEP:
            self.datasets.popitem(last=False)
        return data
