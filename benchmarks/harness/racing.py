"""A race of contenders on one device: judged, started, timed in turns, and let learn."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from harness.builds import Compile, Where
from harness.contenders import CONTENDERS, REFERENCE
from harness.laws import PASS
from harness.processes import preloaded
from harness.report import Announce
from harness.rival import with_dropout
from harness.starting import start_all
from harness.timing import Times, interleave
from harness.verdicts import judge
from harness.workers import Began, Order, Process
from nanotx.errors import RunError
from nanotx.recipe import Recipe

TURN = 0.25
"""Seconds that a turn is to take."""
NEAR = {False: 0.02, True: 0.1}
"""How near the first losses are to the reference's, in nats: without dropout, and with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to race, and how thoroughly."""

    names: tuple[str, ...]
    recipe: Recipe
    dropouts: tuple[float, ...]
    where: Where
    compiling: Compile = "auto"
    rounds: int = 40
    limit: float = 20.0  # seconds after which no round begins
    steps: int = 0  # of a turn; 0 for as many as fill it
    starts: int = 2  # how often each is started from nothing
    seeds: int = 0  # with which each learns to the end


@dataclass(kw_only=True)
class Found:
    """What was measured of contenders with one dropout, by name."""

    dropout: float = 0.0
    starts: dict[str, float] = field(default_factory=dict)  # seconds to the first step, nothing compiled
    began: dict[str, Began] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    times: Times = field(default_factory=dict)  # seconds a step, of each round
    curves: dict[str, list[list[tuple[float, float]]]] = field(default_factory=dict)  # of each seed: seconds, loss


def race(plan: Plan, tell: Announce) -> list[Found]:
    """What was found with each dropout."""
    device, verdicts = plan.where.device, dict[str, str]()
    tell(f"laws on {device}")
    for name in plan.names:
        verdicts[name] = verdict(name, plan, verdicts)
    tell(f"starts on {device}")
    fit = [name for name in plan.names if verdicts[name] == PASS]
    alike = [name for name in fit if CONTENDERS[name].best and name != "nanotx"]  # they start as the plain ones do
    plain = [name for name in fit if name not in alike]
    starts = start_all(plain, with_dropout(plan.recipe, plan.dropouts[0]), plan.where, plan.starts)
    every = []
    for share in plan.dropouts:
        tell(f"steps on {device}, dropout {share:g}")
        found = compare(replace(plan, recipe=with_dropout(plan.recipe, share)), fit)
        every.append(replace(found, dropout=share, starts=starts, verdicts=verdicts | found.verdicts))
    return every


def verdict(name: str, plan: Plan, known: Mapping[str, str]) -> str:
    """Whether a contender is the reference's equal; what differs in how it runs alone is judged once."""
    who = CONTENDERS[name]
    for other, said in known.items():
        if who.library and CONTENDERS[other].library == who.library:
            return said
    if name == REFERENCE:
        return PASS
    with ProcessPoolExecutor(1, mp_context=preloaded()) as pool:
        return pool.submit(judge, name, plan.recipe, plan.dropouts, plan.where.device, plan.where.threads).result()


def compare(plan: Plan, names: Sequence[str]) -> Found:
    """Start each, look at its first losses, take turns, learn."""
    found, running = Found(), dict[str, Process]()
    try:
        for name in names:
            order = Order(name=name, recipe=plan.recipe, where=plan.where, compiling=plan.compiling)
            try:
                running[name] = Process(order)
                found.began[name] = running[name].began
            except RunError as error:
                found.verdicts[name] = f"failed: {error}"
        for name, said in strangers(found.began, bool(plan.recipe.model.dropout)).items():
            found.verdicts[name] = said
            running.pop(name).end()
        found.times = times(running, plan)
        for seed in range(plan.recipe.seed, plan.recipe.seed + plan.seeds):
            for name, curve in learn(running, plan, seed).items():
                found.curves.setdefault(name, []).append(curve)
    finally:
        for process in running.values():
            process.end()
    return found


def strangers(began: Mapping[str, Began], drops: bool) -> dict[str, str]:
    """Those whose first losses, run as they are timed, are not the reference's."""
    said: dict[str, str] = {}
    if REFERENCE not in began:
        return said
    for name, one in began.items():
        pairs = zip(one.losses, began[REFERENCE].losses, strict=True)
        far = [abs(loss - wanted) for loss, wanted in pairs]
        if not all(distance <= NEAR[drops] for distance in far):
            shown = ", ".join(f"{distance:.3g}" for distance in far)
            said[name] = f"failed: first losses are {shown} from the reference's, more than {NEAR[drops]:g}."
    return said


def times(running: Mapping[str, Process], plan: Plan) -> Times:
    """Seconds a step of each, in each round."""
    if not running:
        return {}
    counts = {name: plan.steps or steps_of_a_turn(one.began.later) for name, one in running.items()}
    turns = {name: partial(one.ask, "steps", counts[name]) for name, one in running.items()}
    taken = interleave(turns, plan.rounds, torch.device("cpu"), calls=1, limit=plan.limit)
    return {name: [seconds / counts[name] for seconds in values] for name, values in taken.items()}


def steps_of_a_turn(seconds: float) -> int:
    """How many steps that last so long fill a turn."""
    return max(1, min(50, round(TURN / seconds)))


def learn(running: Mapping[str, Process], plan: Plan, seed: int) -> dict[str, list[tuple[float, float]]]:
    """For each, seconds of training and validation loss at each evaluation; up to the next one they take turns."""
    train = plan.recipe.train
    for process in running.values():
        process.ask("restart", seed)
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    done = 0
    while done < train.steps:
        count = min(train.eval_every or train.steps, train.steps - done)
        for name, process in running.items():
            took, loss = process.ask("learn", count)
            before = curves[name][-1][0] if curves[name] else 0.0
            curves[name].append((before + took, loss))
        done += count
    return curves
