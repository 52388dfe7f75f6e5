"""What the playhouse plays in many languages: scenes of two who talk in turn, each scene in one script.

Small and simple on purpose: who does what, when and where, a greeting, a question, a number, the hour. The sentences
of a language agree in themselves, and the text is in Unicode's normal form C.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import chain

from nanotx.corpus._east import ARABIC, CHINESE, HINDI, KOREAN
from nanotx.corpus._factor import factored
from nanotx.corpus._grammar import Grammar
from nanotx.corpus._rule import Rules
from nanotx.corpus._unrolled import unrolled
from nanotx.corpus._west import FRENCH, GREEK, RUSSIAN


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A language: who speaks in it, and what may be said."""

    casts: tuple[tuple[str, str], ...]
    rules: str
    scenes: int  # how often its scenes come, so that every language fills about as many bytes
    colon: str = ": "  # between a speaker and what is said
    gap: str = " "  # between two sentences


VOICES = {  # by the script that each is written in, as Unicode calls it
    "Latin": Voice(casts=(("Chloé", "René"), ("Gaëlle", "Noël")), rules=FRENCH, scenes=8, colon="\u00a0: "),
    "Cyrillic": Voice(casts=(("Андрей", "Зоя"), ("Сергей", "Майя")), rules=RUSSIAN, scenes=7),
    "Greek": Voice(casts=(("Ελένη", "Σοφία"), ("Άννα", "Μαρία")), rules=GREEK, scenes=6),
    "Devanagari": Voice(casts=(("मीरा", "अमित"), ("राधा", "विजय")), rules=HINDI, scenes=5),
    "Arabic": Voice(casts=(("سلمى", "أحمد"), ("إيمان", "رضا")), rules=ARABIC, scenes=7),
    "Han": Voice(casts=(("小明", "丽华"), ("大卫", "阿宝")), rules=CHINESE, scenes=12, colon="：", gap=""),  # noqa: RUF001
    "Hangul": Voice(casts=(("민수", "지영"), ("하늘", "보라")), rules=KOREAN, scenes=10),
}


@cache
def the_voices() -> Grammar:
    """The grammar of many languages; its start is one scene."""
    rules: Rules = {"scene": {f"<{script} scene>\n\n<{script} cast>": voice.scenes for script, voice in VOICES.items()}}
    for script, voice in VOICES.items():
        rules = {**rules, **_spoken(script, voice)}
    return Grammar(factored(unrolled(rules)), "scene")


def _spoken(script: str, voice: Voice) -> Rules:
    """The rules of one language, whose names begin with its script."""
    rules = {
        f"{script} {name}": {re.sub("<", f"<{script} ", text): weight for text, weight in choices.items()}
        for name, choices in _read(voice.rules).items()
    }
    sentences = rules.pop(f"{script} sentence")
    turns = list(chain.from_iterable([(one, other), (other, one)] for one, other in voice.casts))
    rules[f"{script} cast"] = {f"<{script} {speaker} speaks>": 1 for speaker, _ in turns}
    for speaker, hearer in turns:
        more, answer = f"{script} {speaker} goes on", f"{script} {hearer} answers"
        said = {text.replace(f"<{script} call>", hearer): weight for text, weight in sentences.items()}
        rules |= {
            f"{script} {speaker} speaks": {f"{speaker}{voice.colon}<{script} {speaker} says><{more}><{answer}>": 1},
            f"{script} {speaker} says": said,
            more: {f"{voice.gap}<{script} {speaker} says><{more}>": 2, "\n": 3},
            answer: {f"<{script} {hearer} speaks>": 5, "\n": 1},
        }
    return rules


def _read(text: str) -> dict[str, dict[str, int]]:
    """Rules from lines such as `name: 3* one | other`, where a line that begins with white space goes on."""
    rules: dict[str, dict[str, int]] = {}
    for line in re.sub(r"\n\s+", " ", text.strip()).splitlines():
        name, _, choices = line.partition(": ")
        weights = Counter[str]()
        for choice in choices.split(" | "):
            weight, _, one = choice.rpartition("* ")
            weights[one] += int(weight or 1)
        rules[name] = dict(weights)
    return rules
