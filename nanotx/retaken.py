"""A run taken again: a trainer as the run had it at a step, to the bit.

Windows and dropout are functions of seed and step alone, so from a checkpoint, or from the initial weights, every step
that follows can be taken again. Bits are those of one device, dtype, number of threads and version of torch: what the
run settled of these stands in its recipes, and torch is told so again.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from rich.console import Console
from torch import Tensor, nn

from nanotx.compiler import attempt
from nanotx.device import choose, repeat_exactly
from nanotx.errors import ConfigError, RunError
from nanotx.journal import Row
from nanotx.recorded import Record
from nanotx.resume import copy_in, restore, take_over
from nanotx.trainer import Trainer

NUMBERS = ("loss", "grad_norm")
"""What a journal's row of a step holds that feels every bit before it."""


class Retaken:
    """A trainer that takes a run's steps again."""

    def __init__(self, record: Record, step: int) -> None:
        """Stand where the run stood after a step.

        Args:
            record: whose steps are taken.
            step: that of one of its checkpoints, or 0 for its initial weights.

        Raises:
            RunError: the checkpoint is of another nanotx, or this machine is of another kind.
            DataError: its corpus cannot be had, or is another one now.
        """
        self.record = record
        self.strayed: int | None = None  # the first step taken here whose numbers are not those that are recorded
        self.stretch = record.stretch_at(step + 1)
        self.trainer = self.build()
        if step:
            known = self.stretch.corpus_sha256 != ""  # its text is checked, and may be another than the checkpoint's
            restore(self.trainer, record.checkpoints[step], record.texts(self.stretch), known)

    @property
    def step(self) -> int:
        """How many steps are taken."""
        return self.trainer.progress.step

    def build(self) -> Trainer:
        """A trainer as the stretch has it, at initial weights."""
        recipe, texts = self.stretch.recipe, self.record.texts(self.stretch)
        try:
            machine = choose(recipe.device, recipe.dtype, recipe.threads)
        except ConfigError as error:
            had, why = f"{recipe.device} in {recipe.dtype}", str(error).partition(";")[0]
            raise RunError(f"{self.record.name}: its bits are those of {had}, which is not to be had: {why}.") from None
        if recipe.deterministic:
            repeat_exactly(machine.device)
        if recipe.compile is True and (trial := attempt(machine.device)).fault:
            raise RunError(f"{self.record.name}: the run was compiled, and here {trial}.")
        model = recipe.model.build(texts.codec.vocab_size, recipe.seed)
        return Trainer(recipe, model, texts.windows, machine)

    def ready(self) -> None:
        """See to it that the next step is taken as the run took it: by its process' recipe, on as many threads."""
        stretch = self.record.stretch_at(self.step + 1)
        if stretch is not self.stretch:
            self.stretch = stretch
            self.trainer = handed_over(self.trainer, self.build())
        torch.set_num_threads(self.trainer.machine.threads)

    def advance(self) -> Row:
        """Take the next step again; returns its row."""
        self.ready()
        row = self.trainer.advance()
        recorded = self.record.steps.get(self.step)
        if self.strayed is None and recorded and not all(same(row[key], recorded[key]) for key in NUMBERS):
            self.strayed = self.step
        return row

    def go_to(self, step: int, breath: Callable[[int], None]) -> None:
        """Take all steps up to and including one; `breath` is told of each."""
        while self.step < step:
            breath(self.step + 1)
            self.advance()


def handed_over(before: Trainer, after: Trainer) -> Trainer:
    """The second trainer, which goes on where the first one is, as it would by a checkpoint."""
    same = before.recipe.optimizer.part == after.recipe.optimizer.part
    take_over(after, before.weights(), *(before.averages() if same else ({}, {})))
    if after.averaged:
        copy_in(after.averaged.averages, after.model, before.judged_weights())
    if after.scaler.is_enabled() and before.scaler.is_enabled():
        after.scaler.load_state_dict(before.scaler.state_dict())
    after.progress = before.progress
    return after


def same(now: float, recorded: float | None) -> bool:
    """Whether a number is the one that a journal holds, to the last bit; what is not finite stands there as null."""
    return recorded == (now if math.isfinite(now) else None)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """A trainer's weights in the shared layout and the model's order."""
    return in_order(trainer.model, trainer.weights())


def in_order(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the shared layout, in the order of the model's parameters; those laid out otherwise stand at the
    first parameter of their module."""
    own = [name.split(".") for name, _ in model.named_parameters()]

    def place(name: str) -> int:
        words = name.split(".")
        shared = [sum(1 for _ in alike(words, other)) for other in own]
        return shared.index(max(shared))

    return {name: tensors[name] for name in sorted(tensors, key=place)}


def alike(one: list[str], other: list[str]) -> Iterator[str]:
    """The words with which both begin."""
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return
        yield mine


@contextmanager
def counting(last: int) -> Iterator[Callable[[int], None]]:
    """Within, the step that is told is shown on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("") as status:
        yield lambda step: status.update(f"step {step} of {last}")
