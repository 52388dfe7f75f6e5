"""Train changes of a recipe, and say which helped."""

import hashlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from nanotx.cli.console import write_json
from nanotx.cli.experiments import check_outputs, page_of, read_base, say, side_by_side, split_flags, stopping
from nanotx.config.command_line import positional_args
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min, in_range
from nanotx.errors import ConfigError, printable, shell_quoted
from nanotx.experiments import existing, report
from nanotx.experiments.experiment import Design, Experiment
from nanotx.experiments.plan import digest, equal_arms, make_arms
from nanotx.experiments.statistics import SMALLEST
from nanotx.experiments.tries import read_tries, tries_of

PROG = "nanotx compare"
USAGE = "RECIPE|RUN ..."
GROUP = "Experiment"
ORDER = 15

GROWTH = 1.5
"""By how much the number of seeds grows from one look to the next, with --until verdict."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Train a recipe and changes of it on the same seeds, and say of each change whether it helped.

    A change is one arm: an assignment in TOML, or several separated by ';'. All other flags are those of the recipe, as
    in nanotx train, and hold for every arm. The laws of changed parts are checked first. Runs of one seed share windows
    and initial weights, so their losses are compared in pairs, on a piece held out at the end of the training text.
    With --tries, every arm and the recipe as it is first choose among equally many multiples (1, 2, 1/2, 4, ...) of
    their own value of a field, on seeds that no verdict uses.

    The same command continues an experiment that was killed. Runs that exist already are compared by naming them, the
    baseline first; they are judged on the validation text.

        nanotx compare macbook --change ffn=relu2 --change norm=rmsnorm
        nanotx compare macbook --change 'attention={part="mine", window=9}' --load mine.py --seeds 8
        nanotx compare macbook --change 'optimizer=adamw; optimizer.lr=2e-3' --until verdict
        nanotx compare macbook --change ffn=swiglu --tries optimizer.lr=4
        nanotx compare shakespeare_char --equal bytes --change 'tokenizer={part="bpe", vocab_size=512}'
        nanotx compare runs/macbook-1 runs/macbook-2 runs/relu2-1 runs/relu2-2
    """

    names: tuple[str, ...] = argument("RECIPE|RUN ...")  # recipe, and files of TOML for all arms; or runs
    change: tuple[str, ...] = repeated("FIELD=VALUE")  # change of an arm, such as ffn=relu2
    seeds: int = 5  # number of seeds, from the recipe's on; with --until, of the first look
    until: Literal["", "verdict"] = ""  # verdict adds seeds until every arm has one
    max_seeds: int = 20  # number of seeds at most, with --until
    equal: Literal["", "steps", "tokens", "bytes", "flops", "seconds"] = (
        ""  # budget that all arms share; without it, the recipe's own
    )
    tries: tuple[str, ...] = repeated("FIELD=N")  # N values of a field for every arm, such as optimizer.lr=4
    smallest: float = SMALLEST  # smallest difference that matters, in bits per byte
    held_out: float = 0.1  # share of the training text, at its end, that decides
    rounds: int = 3  # rounds of the timing, each one step of every arm; 0 times nothing
    examples: int = 20  # random cases of each law of a changed part; 0 checks none
    processes: int = 0  # runs to train side by side, each by one thread; 0 for one per core
    validation: bool = False  # read the validation text once at the end, for information
    allow_swaps: bool = False  # accept a change of more fields than it names
    allow_equal: bool = False  # accept an arm that equals the baseline, as a check that it trains to the same bits
    out: str = option("DIR")  # folder of the experiment; without it, runs/compare-<recipe>-<digest>
    json: str = option("FILE")  # write the verdicts and all losses to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "seeds", "max_seeds")
        check_min(self, 0, "rounds", "examples", "processes")
        check_max(self, 1000, "seeds", "max_seeds", "rounds")
        in_range("smallest", self.smallest, 0.0, 100.0)
        in_range("held_out", self.held_out, 0.0, 0.9)
        if not self.smallest or not self.held_out:
            name = "smallest" if not self.smallest else "held_out"
            raise ConfigError(f"{name}: expected a number above 0, got 0.")
        if self.until and self.max_seeds <= self.seeds:
            raise ConfigError(
                f"max_seeds: expected more than --seeds {self.seeds}, the first look; got {self.max_seeds}."
            )


def run(argv: list[str]) -> int:
    """Compare, print the page, and return the exit code."""
    mine, others = split_flags(argv, [field.name for field in fields(Flags)])
    names = positional_args(argv)
    flags = parse(Flags, [*names[:1], *mine], PROG)
    check_outputs(json=flags.json)
    if Path(names[0]).is_dir():
        return compare_existing(flags, names, others)
    for file in flags.load:
        load_file(file)
    design = designed(flags, [*positional_args(argv), *others])
    folder = Path(flags.out or f"runs/compare-{design.name}-{short_digest(design)}")
    with stopping(folder):
        experiment = Experiment(design, folder, say)
        outcome = experiment.run(flags.processes or side_by_side(design.arms[0].recipe))
        if flags.validation:
            experiment.read_validation(outcome)
    sys.stdout.write(printable(report.page(outcome)) + "\n")
    if flags.json:
        write_json(flags.json, report.to_json(outcome))
    say(f"Runs and record: {shell_quoted(folder)}")
    return 0


def compare_existing(flags: Flags, folders: list[str], others: list[str]) -> int:
    """Print what can be said of runs that exist, and return the exit code."""
    if others or flags.change:
        word = others[0] if others else "--change"
        raise ConfigError(f"{PROG} {folders[0]}: a folder of runs, which are compared as they are; leave out {word}.")
    result = existing.compare_runs(folders, flags.smallest)
    sys.stdout.write(printable(existing.page(result)) + "\n")
    if flags.json:
        write_json(flags.json, existing.to_json(result))
    return 0


def designed(flags: Flags, argv: list[str]) -> Design:
    """Return what is to be compared.

    Raises:
        ConfigError: the recipe or a change cannot be built, or there is no change.
    """
    base, name = read_base(PROG, argv, [field.name for field in fields(Flags)])
    if not flags.change:
        raise ConfigError(f"{PROG}: expected at least one --change such as --change ffn=relu2; each is an arm.")
    arms = make_arms(base, flags.change, flags.allow_swaps, page_of(argv[0]))
    if (equal := equal_arms(arms)) and not flags.allow_equal:
        raise ConfigError(
            f"--change {equal[0]!r}: equals the baseline, so every loss would be the same. To check that it is, on "
            "this machine and to the bit (an A/A check), add --allow-equal."
        )
    tries, looks = read_tries(flags.tries), [flags.seeds]
    for arm in arms:
        tries_of(arm, tries, page_of(argv[0]))  # before anything is made, refuse what cannot be tried
    while flags.until and looks[-1] < flags.max_seeds:
        looks.append(min(flags.max_seeds, max(looks[-1] + 1, round(looks[-1] * GROWTH))))
    return Design(
        name=name,
        arms=tuple(arms),
        seeds=tuple(range(base.seed, base.seed + looks[-1])),
        looks=tuple(looks),
        equal=flags.equal or base.train.budget[0],
        smallest=flags.smallest,
        held_out=flags.held_out,
        rounds=flags.rounds,
        examples=flags.examples,
        load=flags.load,
        tries=tries,
    )


def short_digest(design: Design) -> str:
    """Return a digest of what the arms of an experiment have in common, so that the same command finds its folder."""
    common = f"{digest(design.arms[0].recipe)} {design.equal} {design.held_out} {design.looks[:-1]}"
    common += f" {[tried.field for tried in design.tries]}" if design.tries else ""
    return hashlib.sha256(common.encode()).hexdigest()[:6]
