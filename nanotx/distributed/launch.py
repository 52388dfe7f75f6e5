"""Start several processes on this machine, by PyTorch's own launcher, which `torchrun` is too."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

from nanotx.errors import RunError

SAVING = 120
"""Seconds that a run has to save after a signal, before its processes are killed."""


def launch(command: Sequence[str], ranks: int, threads: int) -> int:
    """Run a command in several processes, which join each other; return the exit code.

    Args:
        command: of one process; the first word is the program.
        ranks: the number of processes.
        threads: of each, unless OMP_NUM_THREADS is set.

    Raises:
        RunError: a process was ended by a signal, so that it could not report an error itself.
    """
    # PyTorch's launcher takes a second to import, and a run in one process needs none of it.
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # ranks report their errors themselves
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id="nanotx",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=int(os.environ.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SAVING)),
    )
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        if reported := [code for code in codes.values() if code > 0]:
            return reported[0]
        rank, code = min(codes.items())
        name = signal.Signals(-code).name
        raise RunError(
            f"rank {rank} was ended by {name}; what was saved before is there. Continue with --resume."
        ) from None
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def own_command() -> list[str]:
    """Return the command that started this process."""
    return [sys.executable, *sys.orig_argv[1:]]
