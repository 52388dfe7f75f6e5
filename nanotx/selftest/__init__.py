"""The promises of a run, tested on the machine at hand: `nanotx selftest`.

A module per kind of case: `saves` (the disk fails at each operation), `kills`, `ranks` (one of two processes is killed
or delayed), `network` (that between two hosts goes down), `faults` (signals, terminals, clocks) and `damage` (files
changed afterwards). A case does harm to a tiny run in an empty folder, resumes it, and compares every bit with the run
that nothing disturbed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanotx.errors import NanotxError


class Broken(NanotxError, AssertionError):
    """A broken promise; the message says what happened instead."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a case whose promise was kept."""

    happened: str
    lost: int | None = None  # steps of work that had to be repeated; None where none could be lost
    skipped: bool = False  # this system does not allow the case; `happened` says why


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to do harm."""

    name: str  # kind/what; with the seed, all that is needed to repeat it
    run: Callable[[Path], Finding]  # in an empty folder; raises Broken
