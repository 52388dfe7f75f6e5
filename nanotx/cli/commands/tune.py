"""Search for a better recipe at equal budget."""

import hashlib
import re
import shlex
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from nanotx.cli.commands.sweep import arm_of
from nanotx.cli.console import write_json
from nanotx.cli.experiments import check_outputs, page_of, read_base, say, side_by_side, split_flags, stopping
from nanotx.config.command_line import positional_args
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min, in_range
from nanotx.errors import ConfigError, NanotxError, UnknownPart, printable, shell_quoted
from nanotx.experiments.costs import measure
from nanotx.experiments.experiment import Design, Experiment, Outcome
from nanotx.experiments.plan import BASELINE, Arm, digest, equal_steps, training_corpus
from nanotx.experiments.report import page, to_json
from nanotx.experiments.statistics import SMALLEST
from nanotx.experiments.tuning import (
    BEYOND,
    FEWEST,
    MOST,
    SEEDS,
    VERDICT_SEEDS,
    Evidence,
    Plan,
    plan_of,
    ranked,
    recipe_file,
    recorded_plan,
    shortened,
)
from nanotx.experiments.vary import draws, read_axes
from nanotx.files import write_atomic
from nanotx.recipe import Budget, Recipe

PROG = "nanotx tune"
USAGE = "RECIPE"
GROUP = "Experiment"
ORDER = 17

UNITS = {"s": 1, "m": 60, "h": 3600}
START = 3.0
"""Seconds of a run that are not training steps: reading the text, the evaluation, files."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Search for a better sibling of a recipe at equal budget, and write it as a recipe file with its evidence on top.

    As many random points of the fields as fit into the time are tried on one seed, the best third of them on three,
    and the lowest of these is compared with the recipe on five other seeds. Only a sibling that is better by that
    verdict is written. All is judged on a piece held out at the end of the training text; the validation text is not
    read.

    The same command continues a tuning that was killed.

        nanotx tune macbook --budget 30m
        nanotx tune macbook --tries 9 --share 0.25
        nanotx tune macbook --budget 1h --vary model.dim=96,128 --equal flops
    """

    names: tuple[str, ...] = argument("RECIPE")  # recipe, and files of TOML that change it
    budget: str = option("TIME")  # estimated time of the whole, such as 90s, 30m or 2h
    tries: int = 0  # number of tries, whatever time they take, in place of a budget
    share: float = 1.0  # share of the recipe's budget that tries have; the verdict has all of it
    vary: tuple[str, ...] = repeated("FIELD=VALUES")  # LOW:HIGH, LOW:HIGH:log, or values; default: lr, by up to 8
    equal: Literal["", "steps", "tokens", "bytes", "flops", "seconds"] = (
        ""  # budget that all arms share; without it, the recipe's own
    )
    held_out: float = 0.1  # share of the training text, at its end, that decides
    smallest: float = SMALLEST  # smallest difference that matters, in bits per byte
    processes: int = 0  # runs to train side by side, each by one thread; 0 for one per core
    write: str = option("FILE.toml")  # file of the tuned recipe; without it, <recipe>_tuned.toml
    out: str = option("DIR")  # folder of the runs; without it, runs/tune-<recipe>-<digest>
    json: str = option("FILE")  # write the verdict and its losses to this file, as nanotx compare does
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "processes", "tries")
        if self.tries:
            in_range("tries", self.tries, FEWEST, MOST)
        if self.budget and self.tries:
            raise ConfigError(
                f"tries: expected it or budget, got both ({self.tries} and {self.budget}); leave one out."
            )
        in_range("share", self.share, 0.01, 1.0)
        in_range("held_out", self.held_out, 0.01, 0.9)
        in_range("smallest", self.smallest, 1e-9, 100.0)
        if self.write and Path(self.write).suffix != ".toml":
            raise ConfigError(f"write: expected a name that ends in .toml, got {self.write!r}.")


def run(argv: list[str]) -> int:
    """Tune, print what was found, and return the exit code."""
    own = [field.name for field in fields(Flags)]
    mine, others = split_flags(argv, own)
    flags = parse(Flags, [*positional_args(argv)[:1], *mine], PROG)
    check_outputs(json=flags.json)
    for file in flags.load:
        load_file(file)
    base, name = read_base(PROG, [*positional_args(argv), *others], own)
    seconds = 0.0 if flags.tries else read_time(flags.budget)
    target = Path(flags.write or f"{name}_tuned.toml")
    if target.exists():
        raise ConfigError(f"--write {target}: exists already; name another file.")
    tuning = Tuning(flags, base, name, page_of(argv[0]), seconds)
    with stopping(tuning.folder):
        return tune(tuning, target, [*PROG.split(), *argv])


def read_time(text: str) -> float:
    """Return a time such as 90s, 30m or 2h in seconds.

    Raises:
        ConfigError: the text is not such a time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match or not float(match[1]):
        raise ConfigError(
            f"--budget{f' {text}' if text else ''}: expected a time such as 90s, 30m or 2h, or a number of tries, "
            "such as --tries 9."
        )
    return float(match[1]) * UNITS[match[2]]


class Tuning:
    """A search for a better sibling of a recipe, in its folder."""

    def __init__(self, flags: Flags, base: Recipe, name: str, prog: str, seconds: float) -> None:
        self.flags, self.base, self.name, self.prog, self.seconds = flags, base, name, prog, seconds
        self.axes = read_axes(flags.vary or [default_axis(base)])
        self.equal: Budget = flags.equal or base.train.budget[0]
        self.processes = flags.processes or side_by_side(base)
        common = f"{digest(base)} {self.axes} {self.equal} {flags.held_out} {seconds or f'{flags.tries} tries'}"
        common += f" {flags.share}" if flags.share < 1 else ""
        short = hashlib.sha256(common.encode()).hexdigest()[:6]
        self.folder = Path(flags.out or f"runs/tune-{name}-{short}")
        self.baseline = Arm(name=BASELINE, recipe=base)

    def design(self, arms: list[Arm], first: int, count: int, share: float = 1.0) -> Design:
        """Return the experiment of some arms on consecutive seeds, with a share of their budget."""
        every = [self.baseline, *arms]
        return Design(
            name=self.name,
            arms=tuple(replace(arm, recipe=shortened(arm.recipe, share)) if share < 1 else arm for arm in every),
            seeds=tuple(range(first, first + count)),
            looks=(count,),
            equal=self.equal,
            smallest=self.flags.smallest,
            held_out=self.flags.held_out,
            rounds=1 if self.equal == "seconds" else 0,
            load=self.flags.load,
        )

    def plan(self) -> Plan:
        """Return the plan: the tries that were asked for, or as many as fit, decided once from the time of a step."""
        wanted: dict[str, float] = {"tries": self.flags.tries} if self.flags.tries else {"budget": self.seconds}
        wanted |= {"share": self.flags.share} if self.flags.share < 1 else {}
        question = {
            "recipe_sha256": digest(self.base),
            "vary": [str(axis) for axis in self.axes],
            "equal": self.equal,
            "held_out": self.flags.held_out,
            **wanted,
        }

        def make() -> Plan:
            if self.flags.tries:
                return Plan(tries=self.flags.tries)
            self.folder.mkdir(parents=True, exist_ok=True)
            corpus = training_corpus(self.base.corpus, self.folder, self.flags.held_out)
            facts = measure([self.baseline], corpus, 5)
            steps = equal_steps([self.baseline], facts, self.equal)[0]
            run_seconds = START + steps * (facts[0].seconds_per_step or 0.0)
            return plan_of(self.seconds, run_seconds, self.processes, self.flags.share)

        return recorded_plan(self.folder, question, make)

    def candidates(self, count: int) -> list[Arm]:
        """Return the tries: random points, without those that cannot be built or are the recipe as it is.

        Raises:
            ConfigError: no point can be built.
        """
        arms, fault = list[Arm](), None
        for point in draws(self.axes, count, self.base.seed):
            try:
                arm = arm_of(self.base, point, True, self.prog)
            except UnknownPart:  # mistyped, and so in every point that has it
                raise
            except NanotxError as error:
                fault = error
                continue
            arms += [arm] if arm.recipe not in [self.base, *(other.recipe for other in arms)] else []
        if not arms:
            raise fault or ConfigError("--vary: every point is the recipe as it is; give other values.")
        return arms


def default_axis(base: Recipe) -> str:
    """Return the axis that is tuned where none is named: the learning rate, by a factor of up to 8 to both sides."""
    return f"optimizer.lr={base.optimizer.lr / 8:.3g}:{base.optimizer.lr * 8:.3g}:log"


def tune(tuning: Tuning, target: Path, words: list[str]) -> int:
    """Try, choose, judge, and write a better sibling; return the exit code."""
    plan, began = tuning.plan(), time.perf_counter()
    arms, counts = tuning.candidates(plan.tries), list[int]()
    each = f" of some {plan.run_seconds:.3g} s" if plan.run_seconds else ""
    say(f"{len(arms)} tries and the recipe as it is, {plan.runs} runs{each}")
    for number, seeds in enumerate(SEEDS):
        arms = arms[: plan.survivors(number)]
        counts.append(len(arms))
        design = tuning.design(arms, tuning.base.seed, seeds, tuning.flags.share)
        outcome = Experiment(design, tuning.folder / "tries", say).run(tuning.processes)
        order = ranked({arm.name: outcome.losses[arm.name] for arm in arms})
        arms = [next(arm for arm in arms if arm.name == name) for name in order]
        if not arms:
            sys.stdout.write(f"All tries diverged; nothing is written. Their runs: {tuning.folder}\n")
            return 0
        say(f"lowest after {seeds} seed{'s' * (seeds > 1)}: {arms[0].name}")
    first = tuning.base.seed + BEYOND
    judged = Experiment(tuning.design(arms[:1], first, VERDICT_SEEDS), tuning.folder / "verdict", say)
    outcome = judged.run(tuning.processes)
    sys.stdout.write(printable(page(outcome)) + "\n\n")
    if tuning.flags.json:
        write_json(tuning.flags.json, to_json(outcome))
    if outcome.verdicts[arms[0].name].outcome != "better":
        sys.stdout.write(f"Of {counts[0]} tries none is known to be better than {tuning.name}; nothing is written.\n")
        return 0
    evidence = evidence_of(tuning, arms[0], outcome, counts, words)
    write_atomic(target, recipe_file(evidence))
    sys.stdout.write(f"{target}: written. To train it:\nnanotx train {shell_quoted(target)}\n")
    say(f"Runs and record: {shell_quoted(tuning.folder)}; {time.perf_counter() - began:.0f} s")
    return 0


def evidence_of(tuning: Tuning, arm: Arm, outcome: Outcome, counts: list[int], words: list[str]) -> Evidence:
    """Return what is known of a tuned recipe."""
    base, tuned = ([loss for loss in outcome.losses[name] if loss is not None] for name in (BASELINE, arm.name))
    return Evidence(
        name=tuning.name,
        change=arm.name,
        recipe=arm.recipe,
        tries=tuple(counts),
        share=tuning.flags.share,
        drawn_from=tuple(tuning.flags.vary or [default_axis(tuning.base)]),
        steps=(outcome.steps[0], outcome.steps[1]),
        equal=tuning.equal,
        seeds=(outcome.design.seeds[0], outcome.design.seeds[-1]),
        held_out=tuning.flags.held_out,
        losses=(sum(base) / len(base), sum(tuned) / len(tuned)),
        unit=outcome.unit,
        verdict=outcome.verdicts[arm.name],
        command=shlex.join(words),
    )
