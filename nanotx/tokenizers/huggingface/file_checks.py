"""Inspect a tokenizer.json: what is switched off in it, what in it loses text or is unbounded, and its steps.

Encoding must give the same ids each time, and ids from which the text comes back. What makes it random (dropout), cuts
a text off, fills it up or strips blanks beside a token is a setting, and is switched off. A step that loses text by its
nature (a Lowercase, a split at white space) cannot be; it is named.
"""

from collections.abc import Iterator, Mapping
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.tokenizers.byte_level import CHARACTERS
from nanotx.tokenizers.regexes import LONGEST, check_calls, check_size

LOSING = {
    "normalizer": {"BertNormalizer", "Lowercase", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Strip", "StripAccents"},
    "pre_tokenizer": {"BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit"},
}
"""Steps that lose text by what they are: case, accents, forms of a letter, or white space."""
PARTS = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}


def settled(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file with everything switched off that makes ids random or loses text, except its own steps."""
    table = dict(described) | {"truncation": None, "padding": None}
    model, added = table.get("model"), table.get("added_tokens")
    if isinstance(model, dict) and model.get("dropout") is not None:
        table["model"] = model | {"dropout": None}
    if isinstance(added, list):
        off = {"lstrip": False, "rstrip": False}
        table["added_tokens"] = [token | off if isinstance(token, dict) else token for token in added]
    return table


def losses(described: Mapping[str, Any]) -> list[str]:
    """Return what in a tokenizer.json loses text, whatever the text: the step, and what it is."""
    steps = []
    for step, key in PARTS.items():
        for part in parts_of(described.get(step), key):
            kind, content, pattern = part.get("type"), part.get("content"), part.get("pattern")
            removed = part.get("behavior") == "Removed" and not part.get("invert")
            replaced = kind == "Replace" and (not content or not isinstance(pattern, dict) or "String" not in pattern)
            if kind in LOSING[step] or removed or replaced:
                steps.append(f"{step}: {kind}{' that removes' * removed}{' of a regex or by nothing' * replaced}")
    return steps + dropped(described)


def dropped(described: Mapping[str, Any]) -> list[str]:
    """Return whether a BPE has characters without a token, which the library drops in silence, and says so."""
    model = described.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(vocab, dict) or model.get("type", "BPE") != "BPE":
        return []
    if model.get("unk_token") is not None or "merges" not in model:
        return []
    if model.get("byte_fallback"):
        missing = [value for value in range(256) if f"<0x{value:02X}>" not in vocab]
        return [f"model: byte_fallback, and the byte 0x{missing[0]:02x} has no token"] if missing else []
    steps = [part.get("type") for step, key in PARTS.items() for part in parts_of(described.get(step), key)]
    if "ByteLevel" not in steps:
        return ["model: BPE without unk_token or byte_fallback, which drops what it does not know"]
    missing = [value for value, character in CHARACTERS.items() if character not in vocab]
    return [f"model: BPE in which the byte 0x{missing[0]:02x} has no token"] if missing else []


def parts_of(table: Any, key: str) -> Iterator[dict[str, Any]]:
    """Yield the parts of a step, those inside sequences too."""
    if not isinstance(table, dict):
        return
    if table.get("type") != "Sequence":
        yield table
        return
    inside = table.get(key)
    for part in inside if isinstance(inside, list) else ():
        yield from parts_of(part, key)


def check_regexes(table: Any) -> None:
    """Refuse regexes that have no bound, wherever in a table they stand.

    Raises:
        ConfigError: one calls itself, or is too large.
    """
    left = [table]
    while left:
        value = left.pop()
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        source = value.get("Regex") if isinstance(value, dict) else None
        if isinstance(source, str):
            check_size(source, 8 * LONGEST)
            check_calls(source)


def check_sound(described: Mapping[str, Any]) -> None:
    """Refuse what makes the library end the process: merges whose second half does not begin with the prefix it should.

    Raises:
        TokenizerError: there is such a merge.
    """
    model = described.get("model")
    prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
    merges = model.get("merges") if isinstance(model, dict) and isinstance(prefix, str) else None
    for index, merge in enumerate(merges if isinstance(merges, list) else ()):
        last = (
            merge.split(" ")[-1] if isinstance(merge, str) else merge[-1] if isinstance(merge, list) and merge else ""
        )
        if not isinstance(last, str) or not last.startswith(str(prefix)):
            raise TokenizerError(
                f"huggingface: model: merge {index}: expected {prefix!r} at the beginning of the second half, "
                f"got {brief(merge)}."
            )


def kinds_of(described: Mapping[str, Any], step: str, steps: str) -> list[str]:
    """Return the types of a step's parts, in their order; none where there is no such step."""
    table = described.get(step)
    inside = table.get(steps) if isinstance(table, dict) and table.get("type") == "Sequence" else [table]
    parts = inside if isinstance(inside, list) else []
    return [str(part.get("type")) if isinstance(part, dict) else "" for part in parts if part is not None]
