"""Vary fields of a recipe, and show the response."""

import hashlib
import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from nanotx.cli.console import write_json
from nanotx.cli.experiments import check_outputs, page_of, read_base, say, side_by_side, split_flags, stopping
from nanotx.cli.run_plot import check as check_plot
from nanotx.config.command_line import positional_args
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min, in_range
from nanotx.errors import ConfigError, NanotxError, UnknownPart, printable, shell_quoted
from nanotx.experiments import report
from nanotx.experiments.experiment import Design, Experiment, Outcome
from nanotx.experiments.plan import BASELINE, Arm, digest, make_arm, values_of
from nanotx.experiments.response import Response, lowest, picture, respond
from nanotx.experiments.statistics import SMALLEST
from nanotx.experiments.vary import MOST, Axis, Point, change_of, draws, grid, number, read_axes, widened
from nanotx.recipe import Recipe

PROG = "nanotx sweep"
USAGE = "RECIPE"
GROUP = "Experiment"
ORDER = 16


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Train a recipe at many values of some fields, and show how the loss responds to them.

    All combinations of the values are trained, or with --random N as many points drawn from them. A range of whole
    numbers stays whole; log gives values of equal ratios. Every point and the recipe as it is have the same seeds,
    windows and budget, and are judged on a piece held out at the end of the training text, as in nanotx compare.

    The same command continues a sweep that was killed, and one with more values of the same fields adds to it.

        nanotx sweep macbook --vary optimizer.lr=1e-4:1e-2:log:7
        nanotx sweep macbook --vary optimizer.lr=1e-3,2e-3 --vary model.dim=96,128 --plot lr.png
        nanotx sweep macbook --vary optimizer.lr=1e-4:1e-2:log --random 12 --seeds 2
    """

    names: tuple[str, ...] = argument("RECIPE")  # recipe, and files of TOML that change it for all points
    vary: tuple[str, ...] = repeated("FIELD=VALUES")  # LOW:HIGH:N, LOW:HIGH:log:N, or values separated by commas
    random: int = 0  # draw as many points in place of all combinations; by the recipe's seed
    seeds: int = 3  # number of seeds of each point, from the recipe's on
    smallest: float = SMALLEST  # smallest difference that matters, in bits per byte
    held_out: float = 0.1  # share of the training text, at its end, that decides
    processes: int = 0  # runs to train side by side, each by one thread; 0 for one per core
    allow_swaps: bool = False  # accept a value that changes more fields than its own
    plot: str = option("FILE")  # draw the response, with intervals, as .png, .svg or .pdf
    out: str = option("DIR")  # folder of the sweep; without it, runs/sweep-<recipe>-<digest>
    json: str = option("FILE")  # write the response, the verdicts and all losses to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "seeds")
        check_min(self, 0, "random", "processes")
        check_max(self, 1000, "seeds")
        check_max(self, MOST, "random")
        in_range("held_out", self.held_out, 0.01, 0.9)
        in_range("smallest", self.smallest, 1e-9, 100.0)


def run(argv: list[str]) -> int:
    """Sweep, print the response and the table, and return the exit code."""
    own = [field.name for field in fields(Flags)]
    mine, others = split_flags(argv, own)
    flags = parse(Flags, [*positional_args(argv)[:1], *mine], PROG)
    check_outputs(plot=flags.plot, json=flags.json)
    if flags.plot:
        check_plot(flags.plot)
    for file in flags.load:
        load_file(file)
    base, name = read_base(PROG, [*positional_args(argv), *others], own)
    axes = read_axes(flags.vary)
    arms, points = points_of(base, axes, flags, page_of(argv[0]))
    design = Design(
        name=name,
        arms=tuple(arms),
        seeds=tuple(range(base.seed, base.seed + flags.seeds)),
        looks=(flags.seeds,),
        equal=base.train.budget[0],
        smallest=flags.smallest,
        held_out=flags.held_out,
        rounds=1 if base.train.budget[0] == "seconds" else 0,
        load=flags.load,
    )
    folder = Path(flags.out or f"runs/sweep-{name}-{short_digest(base, axes, flags)}")
    say(f"{len(points)} points, {flags.seeds} seed{'s' * (flags.seeds > 1)} each, and the recipe as it is")
    with stopping(folder):
        outcome = Experiment(design, folder, say).run(flags.processes or side_by_side(base))
    responses = responses_of(outcome, points)
    recipe = respond({}, outcome.losses[BASELINE], outcome.losses[BASELINE]).mean
    show(outcome, responses, recipe, [*positional_args(argv), *others])
    if end := edges(base, axes, responses, recipe, argv, drawn=bool(flags.random)):
        sys.stdout.write(printable(f"\n{end}\n"))
    if flags.plot:
        from nanotx.cli.sweep_plot import draw  # matplotlib is slow to import

        draw(responses, axes, recipe, outcome.unit, Path(flags.plot))
    if flags.json:
        rows = [dict(vars(response)) for response in responses]
        write_json(flags.json, {"vary": list(flags.vary), "response": rows, **report.to_json(outcome)})
    say(f"Runs and record: {shell_quoted(folder)}")
    return 0


def points_of(base: Recipe, axes: list[Axis], flags: Flags, prog: str) -> tuple[list[Arm], dict[str, list[Point]]]:
    """Return the arms, the recipe as it is first, and the points of each arm by its name.

    A point that is the recipe as it is is not trained twice. One that cannot be built, such as heads that do not divide
    a width, is left out, which is printed.

    Raises:
        ConfigError: no point can be built.
        UnknownPart: a value is the name of no part.
    """
    points = draws(axes, flags.random, base.seed) if flags.random else grid(axes)
    arms, places, faults = [Arm(name=BASELINE, recipe=base)], dict[str, list[Point]](), list[NanotxError]()
    for point in points:
        try:
            arm = arm_of(base, point, flags.allow_swaps, prog)
        except UnknownPart:  # mistyped, and so in every point that has it
            raise
        except NanotxError as error:
            faults.append(error)
            continue
        same = next((other for other in arms if other.recipe == arm.recipe), None)
        arms += [] if same else [arm]
        places.setdefault((same or arm).name, []).append(point)
    if len(arms) < 2:
        if faults:
            raise faults[0]
        raise ConfigError("--vary: every point is the recipe as it is; give other values.")
    for fault in faults:
        say(f"left out: {fault}")
    return arms, places


def arm_of(base: Recipe, point: Point, allow_swaps: bool, prog: str) -> Arm:
    """Return the arm of a point.

    Raises:
        NanotxError: it cannot be built; names the point.
    """
    change = change_of(point)
    try:
        arm = make_arm(base, change, change, allow_swaps, prog)
    except NanotxError as error:
        raise type(error)(str(error).replace("--change", "--vary", 1)) from None
    try:
        arm.recipe.model.build_meta(vocab_size=2)
    except NanotxError as error:
        raise type(error)(f"--vary {change!r}: {error}") from None
    return arm


def short_digest(base: Recipe, axes: list[Axis], flags: Flags) -> str:
    """Return a digest of what the points have in common, so that the same command finds its folder."""
    common = f"{digest(base)} {[axis.field for axis in axes]} {flags.held_out} {flags.seeds}"
    return hashlib.sha256(common.encode()).hexdigest()[:6]


WORDS = {"better": "better", "worse": "worse", "same": "no difference", "unknown": "", "diverged": "diverged"}
"""What the picture says of an outcome; the table says more."""

MOST_ROWS = 12
"""Arms of which the whole table of nanotx compare is printed."""


def responses_of(outcome: Outcome, points: dict[str, list[Point]]) -> list[Response]:
    """Return the response at each point, in the order of the sweep."""
    recipe = outcome.losses[BASELINE]
    verdicts = {name: WORDS[verdict.outcome] for name, verdict in outcome.verdicts.items()}
    return [
        respond(point, outcome.losses[name], recipe, verdicts.get(name, ""), name == BASELINE)
        for name, places in points.items()
        for point in places
    ]


def show(outcome: Outcome, responses: list[Response], recipe: float | None, words: list[str]) -> None:
    """Print the response, the table of nanotx compare, and how to confirm the lowest point.

    Args:
        outcome: of the sweep.
        responses: of its points.
        recipe: mean loss of the recipe as it is.
        words: the recipe, its files and flags, as they were typed.
    """
    blocks = [report.heading(outcome), picture(responses, recipe, outcome.unit)]
    if len(outcome.design.arms) <= MOST_ROWS:
        blocks.append(report.page(outcome).partition("\n\n")[2])
    best = lowest(responses)
    if best is not None and not best.is_recipe:
        command = [*without_seed(words), "--seed", str(outcome.design.seeds[-1] + 1), "--change", change_of(best.point)]
        blocks.append(
            f"The lowest of {len(outcome.design.arms)} is flattered by having been chosen. To judge it on seeds that "
            f"had no part in that:\nnanotx compare {shlex.join(command)}"
        )
    sys.stdout.write(printable("\n\n".join(blocks)) + "\n")


def edges(
    base: Recipe, axes: list[Axis], responses: list[Response], recipe: float | None, argv: list[str], drawn: bool
) -> str:
    """Return a paragraph if the lowest loss is at an end of a range: at which, and the command that goes further.

    The recipe as it is counts among the points.

    Args:
        base: the recipe as it is.
        axes: of the sweep.
        responses: of its points.
        recipe: mean loss of the recipe as it is.
        argv: the words of the command.
        drawn: the points were drawn at random.
    """
    best = lowest(responses)
    if best is None or best.mean is None:
        return ""
    own = {axis.field: str((values_of(base, axis.field) or [""])[0]) for axis in axes}
    point = own if recipe is not None and recipe < best.mean else best.point
    ends, words = list[str](), list(argv)
    for axis in axes:
        swept = {number(response.point[axis.field]): response.point[axis.field] for response in responses}
        values = {value: text for value, text in {number(own[axis.field]): own[axis.field], **swept}.items() if value}
        at = number(point[axis.field])
        if None in swept or len(swept) < 2 or at not in (min(values), max(values)):
            continue
        low = min(values)
        wider = widened(axis, [values[value] for value in sorted(values)], high=at != low, drawn=drawn)
        if wider:
            ends.append(f"the {'low' if at == low else 'high'} end of {axis.field}, {point[axis.field]}")
            words = [with_axis(word, axis, wider) for word in words]
    if not ends:
        return ""
    command = shlex.join([*PROG.split(), *words])
    return f"The lowest is at {' and '.join(ends)}: it may be lower beyond. To go further:\n{command}"


def with_axis(word: str, axis: Axis, text: str) -> str:
    """Return a word of the command line, or if it states the axis, the same with another text."""
    flag = "--vary=" * word.startswith("--vary=")
    field, equals, _ = word.removeprefix(flag).partition("=")
    return flag + text if equals and field.strip().replace("-", "_") == axis.field else word


def without_seed(words: list[str]) -> list[str]:
    """Return the words of a command line without its --seed."""
    at = next((index for index, word in enumerate(words) if word.partition("=")[0] == "--seed"), len(words))
    return words[:at] + words[at + (1 if "=" in "".join(words[at : at + 1]) else 2) :]
