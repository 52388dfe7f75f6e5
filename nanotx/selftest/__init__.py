"""The promises of a run, put to the proof on the machine at hand: `nanotx selftest`.

Each file gives cases of one kind; a case does harm in an empty folder of its own, and looks at what is left.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanotx.errors import NanotxError


class Broken(NanotxError, AssertionError):
    """A promise that was not kept; the message says what was found instead."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What happened in a case whose promise was kept."""

    happened: str
    lost: int | None = None  # steps of work that had to be done again; None where none could be lost


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to do harm."""

    name: str  # kind/what; with the seed it says all that is needed to do it again
    run: Callable[[Path], Finding]  # in an empty folder; raises Broken
