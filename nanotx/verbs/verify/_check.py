"""A check, and what came of it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nanotx.errors import NanotxError, UnknownPart

Result = Literal["holds", "fails", "not made"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was asked, whether it holds, and why."""

    name: str
    result: Result
    detail: str
    figures: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        table = asdict(self)
        return table.pop("figures") | table


def attempt(name: str, deed: Callable[[], str]) -> Check:
    """A check that holds where a deed succeeds, which tells what it found, and fails by any error.

    Raises:
        UnknownPart: a recipe names a part that has to be supplied by --load FILE.py, so that nothing can be said of it.
    """
    try:
        return Check(name=name, result="holds", detail=deed())
    except UnknownPart:
        raise
    except NanotxError as error:
        return Check(name=name, result="fails", detail=str(error))
