"""What ranks have to agree on: that they were started alike, that no other has failed, and when to stop.

Ranks meet once or more in a step, and then hear of each other's errors and signals: so all stop after the same step,
and an error of one is reported once. A rank that comes to no more meetings is lost, and named.
"""

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from nanotx import __version__, errors
from nanotx.errors import ConfigError, NanotxError, RankLost, RunError, is_memory_full

Facts = Mapping[str, str]
"""What a process was started with, by name: versions, digests, flags."""


class Requests(Protocol):
    """What signals have asked for; `training.signals.Stop` is one."""

    signal: int
    save_requested: bool


class GivenUp(Exception):
    """Another rank has given up what all do together; when they meet, all hear why."""


class Agreement:
    """What one rank knows of the others."""

    def __init__(self, rank: int, size: int, store: Store, timeout: timedelta) -> None:
        """Begin with no meeting; the default process group exists.

        Args:
            rank: the number of this process.
            size: how many there are.
            store: holds errors and progress of all ranks.
            timeout: how long a rank may take longer than another for its part of a step.
        """
        self.rank, self.size, self.store, self.timeout = rank, size, store, timeout
        self.requests: Requests | None = None  # of this process
        self.failure: BaseException | None = None  # of this rank, which the others have not heard of yet
        self.agreed = False  # whether all ranks know that the last step has failed
        self.number = 0  # of meetings of all ranks up to now
        self.lost = False  # whether a rank no longer answers
        store.set(f"at/{rank}", "0")

    # At the start.

    def compare(self, facts: Facts) -> None:
        """Raise ConfigError, on rank 0, unless all ranks were started with the same facts.

        Raises:
            ConfigError: they differ; says of which rank, and in what.
            RankLost: a rank did not come.
        """
        self.store.set(f"facts/{self.rank}", json.dumps(dict(facts)))
        self.meet(None)
        if self.rank:
            return
        for other in range(1, self.size):
            theirs = json.loads(self.store.get(f"facts/{other}"))
            lines = [
                f"{name}: {theirs.get(name, 'nothing')} on rank {other}, and {facts.get(name, 'nothing')} on rank 0"
                for name in sorted({*facts, *theirs})
                if theirs.get(name) != facts.get(name)
            ]
            if lines:
                raise ConfigError(
                    f"rank {other} was not started as rank 0 was. {'; '.join(lines)}. "
                    "Start all ranks with the same command, code and versions."
                )

    # Meetings.

    def meet(self, error: BaseException | None, kinds: Sequence[int] = ()) -> Tensor:
        """Hear of the errors and signals of all ranks; return their `kinds`, a row for each rank.

        Raises:
            BaseException: the error itself, if there is one.
            NanotxError: another rank has an error.
            RankLost: another rank no longer answers.
        """
        self.arrive()
        return self.hear(error, kinds)

    def arrive(self) -> None:
        """Note that this rank has come to a meeting; a rank that has not is named where one is lost."""
        self.number += 1
        self.store.set(f"at/{self.rank}", str(self.number))

    def hear(self, error: BaseException | None, kinds: Sequence[int] = ()) -> Tensor:
        """Hear of all ranks as `meet` does, after this one has arrived."""
        error, self.failure = error or self.failure, None
        if error is not None:
            self.store.set(f"error/{self.rank}", json.dumps(described(error)))
        requests = self.requests
        signal, save = (requests.signal, requests.save_requested) if requests else (0, False)
        status = torch.tensor([error is not None, signal, save, *kinds], dtype=torch.int64)
        gathered = [torch.empty_like(status) for _ in range(self.size)]
        with self.guarded():
            dist.all_gather(gathered, status)
        table = torch.stack(gathered)
        if requests:
            requests.signal = requests.signal or int(table[:, 1].max())
            requests.save_requested = requests.save_requested or bool(table[:, 2].any())
        if failed := table[:, 0].nonzero().flatten().tolist():
            self.agreed = True
            raise error or self.error_of(failed[0])
        return table[:, 3:]

    def error_of(self, rank: int) -> NanotxError:
        """Return the error that another rank has put down."""
        table = json.loads(self.store.get(f"error/{rank}"))
        kind = getattr(errors, table["kind"], RunError)
        return kind(f"rank {rank}: {table['message']}")

    def give_up(self) -> None:
        """Let `check` raise on the other ranks, until all meet."""
        self.store.set(f"given up/{self.number}", "")

    def check(self) -> None:
        """Raise GivenUp where another rank has given up what all are doing; called within longer work."""
        if self.store.check([f"given up/{self.number}"]):
            raise GivenUp

    # Lost ranks.

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Context that turns a failed connection into RankLost, which names the ranks that did not come."""
        try:
            yield
        except RuntimeError as error:
            self.lost = True
            raise self.describe_loss(error) from None

    def describe_loss(self, error: RuntimeError) -> RankLost:
        """Return the error that names the ranks which came to fewer meetings than this one."""
        time.sleep(0.2)  # those that are only a little later come meanwhile
        behind: list[int] = []
        with suppress(RuntimeError):  # the store may have gone too
            numbers = [int(self.store.get(f"at/{rank}")) for rank in range(self.size)]
            behind = [rank for rank, number in enumerate(numbers) if number < self.number]
        hangs = "timed out" in str(error).lower()
        names = f"rank{'s' * (len(behind) > 1)} {', '.join(map(str, behind))}" if behind else "another rank"
        how = f"did not answer within {self.timeout.total_seconds():g} s" if hangs else "closed the connection"
        reporter = min({*range(self.size)} - {*behind}, default=self.rank)
        return RankLost(
            f"{names} {how}, while rank {self.rank} waited; what was saved before is there. See what it printed last, "
            "and continue with --resume.",
            reporter,
        )


def versions() -> Facts:
    """Return the versions of the software that decides bits."""
    return {
        "nanotx": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def described(error: BaseException) -> dict[str, str]:
    """Return an error as the other ranks report it: the name of its class, and its message."""
    if is_memory_full(error):
        return {"kind": "MemoryFull", "message": f"memory is full: {error!s:.300}"}
    if isinstance(error, NanotxError):
        return {"kind": type(error).__name__, "message": str(error)}
    return {"kind": "RunError", "message": f"{type(error).__name__}: {error!s:.2000}"}
