"""A slot is a place where one of many parts fits; it finds its parts by name.

A name is looked up among the parts already registered, then as a module of the slot's package, then as an entry point
in the slot's group. Nothing is imported before it is asked for.
"""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Any, ClassVar, TypeVar

from nanotx.config.other_names import PARTS
from nanotx.errors import ConfigError, NanotxError, UnknownPart, did_you_mean

T = TypeVar("T", bound=type)
LOADED = "nanotx_loaded_"
"""Prefix of the names of modules that --load imports."""


class Slot:
    """Base of every slot. A slot is never built; a part is a subclass of its slot, and is never subclassed.

    A slot is declared as `class Attention(Slot, slot="attention", package="nanotx.nn.attention")`. Each module of the
    package is a part named like the module, except those in `shared`.
    """

    slot: ClassVar[str]
    family: ClassVar[type["Slot"]]
    package: ClassVar[str]
    group: ClassVar[str]  # group of its entry points
    shared: ClassVar[tuple[str, ...]]  # modules of the package that are not parts
    part: ClassVar[str] = ""
    decorator: ClassVar[str] = "@dataclass(frozen=True, kw_only=True)"  # decorator that the class of a part must have
    cost_only: ClassVar[tuple[str, ...]] = ()  # fields that change time or memory, but no output
    part_specific: ClassVar[tuple[str, ...]] = ()  # fields that a part put in place of another does not take over
    registered: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(
        cls, slot: str = "", package: str = "", group: str = "", shared: tuple[str, ...] = ("base",)
    ) -> None:
        super().__init_subclass__()
        if slot:
            cls.slot, cls.family, cls.package, cls.registered = slot, cls, package, {}
            cls.group, cls.shared = group or package, shared
        elif cls.__mro__[1].__dict__.get("part"):
            raise TypeError(f"{cls.__name__}: a part is never subclassed; wrap {cls.__mro__[1].__name__} instead.")

    @classmethod
    def register(cls, name: str) -> Callable[[T], T]:
        """Return the decorator that registers a part under a name, which is also the name of its file."""

        def enter(part: T) -> T:
            known = cls.registered.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (part.__module__, part.__qualname__):
                raise ConfigError(
                    f"{cls.group}: {part.__module__} registers {name!r}, but "
                    f"{known.__module__}.{known.__qualname__} already has that name; choose another."
                )
            if is_foreign(part) and name in cls.shipped():
                raise ConfigError(
                    f"{cls.group}: {file_of(part) or part.__module__} registers {name!r}, the name of a part that "
                    "comes with nanotx; choose another."
                )
            part.part = name  # type: ignore[attr-defined]
            cls.registered[name] = part
            return part

        return enter

    @classmethod
    def names(cls) -> list[str]:
        """Return every name that `find` knows, sorted, without importing any part."""
        plugged = {entry.name for entry in installed_entry_points(tuple(sys.path)).select(group=cls.group)}
        return sorted({*cls.registered, *cls.shipped(), *plugged})

    @classmethod
    def find(cls, name: object) -> type[Any]:
        """Return the part with this name, importing it first if necessary.

        Raises:
            UnknownPart: no part has this name, or the name is not a string.
            ConfigError: its file or entry point cannot be imported.
        """
        if not isinstance(name, str):
            raise UnknownPart(
                f"{cls.group}: expected the name of a part such as {cls.names()[0]!r}, got "
                f"{type(name).__name__} {name!r:.80}. Known: {', '.join(cls.names())}."
            )
        if name not in cls.registered:
            plugged = {entry.name: entry for entry in installed_entry_points(tuple(sys.path)).select(group=cls.group)}
            module = cls.modules().get(name)
            faults = ImportError if module else (ImportError, AttributeError, SyntaxError)
            try:
                if module:
                    importlib.import_module(module)
                elif name in plugged:
                    cls.register(name)(plugged[name].load())
            except faults as error:
                raise ConfigError(f"{cls.group}: {name!r} cannot be imported: {error}.") from error
        if name not in cls.registered:
            raise UnknownPart(
                f"{cls.group}: no part named {name!r}.{cls.suggest(name)} "
                f"Known: {', '.join(cls.names())}. A file of your own is imported by --load FILE.py."
            )
        if is_foreign(cls.registered[name]):
            cls.check(cls.registered[name])
        return cls.registered[name]

    @classmethod
    def check(cls, part: type[Any]) -> None:
        """Raise ConfigError unless a plug-in part can be built without arguments and implements its slot's methods."""
        abstract = getattr(part, "__abstractmethods__", ())
        missing = [field.name for field in fields(part) if is_required(field)] if is_dataclass(part) else []
        mutable = (
            []
            if missing or abstract or not is_dataclass(part)
            else [field for field in fields(part) if has_mutable_default(field)]
        )
        wrong = (
            f"expected a class derived from {cls.family.__name__}"
            if not issubclass(part, cls.family)
            else f"does not implement the required methods {', '.join(sorted(abstract))}"
            if abstract
            else f"expected a dataclass: put {cls.decorator} above the class"
            if "__dataclass_params__" not in vars(part)
            else f"expected a default for every field; {', '.join(missing)} has none"
            if missing
            else f"{mutable[0].name}: expected an immutable default, such as a tuple, got a "
            f"{type(default_value(mutable[0])).__name__}"
            if mutable
            else ""
        )
        if wrong:
            where = f"{cls.slot} {part.part!r} ({file_of(part) or part.__module__})"
            raise ConfigError(f"{where}: {part.__name__}: {wrong}.")

    @classmethod
    def suggest(cls, name: str) -> str:
        """Return the part that was probably meant, as a sentence after a space; empty where there is none."""
        plain = name.lower().replace("-", "_")
        ours = plain if plain in cls.names() else PARTS.get(cls.slot, {}).get(plain, "")
        return f" Did you mean {ours!r}?" if ours in cls.names() else did_you_mean(name, cls.names())

    @classmethod
    def table(cls, name: object) -> dict[str, Any]:
        """Return the config table of a bare name; a slot may interpret the name, for example as a path."""
        return {"part": name}

    @classmethod
    def shipped(cls) -> set[str]:
        """Return the names of the parts that come with nanotx."""
        return set(cls.modules())

    @classmethod
    def modules(cls) -> dict[str, str]:
        """Return the module of each part that comes with nanotx, by the name of the part."""
        folder = importlib.import_module(cls.package).__path__
        names = (module.name for module in pkgutil.iter_modules(folder))
        return {name: f"{cls.package}.{name}" for name in names if name not in cls.shared and not name.startswith("_")}


def is_foreign(part: type[Any]) -> bool:
    """Return whether a part of a slot of nanotx does not come with nanotx."""
    ours = getattr(part, "package", "nanotx").partition(".")[0] == "nanotx"
    return ours and part.__module__.partition(".")[0] != "nanotx"


def file_of(part: type[Any]) -> str:
    """Return the file that defines a part; empty where it is unknown."""
    return str(getattr(sys.modules.get(part.__module__), "__file__", None) or "")


def default_value(field: Any) -> Any:
    """Return the default of a dataclass field."""
    return field.default if field.default is not MISSING else field.default_factory()


def has_mutable_default(field: Any) -> bool:
    """Return whether the default of a dataclass field is mutable, such as a list."""
    return bool(field.init) and type(default_value(field)).__hash__ is None


def is_required(field: Any) -> bool:
    """Return whether a dataclass field has no default."""
    return field.default is MISSING and field.default_factory is MISSING and bool(field.init)


@lru_cache(maxsize=1)
def installed_entry_points(path: tuple[str, ...]) -> Any:
    """Return the entry points of the packages on a search path; cached, because the search is slow."""
    return entry_points()


def default_part(slot: type[Slot], name: str) -> Any:
    """Return a field whose default is this part, which is imported when the default is used."""

    def build() -> Any:
        return slot.find(name)()

    return field(default_factory=build)


@dataclass(frozen=True, kw_only=True)
class LoadedFile:
    """A file of the user that --load has imported."""

    path: Path  # resolved
    content: bytes  # the bytes that were executed; the file may have been edited since
    neighbours: tuple[str, ...] = ()  # names of files in its folder, or below it, that it imported

    @property
    def sha256(self) -> str:
        """The SHA-256 digest of its content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that it registered, such as `norm/peri`."""
        families = Slot.__subclasses__()
        return tuple(
            f"{slot.slot}/{name}"
            for slot in families
            for name, part in slot.registered.items()
            if file_of(part) == str(self.path)
        )


LOADED_FILES: dict[Path, LoadedFile] = {}
"""The files that --load has imported into this process, by their resolved paths."""


class UncachedLoader(SourceFileLoader):
    """Loader of a source file that compiles given bytes, and writes no __pycache__ next to the file."""

    def __init__(self, name: str, path: str, content: bytes) -> None:
        super().__init__(name, path)
        self.content = content

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled content."""
        return self.source_to_code(self.content, self.path)


def load_file(path: str | Path) -> LoadedFile:
    """Import a file of the user, once, so that the parts that it registers can be found.

    Raises:
        ConfigError: the file is missing, is not Python, or raises; the message names the line.
    """
    file = Path(path).resolve()
    name = f"{LOADED}{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return LOADED_FILES[file]
    spec = importlib.util.spec_from_file_location(name, file)
    if file.is_dir():
        raise ConfigError(
            f"--load {path}: expected a Python file such as mine.py, or {file.name}/__init__.py; got a folder."
        )
    if spec is None or spec.loader is None or not file.is_file():
        raise ConfigError(
            f"--load {path}: expected a Python file such as mine.py, and there is no such file. "
            "A run that was trained with it keeps a copy in its folder code."
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"--load {path}: cannot be read: {error.strerror}.") from None
    if isinstance(spec.loader, SourceFileLoader):
        spec.loader = UncachedLoader(name, str(file), content)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], LOADED_FILES[file] = module, LoadedFile(path=file, content=content)
    before = set(sys.modules)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name], LOADED_FILES[file]
        if isinstance(error, ImportError | SyntaxError):
            raise ConfigError(f"--load {path}: cannot be imported: {error}.") from error
        if isinstance(error, Exception | SystemExit) and not isinstance(error, NanotxError):
            lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
            where = f"line {lines[-1]} raises" if lines else "it raises"
            raise ConfigError(f"--load {path}: {where} {type(error).__name__}: {error}; correct the file.") from error
        raise
    LOADED_FILES[file] = LoadedFile(
        path=file, content=content, neighbours=neighbours(file, sys.modules.keys() - before)
    )
    return LOADED_FILES[file]


def neighbours(file: Path, modules: set[str]) -> tuple[str, ...]:
    """Return the names of those modules' files that are in a file's folder or below it, but are not installed."""
    installed = {Path(path) for path in sysconfig.get_paths().values()}
    files = {Path(origin) for name in modules if (origin := getattr(sys.modules[name], "__file__", None))}
    own = {path for path in files if path.is_relative_to(file.parent) and not installed & set(path.parents)}
    return tuple(sorted(path.relative_to(file.parent).as_posix() for path in own))
