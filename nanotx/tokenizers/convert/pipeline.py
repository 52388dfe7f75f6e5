r"""The pipeline around the model of a tokenizer.json: normalizer, pre-tokenizer, decoder, added tokens, regexes.

A component is imported if a nanotx codec does exactly the same; anything else is rejected by name.

Its regex engine differs: `$` is the end of a line, `\w` does not match `²`, `{1,3}+` repeats a repeat instead of being
possessive, and `(?i:ss)` matches `ß`. So only syntax with the same meaning in both engines is accepted: literals,
categories such as `\p{L}`, `\s`, `\d`, classes, groups, lookaheads, repeats. Regexes that can match the empty string
are rejected too, because the engines advance past empty matches differently.

Source: https://github.com/kkos/oniguruma/blob/master/doc/RE
"""

import re
from collections.abc import Mapping, Sequence
from reprlib import repr as brief
from typing import Any

from nanotx.errors import TokenizerError
from nanotx.tokenizers.base import Codec

Table = dict[str, Any]
REMEDY = "Try --tokenizer huggingface --tokenizer.path, which does as the library does."
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False}


def refused(where: str, what: str) -> TokenizerError:
    """Return the error for something that cannot be imported exactly, with a remedy."""
    return TokenizerError(f"{where}: {what}. {REMEDY}")


def check_keys(where: str, table: Any, allowed: Mapping[str, Sequence[Any]]) -> Table:
    """Check that a table has only these keys, each with one of its allowed values; return it with defaults.

    The default of a missing key is the first of its values. An empty sequence of values allows any.

    Raises:
        TokenizerError: a key or a value is not allowed; says which.
    """
    if type(table) is not dict:
        raise TokenizerError(f"{where}: expected a table, got {brief(table)}.")
    for key, value in table.items():
        if key not in allowed:
            raise refused(where, f"{brief(key)}={brief(value)} is unknown to nanotx")
        if allowed[key] and not any(type(value) is type(option) and value == option for option in allowed[key]):
            expected = " or ".join(map(repr, allowed[key]))
            raise refused(where, f"{key}={brief(value)} is not supported; expected {expected}")
    for key, values in allowed.items():
        if key not in table and not values:
            raise TokenizerError(f"{where}: the key {key!r} is missing.")
    return {key: values[0] for key, values in allowed.items() if values} | table


def steps(where: str, table: Any, key: str) -> list[Table]:
    """Return the parts of a step of the pipeline, in their order: none for null, those of a sequence, or the one."""
    if table is None:
        return []
    parts = table.get(key) if type(table) is dict and table.get("type") == "Sequence" else [table]
    if type(parts) is not list or not all(type(part) is dict for part in parts):
        raise TokenizerError(f"{where}: expected tables with a type, got {brief(table)}.")
    if any(part.get("type") == "Sequence" for part in parts):
        raise refused(where, "a sequence within a sequence is unknown to nanotx")
    return parts


def only(where: str, table: Any, key: str, allowed: Mapping[str, Sequence[Any]]) -> Table:
    """Return the one part of a step, which is checked as by `check_keys`.

    Raises:
        TokenizerError: there is none, or there are several, or it is another.
    """
    parts = steps(where, table, key)
    if len(parts) != 1 or "type" not in parts[0]:
        raise refused(where, f"expected one of the type {allowed['type'][0]}, got {brief(table)}")
    return check_keys(where, parts[0], allowed)


def normal_form(table: Any) -> bool:
    """Return whether a text is put into normal form C, the only thing that may be done to it.

    Raises:
        TokenizerError: something else is done to it.
    """
    parts = steps("normalizer", table, "normalizers")
    for part in parts:
        check_keys("normalizer", part, {"type": ("NFC",)})
    return bool(parts)


def check_after(table: Any) -> tuple[str, ...]:
    """Return notes on the post_processor: none if it leaves the ids alone, else that nanotx does not apply it."""
    if table is None or (type(table) is dict and table.get("type") == "ByteLevel"):
        return ()  # it changes only offsets
    kind = brief(table.get("type")) if type(table) is dict else brief(table)
    return (
        f"its post_processor ({kind}) puts special ids around a text, which nanotx does not: the ids are those of "
        "encode(text, add_special_tokens=False)",
    )


def special_tokens_of(added: Any, vocab: Mapping[str, Any]) -> dict[str, int]:
    """Return the names of the special tokens, with the ids that the library gives them.

    It takes the id from the model's vocabulary where the name is there, and else the next one that is free, whatever
    the file says; so a file that says another was edited.

    Raises:
        TokenizerError: one that also matches in ordinary text, or takes part of it along; or an id that was edited.
    """
    if type(added) is not list:
        raise TokenizerError(f"added_tokens: expected a list, got {brief(added)}.")
    flags: dict[str, Sequence[Any]] = {key: (value,) for key, value in FLAGS.items()}
    allowed = {**flags, "id": (), "content": (), "normalized": (False, True), "special": (True,)}
    names = dict[str, int]()
    for index, token in enumerate(added):
        where = f"added_tokens: number {index}"
        check_keys(where, token, allowed)
        name, stated = token["content"], token["id"]
        if type(name) is not str or type(stated) is not int or name in names:
            raise TokenizerError(
                f"{where}: expected a name and an id, each once, got {brief(name)} and {brief(stated)}."
            )
        following = max([len(vocab), *(token_id + 1 for token_id in names.values())])
        expected = vocab.get(name, following)
        if expected != stated:
            raise TokenizerError(
                f"{where}: {brief(name)} has the id {stated}, and the library would give it {brief(expected)}."
            )
        names[name] = stated
    return names


def pipeline(codec: Codec, model: Table, before: Table, decoder: Table) -> Table:
    """Return a tokenizer.json.

    Args:
        codec: for its special tokens and its normal form.
        model: the model.
        before: the pre_tokenizer.
        decoder: the decoder.
    """
    added = [
        {"id": token_id, "content": name, **FLAGS, "normalized": False, "special": True}
        for name, token_id in sorted(codec.special_tokens.items(), key=lambda item: item[1])
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if codec.nfc else None,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def split_regex(table: Any) -> str:
    """Return the regex of a pre_tokenizer that only splits by one regex and keeps the text between matches.

    Raises:
        TokenizerError: it does something else.
    """
    parts = steps("pre_tokenizer", table, "pretokenizers")
    pattern = parts[0].get("pattern") if len(parts) == 1 else None
    source = pattern.get("Regex") if type(pattern) is dict else None
    if type(source) is not str or parts != [split(source)]:
        raise refused("pre_tokenizer", f"expected one Split by a regex, each match Isolated, got {brief(table)}")
    return source


def split(regex: str) -> Table:
    """Return the pre_tokenizer that cuts by a regex, and keeps what it leaves."""
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


LONGEST = 1000  # characters
CATEGORY = r"[pP]\{[LMNPSZC][a-z]?\}"
ESCAPE = rf"\\(?:{CATEGORY}|[sSdDrnt]|[^\w\s])"
RANGE = rf"(?:{ESCAPE}|[^\\\[\]&|~-])(?:-(?:\\[^\w\s]|[^\\\[\]&|~-]))?"
TOKEN = re.compile(
    rf"(?P<set>\[\^?(?:{RANGE})+\]|{ESCAPE}|\.)"
    r"|(?P<contractions>\(\?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d\)|'\(\?i:\[sdmt\]\|ll\|ve\|re\))"
    r"|(?P<ahead>\(\?[=!])|(?P<open>\((?:\?[:>])?)(?!\?)|(?P<close>\))|(?P<bar>\|)"
    r"|(?P<repeat>[*+?][?+]?|\{\d+(?:,\d*)?\}(?![?+*{]))"
    r"|(?P<literal>[^\\\[\](){}^$.|*+?])"
)
ALIKE = {"set": "x", "contractions": "x", "ahead": "(?:", "open": "(?:", "bar": "|", "literal": "x"}


def check_portable(where: str, source: str) -> None:
    """Check that a regex cuts a text alike here and there.

    Raises:
        TokenizerError: something in it may not; says what.
    """
    if len(source) > LONGEST:
        raise TokenizerError(f"{where}: expected a regex of at most {LONGEST} characters, got {len(source)}.")
    at, length, groups = 0, list[str](), list[str]()
    while at < len(source):
        match = TOKEN.match(source, at)
        if not match or match.lastgroup is None:
            raise TokenizerError(
                f"{where}: the regex {source[:60]!r}: {source[at : at + 12]!r} may mean one thing here and another in "
                r"the library; expected literals, classes, \p{L} and its like, \s, \d, groups, lookaheads and repeats. "
                "Try --tokenizer huggingface, which learns and cuts by the library."
            )
        kind = match.lastgroup
        if kind in ("ahead", "open"):
            groups.append(kind)
        optional = kind == "close" and bool(groups) and groups.pop() == "ahead"  # what is ahead is not matched
        length.append(")?" if optional else ALIKE.get(kind, match[0]))
        at = match.end()
    try:
        empty = re.fullmatch("".join(length), "")
    except (re.error, OverflowError, RecursionError) as error:
        raise TokenizerError(f"{where}: {source[:60]!r} is not a valid regex: {error}.") from None
    if empty:
        raise TokenizerError(
            f"{where}: the regex {source[:60]!r} may match nothing at all, and how that is walked over differs in the "
            "library; expected one whose matches have at least one character."
        )
