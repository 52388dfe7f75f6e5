"""Forks of this process that train together, for the tests of several ranks."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from helpers import fork

from nanotx.distributed.agreement import Agreement
from nanotx.distributed.group import Group

Action = Callable[[Group], object]


def together(folder: Path, size: int, action: Action, timeout: float = 60.0) -> list[object]:
    """What an action returns on each rank, as JSON holds it; the text of what it raised where it failed."""

    def child(rank: int) -> None:
        store = dist.FileStore(str(folder / "store"), size)
        wait = timedelta(seconds=timeout)
        dist.init_process_group("gloo", store=dist.PrefixStore("g", store), rank=rank, world_size=size, timeout=wait)
        group = Group(Agreement(rank, size, dist.PrefixStore("n", store), wait))
        with group.agreement.watched():
            try:
                result = action(group)
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
        (folder / f"rank-{rank}.json").write_text(json.dumps(result), encoding="utf-8")

    folder.mkdir(parents=True)
    forked(folder, size, child)
    return [
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else None for path in result_files(folder, size)
    ]


def result_files(folder: Path, size: int) -> list[Path]:
    return [folder / f"rank-{rank}.json" for rank in range(size)]


def forked(folder: Path, size: int, child: Callable[[int], object], limit: float = 100.0) -> list[int]:
    """The exit codes of forks that each do something with their rank; all have ended then. A kill is negative."""
    children = [
        fork(lambda rank=rank: child(rank), folder / f"{rank}.out", folder / f"{rank}.err") for rank in range(size)
    ]
    codes: dict[int, int] = {}
    end = time.monotonic() + limit
    try:
        while len(codes) < size and time.monotonic() < end:
            for pid in children:
                if pid not in codes and (status := os.waitpid(pid, os.WNOHANG))[0]:
                    codes[pid] = os.waitstatus_to_exitcode(status[1])
            time.sleep(0.01)
    finally:
        for pid in set(children) - codes.keys():
            os.kill(pid, signal.SIGKILL)
            codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [codes[pid] for pid in children]


def free_port() -> int:
    """A port that no program uses at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def launched(rank: int, size: int, port: int) -> None:
    """Make this process look as if torchrun had started it."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
