"""The loops of byte-pair encoding compiled by numba, where it is installed (the extra `fast`) and worth it.

To load a compiler takes longer than to learn from a megabyte; so small work is left to the interpreter, unless
the loops were compiled before in this process. Both ways give the same.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from nanotx.tokenizers import _counting, _pairs, _table

PLACES = 1 << 19  # in a line of pieces: to merge so many is worth a compiler
CHARACTERS = 1 << 24  # to count the parts of so many is, too
TEXT = 1 << 24  # bytes that one tokenizer has encoded: more of them are, too


class Loops(NamedTuple):
    """What was compiled; it wants arrays."""

    merge_all: Callable[..., Any]
    count: Callable[..., Any]
    block_end: Callable[..., Any]
    find: Callable[..., Any]
    move: Callable[..., Any]
    fill: Callable[..., Any]
    gather: Callable[..., Any]


def loops(worth_it: bool) -> Loops | None:
    """The compiled loops, if that is worth it or was done before; None where there is no numba."""
    return _compiled() if worth_it or _compiled.cache_info().currsize else None


@cache
def _compiled() -> Loops | None:
    try:
        from numba import njit
        from numba.extending import register_jitable
    except ImportError:
        return None
    for helper in (*_pairs.HELPERS, *_table.HELPERS):
        register_jitable(helper)
    found = (_pairs.merge_all, _counting.count, _table.block_end, _table.find, _table.move, _table.fill, _table.gather)
    return Loops(*(njit(cache=True)(loop) for loop in found))
