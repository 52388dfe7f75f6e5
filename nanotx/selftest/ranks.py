"""Two processes that train together, of which one is killed or delayed: the run ends as if nothing had happened.

They save as one process does, so what is compared is the result of the undisturbed run of one process, to the bit.
"""

import os
import random
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Child, Disturbance, Ended
from nanotx.selftest.saves import Place, kill_before
from nanotx.selftest.tiny_runs import (
    EVERY,
    KINDS,
    MOST_LOST,
    arguments,
    check_same,
    last_line,
    lost,
    undisturbed,
    write_corpus,
)

SIZE = 2
KIND = "byte, adamw, no dropout"
"""The kind of tiny run whose step has a micro-batch for each rank."""

SHORT = 3
"""Seconds after which a delayed rank is given up."""

JOINING = 10
"""Seconds after which a rank no longer waits for one that was killed before they joined, as torchrun would tell it."""

SAVES = 4
"""Operations on the disk at which rank 0 is killed."""

OPERATIONS = {False: (8, 40), True: (1, 60)}
"""Of those that a run makes on the disk, the first and the last at which it is killed; first the steps' thread."""


def cases(seed: int, kills: int) -> list[Case]:
    """Return the cases: kills at random moments, kills within a save, and a delay."""
    assert KINDS[KIND]["train.grad-accum-steps"] == SIZE
    planned = list[Case]()
    for number in range(kills):
        draw = random.Random(f"{seed} rank {number}")
        rank = draw.randrange(SIZE)
        planned.append(Case(name=f"ranks/{number + 1}: rank {rank} killed", run=partial(killed, rank, draw)))
    numbers = [(beside, range(first, last)) for beside, (first, last) in OPERATIONS.items()]
    places = [Place(beside=beside, number=number) for beside, of_thread in numbers for number in of_thread]
    for place in random.Random(f"{seed} ranks save").sample(places, min(SAVES, kills)):
        name = f"ranks/rank 0 killed before operation {place} on the disk"
        planned.append(Case(name=name, run=partial(killed_in_save, place)))
    planned.append(Case(name="ranks/rank 1 delayed past the timeout", run=delayed))
    return planned


def killed(rank: int, draw: random.Random, folder: Path) -> Finding:
    """Kill a rank at a random moment, resume, and compare every bit."""
    after = draw.uniform(0.0, undisturbed(KIND)["seconds"] + 1.0)
    children = begin(folder, {}, "--rank-timeout", str(JOINING))
    time.sleep(after)
    children[rank].kill()
    return finding(children, folder, f"killed after {after:.2f} s")


def killed_in_save(place: Place, folder: Path) -> Finding:
    """Kill rank 0 before an operation on the disk, resume, and compare every bit."""
    children = begin(folder, {0: partial(kill_before, place)}, "--rank-timeout", str(JOINING))
    return finding(children, folder, f"killed before operation {place}")


def delayed(folder: Path) -> Finding:
    """Delay a rank for longer than the others wait: they have to name it, and save what was trained."""
    children = begin(folder, {1: partial(sleep_in_step, 6, 4 * SHORT)}, "--rank-timeout", str(SHORT))
    began = time.monotonic()
    ended = children[0].finish()
    if ended.code != 4 or f"rank 1 did not answer within {SHORT} s" not in ended.err:
        raise Broken(f"rank 0 ended with {ended.code}, and did not name rank 1: {last_line(ended)}")
    if (waited := time.monotonic() - began) > 10 * SHORT:
        raise Broken(f"rank 0 took {waited:.0f} s to end")
    if steps := lost(folder / "run"):
        raise Broken(f"{steps} steps were lost, and rank 0 saves when another is lost")
    return finding(children[1:], folder, "named")


def finding(children: list[Child], folder: Path, what: str) -> Finding:
    """Wait for all ranks, resume the run, by one process or by two, and compare every bit."""
    codes = [child.finish().code for child in children]
    if wrong := [code for code in codes if code not in (0, 4, -9, -15)]:
        raise Broken(f"a rank ended with {wrong[0]}")
    steps = lost(folder / "run") if (folder / "run").exists() else 0
    if steps > MOST_LOST:
        raise Broken(f"{steps} steps were lost, and the run saves every {EVERY}")
    ended: list[Ended] = [child.finish() for child in begin(folder, {}, "--resume")]
    if any(end.code for end in ended):
        raise Broken(f"--resume ended with {[end.code for end in ended]}: {last_line(ended[0])}")
    check_same(KIND, folder / "run")
    return Finding(happened=f"{what}; equal after --resume", lost=steps)


def begin(folder: Path, disturbances: dict[int, Disturbance] | None = None, *more: str) -> list[Child]:
    """Start the ranks of a run in `folder/run`, some of them disturbed."""
    if not (folder / "text.txt").exists():
        write_corpus(folder)
    port = free_port()
    return [
        Child(
            [*arguments(KIND), "--run", "run", *more],
            folder,
            disturb=partial(as_rank, rank, port, (disturbances or {}).get(rank)),
        )
        for rank in range(SIZE)
    ]


def free_port() -> int:
    """Return a port that no program uses at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# What a child does to itself.


def as_rank(rank: int, port: int, then: Disturbance | None) -> None:
    """Make this process one of the ranks, as torchrun would, and disturb it."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": SIZE, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in variables.items()})
    if then is not None:
        then()


def sleep_in_step(step: int, seconds: float) -> None:
    """Let this process sleep before it takes a step."""
    from nanotx.training.trainer import Trainer

    take = Trainer.train_step

    def late(trainer: Trainer, keep_gradients: bool = False) -> dict[str, Any]:
        if trainer.progress.step == step:
            time.sleep(seconds)
        return take(trainer, keep_gradients)

    Trainer.train_step = late  # type: ignore[assignment, method-assign]
