"""Read dataclasses and slots from their source, without importing them.

Shell completion needs the names of flags and parts in a tenth of a second; an import takes PyTorch, and seconds.
"""

import ast
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec


@dataclass(frozen=True, kw_only=True)
class SourceClass:
    """A class as its source has it."""

    module: str  # dotted name of the module that defines it
    node: ast.ClassDef

    @property
    def is_dataclass(self) -> bool:
        """Whether `@dataclass` is above it."""
        names = [ast.unparse(decorator).partition("(")[0] for decorator in self.node.decorator_list]
        return any(name.rpartition(".")[2] == "dataclass" for name in names)

    @property
    def keywords(self) -> dict[str, ast.expr]:
        """The keyword arguments of the class: those of a slot are its declaration."""
        return {keyword.arg: keyword.value for keyword in self.node.keywords if keyword.arg}

    @property
    def slot(self) -> str:
        """The slot that it declares; empty if it declares none."""
        return constant(self.keywords.get("slot"))

    @property
    def bases(self) -> Iterator["SourceClass"]:
        """The classes that it derives from, of those whose source is found."""
        classes = (find_class(self.module, ast.unparse(base)) for base in self.node.bases)
        return (base for base in classes if base is not None)


@dataclass(frozen=True, kw_only=True)
class SourceField:
    """A field of a dataclass as its source has it."""

    name: str
    words: tuple[str, ...] = ()  # values that the type spells out
    is_bool: bool = False
    metavar: str = ""  # name of the value, where `option`, `argument` or `repeated` gives one
    is_argument: bool = False
    configs: tuple[SourceClass, ...] = ()  # dataclasses and slots in its type, whose fields are flags of their own
    is_tuple: bool = False


def find_spec(module: str) -> ModuleSpec | None:
    """Return the spec of a module without importing it or a package around it; None where there is no such module."""
    path: Sequence[str] | None = None
    spec = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


@cache
def cached_module(module: str) -> ast.Module:
    """Return the syntax tree of a module of nanotx, which does not change while the process runs."""
    return parse_module(module)


def parse_module(module: str) -> ast.Module:
    """Return the syntax tree of a module; empty where it has no source, or none that can be read."""
    try:
        spec = find_spec(module)
        source = spec.loader.get_source(module) if spec and spec.loader else None  # type: ignore[attr-defined]
        return ast.parse(source or "")
    except (AttributeError, ImportError, OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def constant(node: ast.expr | None) -> str:
    """Return the value of a string literal; empty for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@cache
def find_class(module: str, name: str) -> SourceClass | None:
    """Return the class that a name means in a module, following imports; None if it is no class, or not to be found."""
    for node in cached_module(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return SourceClass(module=module, node=node)
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module.startswith("nanotx"):
                    return find_class(node.module, alias.name)
    return None


@cache
def source_fields(kind: SourceClass) -> dict[str, SourceField]:
    """Return the fields of a dataclass by name, those of the dataclasses that it derives from first."""
    fields: dict[str, SourceField] = {}
    for base in kind.bases:
        fields |= source_fields(base)
    if kind.is_dataclass:
        for node in kind.node.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if not ast.unparse(node.annotation).startswith("ClassVar"):
                fields[node.target.id] = source_field(kind.module, node, node.target.id)
    return fields


def source_field(module: str, node: ast.AnnAssign, name: str) -> SourceField:
    """Return the field that an assignment with an annotation is."""
    names = [inner.id for inner in ast.walk(node.annotation) if isinstance(inner, ast.Name)]
    classes = [target for name in names if (target := find_class(module, name)) is not None]
    call = node.value if isinstance(node.value, ast.Call) else None
    function = ast.unparse(call.func) if call else ""
    metavar = constant(call.args[0]) if call and call.args and function in ("option", "argument", "repeated") else ""
    return SourceField(
        name=name,
        words=tuple(literals(node.annotation)),
        is_bool=names == ["bool"],
        metavar=metavar,
        is_argument=function == "argument",
        configs=tuple(kind for kind in classes if kind.slot or kind.is_dataclass),
        is_tuple="tuple" in names,
    )


def literals(annotation: ast.expr) -> Iterator[str]:
    """Yield the words that a type accepts: those of its literals, and of its booleans."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
            values = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            yield from (str(value.value) for value in values if isinstance(value, ast.Constant))
        elif isinstance(node, ast.Name) and node.id == "bool":
            yield from ("true", "false")


@cache
def source_parts(slot: SourceClass) -> dict[str, str]:
    """Return the module of each part of a slot that comes with nanotx, by the name of the part."""
    package = constant(slot.keywords.get("package"))
    shared = slot.keywords.get("shared")
    left_out = {constant(name) for name in shared.elts} if isinstance(shared, ast.Tuple) else {"base"}
    spec = find_spec(package)
    names = [module.name for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else None)]
    return {name: f"{package}.{name}" for name in names if name not in left_out and not name.startswith("_")}


def part_class(module: str, name: str, deeper: bool = True) -> SourceClass | None:
    """Return the class that a module, or one that a package imports from, registers as a part under a name."""
    imported = []
    for node in cached_module(module).body:
        if isinstance(node, ast.ClassDef):
            calls = [call for call in node.decorator_list if isinstance(call, ast.Call) and call.args]
            registers = [call for call in calls if ast.unparse(call.func).endswith(".register")]
            if name in [constant(call.args[0]) for call in registers]:
                return SourceClass(module=module, node=node)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{module}."):
            imported.append(str(node.module))
    candidates = (part_class(inner, name, deeper=False) for inner in imported if deeper)
    return next((kind for kind in candidates if kind is not None), None)
