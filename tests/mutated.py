"""A bug planted for the time of a test: one line of a function's source, replaced."""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, reduce
from importlib import import_module
from typing import Any


def function(place: str) -> Any:
    """The function at `module:Class.method`, under whatever decorates it."""
    module, _, path = place.partition(":")
    return plain(reduce(getattr, path.split("."), import_module(module)))


def plain(actual: Any) -> Any:
    """A function without what decorates it; of a property, the one that gives its value."""
    if isinstance(actual, property):
        actual = actual.fget
    elif isinstance(actual, cached_property):
        actual = actual.func
    return inspect.unwrap(actual)


@contextmanager
def mutated(place: str, old: str, new: str) -> Iterator[None]:
    """Within, the function at `module:Class.method` holds `new` where its source says `old`, which it does once.

    Its code is replaced and not its name, so whoever has imported it runs the bug too.
    """
    target = function(place)
    source = textwrap.dedent(inspect.getsource(target))
    assert source.count(old) == 1, f"{place}: {old!r} stands there {source.count(old)} times; expected once"
    right, names = target.__code__, dict(target.__globals__)
    around = f"def around({', '.join(right.co_freevars)}):\n{{}}\n    return {target.__name__}"  # for super()
    source = around.format(textwrap.indent(source.replace(old, new), "    "))
    exec(compile(source, right.co_filename, "exec"), names)
    target.__code__ = plain(names["around"](*right.co_freevars)).__code__
    try:
        yield
    finally:
        target.__code__ = right
