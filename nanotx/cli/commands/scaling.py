"""Fit how a recipe's loss falls with compute, by sizes."""

import hashlib
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from nanotx.cli.console import write_json
from nanotx.cli.experiments import check_outputs, page_of, read_base, say, side_by_side, split_flags, stopping
from nanotx.cli.run_plot import check as check_plot
from nanotx.config.command_line import positional_args
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min, in_range
from nanotx.errors import ConfigError, NanotxError, printable, shell_quoted
from nanotx.experiments.dial import ON_THE_DIAL, Size, sizes
from nanotx.experiments.experiment import Design, Experiment
from nanotx.experiments.plan import digest, make_arms, split_change
from nanotx.experiments.scaling import page, scaling_of, to_json
from nanotx.recipe import Recipe
from nanotx.training.budget import step_cost
from nanotx.training.dataset import load_dataset

PROG = "nanotx scaling"
USAGE = "RECIPE"
GROUP = "Experiment"
ORDER = 19


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Train a recipe at several sizes, and fit how its loss falls with FLOPs; with a change of it, where the two cross.

    The recipe is turned smaller or larger by rules: heads keep their width, layers grow with the width, tokens with the
    FLOPs of a token, and the learning rate of adamw falls with the width; muon's stays. A change is made at every size.
    Both arms have the same seeds and windows, and are judged on a piece held out at the end of the training text.

    A power law is fitted for each seed; intervals are over the seeds. The same command continues what was killed.

        nanotx scaling macbook --sizes 4
        nanotx scaling shakespeare_char --change ffn=swiglu --smallest-width 0.25 --plot scaling.svg
    """

    names: tuple[str, ...] = argument("RECIPE")  # recipe, and files of TOML that change it
    change: str = option("FIELD=VALUE")  # change to compare with the recipe, such as ffn=swiglu
    sizes: int = 4  # number of sizes
    smallest_width: float = 0.25  # width of the smallest, as a share of the recipe's
    largest_width: float = 1.0  # width of the largest, as a share of the recipe's
    seeds: int = 3  # number of seeds of each size, from the recipe's on
    floor: float = 0.0  # loss that no model can go below, in the unit of the table
    held_out: float = 0.1  # share of the training text, at its end, that decides
    examples: int = 20  # random cases of each law of a changed part; 0 checks none
    processes: int = 0  # runs to train side by side, each by one thread; 0 for one per core
    allow_swaps: bool = False  # accept a change of more fields than it names
    plot: str = option("FILE")  # draw loss against FLOPs as .png, .svg or .pdf
    out: str = option("DIR")  # folder of the runs; without it, runs/scaling-<recipe>-<digest>
    json: str = option("FILE")  # write sizes, losses, laws and crossing to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 2, "sizes")
        check_max(self, 20, "sizes")
        check_min(self, 1, "seeds")
        check_max(self, 1000, "seeds")
        check_min(self, 0, "examples", "processes", "floor")
        in_range("smallest_width", self.smallest_width, 0.001, 1000.0)
        in_range("largest_width", self.largest_width, 0.001, 1000.0)
        in_range("held_out", self.held_out, 0.01, 0.9)
        if not self.smallest_width < self.largest_width:
            least, most = f"{self.smallest_width:g}", f"{self.largest_width:g}"
            raise ConfigError(f"smallest_width: expected less than --largest-width {most}, got {least}.")


def run(argv: list[str]) -> int:
    """Train all sizes, print the page, and return the exit code."""
    own = [field.name for field in fields(Flags)]
    mine, others = split_flags(argv, own)
    flags = parse(Flags, [*positional_args(argv)[:1], *mine], PROG)
    check_outputs(plot=flags.plot, json=flags.json)
    if flags.plot:
        check_plot(flags.plot)
    for file in flags.load:
        load_file(file)
    base, name = read_base(PROG, [*positional_args(argv), *others], own)
    ladder = ladder_of(base, flags)
    designs = [designed(name, size, place, flags, page_of(argv[0])) for place, size in enumerate(ladder)]
    folder = Path(flags.out or f"runs/scaling-{name}-{short_digest(base, flags)}")
    total = sum(size.flops for size in ladder) * len(designs[0].arms) * flags.seeds
    say(f"{len(ladder)} sizes, {', '.join(size.name for size in ladder)}: {total:.1e} FLOPs in all")
    outcomes = []
    with stopping(folder):
        for size, design in zip(ladder, designs, strict=True):
            say(f"size {size.name}, {design.arms[0].recipe.train.steps:,} steps")
            experiment = Experiment(design, folder / size.name, say)
            outcomes.append(experiment.run(flags.processes or side_by_side(base)))
    scaling = scaling_of(ladder, outcomes, flags.floor)
    sys.stdout.write(printable(page(scaling)) + "\n")
    if flags.plot:
        from nanotx.cli.scaling_plot import draw  # matplotlib is slow to import

        draw(scaling, Path(flags.plot))
    if flags.json:
        write_json(flags.json, to_json(scaling))
    say(f"Runs and record: {shell_quoted(folder)}")
    return 0


def ladder_of(base: Recipe, flags: Flags) -> list[Size]:
    """Return the sizes, the smallest first.

    Raises:
        ConfigError: the budget of the recipe is time, it begins with weights of one size, or the sizes cannot be told
            apart or built.
    """
    if base.init:
        raise ConfigError(f"{PROG}: --init {base.init}: its weights are of one size, and each size needs its own.")
    budget, amount = base.train.budget
    if budget == "seconds":
        raise ConfigError(
            f"{PROG}: --train.seconds: the dial turns steps, and time would depend on the hour; give --train.steps, "
            "tokens, bytes or flops."
        )
    data = load_dataset(base)
    vocab_size = data.codec.vocab_size
    if budget != "steps":
        model = base.model.build_meta(vocab_size)
        base = replace(base, train=base.train.with_steps(step_cost(base.train, model, data).steps(budget, amount)))
    return sizes(base, flags.smallest_width, flags.largest_width, flags.sizes, vocab_size)


def designed(name: str, size: Size, place: int, flags: Flags, prog: str) -> Design:
    """Return the experiment at a size.

    Args:
        name: of the recipe.
        size: of this experiment.
        place: of the size; laws are checked at the first.
        flags: of the command.
        prog: a command whose help lists the fields, for errors.

    Raises:
        ConfigError: the change cannot be built, or sets what the dial sets.
    """
    for key, _ in split_change(flags.change) if flags.change else ():
        if key in ON_THE_DIAL:
            raise ConfigError(f"--change {flags.change!r}: the sizes set {key}; leave it out, or use nanotx sweep.")
    arms = make_arms(size.recipe, [flags.change] if flags.change else [], flags.allow_swaps, prog)
    try:
        arms[-1].recipe.model.build_meta(vocab_size=2)
    except NanotxError as error:
        raise type(error)(f"--change {flags.change!r} at {size.name}: {error}") from None
    if len(arms) > 1 and arms[0].recipe == arms[1].recipe:
        raise ConfigError(f"--change {flags.change!r}: equals the recipe at {size.name}; there is nothing to compare.")
    return Design(
        name=name,
        arms=tuple(arms),
        seeds=tuple(range(size.recipe.seed, size.recipe.seed + flags.seeds)),
        looks=(flags.seeds,),
        held_out=flags.held_out,
        rounds=0,
        examples=0 if place else flags.examples,
        load=flags.load,
    )


def short_digest(base: Recipe, flags: Flags) -> str:
    """Return a digest of what the sizes have in common, so that the same command finds its folder."""
    common = f"{digest(base)} {flags.held_out} {flags.seeds}"
    return hashlib.sha256(common.encode()).hexdigest()[:6]
