"""A card: plain values, written as JSON while they come, and read again."""

from dataclasses import asdict, dataclass, field
from typing import Any

from nanotx.errors import RunError

FORMAT = 1
"""Version of card.json."""


@dataclass(frozen=True, kw_only=True)
class Laws:
    """The laws of one part."""

    part: str  # slot/part
    held: int  # laws that hold
    cases: int  # random cases of all laws
    seed: int  # of the cases
    seconds: float
    broken: tuple[dict[str, str], ...] = ()  # `law`, `how` its smallest case breaks it, and `replay`, lines of Python
    not_asked: dict[str, str] = field(default_factory=dict)  # laws that do not apply, and why


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Whether a part and another one are one function."""

    other: str  # name of the other part
    same: bool
    cases: int  # that were compared
    tolerance: float  # by how much numbers may differ, relative to the largest (or 1)
    largest: float | None = None  # the largest difference, relative to the same; None where nothing could be compared
    why: str = ""  # what differs, where they are not one function


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One pass at one size: both parts, interleaved."""

    size: str
    what: str  # such as "forward"
    ms: float | None = None  # median of the part
    against_ms: float | None = None
    ratio: float | None = None  # median over the rounds of the part's time by the other's
    interval: tuple[float, float] | None = None
    rounds: int = 0
    memory: int | None = None  # bytes at the peak
    against_memory: int | None = None
    why: str = ""  # why nothing was measured


@dataclass(kw_only=True)
class Card:
    """All that was measured of a part."""

    part: str  # slot/part
    against: str  # name of another part of the slot
    config: str  # of the part, as Python writes it
    against_config: str
    recipe: str  # in which both were trained
    flags: list[str] = field(default_factory=list)  # that changed it for both
    key: str = ""  # digest of the question, the sources of its parts and the machine
    files: list[str] = field(default_factory=list)  # of the user, as --load names them
    machine: dict[str, Any] = field(default_factory=dict)
    laws: list[Laws] | None = None  # of the part, then of what came with it; None where not checked yet
    claims: list[Claim] | None = None  # the other part first
    speeds: list[Speed] | None = None
    setting: str = ""  # in which the times were taken, a sentence
    learning: dict[str, Any] | None = None  # the comparison of runs, see `nanotx.experiments.report.to_json`
    swapped: list[str] = field(default_factory=list)  # fields that the swap changed besides the part
    left_out: dict[str, str] = field(default_factory=dict)  # what was not measured, and why

    @property
    def broken(self) -> bool:
        """Return whether a law is broken."""
        return any(laws.broken for laws in self.laws or [])

    @property
    def slot(self) -> str:
        """Return the name of the slot."""
        return self.part.partition("/")[0]

    @property
    def name(self) -> str:
        """Return the name of the part within its slot."""
        return self.part.partition("/")[2]

    def plain(self) -> dict[str, Any]:
        """Return the card as values of JSON."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Card":
        """Return the card that `plain` returned.

        Raises:
            RunError: the values are those of another version, or damaged.
        """
        values = dict(plain)
        if values.pop("format", None) != FORMAT:
            raise RunError(f"card.json: expected format {FORMAT}, got {plain.get('format')!r}; choose another --out.")
        kinds: dict[str, type[Any]] = {"laws": Laws, "claims": Claim, "speeds": Speed}
        try:
            for name, kind in kinds.items():
                if values[name] is not None:
                    values[name] = [kind(**with_tuples(row)) for row in values[name]]
            return cls(**values)
        except (TypeError, KeyError, AttributeError) as error:
            raise RunError(f"card.json: damaged: {error}; choose another --out.") from None


def with_tuples(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with tuples in place of lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
