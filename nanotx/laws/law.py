"""A law, and a case of it: plain data from which the case can be rebuilt anywhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from hypothesis.strategies import SearchStrategy

from nanotx.config.registry import Slot
from nanotx.config.schema import Table, fields, from_table, to_table

Some = TypeVar("Some", bound="Case")
Check = TypeVar("Check", bound=Callable[..., None])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case: a config, and the numbers, texts and configs of other slots that the law needs."""

    config: Any

    def table(self) -> Table:
        """Return what differs from the defaults, as values of TOML and JSON."""
        table: Table = {"config": changed_fields(self.config)}
        for name, field in type(self).__dataclass_fields__.items():
            value = getattr(self, name)
            if name != "config" and value != field.default:
                table[name] = to_table(value)
        return table

    def fits(self) -> None:
        """Raise ConfigError if the parts do not fit one another; such a case is skipped."""

    @classmethod
    def of(cls: type[Some], part: type[Any], table: Table) -> Some:
        """Return the case that a `table` describes, for a known part.

        Raises:
            ConfigError: there is no such case; the message names the field.
        """
        kinds = {name: kind for name, kind in fields(cls).items() if name in table and name != "config"}
        values = {name: from_table(kind, table[name], name) for name, kind in kinds.items()}
        named = {"part": part.part} if issubclass(part, Slot) else {}
        return cls(
            config=from_table(part.family if named else part, named | table.get("config", {}), "config"), **values
        )


def changed_fields(config: Any) -> Table:
    """Return the fields of a config that differ from their defaults, without the name of its part."""
    default = to_table(type(config)())
    return {name: value for name, value in to_table(config).items() if default.get(name) != value}


@dataclass(frozen=True, kw_only=True)
class Law:
    """A property of every part of a slot for which `fits` is true."""

    name: str
    about: str  # one line: the property
    case: type[Case]  # the kind of its cases
    draw: Callable[..., SearchStrategy[Any]]  # returns random cases of a part, for a device
    check: Callable[[Any], None]  # of one case; raises LawBroken
    fits: Callable[[type[Any]], bool] = lambda part: True
    unless: str = ""  # why it does not apply to the others
    left_out: Callable[[type[Any]], dict[str, str]] = lambda part: {}  # fields that it does not apply to, and why
    on_device: bool = True  # its cases run on the device
    on_request: bool = False  # checked only by name, because it is slow
    most: int | None = None  # at most so many cases, if each is large


class LawBook(dict[str, tuple[Law, ...]]):
    """The laws of some slots, by slot.

    Each is written once, as a check with a decorator::

        @LAWS.law("attention", "block", draw=layer_cases)
        def causal(case: LayerCase) -> None:
            \"\"\"No output depends on a later input, at any scale.\"\"\"
    """

    def law(
        self,
        *slots: str,
        draw: Callable[..., SearchStrategy[Any]],
        name: str = "",
        fits: Callable[[type[Any]], bool] = lambda part: True,
        unless: str = "",
        left_out: Callable[[type[Any]], dict[str, str]] = lambda part: {},
        on_device: bool = True,
        on_request: bool = False,
        most: int | None = None,
    ) -> Callable[[Check], Check]:
        """Register a check as a law of slots, after those registered before.

        The first line of its docstring states the law; the annotation of its argument is the kind of case.

        Args:
            slots: the slots whose parts obey it.
            draw, fits, unless, left_out, on_device, on_request, most: see `Law`.
            name: the law's name; the function's where it is empty.
        """

        def register(check: Check) -> Check:
            law = Law(
                name=name or check.__name__,
                about=first_sentence(check),
                case=get_type_hints(check)["case"],
                draw=draw,
                check=check,
                fits=fits,
                unless=unless,
                left_out=left_out,
                on_device=on_device,
                on_request=on_request,
                most=most,
            )
            for slot in slots:
                self[slot] = (*self.get(slot, ()), law)
            return check

        return register


def first_sentence(check: Callable[..., None]) -> str:
    """Return the first line of a docstring without its period."""
    return (check.__doc__ or "").strip().partition("\n")[0].rstrip(".")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Device and dtype of the cases of a layer."""

    device: str = "cpu"
    dtype: str = "float32"  # of the mathematics; weights stay float32
