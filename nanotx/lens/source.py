"""Find a call in the source: its file, its line, and the whole statement around it."""

import ast
import linecache
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from textwrap import dedent

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A statement of a source file; of a compound one, such as a loop, its head alone."""

    file: str  # relative to the folder that holds nanotx, or as Python knows it
    line: int  # its first line
    code: str  # its text, without the indentation; empty where the source cannot be read


@lru_cache(maxsize=4096)
def statement_at(path: str, line: int) -> Statement:
    """Return the statement around a line of a file."""
    lines = linecache.getlines(path)
    for first, last in reversed(spans(path)):
        if first <= line <= last:
            code = dedent("".join(lines[first - 1 : last])).rstrip()
            return Statement(file=short_path(path), line=first, code=code)
    code = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return Statement(file=short_path(path), line=line, code=code)


@lru_cache(maxsize=256)
def spans(path: str) -> tuple[tuple[int, int], ...]:
    """Return the first and last lines of all statements of a file, outer ones before those inside of them."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ()
    lines = [(node.lineno, last_line(node)) for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return tuple(sorted(lines, key=lambda span: (span[0], -span[1])))


def last_line(node: ast.stmt) -> int:
    """Return the last line of a statement, or of its head where others are inside of it."""
    inner = [child.lineno for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return max(node.lineno, min(inner) - 1) if inner else node.end_lineno or node.lineno


def short_path(path: str) -> str:
    """Return a path of this package relative to the folder around it, and any other one as it is."""
    try:
        return Path(path).relative_to(PACKAGE.parent).as_posix()
    except ValueError:
        return path
