"""The digest of a tokenizer's file, put right again after a test has changed what it holds."""

from typing import Any

from nanotx.tokenizers.storage import digest


def signed(table: dict[str, Any]) -> dict[str, Any]:
    """The table of a file with the digest that it now has, whatever else is wrong with it."""
    body = {
        key: value
        for key, value in table.items()
        if key not in {"nanotx", "version", "part", "sha256", "learned_from", "made_with"}
    }
    try:
        return table | {"sha256": digest(table.get("part"), body)}
    except (TypeError, ValueError):
        return table
