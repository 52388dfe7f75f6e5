"""The digest of a tokenizer's file, made to fit again after a test has changed the file."""

import hashlib
import json
from typing import Any

HEADER = {"nanotx", "version", "part", "sha256", "learned_from", "made_with"}
"""The keys that are not part of the digest."""


def signed(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a tokenizer's file with the digest of its content, valid or not."""
    content = {key: value for key, value in table.items() if key not in HEADER}
    whole = json.dumps([table.get("part"), content], sort_keys=True)
    return table | {"sha256": hashlib.sha256(whole.encode("ascii")).hexdigest()}
