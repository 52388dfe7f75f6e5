"""Small talk: conversations from a grammar of our own, so that a first chat needs no network.

A model of a few hundred thousand weights learns them in two minutes. Some answers can be memorised (opposites, what
comes next), some copy from the question (an echo, spelling), and one needs an earlier turn: the user's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from nanotx.config.schema import check_max, check_min
from nanotx.data.conversations import ASSISTANT, SYSTEM, USER, Conversation, Conversations, Message
from nanotx.data.corpus.base import Corpus

NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gail", "Hugo", "Iris", "Jon", "Kim",
    "Lea", "Max", "Nora", "Otto", "Pia", "Rex", "Sue", "Tom", "Una", "Vera", "Walt",
)  # fmt: skip
WORDS = (
    "apple", "bread", "chair", "drum", "egg", "fish", "goat", "hat", "ink", "jam",
    "kite", "lamp", "moon", "nest", "owl", "pear", "queen", "rain", "sun", "tree",
)  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "old": "young", "fast": "slow", "wet": "dry",
    "full": "empty", "hard": "soft", "high": "low",
}  # fmt: skip
COLOURS = {"grass": "green", "snow": "white", "coal": "black", "blood": "red", "the sky": "blue", "gold": "yellow"}
GREETINGS = ("Hello.", "Hi.", "Good morning.", "Good evening.")
SYSTEM_TEXT = "Answer in capitals."

Turn = tuple[str, str]
"""A question and its answer."""


@Corpus.register("small_talk")
@dataclass(frozen=True, kw_only=True)
class SmallTalk(Conversations):
    """Small talk that nanotx generates: greetings, names, opposites, colours, numbers, spelling."""

    seed: int = 1  # seed of the conversations, which are the same on every machine
    count: int = 4000  # number of conversations

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 0, "seed")
        check_min(self, 1, "count")
        check_max(self, 10_000_000, "count")

    def conversations(self) -> Sequence[Conversation]:
        """Return the conversations."""
        draw = Choices(self.seed)
        return [draw.conversation() for _ in range(self.count)]


class Choices:
    """Draws conversations from the grammar."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed).random  # of all methods, this one promises to stay the same

    def below(self, count: int) -> int:
        """Return a number below a count."""
        return int(self.random() * count)

    def choice(self, items: Sequence[str]) -> str:
        """Return one of some texts."""
        return items[self.below(len(items))]

    def conversation(self) -> Conversation:
        """Return a conversation of one to three turns, in capitals where the system asks for it."""
        name = self.choice(NAMES)
        turns, knows_name = [self.greeting(name)] if self.below(2) else list[Turn](), False
        knows_name = bool(turns) and name in turns[0][0]
        turns += [self.turn(name, knows_name) for _ in range(1 + self.below(2))]
        capitals = self.below(5) == 0
        messages = [Message(SYSTEM, SYSTEM_TEXT)] if capitals else []
        for question, answer in turns:
            messages += [Message(USER, question), Message(ASSISTANT, answer.upper() if capitals else answer)]
        return tuple(messages)

    def greeting(self, name: str) -> Turn:
        """Return how a conversation begins, with the user's name or without."""
        hello = self.choice(GREETINGS)
        return (hello, hello) if self.below(3) == 0 else (f"{hello} I am {name}.", f"{hello[:-1]}, {name}.")

    def turn(self, name: str, knows_name: bool) -> Turn:
        """Return a question and its answer."""
        kind = self.below(6 if knows_name else 5)
        if kind == 0:
            word = self.choice(list(OPPOSITES))
            return f"What is the opposite of {word}?", f"The opposite of {word} is {OPPOSITES[word]}."
        if kind == 1:
            thing = self.choice(list(COLOURS))
            return f"What colour is {thing}?", f"{thing[0].upper()}{thing[1:]} is {COLOURS[thing]}."
        if kind == 2:
            number = self.below(99)
            return f"What comes after {number}?", f"After {number} comes {number + 1}."
        word = self.choice(WORDS)
        if kind == 3:
            return f"Spell {word}.", "-".join(word)
        if kind == 4:
            return f"Say {word}.", f"{word[0].upper()}{word[1:]}."
        return "What is my name?", f"Your name is {name}."
