"""How fast a model learns: a step of ours beside other libraries' on the equal model, and our recipes trained whole.

    python benchmarks/training.py --device cpu --json benchmarks/results/training-cpu.json
    python benchmarks/training.py --recipe baby_gpt --batch 16 --contenders nanotx,transformers_compiled
    python benchmarks/training.py --rounds 0 --recipes flash,record --target 1.8857,1.4697 --seeds 3

First each contender is shown to be the reference's equal. Then all take turns, each in a process of its own.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import Row
from harness.builds import Where
from harness.contenders import CONTENDERS, LIBRARIES, chosen, read_recipe, texts_of
from harness.machine import choose_machines, describe
from harness.race_rows import About, rows_of
from harness.racing import Found, Plan, race
from harness.report import open_output, progress, write_json
from harness.rival_nanogpt import CHECKOUT
from harness.training_tables import show
from harness.whole_runs import Wanted, loss_of, run_all, wanted

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine, choose_machine
from nanotx.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Times training steps of a recipe beside those of other libraries, and trains recipes whole."""

    device: str = "auto"  # cpu, cuda, mps, or several: cpu,cuda
    json: str = ""  # write the figures into this file
    recipe: str = "macbook"  # presets, or a file; one of GPT-2's kind, whose step is timed
    batch: int = 0  # sequences of a step; 0 for as many as the recipe has
    layers: int = 0  # of the model; 0 for as many as the recipe has
    dropouts: str = "0,0.2"  # shares dropped, wherever GPT-2 drops; all is timed with each
    peers: bool = True  # whether other libraries take part; they need the extra bench
    contenders: str = ""  # who takes part, separated by commas, or all; without it the usual ones
    compile: Literal["auto", "on", "off"] = "auto"  # ours where it pays, always, or never; off is for the others too
    rounds: int = 40  # in which all take their turns; the figures are medians over them; 0 times no steps
    seconds: float = 20.0  # after which no round begins, for one dropout
    steps: int = 0  # of one turn; 0 for as many as take a quarter of a second
    starts: int = 2  # how often each is started from nothing, to see how long its first step is in coming
    learn: int = 0  # seeds with which each contender learns the recipe to its end; 0 for none
    recipes: str = ""  # presets, or files, to be trained whole, separated by commas
    seeds: int = 3  # of each of them, from 1337 on
    target: str = ""  # the validation loss that is waited for; or one for each of the recipes, separated by commas
    threads: int = 0  # processor threads; 0 for as many as there are cores
    nanogpt: str = ""  # a checkout of nanoGPT, for the contenders nanogpt and nanogpt_compiled

    def check(self) -> None:
        """Raise ConfigError where a number cannot be."""
        for name, least in {
            "rounds": 0,
            "steps": 0,
            "starts": 0,
            "learn": 0,
            "seeds": 1,
            "batch": 0,
            "layers": 0,
        }.items():
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"--{name}: expected at least {least}, got {value}.")
        if not self.rounds and not self.recipes:
            raise ConfigError("--rounds 0: times no steps, and no --recipes are named, so nothing is left to do.")


def dropouts_of(words: str) -> tuple[float, ...]:
    """The shares, separated by commas.

    Raises:
        ConfigError: one is no share.
    """
    try:
        shares = tuple(dict.fromkeys(float(word) for word in words.split(",")))
    except ValueError:
        shares = (-1.0,)
    if not all(0 <= share < 1 for share in shares):
        raise ConfigError(
            f"--dropouts: expected shares from 0 up to but not including 1, such as 0,0.2; got {words!r}."
        )
    return shares


def plan_of(flags: Flags, recipe: Recipe, best: Machine) -> Plan:
    """What there is to race on a device, where `best` is what it would choose by itself."""
    names = tuple(chosen(flags.contenders, flags.peers))
    for name in names:
        if CONTENDERS[name].library:
            LIBRARIES[CONTENDERS[name].library].require()
    return Plan(
        names=names,
        recipe=recipe,
        dropouts=dropouts_of(flags.dropouts),
        where=Where(device=best.device.type, threads=best.threads, best=best.dtype_name),
        compiling=flags.compile,
        rounds=flags.rounds,
        limit=flags.seconds,
        steps=flags.steps,
        starts=flags.starts,
        seeds=flags.learn,
    )


def steps(flags: Flags, plan: Plan, found: Sequence[Found], peaks: Mapping[str, float]) -> list[Row]:
    """The rows of the contenders on one device."""
    size = texts_of(plan.recipe).codec.vocab_size
    about = About(
        label=Path(flags.recipe).stem,
        recipe=plan.recipe,
        device=plan.where.device,
        flops_per_token=plan.recipe.model.build(size).flops_per_token,
        peaks=peaks,
        target=loss_of(flags.target) if flags.target and not flags.recipes else None,
    )
    return [row for one in found for row in rows_of(about, plan.names, one)]


def measure(flags: Flags, plans: Sequence[Plan], wishes: Sequence[Wanted]) -> tuple[list[list[Found]], list[Row]]:
    """What the race on each device found, and the rows of whole runs."""
    races, runs, seeds = list[list[Found]](), list[Row](), range(1337, 1337 + flags.seeds)
    each = (2 + len(plans[0].dropouts)) * bool(flags.rounds) + len(wishes) * len(seeds)
    with progress(total=each * len(plans)) as tell:
        for plan in plans:
            races.append(race(plan, tell) if flags.rounds else [])
            words = ["--device", plan.where.device, "--threads", str(plan.where.threads)]
            runs += run_all(wishes, seeds, words, tell)
    return races, runs


def main() -> int:
    """Read the flags, measure, show, write."""
    flags = parse(Flags, sys.argv[1:], "training.py")
    flags.check()
    if flags.nanogpt:
        os.environ[CHECKOUT] = str(Path(flags.nanogpt).resolve())
    recipe, wishes = read_recipe(flags.recipe, flags.batch, flags.layers), wanted(flags.recipes, flags.target)
    plain = choose_machines(flags.device, flags.threads, "float32")
    best = [choose_machine(one.device.type, "auto", flags.threads) for one in plain]
    plans, out = [plan_of(flags, recipe, one) for one in best], open_output(flags.json)
    kinds = list(dict.fromkeys([*plain, *best]))
    machine = describe(kinds)
    races, runs = measure(flags, plans, wishes)
    after = describe(kinds)["peak_flops"]
    machine["peak_flops"] = {key: max(peak, after[key]) for key, peak in machine["peak_flops"].items()}
    pairs = zip(plans, races, strict=True)
    rows = [row for plan, found in pairs for row in steps(flags, plan, found, machine["peak_flops"])] + runs
    write_json(out, machine, rows)
    show(machine, rows)
    return 0


if __name__ == "__main__":
    run_and_exit(main)
