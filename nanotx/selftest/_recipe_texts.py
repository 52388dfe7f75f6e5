"""Recipes drawn at random: TOML and flags with real keys and real parts, and now and then what cannot be."""

import dataclasses
from random import Random
from typing import Any, Literal, get_args, get_origin

from nanotx.config.schema import UNIONS, fields, is_slot, without_none
from nanotx.recipe import Recipe, walk_configs
from nanotx.selftest._damage import literal, of_bytes, of_lines
from nanotx.selftest._hostile import misspelt, name, value

Table = dict[str, Any]


def text(draw: Random) -> bytes:
    """A recipe in TOML, on one file in four damaged as bytes or as lines."""
    evil = draw.choice([0.0, 0.0, 0.02, 0.1, 0.4])
    data = "\n".join(written(table(Recipe, draw, evil), "", draw)).encode("utf-8", "replace")
    data = draw.choice([b"", b"", b"\xef\xbb\xbf"]) + data.replace(b"\n", draw.choice([b"\n", b"\n", b"\r\n"]))
    return draw.choice([of_bytes, of_lines])(data, draw) if draw.random() < 0.25 else data


def table(kind: Any, draw: Random, evil: float, depth: int = 0) -> Table:
    """Some fields of a config, at times misspelt, strange, or of the wrong kind."""
    known = fields(kind)
    found: Table = {}
    for key in draw.sample(list(known), draw.randrange(min(len(known), 6) + 1)):
        wrong = draw.random() < evil
        item = value(draw) if wrong and draw.random() < 0.6 else field(known[key], kind, key, draw, evil, depth)
        found[misspelt(key, draw) if wrong and draw.random() < 0.3 else key] = item
    if draw.random() < evil / 4:
        found[name(draw)] = value(draw)
    return found


def field(kind: Any, config: Any, key: str, draw: Random, evil: float, depth: int) -> Any:
    """A value that a field may have, as its type says."""
    kind = without_none(kind)
    if get_origin(kind) is tuple:
        one, *rest = get_args(kind)
        count = draw.randrange(3) if rest == [Ellipsis] else 1 + len(rest)
        return [field(one, config, key, draw, evil, depth) for _ in range(count)]
    if get_origin(kind) in UNIONS:
        kind = draw.choice(get_args(kind))
    if get_origin(kind) is Literal:
        return draw.choice(get_args(kind))
    if is_slot(kind):
        return part(kind, draw, evil, depth + 1)
    if dataclasses.is_dataclass(kind):
        return table(kind, draw, evil, depth)
    usual = config.__dataclass_fields__[key].default
    if kind is bool:
        return draw.random() < 0.5
    if kind is int:
        return draw.choice([usual if isinstance(usual, int) else 1, 1, 2, 3, 4, 8, 16, 256, 300, 512])
    if kind is float:
        return draw.choice([usual if isinstance(usual, float) else 0.5, 0, 0.0, 0.1, 0.5, 1, 1.0, 2.5, 1e-5])
    return draw.choice([usual if isinstance(usual, str) else "gpt4", "", "gpt2", "my.txt", "*.txt"])


def part(slot: Any, draw: Random, evil: float, depth: int) -> Any:
    """A part by its name, or as a table."""
    chosen = draw.choice(slot.names())
    if draw.random() < evil:
        chosen = draw.choice([misspelt(chosen, draw), "../x", "", "mine.json", f"_{chosen}"])
    if draw.random() < 0.3 or depth > 8 or chosen not in slot.names():
        return chosen
    found = {"part": chosen, **table(slot.find(chosen), draw, evil, depth)}
    if draw.random() < 0.2:
        del found["part"]
    return found


def written(found: Table, place: str, draw: Random) -> list[str]:
    """A table as TOML, with headers, dotted keys or tables in a line."""
    lines, below = list[str](), list[str]()
    for key, item in found.items():
        at = f"{place}.{key}" if place else key
        tables = isinstance(item, list) and item and all(isinstance(one, dict) for one in item)
        if isinstance(item, dict) and draw.random() < 0.7:
            below += [f"[{at}]", *written(item, at, draw)]
        elif isinstance(item, dict) and draw.random() < 0.4:
            lines += [f"{key}.{inside} = {literal(one)}" for inside, one in item.items()]
        elif tables and draw.random() < 0.7:
            for one in item:
                below += [f"[[{at}]]", *written(one, at, draw)]
        else:
            lines.append(f"{key}{draw.choice([' = ', '=', chr(9) + '= '])}{literal(item)}")
    return lines + below


def flags(draw: Random) -> list[str]:
    """Some flags, in all the ways in which they may be typed."""
    evil, argv = draw.choice([0.0, 0.05, 0.3]), list[str]()
    groups = [("", Recipe), *((group, type(one)) for group, _, one in walk_configs(Recipe()))]
    for _ in range(draw.randrange(5)):
        group, kind = draw.choice(groups)
        known = fields(kind)
        if not known or draw.random() < 0.3:
            slots = [(group, one.family) for group, _, one in walk_configs(Recipe()) if is_slot(type(one))]
            flag, slot = draw.choice(slots)
            said: Any = draw.choice(slot.names())
        else:
            key = draw.choice(list(known))
            flag, said = f"{group}.{key}" if group else key, field(known[key], kind, key, draw, evil, 9)
        if draw.random() < evil:
            flag, said = draw.choice([flag, misspelt(flag, draw), "help", "print-config", "run"]), value(draw)
        argv += typed(flag, said, draw)
    return argv


def typed(flag: str, said: Any, draw: Random) -> list[str]:
    """A flag and its value, as words; no word of a command line holds a NUL."""
    values = [str(one).replace("\x00", "") for one in (said if isinstance(said, list) else [said])]
    flag = "--" + draw.choice([flag, flag.replace("_", "-")])
    kind = draw.randrange(12)
    if kind == 0:
        return [flag]
    if kind == 1:
        return [flag, *values, flag, *values]
    if kind < 5 and values:
        return [f"{flag}={values[0]}", *values[1:]]
    return [flag, *values]
