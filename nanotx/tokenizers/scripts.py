"""Scripts (Latin, Cyrillic, Han, ...): the segments of a text, its words, and where its tokens are in it.

What belongs to no script alone (white space, most punctuation and digits, accents that are marks of their own) goes
with the script before it, at the beginning of a text with the one after it.

Source: Unicode Standard Annex 24, Unicode script property, https://www.unicode.org/reports/tr24/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import regex
from numpy.typing import NDArray

from nanotx.errors import TextError
from nanotx.tokenizers.base import UNKNOWN, Codec, Ids, normalize_nfc, utf8

NAMES = """
    Arabic Armenian Bengali Bopomofo Cherokee Coptic Cyrillic Devanagari Ethiopic Georgian Gothic Greek Gujarati
    Gurmukhi Han Hangul Hebrew Hiragana Javanese Kannada Katakana Khmer Lao Latin Malayalam Mongolian Myanmar Oriya
    Sinhala Syriac Tamil Telugu Thaana Thai Tibetan Tifinagh Yi"""
OTHER = "Other"
"""The name for all other scripts."""
COMMON = "Common"
"""The script of a text without letters."""
SHARED = r"\p{Script=Common}\p{Script=Inherited}\p{Script=Unknown}"
ALONE = r"\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}"
WORD = regex.compile(rf"(?V1)[{ALONE}]|[[\w\p{{M}}]--[{ALONE}]]+")


def script_segments(text: str) -> Iterator[tuple[str, str]]:
    """Split a text by script; yield (script, segment). Joined, the segments are the text."""
    start, script = 0, COMMON
    for match in _runs().finditer(text):
        if match.lastgroup != script != COMMON:
            yield script, text[start : match.start()]
            start = match.start()
        script = match.lastgroup or COMMON
    if text:
        yield script, text[start:]


def words(text: str) -> int:
    """Count words: runs of letters, marks and digits, and each Chinese or Japanese character."""
    return sum(1 for _ in WORD.finditer(text))


@cache
def _runs() -> "regex.Pattern[str]":
    """Letters of one script and all that goes with them."""
    known = "".join(rf"\p{{Script={name}}}" for name in NAMES.split())
    runs = [rf"(?P<{name}>\p{{Script={name}}}[\p{{Script={name}}}{SHARED}]*)" for name in NAMES.split()]
    return regex.compile("|".join([*runs, rf"(?P<{OTHER}>[^{known}{SHARED}][^{known}]*)"]))


@dataclass(frozen=True, kw_only=True, eq=False)
class ScriptBreakdown:
    """Per-script breakdown of a text; the sums over scripts are those of the text."""

    names: tuple[str, ...]  # of the scripts, that of the most bytes first
    sizes: NDArray[np.int64]  # UTF-8 bytes
    words: NDArray[np.int64]
    of_tokens: NDArray[np.intp]  # for each token, the place of its script among the names

    def tokens(self) -> NDArray[np.int64]:
        """Return the number of tokens of each script."""
        return np.bincount(self.of_tokens, minlength=len(self.names)).astype(np.int64)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of per-token values over the tokens of each script."""
        return np.bincount(self.of_tokens, weights=values, minlength=len(self.names)).astype(np.float64)


def script_breakdown(codec: Codec, text: str, ids: Ids) -> ScriptBreakdown:
    """Return the per-script breakdown of a text.

    Args:
        codec: a tokenizer.
        text: any that has a character.
        ids: its ids.

    Raises:
        TextError: the ids do not round-trip the text.
    """
    check_round_trip(codec, text, ids)
    sizes, counts = dict[str, int](), dict[str, int]()
    ends, owners = list[int](), list[str]()
    for script, segment in script_segments(text):
        size = len(segment.encode("utf-8"))
        ends.append(size + (ends[-1] if ends else 0))
        owners.append(script)
        sizes[script] = sizes.get(script, 0) + size
        counts[script] = counts.get(script, 0) + words(segment)
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    places = np.array([names.index(owner) for owner in owners], np.intp)
    segment_of = np.searchsorted(np.array(ends), token_offsets(codec, ids, ends[-1]), side="right")
    return ScriptBreakdown(
        names=tuple(names),
        sizes=np.array([sizes[name] for name in names], np.int64),
        words=np.array([counts[name] for name in names], np.int64),
        of_tokens=places[np.minimum(segment_of, len(places) - 1)],  # an empty token may be at the end
    )


def token_offsets(codec: Codec, ids: Ids, size: int) -> NDArray[np.int64]:
    """Return the byte offset of each token in a text of `size` bytes.

    Raises:
        TextError: a token decodes to other bytes alone than in its context.
    """
    different, which = np.unique(ids, return_inverse=True)
    lengths = np.array([len(codec.decode_bytes([token_id])) for token_id in different.tolist()], np.int64)[which]
    if int(lengths.sum()) != size:
        raise TextError(
            f"{codec.part}: the tokens decode to {int(lengths.sum()):,} bytes one by one and to "
            f"{size:,} together, so their offsets are unknown."
        )
    return np.cumsum(lengths) - lengths


def check_round_trip(codec: Codec, text: str, ids: Ids) -> None:
    """Refuse ids that do not round-trip: lost text costs no bits, so bits per byte would be too low.

    Raises:
        TextError: they do not; says why.
    """
    if codec.decode_bytes(ids) == utf8(codec.part, text):
        return
    if missing := lost_characters(codec, text, ids):
        raise TextError(
            f"{codec.part}: {missing:,} of {len(text):,} characters of this text become {UNKNOWN} and are lost, so its "
            "bits per byte are unknown; try a tokenizer that can encode any text, such as byte or bpe."
        )
    raise TextError(
        f"{codec.part}: the ids decode to another text, perhaps its normal form C, so the bits per byte of this one "
        "are unknown; try unicodedata.normalize('NFC', text) first."
    )


def lost_characters(codec: Codec, text: str, ids: Ids) -> int:
    """Return how many characters of a text its ids lose."""
    if UNKNOWN not in codec.special_tokens:
        return 0
    known = codec.decode(ids[ids != codec.special_tokens[UNKNOWN]])
    return max(0, len(normalize_nfc(text) if codec.nfc else text) - len(known))
