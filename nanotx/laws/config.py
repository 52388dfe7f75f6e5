"""The law of configs: a config is a value, whatever it is written in."""

import json
import tomllib
from typing import Any

from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import write_toml
from nanotx.errors import LawBroken


def config_round_trip(config: Any) -> None:
    """Written as a table, as TOML and as JSON and read back, a config is equal, and hashes alike.

    Args:
        config: a part's config, a model, a recipe, or any other dataclass of theirs.

    Raises:
        LawBroken: what came back instead.
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
