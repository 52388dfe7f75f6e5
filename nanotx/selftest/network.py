"""Two hosts that train together, and the network between them that goes down.

The hosts are two network namespaces of Linux, joined by a pair of virtual interfaces: what one rank sends, the other
receives over this wire and by no other way. Each has a folder of its own, and only that of rank 0 has the run. The
result is compared with that of the undisturbed run of one process, to the bit.

Source: network_namespaces(7), veth(4) and ip-netns(8) of Linux
"""

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nanotx.distributed.ranks import Order
from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Child, Disturbance, Ended
from nanotx.selftest.ranks import KIND, SIZE, as_rank
from nanotx.selftest.tiny_runs import EVERY, arguments, check_same, last_line, lost, write_corpus

STEP = 6
"""The step in which the network goes down: after a checkpoint, and before the next."""

TIMEOUT = 8
"""Seconds that a rank waits for another."""

SPARE = 7
"""Seconds beyond the timeout that a rank may take to end: it saves, and the machine may be busy."""

LOOPBACK = "127.0.1.1"
"""To what Debian's installer makes a machine's own name lead, on that machine."""

PORT = 29_400
CLONE_NEWNET = 0x4000_0000
"""The kind of namespace that setns(2) is to enter."""


class Refused(Exception):
    """This system does not let us make hosts; the message says what it said."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A namespace, and its end of the wire."""

    namespace: str
    device: str
    address: str

    def ip(self, *words: str) -> None:
        """Call `ip` within the namespace."""
        call("ip", "-n", self.namespace, *words)


def cases() -> list[Case]:
    """Return the cases: a wire that holds, and one that goes down while rank 0 waits, and while rank 1 does."""
    disturbances = {
        "two hosts, each with a folder of its own": None,
        f"the network goes down while rank 0 waits for step {STEP} of rank 1": 1,
        f"the network goes down while rank 1 waits for the order of step {STEP}": 0,
    }
    made = [Case(name=f"network/{name}", run=partial(run_case, rank)) for name, rank in disturbances.items()]
    name = "two hosts, of which the first one's name leads to its loopback interface"
    return [*made, Case(name=f"network/{name}", run=partial(run_case, None, first=LOOPBACK))]


def run_case(rank: int | None, folder: Path, first: str = "") -> Finding:
    """Train on two hosts, of which one may take the network down; resume what it ended, and compare every bit.

    Args:
        rank: the host that takes the network down; None for none.
        folder: an empty one.
        first: the address by which the first host knows itself, if not that of the network.
    """
    try:
        with two_hosts() as hosts:
            return trained(hosts, folder, first) if rank is None else cut(hosts, rank, folder)
    except Refused as reason:
        return Finding(happened=f"{reason}", skipped=True)


def trained(hosts: list[Host], folder: Path, first: str) -> Finding:
    """Train, and compare every bit."""
    end(begin(hosts, folder, first=first), "the run")
    check_same(KIND, folder / "0" / "run")
    if left := [path.name for path in (folder / "1").iterdir() if path.name != "text.txt"]:
        raise Broken(f"rank 1 left {', '.join(sorted(left))} in its folder, and rank 0 alone has the run's")
    return Finding(happened="equal to one process; the second host has nothing of the run's folder")


def cut(hosts: list[Host], rank: int, folder: Path) -> Finding:
    """Take the network down in mid-run: both ranks name the other in time, and the resumed run is the same."""
    moment = folder / "down"
    children = begin(hosts, folder, {rank: partial(take_down, hosts[rank], STEP, moment)})
    ended = [child.finish() for child in children]
    for number, other in enumerate(reversed(range(SIZE))):
        if ended[number].code != 4 or f"rank {other}" not in last_lines(ended[number]):
            code, line = ended[number].code, last_line(ended[number])
            raise Broken(f"rank {number} ended with {code}, and did not name rank {other}: {line}")
    if not moment.exists():
        raise Broken("the network was never taken down")
    waited = [
        child.began + end.seconds - float(moment.read_text("ascii")) for child, end in zip(children, ended, strict=True)
    ]
    if max(waited) > TIMEOUT + SPARE:
        raise Broken(f"a rank ended {max(waited):.0f} s after the network, and waits {TIMEOUT} s")
    if (steps := lost(folder / "0" / "run")) > EVERY:
        raise Broken(f"{steps} steps were lost, and the run saves every {EVERY}")
    for host in hosts:
        host.ip("link", "set", host.device, "up")
    end(begin(hosts, folder, {}, "--resume"), "--resume")
    check_same(KIND, folder / "0" / "run")
    return Finding(happened=f"both named the other within {max(waited):.0f} s; equal after --resume", lost=steps)


def begin(
    hosts: list[Host], folder: Path, disturbances: dict[int, Disturbance] | None = None, *more: str, first: str = ""
) -> list[Child]:
    """Start a rank on each host, in a folder of its own, some disturbed; the first may know itself otherwise."""
    children = list[Child]()
    for rank, host in enumerate(hosts):
        own = folder / str(rank)
        if not own.exists():
            own.mkdir()
            write_corpus(own)
        then = (disturbances or {}).get(rank)
        argv = [*arguments(KIND), "--run", "run", "--rank-timeout", str(TIMEOUT), *more]
        address = hosts[0].address if rank else first or hosts[0].address
        children.append(Child(argv, own, disturb=partial(as_host, host, rank, address, then)))
    return children


def end(children: list[Child], what: str) -> None:
    """Wait for all ranks.

    Raises:
        Broken: one failed.
    """
    ended = [child.finish() for child in children]
    if any(child.code for child in ended):
        lines = "; ".join(filter(None, map(last_line, ended)))
        raise Broken(f"{what} on two hosts ended with {[child.code for child in ended]}: {lines}")


def last_lines(ended: Ended) -> str:
    """Return what a child printed about its end."""
    return ended.err[-2000:]


# Hosts.


@contextmanager
def two_hosts() -> Iterator[list[Host]]:
    """Context of two hosts that are joined by a wire.

    Raises:
        Refused: the system does not allow it.
    """
    if shutil.which("ip") is None:
        raise Refused("there is no program `ip` (Debian's package iproute2), which makes network namespaces")
    number = os.getpid() % 10_000_000  # a name of a device has 15 characters at most
    hosts = [
        Host(namespace=f"nanotx{number}{end}", device=f"nx{number}{end}", address=f"192.168.57.{place}")
        for place, end in enumerate("ab", start=1)
    ]
    try:
        for host in hosts:
            call("ip", "netns", "add", host.namespace)
            host.ip("link", "set", "lo", "up")
        first, second = hosts
        peer = ("peer", "name", second.device, "netns", second.namespace)
        call("ip", "link", "add", first.device, "netns", first.namespace, "type", "veth", *peer)
        for host in hosts:
            host.ip("address", "add", f"{host.address}/30", "dev", host.device)
            host.ip("link", "set", host.device, "up")
        yield hosts
    finally:
        for host in hosts:  # a device goes with its namespace
            subprocess.run(["ip", "netns", "delete", host.namespace], capture_output=True, check=False)


def call(*words: str) -> None:
    """Run a program.

    Raises:
        Refused: it failed.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"network namespaces are not permitted here: {' '.join(words)}: {done.stderr.strip():.200}")


# What a child does to itself.


def as_host(host: Host, rank: int, address: str, then: Disturbance | None) -> None:
    """Move this process to a host, and make it one of the ranks."""
    enter(host.namespace)
    as_rank(rank, PORT, None)
    os.environ |= {"MASTER_ADDR": address, "LOCAL_RANK": "0"}
    if then is not None:
        then()


def enter(namespace: str) -> None:
    """Move this process into a network namespace."""
    library = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
    with Path("/run/netns", namespace).open("rb") as file:
        if library.setns(file.fileno(), CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), namespace)


def take_down(host: Host, step: int, moment: Path) -> None:
    """Let this process take its end of the wire down before a step, and note when.

    Rank 0 does so before it orders the step, so that the other waits for the order; another rank in the step.
    """
    from nanotx.distributed.group import Group
    from nanotx.training.trainer import Trainer

    tell, take = Group.order, Trainer.train_step
    steps = 0

    def down() -> None:
        host.ip("link", "set", host.device, "down")
        moment.write_text(f"{time.monotonic()}", encoding="ascii")

    def ordered(ranks: Group, order: Order) -> None:
        nonlocal steps
        if order == "step":
            steps += 1
            if steps == step:
                down()
        tell(ranks, order)

    def late(trainer: Trainer, keep_gradients: bool = False) -> dict[str, Any]:
        if trainer.progress.step == step:
            down()
        return take(trainer, keep_gradients)

    if os.environ["RANK"] == "0":
        Group.order = ordered  # type: ignore[assignment, method-assign]
    else:
        Trainer.train_step = late  # type: ignore[assignment, method-assign]
