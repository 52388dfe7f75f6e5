"""A contender ready to step, and its first step from nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from harness.contenders import CONTENDERS, LIBRARIES, Contender, drop_by_library, texts_of, with_attention
from harness.rival import Library, give_weights
from harness.rival_loop import Loop
from nanotx.config.schema import from_table
from nanotx.config.toml import read_toml
from nanotx.hardware.device import Machine, choose_machine, measured_peak
from nanotx.hardware.memory import keep_freed_memory
from nanotx.laws.weights import share_weights
from nanotx.recipe import Recipe
from nanotx.training.compile import settle
from nanotx.training.dataset import Dataset
from nanotx.training.trainer import Progress, Trainer

Compile = Literal["auto", "on", "off"]


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where all contenders run."""

    device: str
    threads: int
    best: str  # the dtype of those that run at their best


@dataclass(frozen=True, kw_only=True)
class Built:
    """A contender ready to step."""

    advance: Callable[[], float]  # takes a step, and gives its loss
    restart: Callable[[int], None]  # back to step 0, with what another seed draws
    model: nn.Module  # called with ids, gives logits
    machine: Machine
    compiled: bool
    reason: str  # why it is compiled, or why not


def build(name: str, recipe: Recipe, texts: Dataset, where: Where, compiling: Compile) -> Built:
    """A contender with the weights that the recipe's seed draws.

    Raises:
        ConfigError: its package is not installed, or cannot write this model.
    """
    who = CONTENDERS[name]
    machine = choose_machine(where.device, where.best if who.best else "float32", where.threads)
    if not who.library:
        return build_ours(who, recipe, texts, machine, compiling)
    return build_theirs(LIBRARIES[who.library], recipe, texts, machine, who.best and compiling != "off")


def build_theirs(library: Library, recipe: Recipe, texts: Dataset, machine: Machine, compiled: bool) -> Built:
    """Another library's, compiled as a whole with its loss, or plain."""
    size = texts.codec.vocab_size
    theirs = library.build(recipe, size)

    def redraw(seed: int) -> None:
        give_weights(recipe.model.build(size, seed), theirs, library)

    redraw(recipe.seed)
    loop = Loop(recipe, theirs, texts.windows, machine, compiled)

    def restart(seed: int) -> None:
        redraw(seed)
        loop.restart(seed)

    reason = "whole, with its loss" if compiled else "not asked for"
    return Built(advance=loop.advance, restart=restart, model=theirs, machine=machine, compiled=compiled, reason=reason)


def build_ours(who: Contender, recipe: Recipe, texts: Dataset, machine: Machine, compiling: Compile) -> Built:
    """Ours: plain, or as a run of the recipe would have it on this machine."""
    recipe = with_attention(recipe, who.attention)
    size, on, reason = texts.codec.vocab_size, False, "not asked for"
    model = recipe.model.build(size, recipe.seed)
    if who.best:
        keep_freed_memory()
        tokens = recipe.train.steps * recipe.train.batch_size * recipe.model.context
        decision = settle(compiling, model, machine, tokens, measured_peak(machine))
        on, reason = decision.on, decision.reason
    else:
        drop_by_library(model)
    settled: Any = {"dtype": machine.dtype_name, "compile": on}
    trainer = Trainer(replace(recipe, **settled), model, texts.windows, machine)

    def restart(seed: int) -> None:
        share_weights(recipe.model.build(size, seed), model)
        trainer.recipe, trainer.windows = replace(trainer.recipe, seed=seed), replace(trainer.windows, seed=seed)
        trainer.progress = Progress()
        trainer.optimizer.state.clear()

    def advance() -> float:
        return float(trainer.train_step()["loss"])

    return Built(advance=advance, restart=restart, model=model, machine=machine, compiled=on, reason=reason)


def first_step(file: str, name: str, device: str, threads: str, best: str) -> None:
    """Take one step of the recipe in a file, and say so.

    What is compiled is not: its compiling is told apart.
    """
    recipe: Recipe = from_table(Recipe, read_toml(Path(file)))
    build(name, recipe, texts_of(recipe), Where(device=device, threads=int(threads), best=best), "off").advance()
    print("done", flush=True)
