"""Kills at random moments: the resumed run equals the undisturbed one."""

import random
import time
from functools import partial
from pathlib import Path

from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Child
from nanotx.selftest.tiny_runs import (
    EVERY,
    KINDS,
    MOST_LOST,
    arguments,
    begin,
    check_same,
    last_line,
    lost,
    undisturbed,
)


def cases(seed: int, count: int, device: str = "cpu") -> list[Case]:
    """Return `count` cases on a device, which take turns with the kinds of runs."""
    planned, kinds = list[Case](), list(KINDS)
    for number in range(count):
        kind, draw = kinds[number % len(kinds)], random.Random(f"{seed} kill {number}")
        planned.append(Case(name=f"kill/{number + 1}: {kind}", run=partial(killed, kind, draw, device)))
    return planned


def killed(kind: str, draw: random.Random, device: str, folder: Path) -> Finding:
    """Kill a run one to three times, resume it after each, and compare every bit at its end."""
    seconds, worst, moments = undisturbed(kind, device)["seconds"], 0, list[str]()
    child = begin(kind, folder, device=device)
    for _ in range(draw.choice((1, 1, 2, 3))):
        after = draw.uniform(0.0, seconds)
        time.sleep(after)
        if not child.alive:
            break
        child.kill()
        child.finish()
        steps = lost(folder / "run")
        if steps > MOST_LOST:
            raise Broken(f"killed after {after:.3f} s: {steps} steps were lost, and the run saves every {EVERY}")
        worst = max(worst, steps)
        moments.append(f"{after:.2f} s")
        child = Child([*arguments(kind, device=device), "--run", "run", "--resume"], folder)
    ended = child.finish()
    if ended.code != 0:
        raise Broken(f"the run ended with {ended.code}: {last_line(ended)}")
    check_same(kind, folder / "run", device)
    return Finding(happened=f"killed after {' and '.join(moments) or 'its end'}; equal", lost=worst)
