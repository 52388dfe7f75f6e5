"""Writing once what alternatives share, so that each is known by its first character."""

from collections.abc import Mapping
from os.path import commonprefix

from nanotx.corpus._rule import Rules


def factored(rules: Rules) -> Rules:
    """Rules of the same texts and probabilities, whose alternatives begin with characters of their own.

    `noun: crown | crow-bar` becomes `noun: crow<noun: crow>` and `noun: crow: n | -bar`. A text that is the
    beginning of another leaves nothing for itself, and two that part at rules leave these to begin: a
    Grammar refuses both.
    """
    found: dict[str, dict[str, int]] = {}
    for name, choices in rules.items():
        _factor(name, choices, found)
    return found


def _factor(name: str, choices: Mapping[str, int], found: dict[str, dict[str, int]]) -> None:
    found[name] = {}
    groups: dict[str, list[str]] = {}
    for text in choices:
        groups.setdefault(text[:1] if text[:1] != "<" else text, []).append(text)
    for texts in groups.values():
        if len(texts) == 1:
            found[name][texts[0]] = choices[texts[0]]
            continue
        shared = commonprefix(texts)  # noqa: RUF071  of characters, not of folders
        if shared.rfind("<") > shared.rfind(">"):  # do not cut the name of a rule
            shared = shared[: shared.rfind("<")]
        inner = f"{name}: {shared}".translate({ord("<"): "(", ord(">"): ")"})
        found[name][f"{shared}<{inner}>"] = sum(choices[text] for text in texts)
        _factor(inner, {text.removeprefix(shared): choices[text] for text in texts}, found)
