"""Kills at any moment: the run that goes on is the run that would have been."""

import random
import time
from functools import partial
from pathlib import Path

from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Child
from nanotx.selftest.small import EVERY, OTHERS, argv, begin, lost, same, tail, undisturbed


def cases(seed: int, count: int, device: str = "cpu") -> list[Case]:
    """So many runs on a device that are killed, the kinds of runs in turn."""
    kinds = list(OTHERS)
    return [
        Case(
            name=f"kill/{number + 1}: {kind}", run=partial(killed, kind, random.Random(f"{seed} kill {number}"), device)
        )
        for number in range(count)
        for kind in [kinds[number % len(kinds)]]
    ]


def killed(kind: str, draw: random.Random, device: str, folder: Path) -> Finding:
    """Kill a run once, or again when it goes on, then let it come to its end and compare every bit."""
    seconds, worst, moments = undisturbed(kind, device)["seconds"], 0, list[str]()
    child = begin(kind, folder, device=device)
    for _ in range(draw.choice((1, 1, 2, 3))):
        after = draw.uniform(0.0, seconds)
        time.sleep(after)
        if not child.alive:
            break
        child.kill()
        child.finish()
        gone = lost(folder / "run")
        if gone > EVERY:
            raise Broken(f"killed after {after:.3f} s: {gone} steps were lost, and it saves every {EVERY}")
        worst = max(worst, gone)
        moments.append(f"{after:.2f} s")
        child = Child([*argv(kind, device=device), "--run", "run", "--resume"], folder)
    ended = child.finish()
    if ended.code != 0:
        raise Broken(f"it ended with {ended.code}: {tail(ended)}")
    same(kind, folder / "run", device)
    return Finding(happened=f"killed after {' and '.join(moments) or 'its end'}; equal", lost=worst)
