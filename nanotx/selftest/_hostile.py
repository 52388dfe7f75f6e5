"""Values that a file may hold where another was meant."""

import math
import string
from random import Random
from typing import Any

WORDS = [
    "",
    "a",
    ".",
    "..",
    "../../etc/passwd",
    "/dev/zero",
    "char",
    "byte",
    "sdpa",
    "part",
    "auto",
    "nan",
    "-1",
    "1e999",
    "*",
    "[",
    "{}",
    "step-6",
    "x" * 3000,
    "\x00",
    "\x1b[2J",
    "\n",
    "e\u0301\u202e\u0967",
    "\ud800",
]
NUMBERS: list[int | float] = [0, 1, -1, 2, 3, 7, 255, 256, 2**16, 2**24, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63)]
NUMBERS += [10**12, 10**30, 0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e-300, 1e300, math.nan, math.inf, -math.inf]
LETTERS = string.ascii_lowercase + "_"


def value(draw: Random, depth: int = 3) -> Any:
    """Anything that JSON or TOML can hold, and null."""
    kind = draw.randrange(12 if depth else 9)
    if kind < 4:
        return draw.choice(NUMBERS)
    if kind < 7:
        return draw.choice(WORDS)
    if kind == 7:
        return draw.choice([True, False, None])
    if kind == 8:
        return draw.randrange(-1000, 1000)
    items = [value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return items if kind < 11 else {name(draw): item for item in items}


def name(draw: Random) -> str:
    """A short word of letters."""
    return "".join(draw.choices(LETTERS, k=draw.randrange(1, 9)))


def misspelt(word: str, draw: Random) -> str:
    """A word with a letter lost, doubled or exchanged."""
    at = draw.randrange(len(word) + 1)
    return draw.choice([word[:at] + word[at + 1 :], word[:at] + word[at : at + 1] + word[at:], word[:at] + name(draw)])
