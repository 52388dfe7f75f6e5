"""Join the processes that a launcher has started: `torchrun`, or `nanotx train --ranks`.

The launcher gives each process its number in environment variables, as `torch.distributed` documents them. Before
anything is trained, all ranks compare what they were started with, so that none trains another recipe, or with other
code, than the others.
"""

import atexit
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from nanotx.distributed.agreement import Agreement, Facts, versions
from nanotx.distributed.group import PATIENCE, Group
from nanotx.distributed.network import ANSWERS, interface_to, own_address_to, probed_connections
from nanotx.distributed.ranks import Alone, Ranks
from nanotx.errors import ConfigError, NanotxError, RunError

INTERFACE = "GLOO_SOCKET_IFNAME"
"""The environment variable by which gloo is told its network interface."""

INTERVAL = 0.02
"""Seconds between two looks of rank 0 for processes that have come."""


def world_size() -> int:
    """Return how many processes a launcher has started together; 1 without a launcher.

    Raises:
        ConfigError: an environment variable is missing or no number.
    """
    return max(1, variable("WORLD_SIZE", "1"))


def variable(name: str, default: str | None = None) -> int:
    """Return the number that an environment variable of the launcher holds.

    Raises:
        ConfigError: it is missing, or no number.
    """
    text = os.environ.get(name) or default
    if text is None or not text.isdecimal():
        raise ConfigError(
            f"{name}={text or ''}: expected a number, as torchrun sets it where WORLD_SIZE is above 1; start the "
            "processes by torchrun or by --ranks, or unset WORLD_SIZE."
        )
    return int(text)


def is_leading() -> bool:
    """Return whether this process has the run's folder: rank 0, or a process without a launcher."""
    return world_size() == 1 or variable("RANK") == 0


@contextmanager
def joined(facts: Facts, timeout: float, run: str = "") -> Iterator[Ranks]:
    """Context in which this process is one of those that train together; `Alone` without a launcher.

    At its end rank 0 orders the others to end too, with its exit code. Where it has failed, the connections stay open
    until its process ends, by which the others know that it has reported its error.

    Args:
        facts: what this process was started with; the same on all ranks.
        timeout: seconds that a rank may take longer than another for its part of a step.
        run: the folder of the run that this process finds on its machine; empty where there is none.

    Raises:
        ConfigError: the ranks were started with different things, or another rank finds a run that rank 0 does not;
            shows them. Raised by rank 0.
        RunError: not all ranks came.
    """
    if not 0 < timeout <= PATIENCE.total_seconds():
        raise ConfigError(f"--rank-timeout: expected seconds above 0 and up to 30 days, got {timeout:g}.")
    if world_size() == 1:
        yield Alone()
        return
    ranks = connect(variable("RANK"), world_size(), timedelta(seconds=timeout))
    atexit.register(abandon)  # before a user's logger registers, so that it is called after that one's
    with ranks.agreement.watched():
        try:
            ranks.agreement.compare({**versions(), **facts}, run)
            yield ranks
        except BaseException as error:
            ranks.exit_code = exit_code_of(error)
            raise
        finally:
            with suppress(NanotxError):  # whatever ends this process is reported already
                ranks.order("end")
            if ranks.lost:
                abandon()
            elif not ranks.exit_code:
                dist.destroy_process_group()


def exit_code_of(error: BaseException) -> int:
    """Return the code with which the command line leaves after an error."""
    code = getattr(error, "code" if isinstance(error, SystemExit) else "exit_code", 1)
    return code if isinstance(code, int) else 0 if code is None else 1


def connect(rank: int, size: int, timeout: timedelta) -> Group:
    """Connect to the other processes.

    Raises:
        RunError: they cannot be reached, or did not all come in time.
    """
    address, port = os.environ.get("MASTER_ADDR", ""), variable("MASTER_PORT")
    where = f"{address}:{port}"
    if torch.cuda.is_available() and variable("LOCAL_RANK", "0") < torch.cuda.device_count():
        torch.cuda.set_device(variable("LOCAL_RANK", "0"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with probed_connections(ANSWERS * timeout.total_seconds()):
            store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=timeout)))
            store, other = shared_store(store, rank, size, timeout, own_address_to(address, port))
            choose_interface(address, port)
            choose_interface(other, port)  # this machine may know rank 0, which it has, by its loopback interface
            group = PrefixStore("group", store)
            dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=timeout)
            return Group(Agreement(rank, size, PrefixStore("nanotx", store), timeout))
    except (RuntimeError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        hint = (
            "another program uses this port: torchrun takes another one by --master-port, or by --standalone"
            if "EADDRINUSE" in str(error) or "in use" in str(error)
            else "start all of them, with the same --nnodes, --nproc-per-node and address"
        )
        raise RunError(f"rank {rank} of {size} cannot join the others at {where}: {reason:.300}; {hint}.") from None


def shared_store(store: Store, rank: int, size: int, timeout: timedelta, address: str) -> tuple[Store, str]:
    """Return a store for the processes of this start alone, and an address of another machine than rank 0's.

    All of them call this.

    A launcher that starts processes again may give them the same store, which holds what those before them have said.
    `torchrun` does, and its count of restarts does not tell them apart: each agent has its own, one that joins later
    begins at 0, and a restart for a change of membership is not counted. So rank 0 names the start, and tells each
    process that says hello, until one of each rank has come.

    Args:
        store: that of the launcher, with the same keys for all processes.
        rank: of this process.
        size: how many there are.
        timeout: how long to wait for the others.
        address: of this machine, on the way to rank 0's; empty on that machine itself, unless it has a name that leads
            to the network.

    Returns:
        The store; the address is empty where all are on one machine.

    Raises:
        RuntimeError: not all came in time; rank 0 names those that did not.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"hello/{rank}", own)
        name = store.get(f"welcome/{own}").decode()  # waits
        store.set(f"came/{name}/{rank}", address)
        return PrefixStore(name, store), store.get(f"other/{name}").decode()
    end, awaited, welcomed = time.monotonic() + timeout.total_seconds(), [*range(1, size)], set[str]()
    while awaited := [other for other in awaited if not store.check([f"came/{own}/{other}"])]:
        for other in awaited:
            if store.check([f"hello/{other}"]) and (theirs := store.get(f"hello/{other}").decode()) not in welcomed:
                welcomed.add(theirs)
                store.set(f"welcome/{theirs}", own)
        if time.monotonic() > end:
            names = f"rank{'s' * (len(awaited) > 1)} {', '.join(map(str, awaited))}"
            raise RuntimeError(f"{names} did not come within {timeout.total_seconds():g} s")
        time.sleep(INTERVAL)
    addresses = [store.get(f"came/{own}/{other}").decode() for other in range(1, size)]
    other = next(filter(None, addresses), "")
    store.set(f"other/{own}", other)
    return PrefixStore(own, store), other


def choose_interface(address: str, port: int) -> None:
    """Let gloo listen where the other ranks can reach it, unless the environment says where.

    Args:
        address: of another machine, or of this one's network; empty for none.
        port: any.
    """
    if INTERFACE not in os.environ and address and (name := interface_to(address, port)):
        os.environ[INTERFACE] = name


def abandon() -> None:
    """Leave the process group, if there is one, without the others, who may be gone."""
    if dist.is_initialized():
        with suppress(RuntimeError):
            dist.destroy_process_group()
