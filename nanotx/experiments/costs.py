"""What an arm costs: sizes, and the time and memory of a step, measured alone before anything is trained."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nanotx.data.corpus import Corpus
from nanotx.errors import Diverged, NanotxError
from nanotx.experiments.allocated import most_allocated
from nanotx.experiments.plan import BASELINE, Arm, Facts, prepared
from nanotx.experiments.runner import training_curve
from nanotx.hardware.device import choose_machine, synchronize
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.runs.initial_weights import read_source, take_weights
from nanotx.runs.start_warnings import NOT_ROUND_TRIPPING, text_warnings
from nanotx.tokenizers import Codec
from nanotx.training.dataset import Dataset, load_dataset
from nanotx.training.trainer import Trainer

TAIL = 0.05
"""Share of the steps over which a training loss is averaged."""


def measure(arms: Sequence[Arm], corpus: Corpus, rounds: int) -> list[Facts]:
    """Return the facts of all arms; each takes one step per round, in an order that rotates.

    On a CPU the time is processor time of one thread, which other processes hardly touch. One more step of each gives
    the memory.

    Args:
        arms: the arms.
        corpus: whose training text the steps read.
        rounds: of the timing; 0 times nothing.
    """
    recipes = [prepared(arm.recipe, corpus, max(rounds + 2, arm.recipe.train.steps), arm.recipe.seed) for arm in arms]
    datasets, trainers, facts = list[Dataset](), list[Trainer](), list[Facts]()
    for arm, recipe in zip(arms, recipes, strict=True):
        machine = choose_machine(recipe.device, recipe.dtype, recipe.threads)
        known = zip(recipes, datasets, strict=False)
        same = [data for other, data in known if reads_alike(other, recipe)]
        try:
            data = same[0] if same else load_dataset(recipe)
            model = recipe.model.build(data.codec.vocab_size, recipe.seed)
        except NanotxError as error:
            raise (type(error)(f"--change {arm.name!r}: {error}") if arm.name != BASELINE else error) from None
        datasets.append(data)
        exact = data.eval_texts["val"].size > 0
        facts.append(
            Facts(
                tokens_per_step=recipe.train.batch_size * recipe.model.context,
                bytes_per_token=float(data.bytes_per_token) if exact and data.bytes_per_token else math.nan,
                flops_per_token=float(model.flops_per_token),
                seconds_per_step=None,
                parameters=model.parameter_count,
                warnings=(() if exact else (NOT_ROUND_TRIPPING,))
                + tuple(text_warnings(recipe, data))
                + init_notes(recipe, model, data.codec),
            )
        )
        if rounds:
            trainers.append(Trainer(recipe, model, data.windows, machine))
    if not rounds:
        return facts
    seconds = interleaved(trainers, rounds)
    return [
        replace(fact, seconds_per_step=time, memory_bytes=None if time is None else step_memory(trainer))
        for fact, time, trainer in zip(facts, seconds, trainers, strict=True)
    ]


def init_notes(recipe: Recipe, model: Transformer, codec: Codec) -> tuple[str, ...]:
    """Give the model the weights that its runs begin with; return which of them, or of the source, do not fit."""
    if recipe.init is None:
        return ()
    return tuple(take_weights(model, read_source(recipe.init, recipe.init_sha256), codec).notes())


def reads_alike(first: Recipe, second: Recipe) -> bool:
    """Return whether two recipes of one corpus and seed have the same windows."""
    return (first.tokenizer, first.model.context) == (second.tokenizer, second.model.context)


def interleaved(trainers: Sequence[Trainer], rounds: int) -> list[float | None]:
    """Return the median seconds of a step of each trainer; None for one that diverges. The first round warms up."""
    times: list[list[float]] = [[] for _ in trainers]
    diverged = set[int]()
    for turn in range(rounds + 1):
        for place in range(len(trainers)):
            index = (place + turn) % len(trainers)
            if index in diverged:
                continue
            device = trainers[index].machine.device
            clock = time.process_time if device.type == "cpu" else time.perf_counter
            synchronize(device)
            began = clock()
            try:
                trainers[index].train_step()
            except Diverged:
                diverged.add(index)
            synchronize(device)
            times[index].append(clock() - began)
    return [None if index in diverged else statistics.median(some[1:]) for index, some in enumerate(times)]


def step_memory(trainer: Trainer) -> int | None:
    """Return the most bytes that tensors hold during a step: weights, optimizer state, gradients and activations.

    It is what the step allocates, by the device's own counts, and what the trainer holds between steps. None where the
    step diverges, or the device does not count.
    """
    device = trainer.machine.device
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            trainer.train_step()
            synchronize(device)
            most = torch.cuda.max_memory_allocated(device) - before
        elif device.type == "cpu":
            most = most_allocated(trainer.train_step)
        else:
            return None
    except Diverged:
        return None
    return most + sum(tensor.nbytes for tensor in tensors_of(trainer))


def tensors_of(trainer: Trainer) -> Iterator[Tensor]:
    """Yield the tensors that a trainer holds between steps."""
    yield from trainer.model.parameters()
    yield from trainer.model.buffers()
    yield from trainer.ema.averages.values() if trainer.ema else ()
    for state in trainer.optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def steps_to_baseline(baseline: Sequence[Path], runs: Sequence[Path]) -> float | None:
    """Return after how many steps the runs of an arm have the baseline's final training loss.

    Losses are means over a twentieth of the steps. Runs of a seed read the same windows, so the curves need no
    validation text.

    Args:
        baseline: the folders of the baseline's runs.
        runs: of the arm, of the same seeds, with the same tokenizer.

    Returns:
        The median over the seeds; None if most of them never have it.
    """
    steps = list[float]()
    for base, run in zip(baseline, runs, strict=True):
        reference, losses = training_curve(base), training_curve(run)
        tail = max(1, round(TAIL * len(reference)))
        target = statistics.fmean(reference[-tail:])
        total, reached = 0.0, math.inf
        for step, loss in enumerate(losses, start=1):
            total += loss - (losses[step - tail - 1] if step > tail else 0.0)
            if step >= tail and total / tail <= target + 1e-12:
                reached = step
                break
        steps.append(reached)
    middle = statistics.median(steps)
    return float(middle) if math.isfinite(middle) else None
