"""The chat template of a folder of the Hugging Face world, kept in the tokenizer that is imported."""

import json
from pathlib import Path
from typing import Any

from nanotx.errors import ConfigError
from nanotx.files import read_regular
from nanotx.tokenizers.base import LONGEST_TEMPLATE, Codec
from nanotx.tokenizers.chat_template import check_template

TEXT = 1 << 24
"""Bytes of a file that is read: `tokenizer_config.json` lists added tokens too."""

VARIABLES = ("bos_token", "eos_token", "unk_token", "pad_token")
"""Names that a template of this world uses; the config of its tokenizer gives them."""


def with_folder_template(codec: Codec, folder: Path) -> tuple[Codec, tuple[str, ...]]:
    """Return the tokenizer with the chat template of its folder, if there is one, and notes on it.

    The names of special tokens that the template uses are set at its beginning, so that it needs nothing else.
    """
    config = json_of(folder / "tokenizer_config.json")
    source = text_of(folder / "chat_template.jinja") or default_of(config.get("chat_template"))
    if not source:
        return codec, ()
    names = {name: named(config.get(name)) for name in VARIABLES}
    used = {name: value for name, value in names.items() if value and name in source and setting(name) not in source}
    source = "".join(f"{setting(name)}{json.dumps(value)} -%}}" for name, value in used.items()) + source
    try:
        check_template(source)
    except ConfigError as error:
        return codec, (f"its chat template is left out: {error} nanotx chat takes another by --template FILE.",)
    return codec.with_chat_template(source), ("its chat template is kept in the tokenizer: nanotx chat uses it.",)


def setting(name: str) -> str:
    """Return how the line begins that sets a name in a template."""
    return f"{{%- set {name} = "


def default_of(value: Any) -> str:
    """Return a template, or of several with names the one that is named default."""
    if isinstance(value, list):
        value = next((each.get("template") for each in value if dict_named(each, "default")), "")
    return value if isinstance(value, str) and len(value) <= LONGEST_TEMPLATE else ""


def dict_named(value: Any, name: str) -> bool:
    """Return whether a value is a table with this name."""
    return isinstance(value, dict) and value.get("name") == name


def named(value: Any) -> str:
    """Return the text of a special token, which may be a table."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def json_of(path: Path) -> dict[str, Any]:
    """Return the table of a file; empty where it is missing or holds none."""
    try:
        value = json.loads(text_of(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def text_of(path: Path) -> str:
    """Return the text of a file; empty where it cannot be read."""
    try:
        return read_regular(path, TEXT).decode("utf-8")
    except (OSError, ValueError):
        return ""
