"""Random recipes: TOML and flags with real keys and real parts, and now and then something invalid."""

import dataclasses
from random import Random
from typing import Any, Literal, get_args, get_origin

from reliability.damage import literal, misspelt, name, of_bytes, of_lines, value

from nanotx.config.schema import UNIONS, fields, is_slot, without_none
from nanotx.recipe import Recipe
from nanotx.recipe_flags import walk_configs

Table = dict[str, Any]


def text(draw: Random) -> bytes:
    """Draw a recipe in TOML; one in four is damaged as bytes or as lines."""
    evil = draw.choice([0.0, 0.0, 0.02, 0.1, 0.4])
    data = "\n".join(written(table(Recipe, draw, evil), "", draw)).encode("utf-8", "replace")
    data = draw.choice([b"", b"", b"\xef\xbb\xbf"]) + data.replace(b"\n", draw.choice([b"\n", b"\n", b"\r\n"]))
    return draw.choice([of_bytes, of_lines])(data, draw) if draw.random() < 0.25 else data


def table(kind: Any, draw: Random, evil: float, depth: int = 0) -> Table:
    """Draw some fields of a config; with chance `evil` misspelt, strange, or of the wrong type."""
    known = fields(kind)
    drawn: Table = {}
    for key in draw.sample(list(known), draw.randrange(min(len(known), 6) + 1)):
        wrong = draw.random() < evil
        item = value(draw) if wrong and draw.random() < 0.6 else field(known[key], kind, key, draw, evil, depth)
        drawn[misspelt(key, draw) if wrong and draw.random() < 0.3 else key] = item
    if draw.random() < evil / 4:
        drawn[name(draw)] = value(draw)
    return drawn


def field(kind: Any, config: Any, key: str, draw: Random, evil: float, depth: int) -> Any:
    """Draw a value of a field's type."""
    kind = without_none(kind)
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        count = draw.randrange(3) if rest == [Ellipsis] else 1 + len(rest)
        return [field(first, config, key, draw, evil, depth) for _ in range(count)]
    if get_origin(kind) in UNIONS:
        kind = draw.choice(get_args(kind))
    if get_origin(kind) is Literal:
        return draw.choice(get_args(kind))
    if is_slot(kind):
        return part(kind, draw, evil, depth + 1)
    if dataclasses.is_dataclass(kind):
        return table(kind, draw, evil, depth)
    default = config.__dataclass_fields__[key].default
    if kind is bool:
        return draw.random() < 0.5
    if kind is int:
        return draw.choice([default if isinstance(default, int) else 1, 1, 2, 3, 4, 8, 16, 256, 300, 512])
    if kind is float:
        return draw.choice([default if isinstance(default, float) else 0.5, 0, 0.0, 0.1, 0.5, 1, 1.0, 2.5, 1e-5])
    return draw.choice([default if isinstance(default, str) else "gpt4", "", "gpt2", "my.txt", "*.txt"])


def part(slot: Any, draw: Random, evil: float, depth: int) -> Any:
    """Draw a part, as a name or as a table."""
    chosen = draw.choice(slot.names())
    if draw.random() < evil:
        chosen = draw.choice([misspelt(chosen, draw), "../x", "", "mine.json", f"_{chosen}"])
    if draw.random() < 0.3 or depth > 8 or chosen not in slot.names():
        return chosen
    drawn = {"part": chosen, **table(slot.find(chosen), draw, evil, depth)}
    if draw.random() < 0.2:
        del drawn["part"]
    return drawn


def written(entries: Table, place: str, draw: Random) -> list[str]:
    """Write a table as lines of TOML: headers, dotted keys or inline tables."""
    lines, below = list[str](), list[str]()
    for key, item in entries.items():
        at = f"{place}.{key}" if place else key
        tables = isinstance(item, list) and item and all(isinstance(row, dict) for row in item)
        if isinstance(item, dict) and draw.random() < 0.7:
            below += [f"[{at}]", *written(item, at, draw)]
        elif isinstance(item, dict) and draw.random() < 0.4:
            lines += [f"{key}.{inside} = {literal(inner)}" for inside, inner in item.items()]
        elif tables and draw.random() < 0.7:
            for row in item:
                below += [f"[[{at}]]", *written(row, at, draw)]
        else:
            lines.append(f"{key}{draw.choice([' = ', '=', chr(9) + '= '])}{literal(item)}")
    return lines + below


def flags(draw: Random) -> list[str]:
    """Draw some flags, typed in any of the ways that are accepted."""
    evil, argv = draw.choice([0.0, 0.05, 0.3]), list[str]()
    groups = [("", Recipe), *((group, type(config)) for group, _, config in walk_configs(Recipe()))]
    for _ in range(draw.randrange(5)):
        group, kind = draw.choice(groups)
        known = fields(kind)
        if not known or draw.random() < 0.3:
            slots = [(group, config.family) for group, _, config in walk_configs(Recipe()) if is_slot(type(config))]
            flag, slot = draw.choice(slots)
            item: Any = draw.choice(slot.names())
        else:
            key = draw.choice(list(known))
            flag, item = f"{group}.{key}" if group else key, field(known[key], kind, key, draw, evil, 9)
        if draw.random() < evil:
            flag, item = draw.choice([flag, misspelt(flag, draw), "help", "print-config", "run"]), value(draw)
        argv += typed(flag, item, draw)
    return argv


def typed(flag: str, item: Any, draw: Random) -> list[str]:
    """Return a flag and its value as arguments, which cannot contain NUL."""
    values = [str(each).replace("\x00", "") for each in (item if isinstance(item, list) else [item])]
    flag = "--" + draw.choice([flag, flag.replace("_", "-")])
    kind = draw.randrange(12)
    if kind == 0:
        return [flag]
    if kind == 1:
        return [flag, *values, flag, *values]
    if kind < 5 and values:
        return [f"{flag}={values[0]}", *values[1:]]
    return [flag, *values]
