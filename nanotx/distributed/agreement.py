"""What ranks have to agree on: that they were started alike, that no other has failed, and when to stop.

Ranks meet once or more in a step, and then hear of each other's errors and signals: so all stop after the same step,
and an error of one is reported once. Where a rank fails between two meetings, in the middle of what all do together, it
puts its error down in the store that all can read, and leaves; the others then lose the connection, and find the error
there. A rank that leaves without a word is lost, and named.
"""

import json
import os
import platform
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import Store  # type: ignore[attr-defined]

from nanotx import __version__, errors
from nanotx.distributed.network import ANSWERS, probed_connections
from nanotx.errors import ConfigError, NanotxError, RankLost, RunError, is_memory_full

Facts = Mapping[str, str]
"""What a process was started with, by name: versions, digests, flags."""


INTERVAL = 0.3
"""Seconds between two looks for an error that another rank has put down."""

ANSWERING = 5 * INTERVAL
"""Seconds that the other ranks have to answer where one of them is lost, and none has come to fewer meetings."""

LEAVING = 10.0
"""Seconds that a rank has to end after it has heard of such an error, and that rank 0 waits for others to hear."""

CONNECTION = re.compile(r"gloo|NCCL|connection (was )?(closed|reset)|broken pipe", re.IGNORECASE)
"""What the message of a failed connection contains; the error is a plain RuntimeError with gloo."""


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
        self.failure: Exception | None = None  # of this rank, which the others have not heard of yet
        self.agreed = False  # whether all ranks know that the last step has failed
        self.number = 0  # of meetings of all ranks up to now
        self.lost = False  # whether this rank can no longer talk to all others
        self.own: NanotxError | None = None  # what this rank has put down
        self.heard: NanotxError | None = None  # what another rank has put down
        self.left = threading.Event()  # set when no error of another rank is looked for any more
        store.set(f"at/{rank}", "0")

    # At the start.

    def compare(self, facts: Facts, run: str = "") -> None:
        """Raise ConfigError, on rank 0, unless all ranks were started with the same facts.

        Args:
            facts: what this process was started with.
            run: the folder of the run that it finds; empty where there is none.

        Raises:
            ConfigError: they differ; says of which rank, and in what. Or another rank finds a run that rank 0, which
                has the folder, would begin anew.
            RankLost: a rank did not come.
        """
        self.store.set(f"facts/{self.rank}", json.dumps(dict(facts)))
        self.store.set(f"run/{self.rank}", run)
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
            if not run and (theirs_run := self.store.get(f"run/{other}").decode()):
                raise ConfigError(
                    f"--run {theirs_run}: rank {other} finds a run there, and rank 0, which has the run's folder, does "
                    "not. Start the ranks so that rank 0 is on the machine of the run, such as by torchrun --node-rank "
                    "0 there, or put the folder where rank 0 finds it."
                )

    # Meetings.

    def meet(self, error: BaseException | None, kinds: Sequence[int] = ()) -> list[list[int]]:
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
        with self.together():
            self.store.set(f"at/{self.rank}", str(self.number))

    def hear(self, error: BaseException | None, kinds: Sequence[int] = ()) -> list[list[int]]:
        """Hear of all ranks as `meet` does, after this one has arrived."""
        error, self.failure = error or self.failure, None
        if error is not None:
            self.store.set(f"error/{self.rank}", json.dumps(described(error)))
        requests = self.requests
        signal, save = (requests.signal, requests.save_requested) if requests else (0, False)
        status = torch.tensor([error is not None, signal, save, *kinds], dtype=torch.int64)
        gathered = [torch.empty_like(status) for _ in range(self.size)]
        with self.together():
            dist.all_gather(gathered, status)
        table = torch.stack(gathered)
        if requests:
            requests.signal = requests.signal or int(table[:, 1].max())
            requests.save_requested = requests.save_requested or bool(table[:, 2].any())
        if failed := table[:, 0].nonzero().flatten().tolist():
            self.agreed = True
            raise error or self.error_of(failed[0])
        return [row[3:] for row in table.tolist()]

    def error_of(self, rank: int) -> NanotxError:
        """Return the error with which another rank has come to a meeting."""
        return read_error(rank, json.loads(self.store.get(f"error/{rank}")))

    def give_up(self) -> None:
        """Let `check` raise on the other ranks, until all meet."""
        self.store.set(f"given up/{self.number}", "")

    def check(self) -> None:
        """Raise GivenUp where another rank has given up what all are doing; called within longer work."""
        with self.together():
            given_up = self.heard or self.store.check([f"given up/{self.number}"])
        if given_up:
            raise GivenUp

    # Between meetings.

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context of what all ranks do together, of which none can leave one out: an error in it ends all ranks.

        Raises:
            BaseException: what was raised within; the others hear of it.
            NanotxError: what another rank has put down; begins with its number.
            RankLost: the connection failed, and no rank has put an error down; names the ranks that did not come.
        """
        try:
            yield
        except Exception as error:
            if (explained := self.explain(error)) is error:
                raise
            raise explained from None

    def explain(self, error: Exception) -> Exception:
        """Return what to raise for an error in what all do together; if it is this rank's, put it down."""
        if isinstance(error, RankLost):
            return error
        if is_connection_error(error):
            self.lost = True
            if not self.heard:
                with suppress(RuntimeError):  # the store may have gone too
                    self.look(self.store)
            return self.heard or self.describe_loss(error)
        if not (self.agreed or self.lost):
            self.put_down(error)
        return error

    def put_down(self, error: BaseException) -> None:
        """Put an error down for the other ranks, unless there is one; this rank talks to them no more."""
        self.lost, self.own = True, read_error(self.rank, described(error))
        with suppress(RuntimeError):  # the store has gone, and so has rank 0
            self.store.compare_set("failed", "", json.dumps([self.rank, described(error)]))
            self.store.set(f"heard/{self.rank}", "")

    @property
    def exit_code(self) -> int:
        """Return the exit code of a rank that leaves for what a rank has put down."""
        return (self.heard or self.own or RunError()).exit_code

    def look(self, store: Store) -> bool:
        """Look for what a rank has put down, and note that this one has heard it; return whether there is any."""
        if not store.check(["failed"]):
            return False
        rank, table = json.loads(store.get("failed"))
        if rank != self.rank:
            self.heard = read_error(rank, table)
        store.set(f"heard/{self.rank}", "")
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Context in which a thread looks for what other ranks put down, also while this one computes or waits.

        It also answers where another rank asks who is there, to find out which one is lost.

        A rank besides rank 0 that has heard of an error and does not leave, since it waits for a rank that does not
        leave either, is ended.

        Raises:
            RankLost: rank 0, whose process may hold the store, has gone.
        """
        left = self.left
        with self.together(), probed_connections(ANSWERS * self.timeout.total_seconds()):
            store: Store = self.store.clone()  # type: ignore[attr-defined]  # a connection of its own

        def watch() -> None:
            with suppress(RuntimeError):  # the store has gone: so has rank 0, and the connection to it
                while not self.look(store):
                    if store.check(["who is there"]):
                        store.set(f"here/{self.rank}", "")
                    if left.wait(INTERVAL):
                        return
                if self.rank and not left.wait(LEAVING):
                    os._exit(self.exit_code)  # another one reports the error

        watcher = threading.Thread(target=watch, name="errors of other ranks", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            if self.rank == 0 and self.lost:
                self.wait_until_heard()
            left.set()
            watcher.join(LEAVING if self.lost else None)  # it may wait for a machine that is cut off

    def wait_until_heard(self) -> None:
        """Let the other ranks hear what was put down, for the store may end with rank 0."""
        end, others = time.monotonic() + LEAVING, [f"heard/{rank}" for rank in range(1, self.size)]
        with suppress(RuntimeError):
            while self.store.check(["failed"]) and not self.store.check(others) and time.monotonic() < end:
                time.sleep(INTERVAL / 10)

    # Lost ranks.

    def describe_loss(self, error: Exception) -> RankLost:
        """Return the error that names the ranks which came to fewer meetings than this one, or else do not answer."""
        time.sleep(0.2)  # those that are only a little later come meanwhile
        others = [rank for rank in range(self.size) if rank != self.rank]
        behind, where = others if self.size == 2 else list[int](), ""
        try:
            numbers = [int(self.store.get(f"at/{rank}")) for rank in range(self.size)]
            behind = [rank for rank, number in enumerate(numbers) if number < self.number] or behind
            behind = behind or self.silent(others)
        except RuntimeError:  # rank 0's machine holds the store
            if self.rank:
                behind, where = [0], ", or the network to its machine,"
        text = str(error).lower()
        hangs = any(sign in text for sign in ("timed out", "no route", "unreachable"))
        names = f"rank{'s' * (len(behind) > 1)} {', '.join(map(str, behind))}{where}" if behind else "another rank"
        how = f"did not answer within {self.timeout.total_seconds():g} s" if hangs else "closed the connection"
        cut_off = bool(where) and hangs  # from rank 0, and perhaps from all others
        reporter = self.rank if cut_off else min({*range(self.size)} - {*behind}, default=self.rank)
        return RankLost(
            f"{names} {how}, while rank {self.rank} waited; what was saved before is there. See what it printed last, "
            "and continue with --resume.",
            reporter,
        )

    def silent(self, ranks: Sequence[int]) -> list[int]:
        """Return those of some ranks whose processes do not answer: they ended, or hang, between two meetings."""
        self.store.set(f"here/{self.rank}", "")
        self.store.set("who is there", "")
        end = time.monotonic() + ANSWERING
        while silent := [rank for rank in ranks if not self.store.check([f"here/{rank}"])]:
            if time.monotonic() > end:
                break
            time.sleep(INTERVAL / 10)
        return silent


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


def read_error(rank: int, table: dict[str, str]) -> NanotxError:
    """Return the error of another rank from what `described` made of it."""
    kind: type[NanotxError] = getattr(errors, table["kind"], RunError)
    return kind(f"rank {rank}: {table['message']}")


def is_connection_error(error: Exception) -> bool:
    """Return whether an error says that the connection to another rank failed."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and bool(CONNECTION.search(str(error)))
    )
