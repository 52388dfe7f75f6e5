"""Everything that a run does on the disk, in turn: killed before it, killed after it, refused, or its power lost."""

import errno
import random
import tempfile
from functools import partial
from pathlib import Path

from nanotx.selftest import Broken, Case, Finding, meddle
from nanotx.selftest.child import Meddle
from nanotx.selftest.small import EVERY, KIND, begin, lost, resume, same, tail

REFUSALS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)
LOSSES: tuple[meddle.Loss, ...] = ("content", "zeros", "half", "names")


def cases(seed: int, count: int | None) -> list[Case]:
    """Each thing that is done on the disk in each way; or `count` of all these, drawn from the seed."""
    done = operations()
    ways: list[tuple[str, Meddle]] = []
    for k, what in enumerate(done, start=1):
        draw = random.Random(f"{seed} save {k}")
        refusal, loss = draw.choice(REFUSALS), draw.choice(LOSSES)
        ways += [
            (f"killed before {k}, {what}", partial(meddle.kill_before, k)),
            (f"killed after {k}, {what}", partial(meddle.kill_after, k)),
            (f"{errno.errorcode[refusal]} at {k}, {what}", partial(meddle.fail_at, k, refusal)),
            (f"power lost at {k}, {what}: {loss}", partial(meddle.lose_power_at, k, loss)),
        ]
    if count is not None:
        ways = random.Random(f"{seed} save").sample(ways, min(count, len(ways)))
    return [Case(name=f"save/{name}", run=partial(meddled, how)) for name, how in ways]


def operations() -> list[str]:
    """What a run does on the disk, in order."""
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name) / "whole", Path(name) / "log"
        folder.mkdir()
        ended = begin(KIND, folder, meddle=partial(meddle.count, log)).finish()
        if ended.code != 0:
            raise Broken(f"a run that was counted ended with {ended.code}: {tail(ended)}")
        return log.read_text(encoding="utf-8").splitlines()


def meddled(how: Meddle, folder: Path) -> Finding:
    """Run with a disk that fails, look at what is left, go on with a sound one, and compare every bit."""
    ended = begin(KIND, folder, meddle=how).finish()
    if ended.code not in (0, 4, -9, -15):
        raise Broken(f"it ended with {ended.code}: {tail(ended)}")
    if "Traceback" in ended.err:
        raise Broken(f"a traceback: {tail(ended)}")
    if ended.code == 4 and "RunError: " not in ended.err:
        raise Broken(f"no message: {tail(ended)}")
    gone = lost(folder / "run") if (folder / "run").exists() else 0
    if gone > EVERY and ended.code != 4:  # a disk that refuses every save is told of, and memory goes on
        raise Broken(f"{gone} steps were lost, and it saves every {EVERY}")
    resume(KIND, folder)
    same(KIND, folder / "run")
    left = [path.name for path in (folder / "run" / "checkpoints").glob(".*")]
    if left:
        raise Broken(f"drafts are left behind: {left}")
    argv = {0: "came to its end", 4: tail(ended)}.get(ended.code or 0, "killed")
    return Finding(happened=f"{argv}; equal after --resume", lost=gone)
