"""A tokenizer.json, looked at: what the library would end the process at, and the types of its steps."""

from collections.abc import Mapping
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError


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
    """The types of a step's parts, in their order; none where there is no such step."""
    one = described.get(step)
    inside = one.get(steps) if isinstance(one, dict) and one.get("type") == "Sequence" else [one]
    parts = inside if isinstance(inside, list) else []
    return [str(part.get("type")) if isinstance(part, dict) else "" for part in parts if part is not None]
