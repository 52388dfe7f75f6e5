"""A law, and a case of it: plain data from which the case can be built again anywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis.strategies import SearchStrategy

from nanotx.config.registry import Slot
from nanotx.config.schema import Table, fields, from_table, to_table

Some = TypeVar("Some", bound="Case")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: a config, and beside it numbers, texts and configs of other slots, as the law needs them."""

    config: Any

    def table(self) -> Table:
        """What differs from the defaults, as values that TOML and JSON can hold."""
        table: Table = {"config": changed_fields(self.config)}
        for name, field in type(self).__dataclass_fields__.items():
            value = getattr(self, name)
            if name != "config" and value != field.default:
                table[name] = to_table(value)
        return table

    def fits(self) -> None:
        """Raise ConfigError where the parts do not fit one another; such a case is left out."""

    @classmethod
    def of(cls: type[Some], part: type[Any], table: Table) -> Some:
        """The inverse of `table`, where the config's part is known.

        Raises:
            ConfigError: no such case can be; says where.
        """
        kinds = {name: kind for name, kind in fields(cls).items() if name in table and name != "config"}
        values = {name: from_table(kind, table[name], name) for name, kind in kinds.items()}
        named = {"part": part.part} if issubclass(part, Slot) else {}
        return cls(
            config=from_table(part.family if named else part, named | table.get("config", {}), "config"), **values
        )


def changed_fields(config: Any) -> Table:
    """Which fields of a config are not as they are by default; its part's name left out."""
    usual = to_table(type(config)())
    return {name: value for name, value in to_table(config).items() if usual.get(name) != value}


@dataclass(frozen=True, kw_only=True)
class Law:
    """A property that every part of a slot has, or every one of which `fits` is true."""

    name: str
    about: str  # one line: what holds
    case: type[Case]  # what it is shown on
    draw: Callable[..., SearchStrategy[Any]]  # random cases: of a part, and where it runs
    check: Callable[[Any], None]  # of one case; raises LawBroken
    fits: Callable[[type[Any]], bool] = lambda part: True
    unless: str = ""  # why it is not asked of the others
    left_out: Callable[[type[Any]], dict[str, str]] = lambda part: {}  # fields that it is not asked of, and why
    on_device: bool = True  # whether the device matters to it
    on_request: bool = False  # whether it is asked only by name, because it is slow
    most: int | None = None  # cases at most, where each of them is large and covers much


def first_sentence(check: Callable[[Any], None]) -> str:
    """What a law says: the first line of its check's docstring, as a phrase."""
    line = (check.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


@dataclass(frozen=True, kw_only=True)
class Where:
    """On what a layer is tried."""

    device: str = "cpu"
    dtype: str = "float32"  # of the mathematics; weights stay float32
