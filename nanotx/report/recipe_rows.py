"""The recipe as rows for the page, and where it differs from the recipe that was named, or from the defaults."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from nanotx.config.registry import Slot
from nanotx.config.schema import fields
from nanotx.config.toml import read_toml
from nanotx.errors import NanotxError
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.resume_check import leaves


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a recipe."""

    table: str  # the table in TOML, such as model.block; empty for fields of the recipe itself
    name: str
    value: str
    default: str | None  # that of the recipe that was named, or of the part; None where it is unknown

    @property
    def differs(self) -> bool:
        """Return whether the value is not the default; what `auto` was resolved to does not count as a difference."""
        resolved = self.default == "auto" or (self.table, self.name) == ("", "threads")
        return self.default not in (None, self.value) and not resolved


def recipe_fields(path: Path, differs: Mapping[str, Any] | None = None) -> tuple[list[Field], str]:
    """Return the fields of a saved recipe, and why their defaults are unknown, or "".

    Args:
        path: of the recipe.
        differs: values of the recipe that was named, in the fields that the run has otherwise, by their dotted names;
            without it, fields are compared with the defaults of their parts.

    A recipe that names a part which is not loaded, or that another version wrote, is shown as it stands in the file.
    """
    try:
        return list(walk(read_saved_recipe(path), "", differs)), ""
    except NanotxError as error:
        reason = str(error)
    try:
        rows = [(key.rpartition("."), value) for key, value in leaves(read_toml(path))]
    except NanotxError as error:
        return [], f"No recipe is shown: {error}"
    plain = [Field(table=table, name=name, value=shown(value), default=None) for (table, _, name), value in rows]
    return plain, f"The recipe is shown as it stands in the file, without defaults: {reason}"


def walk(config: Any, table: str, differs: Mapping[str, Any] | None) -> Iterator[Field]:
    """Yield the fields of a config; those of configs in it come after its own, in tables of their own."""
    default, inner = default_of(type(config)), list[tuple[str, Any]]()
    for name in fields(type(config)):
        value, usual = getattr(config, name), getattr(default, name, None)
        key = f"{table}.{name}" if table else name
        configs = value if isinstance(value, tuple) else (value,)
        if not any(map(is_dataclass, configs)):
            known = None if default is None else shown(usual)
            if differs is not None:
                known = shown(differs.get(key, value))
            yield Field(table=table, name=name, value=shown(value), default=known)
            continue
        keys = [f"{key}.{index}" if value is configs else key for index in range(len(configs))]
        inner += zip(keys, configs, strict=True)
        if any(isinstance(item, Slot) for item in configs):
            known = None if default is None else parts(usual)
            if differs is not None:
                known = ", ".join(named_parts(keys, configs, differs))
            yield Field(table=table, name=name, value=parts(value), default=known)
    for key, item in inner:
        yield from walk(item, key, differs)


def named_parts(keys: Sequence[str], configs: Sequence[Any], differs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the parts that the recipe which was named has at some places."""
    for key, item in zip(keys, configs, strict=True):
        if isinstance(item, Slot):
            yield str(differs.get(f"{key}.part", item.part))


def default_of(kind: type[Any]) -> Any:
    """Return a config with its defaults; None where it has none, or a part of the user's own refuses."""
    try:
        return kind()
    except Exception:
        return None


def parts(value: Any) -> str:
    """Return the name of a part, or those of a pattern of parts."""
    return ", ".join(item.part for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Slot))


def shown(value: Any) -> str:
    """Return a value as TOML writes it, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
