"""Every annotation of nanotx is checked at each call: by beartype, and where it names axes, by jaxtyping too.

jaxtyping's own hook gives every function a scope in which the letters of its axes keep one length, and checks the
arguments twice. Most functions have no tensor: beartype alone checks the same of them, in a tenth of the time.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial, wraps
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

check_types = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))
jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Check what is imported of nanotx from now on."""
    jaxtyping.jaxtyped = lambda typechecker: partial(checked, typechecker=typechecker)
    jaxtyping.install_import_hook("nanotx", "beartype.beartype")


def checked(item: Any, typechecker: Callable[..., Any]) -> Any:
    """Check the arguments and results of a function, and what a dataclass is made of.

    Args:
        item: the function or class that is decorated.
        typechecker: the one that jaxtyping would use.
    """
    if inspect.isclass(item):
        if is_dataclass(item) and "__init__" in vars(item):
            item.__init__ = checked(item.__init__, typechecker)
        return item
    if not any(map(names_axes, item.__annotations__.values())):
        return check_types(item)
    if inspect.isgeneratorfunction(item):
        return jaxtyped(item, typechecker=typechecker)
    return in_scope(check_types(item))


def in_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give each call a scope of its own, in which a letter stands for one length."""

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        with jaxtyped("context"):
            return function(*args, **kwargs)

    return call


def names_axes(annotation: object) -> bool:
    """Return whether an annotation has a shape in it, or is a string, which may have."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(names_axes, get_args(annotation)))
