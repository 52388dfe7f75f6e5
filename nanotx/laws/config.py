"""The law of configs: a config survives a round trip through every format."""

import json
import tomllib
from typing import Any

from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import write_toml
from nanotx.errors import LawBroken


def config_round_trip(config: Any) -> None:
    """Raise LawBroken unless a config is equal, and hashes the same, after a round trip as a table, TOML and JSON.

    Args:
        config: the config of a part, a model or a recipe, or any dataclass inside one.

    Raises:
        LawBroken: another value came back; the message shows it.
    """
    writings = {
        "a table": to_table(config),
        "TOML": tomllib.loads(write_toml(config)),
        "JSON": json.loads(json.dumps(to_table(config), allow_nan=False)),
    }
    for name, table in writings.items():
        table.pop("part", None)
        back = from_table(type(config), {"part": config.part, **table} if getattr(config, "part", "") else table)
        if back != config or hash(back) != hash(config):
            raise LawBroken(f"config_round_trip: through {name}, {config!r} came back as {back!r}.")
