"""Damage to files as disks, editors and attackers do it, drawn at random: to bytes, JSON, tensors and lines."""

import json
import math
import string
from random import Random
from typing import Any

DEEP = "\uf8ff deep"
"""Stands where brackets will stand, more than any writer of JSON would nest."""
TYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I32", "U8", "BOOL", "C64", "F99"]
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


def of_bytes(data: bytes, draw: Random) -> bytes:
    """Some bytes are turned, lost, blank, new, or those of another place."""
    at, size = draw.randrange(len(data) + 1), draw.choice([1, 1, 2, 8, 64, 4096])
    other = draw.randrange(len(data) + 1)
    some = data[other : other + size]
    kind = draw.randrange(8)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
    if kind == 2:
        return data[:at] + draw.randbytes(size) + data[at + size :]
    if kind == 3:
        return data[:at] + data[at + size :]
    if kind == 4:
        return data[:at] + some + data[at:]
    if kind == 5:
        return data[:at] + some + data[at + len(some) :]
    if kind == 6:
        return draw.choice([b"", data + data, draw.randbytes(size), b"\xef\xbb\xbf" + data, data[::-1]])
    turned = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 16])):
        if turned:
            turned[draw.randrange(len(turned))] ^= 1 << draw.randrange(8)
    return bytes(turned)


def of_json(data: bytes, draw: Random) -> bytes:
    """What it says is changed in some places, and it is written as JSON again; bytes where it is none."""
    try:
        table = json.loads(data)
    except ValueError:
        return of_bytes(data, draw)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        table = of_table(table, draw)
    return as_json(table, draw)


def as_json(table: Any, draw: Random) -> bytes:
    """JSON as Python writes it, what is not finite too, and what is marked as deep."""
    depth = draw.choice([10, 300, 500, 700, 900, 960, 990, 1100, 100_000])
    return json.dumps(table).replace(json.dumps(DEEP), "[" * depth + "]" * depth).encode("ascii")


def of_table(table: Any, draw: Random) -> Any:
    """A value in it is another, is gone, stands under another name, or twice."""
    places = list(walk(table))
    if not places or draw.random() < 0.02:
        return draw.choice([value(draw), DEEP])
    inside, key = draw.choice(places)
    kind = draw.randrange(7)
    if kind < 3:
        inside[key] = draw.choice([value(draw), value(draw), value(draw), DEEP])
    elif kind == 3:
        del inside[key]
    elif kind == 4:
        other, its = draw.choice(places)
        inside[key] = json.loads(json.dumps(other[its]))
    elif kind == 5 and isinstance(inside, dict):
        inside[draw.choice([name(draw), misspelt(key, draw)])] = draw.choice([inside[key], inside.pop(key)])
    else:
        inside[key] = near(inside[key], draw)
    return table


def near(item: Any, draw: Random) -> Any:
    """A value not far from another."""
    if isinstance(item, bool) or item is None:
        return not item
    if isinstance(item, int | float):
        return draw.choice([item + 1, item - 1, -item, item * 2, item * 10**9, float(item), str(item)])
    if isinstance(item, str):
        return draw.choice([misspelt(item, draw), item.upper(), item * 2, [item]])
    return [item]


def walk(table: Any) -> list[tuple[Any, Any]]:
    """Every table or list within, with each of its keys."""
    results, waiting = list[tuple[Any, Any]](), [table]
    for item in waiting:  # grows while it is walked
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else []
        results += [(item, key) for key in keys]
        waiting += [item[key] for key in keys]
    return results


def of_tensors(data: bytes, draw: Random) -> bytes:
    """The header of a safetensors file, or a number of it, is changed; its length too, or not."""
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError:
        return of_bytes(data, draw)
    if not (isinstance(header, dict) and header and all(isinstance(value, dict) for value in header.values())):
        return of_bytes(data, draw)
    kind, body = draw.randrange(5), data[8 + size :]
    if kind == 0:
        return draw.choice([0, 1, size - 1, size + 1, 2**32, 2**63, 2**64 - 1]).to_bytes(8, "little") + data[8:]
    if kind == 1:  # numbers that are not finite, or huge
        wild = draw.choice([b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\xff\xff\x7f\x7f"])
        count = len(body) // 4
        at = 4 * draw.randrange(count + 1)
        body = (body[:at] + wild * draw.choice([1, count]) + body[at + 4 :])[: len(body)]
    elif kind == 2:
        tensor = header[draw.choice(sorted(header))]
        tensor["dtype"] = draw.choice(TYPES)
    elif kind == 3:
        tensor = header[draw.choice(sorted(header))]
        tensor["shape"] = draw.choice([[2**62, 4], [-1], [0], [], [1], tensor.get("shape", [1])[::-1], [2**31] * 3])
    else:
        header = of_table(header, draw)
    message = as_json(header, draw)
    return len(message).to_bytes(8, "little") + message + body


def of_lines(data: bytes, draw: Random) -> bytes:
    """A line is gone, is there twice, stands elsewhere, or says something else behind its `=`."""
    lines = data.decode("utf-8", "replace").split("\n")
    at, kind = draw.randrange(len(lines)), draw.randrange(6)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(draw.randrange(len(lines)), lines[at])
    elif kind == 2:
        lines[at] = lines[at].replace("[", "[[").replace("]", "]]")
    elif kind == 3:
        lines[at] = misspelt(lines[at], draw)
    else:
        key, equals, _ = lines[at].partition("=")
        lines[at] = f"{key}{equals} {literal(value(draw))}"
    return "\n".join(lines).encode("utf-8", "replace")


def literal(item: Any) -> str:
    """A value as TOML writes it, or would if it could."""
    if isinstance(item, dict):
        return "{" + ", ".join(f"{key} = {literal(value)}" for key, value in item.items()) + "}"
    if isinstance(item, list):
        return f"[{', '.join(map(literal, item))}]"
    return json.dumps(item) if isinstance(item, str | bool | None) else repr(item)


# Values that a file may hold where another was meant.


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
