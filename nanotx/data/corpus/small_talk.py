"""Small talk: conversations from a grammar of our own, so that a first chat needs no network.

A model of a million weights learns them in some minutes. Some answers can be memorised (opposites, sums, jokes), some
copy from the question (an echo, spelling), one needs an earlier turn: the user's name. Questions come as people type
them, with and without capitals and marks, and what the model cannot know has an answer that admits it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from string import ascii_letters, digits, punctuation

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
    "bridge", "cheese", "doctor", "elephant", "forest", "guitar", "hammer", "island", "king", "lemon",
    "music", "number", "ocean", "paper", "question", "river", "school", "table", "umbrella", "window",
)  # fmt: skip
PAIRS = {
    "hot": "cold", "big": "small", "up": "down", "day": "night", "old": "young", "fast": "slow", "wet": "dry",
    "full": "empty", "hard": "soft", "high": "low", "good": "bad", "open": "closed", "happy": "sad", "left": "right",
    "rich": "poor", "true": "false", "early": "late", "light": "dark", "yes": "no", "love": "hate", "war": "peace",
}  # fmt: skip
OPPOSITES = PAIRS | {other: word for word, other in PAIRS.items()}
COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "blood": "red", "the sky": "blue", "gold": "yellow",
    "the sea": "blue", "milk": "white", "a lemon": "yellow", "a tomato": "red", "the night": "black", "a frog": "green",
}  # fmt: skip
HELLOS = {"Hello": "Hello", "Hi": "Hi", "Hey": "Hello", "Good morning": "Good morning", "Good evening": "Good evening"}
JOKES = (
    "Why did the token turn round? It wanted some attention.",
    "What does a transformer have for lunch? Bytes.",
    "I told my loss curve a joke. It came down.",
    "How many heads does it take to change a lamp? Four, and a projection.",
)
ABOUT = {
    "Who are you?": "I am a small transformer, and I like small talk.",
    "What is your name?": "I have no name. I am a small transformer.",
    "Are you a robot?": "I am a small transformer, and I like small talk.",
    "How are you?": "I am well, thank you.",
    "How do you do?": "I am well, thank you.",
    "What can you do?": "I know opposites, colours and numbers. I can spell, and I can tell a joke.",
    "Help!": "I know opposites, colours and numbers. I can spell, and I can tell a joke.",
    "Thank you.": "You are welcome.",
    "Thanks.": "You are welcome.",
    "That is funny.": "Thank you.",
}  # fmt: skip
UNKNOWN = "I do not know. Ask me for an opposite, a colour, a sum or a joke."
BEYOND = (
    "Why is the {} so big?", "Who made the {}?", "Tell me about {}.", "Do you like {}?", "Where is the {}?",
    "What is {}?", "What is a {}?", "How does a {} work?", "When was the {} found?", "Can you see the {}?", "{}",
    "I like {}.", "My {} is old.", "Write a poem about {}.", "What do you think of {}?", "Is {} good for me?",
)  # fmt: skip
SYSTEM_TEXT = "Answer in capitals."

Turn = tuple[str, str]
"""A question and its answer."""


@Corpus.register("small_talk")
@dataclass(frozen=True, kw_only=True)
class SmallTalk(Conversations):
    """Small talk that nanotx generates: greetings, names, opposites, colours, numbers, spelling, jokes."""

    seed: int = 1  # seed of the conversations, which are the same on every machine
    count: int = 10_000  # number of conversations

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
        """Return a conversation of one to four turns, in capitals where the system asks for it."""
        name = self.choice(NAMES) if self.below(2) else self.new_word().capitalize()
        turns = [self.greeting(name)] if self.below(3) else list[Turn]()
        known = name if turns and name in turns[0][0] else ""
        turns += [self.turn(known) for _ in range(1 + self.below(3))]
        if self.below(8) == 0:
            turns.append((self.choice(("Goodbye.", "Bye!", "See you.")), f"Goodbye{known and f', {known}'}."))
        capitals = self.below(8) == 0
        messages = [Message(SYSTEM, SYSTEM_TEXT)] if capitals else []
        for question, answer in turns:
            messages.append(Message(USER, self.typed(question)))
            messages.append(Message(ASSISTANT, answer.upper() if capitals else answer))
        return tuple(messages)

    def typed(self, question: str) -> str:
        """Return a question as somebody types it: without capitals, or without its last mark."""
        if self.below(3) == 0:
            question = question.lower()
        if self.below(3) == 0 and len(question) > 1 and question[-1] in ".?!":
            question = question[:-1]
        return question

    def new_word(self) -> str:
        """Return a word that is in no list, of one to three syllables."""
        return "".join(
            self.choice("bcdfghjklmnprstvwz") + self.choice("aeiou") + self.choice(("", "", "l", "n", "r", "s", "t"))
            for _ in range(1 + self.below(3))
        )

    def noise(self) -> str:
        """Return some characters of the keyboard."""
        return "".join(self.choice(ascii_letters + digits + punctuation + " ") for _ in range(1 + self.below(12)))

    def word(self) -> str:
        """Return a word of the list, or a new one."""
        return self.choice(WORDS) if self.below(2) else self.new_word()

    def greeting(self, name: str) -> Turn:
        """Return how a conversation begins, with the user's name or without."""
        hello = self.choice(list(HELLOS))
        if self.below(3) == 0:
            return f"{hello}{self.choice('.!')}", f"{HELLOS[hello]}."
        says = self.choice((f"I am {name}.", f"I'm {name}.", f"My name is {name}."))
        if self.below(3) == 0:
            return says, f"Hello, {name}."
        return f"{hello}{self.choice('.,!')} {says}", f"{HELLOS[hello]}, {name}."

    def turn(self, name: str) -> Turn:
        """Return a question and its answer; `name` is the user's, empty where it was not mentioned."""
        kinds = [self.opposite, self.colour, self.number, self.total, self.spelling, self.echo, self.other]
        kind = self.below(len(kinds) + 2)
        if kind < len(kinds):
            return kinds[kind]()
        if kind == len(kinds):
            return self.choice(("What is my name?", "Who am I?")), (
                f"Your name is {name}." if name else "You did not tell me your name."
            )
        return self.beyond()

    def opposite(self) -> Turn:
        """Return a question for an opposite."""
        word = self.choice(list(OPPOSITES)) if self.below(5) else self.word()
        answer = (
            f"The opposite of {word} is {OPPOSITES[word]}."
            if word in OPPOSITES
            else f"{word.capitalize()} has no opposite."
        )
        return self.choice((f"What is the opposite of {word}?", f"The opposite of {word}?")), answer

    def colour(self) -> Turn:
        """Return a question for a colour."""
        thing = self.choice(list(COLOURS))
        question = self.choice((f"What colour is {thing}?", f"What is the colour of {thing}?"))
        return question, f"{thing[0].upper()}{thing[1:]} is {COLOURS[thing]}."

    def number(self) -> Turn:
        """Return a question for the number after or before another."""
        number = 1 + self.below(99)
        if self.below(2):
            return f"What comes after {number}?", f"After {number} comes {number + 1}."
        return f"What comes before {number}?", f"Before {number} comes {number - 1}."

    def total(self) -> Turn:
        """Return a question for a sum."""
        a, b = self.below(11), self.below(11)
        question = self.choice((f"What is {a} plus {b}?", f"What is {a} + {b}?", f"{a}+{b}?"))
        return question, f"{a} plus {b} is {a + b}."

    def spelling(self) -> Turn:
        """Return a word to spell."""
        word = self.word()
        return self.choice((f"Spell {word}.", f"How do you spell {word}?")), "-".join(word)

    def echo(self) -> Turn:
        """Return a word to say again."""
        word = self.word()
        return f"Say {word}.", f"{word.capitalize()}."

    def other(self) -> Turn:
        """Return a question about the model, or for a joke."""
        if self.below(2):
            return self.choice(("Tell me a joke.", "Do you know a joke?", "Another joke!")), self.choice(JOKES)
        question = self.choice(list(ABOUT))
        return question, ABOUT[question]

    def beyond(self) -> Turn:
        """Return a question that the model cannot answer."""
        if self.below(4) == 0:
            return self.noise().strip() or "?", UNKNOWN
        return self.choice(BEYOND).format(self.word()), UNKNOWN
