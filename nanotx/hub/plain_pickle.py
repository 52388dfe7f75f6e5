"""Read a pickle of dictionaries, strings and whole numbers, and of nothing else; nothing in it is executed.

Python's own reader imports and calls what a pickle names. Here `pickletools` splits the file into its opcodes, and the
few that build plain values are carried out by hand; at any other the file is refused.
"""

import pickletools
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.files import read_regular

MOST = 2**24
"""The most bytes of a file."""

VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
}
"""Opcodes whose argument is a value."""

WITHOUT_EFFECT = {"PROTO", "FRAME"}

MARK = object()


def read_plain_pickle(path: Path) -> dict[Any, Any]:
    """Return the dictionary in a pickle.

    Raises:
        TokenizerError: the file cannot be read, is no pickle, or holds other values than dictionaries, strings and
            whole numbers; says which opcode.
    """
    try:
        value = plain_value(read_regular(path, MOST))
    except OSError as error:
        raise TokenizerError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(f"{path}: no pickle of plain values: {str(error) or type(error).__name__}.") from None
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: expected a dictionary, got {brief(value)}.")
    return value


def plain_value(data: bytes) -> Any:
    """Return the value of a pickle.

    Raises:
        ValueError: it holds another kind of value; IndexError, KeyError, TypeError, AttributeError: it is damaged.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, at in pickletools.genops(data):
        name = opcode.name
        if name in WITHOUT_EFFECT:
            continue
        if name == "STOP":
            return stack[-1]
        if name in VALUES:
            stack.append(argument)
        elif name in ("EMPTY_DICT", "MARK"):
            stack.append({} if name == "EMPTY_DICT" else MARK)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            set_items(stack, name)
        else:
            raise ValueError(f"opcode {name} at byte {at} makes another kind of value, and is not carried out")
    raise ValueError("it has no end")


def set_items(stack: list[Any], opcode: str) -> None:
    """Put the items on top of the stack into a dictionary; a key is a string or a whole number."""
    start = len(stack) - 2 if opcode == "SETITEM" else len(stack) - stack[::-1].index(MARK)
    items = stack[start:]
    del stack[start if opcode == "SETITEM" else start - 1 :]
    if opcode == "DICT":
        stack.append({})
    table = stack[-1]
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):
            raise ValueError(f"a key is {brief(key)}")
        if value is MARK:
            raise ValueError("a mark is no value")
        table.update({key: value})
