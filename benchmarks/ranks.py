"""What several processes cost each other: sums that are exact or the backend's, and what they divide.

    python benchmarks/ranks.py --json benchmarks/results/ranks-cpu.json
    python benchmarks/ranks.py --recipe macbook --ranks 4 --steps 20 --rounds 9

The processes train on one machine, over gloo, each with its share of the cores. Contenders take turns in the same
processes, and `ratio` is the median of the ratios within a round. Before they are timed, exact sums on several ranks
have to give the losses of one process to the bit, and the backend's sums, also those of FSDP2 with weights in slices,
losses within 1e-4 of them.
"""

import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Literal

import torch
import torch.distributed as dist
from harness import Row
from harness.machine import choose_machines, describe
from harness.recipes import read_recipe, trainer_of
from harness.report import Flags, known_names, open_output, write_json
from harness.tables import number, open_console, print_table, word
from harness.timing import iqr, seconds, turn_order
from torch.distributed import FileStore, PrefixStore  # type: ignore[attr-defined]

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.config.schema import check_min
from nanotx.distributed import Group, Parallel, check_shares
from nanotx.distributed.agreement import Agreement
from nanotx.errors import RunError
from nanotx.hardware.cpu import default_threads
from nanotx.hardware.device import Machine
from nanotx.training.trainer import Trainer

CONTENDERS: dict[str, tuple[Literal["exact", "fast"], Parallel]] = {
    "fast": ("fast", "replicas"),
    "exact": ("exact", "replicas"),
    "exact_owner": ("exact", "owner"),
    "fsdp": ("fast", "fsdp"),
}
"""How sums are made, and what is divided. The first is the baseline."""

PATIENCE = timedelta(minutes=10)
SAME_STEPS = 3
"""Steps whose losses are compared before anything is timed."""

COLUMNS = {
    "recipe": word("recipe"),
    "sums": word("name"),
    "ranks": word("ranks"),
    "step, ms": number("median_ms", ".2f"),
    "iqr": number("iqr_ms", ".2f"),
    "of fast": number("ratio", ".3f"),
    "losses": word("laws"),
}


@dataclass(frozen=True, kw_only=True)
class RanksFlags(Flags):
    """Times the steps of processes that train together."""

    recipe: str = "macbook"  # preset, or file
    ranks: int = 2  # processes
    contenders: str = ",".join(CONTENDERS)  # which of them, separated by commas
    steps: int = 10  # of a turn
    rounds: int = 9  # turns of each contender


def main() -> int:
    """Read the flags, let the processes train, show, write."""
    flags = parse(RanksFlags, sys.argv[1:], "ranks.py")
    check_min(flags, 1, "steps")
    check_min(flags, 2, "rounds", "ranks")
    names, out = known_names("--contenders", flags.contenders, tuple(CONTENDERS)), open_output(flags.json)
    threads = max(1, (flags.threads or default_threads()) // flags.ranks)
    machine = replace(choose_machines("cpu", threads, "float32")[0], threads=threads)
    trainer = trainer_for(flags.recipe, flags.ranks, machine)
    check_shares(trainer.recipe, flags.ranks)
    alone = [trainer.train_step()["loss"] for _ in range(SAME_STEPS)]
    del trainer
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        arguments = (flags, names, machine, Path(folder))
        processes = [context.Process(target=train, args=(rank, *arguments)) for rank in range(flags.ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if codes := [process.exitcode for process in processes if process.exitcode]:
            raise RunError(f"ranks.py: a process ended with {codes[0]}; its message is above.")
        results = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    rows = [row_of(name, flags, machine, alone, results) for name in names]
    write_json(out, describe([machine]), rows)
    print_table(open_console(), "", COLUMNS, rows)
    return 0


def trainer_for(recipe: str, ranks: int, machine: Machine) -> Trainer:
    """Return a trainer of a recipe whose step is one micro-batch for each rank, unless it has more."""
    torch.set_num_threads(machine.threads)
    trainer, _ = trainer_of(recipe, machine)
    plan = trainer.recipe.train
    if plan.num_micro_batches % ranks:
        changed = replace(plan, micro_batch_size=plan.batch_size // ranks, grad_accum_steps=1)
        trainer.recipe = replace(trainer.recipe, train=changed)
    return trainer


def train(rank: int, flags: RanksFlags, names: tuple[str, ...], machine: Machine, folder: Path) -> None:
    """Train each contender's trainer in turns, as one of the ranks; rank 0 writes what it measures."""
    store = FileStore(str(folder / "store"), flags.ranks)
    dist.init_process_group("gloo", store=PrefixStore("g", store), rank=rank, world_size=flags.ranks)
    trainers, losses = dict[str, Trainer](), dict[str, list[float]]()
    for name in names:
        group = Group(Agreement(rank, flags.ranks, PrefixStore(name, store), PATIENCE))
        group.reduce, group.parallel = CONTENDERS[name]
        trainers[name] = trainer_for(flags.recipe, flags.ranks, machine)
        trainers[name].join(group)
        losses[name] = [step(trainers[name])["loss"] for _ in range(SAME_STEPS)]
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in turn_order(list(names), flags.rounds):
        times[name].append(seconds(lambda name=name: step(trainers[name]), flags.steps, machine.device))  # type: ignore[misc]
    if rank == 0:
        (folder / "results.json").write_text(json.dumps({"times": times, "losses": losses}), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def step(trainer: Trainer) -> Row:
    """Take a step, on a rank besides the first after its order."""
    ranks = trainer.ranks
    assert isinstance(ranks, Group)
    if ranks.rank:
        ranks.next_order()
    return trainer.train_step()


def row_of(name: str, flags: RanksFlags, machine: Machine, alone: list[float], results: Row) -> Row:
    """Return the figures of a contender."""
    losses, times = results["losses"][name], results["times"][name]
    recipe = read_recipe(flags.recipe)
    apart = max(abs(ours - theirs) for ours, theirs in zip(losses, alone, strict=True))
    holds = apart == 0 if CONTENDERS[name][0] == "exact" else apart < 1e-4
    first = next(iter(results["times"].values()))
    ratios = [ours / theirs for ours, theirs in zip(times, first, strict=True)]
    return {
        "name": name,
        "recipe": Path(flags.recipe).stem,
        "device": "cpu",
        "dtype": machine.dtype_name,
        "threads": machine.threads,
        "ranks": flags.ranks,
        "median_ms": 1000 * median(times) if holds else None,
        "iqr_ms": 1000 * iqr(times) if holds else None,
        "tokens_per_second": recipe.train.batch_size * recipe.model.context / median(times) if holds else None,
        "ratio": median(ratios) if holds else None,
        "reference": next(iter(results["times"])),
        "losses_apart": apart,
        "laws": "pass" if holds else f"failed: losses {apart:.3g} apart from those of one process",
        "rounds": len(times),
        "steps": flags.steps,
        "load": list(os.getloadavg()),
    }


if __name__ == "__main__":
    run_and_exit(main)
