"""The laws of tokenizers and corpora, and the cases on which they are shown."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from nanotx.config import fields
from nanotx.corpus import Corpus
from nanotx.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.errors import LawBroken, TextError
from nanotx.laws.corpora import splits
from nanotx.laws.elsewhere import learns_elsewhere
from nanotx.laws.law import Case, Law, Where
from nanotx.laws.strategies import Drawn, ideas
from nanotx.laws.text import exact_bytes, learns_alike, lossless, refuses_ids, refuses_text, saved_and_loaded, streams
from nanotx.laws.texts import PRIMER, changed, learned, lessons, texts
from nanotx.tokenizers import Codec, Tokenizer

# Tokenizers.


@dataclass(frozen=True, kw_only=True)
class Lesson(Case):
    """A tokenizer, what it learns from, and a text for what it has learned."""

    taught: tuple[str, ...] = (PRIMER,)
    text: str = ""

    @property
    def codec(self) -> Codec:
        """What was learned."""
        return learned(self.idea, self.taught)

    @property
    def accepted(self) -> str:
        """The text; where it is refused, the last that was learned from."""
        try:
            self.codec.encode(self.text)
        except TextError:
            return self.taught[-1]
        return self.text


@dataclass(frozen=True, kw_only=True)
class Row(Lesson):
    """The same, and ids put in among those of the text."""

    ids: tuple[int, ...] = ()  # modulo vocab_size
    at: int = 0  # where among the text's

    @property
    def row(self) -> list[int]:
        """The text's ids, broken apart by others."""
        ids = self.codec.encode(self.accepted).tolist()
        return [*ids[: self.at], *(one % self.codec.vocab_size for one in self.ids), *ids[self.at :]]


@dataclass(frozen=True, kw_only=True)
class Refused(Lesson):
    """The same, with half a character put into the text, and an id that there is not."""

    half: int = 0xD800  # the code point
    at: int = 0  # its offset, and the id's index
    beyond: int = 0  # the id: so far beyond the last, or below 0

    @property
    def broken(self) -> str:
        """The text with half a character in it."""
        return self.text[: self.at] + chr(self.half) + self.text[self.at :]

    @property
    def ids(self) -> list[list[int]]:
        """Rows of ids, the last of each out of range."""
        size = self.codec.vocab_size
        wrong = (-1, size, self.beyond if self.beyond < 0 else size + self.beyond)
        return [[0] * self.at + [one] for one in wrong]


places = st.integers(0, 40)


@st.composite
def draw_lesson(draw: Drawn, part: type[Tokenizer], where: Where) -> Lesson:
    """Any tokenizer and text."""
    idea, taught = draw(lessons(part))
    return Lesson(idea=idea, taught=taught, text=draw(texts()))


@st.composite
def draw_row(draw: Drawn, part: type[Tokenizer], where: Where) -> Row:
    """Any tokenizer and ids."""
    idea, taught = draw(lessons(part))
    ids = draw(st.lists(st.integers(-4, 511), max_size=12))
    return Row(idea=idea, taught=taught, text=draw(texts()), ids=tuple(ids), at=draw(places))


@st.composite
def draw_refused(draw: Drawn, part: type[Tokenizer], where: Where) -> Refused:
    """Any tokenizer, and what it cannot hold."""
    idea, taught = draw(lessons(part))
    half = draw(st.integers(0xD800, 0xDFFF))
    beyond = draw(st.integers(-300, 300) | st.sampled_from([2**31, 2**63, -(2**40)]))
    return Refused(idea=idea, taught=taught, text=draw(texts()), half=half, at=draw(places), beyond=beyond)


def check_lossless(case: Lesson) -> None:
    """Nothing is lost of the texts that were learned from, which are accepted, and of any other that is."""
    for text in case.taught:
        try:
            lossless(case.codec, text)
        except TextError as error:
            raise LawBroken(f"lossless: {text!r} was learned from, and is refused: {error}") from None
    lossless(case.codec, case.accepted)


def check_learn(case: Lesson) -> None:
    """Learned alike here and in another process."""
    learns_alike(case.idea, case.taught, (case.text, *case.taught))
    learns_elsewhere(case.idea, case.taught)


def check_refuses(case: Refused) -> None:
    """Of texts and ids: what cannot be held is refused, and said where."""
    refuses_text(case.codec, case.text)
    refuses_text(case.codec, case.broken)
    for ids in case.ids:
        refuses_ids(case.codec, ids)


# Corpora.


@dataclass(frozen=True, kw_only=True)
class Play(Case):
    """A corpus, and the text for one that reads it from a file."""

    text: str = PRIMER

    def check(self) -> None:
        """Split it; a file is written for one that has a path."""
        if "path" not in fields(type(self.idea)):
            splits(self.idea)
            return
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "text.txt")
            file.write_bytes(self.text.encode("utf-8"))
            splits(dataclasses.replace(self.idea, path=str(file)))


@st.composite
def draw_play(draw: Drawn, part: type[Corpus], where: Where) -> Play:
    """Any corpus of a small size."""
    idea = draw(ideas(part))
    if "size" in fields(part):
        idea = changed(idea, size=draw(st.integers(1, 2000)))
    return Play(idea=idea, text="." + draw(texts()) if "path" in fields(part) else PRIMER)


LAWS: dict[str, tuple[Law, ...]] = {
    "tokenizer": (
        Law(
            name="lossless",
            about="a text that it accepts, and any it learned from, comes back to the letter",
            case=Lesson,
            draw=draw_lesson,
            check=check_lossless,
        ),
        Law(
            name="bytes",
            about="each id stands for bytes of its own, whatever stands beside it",
            case=Row,
            draw=draw_row,
            check=lambda case: exact_bytes(case.codec, case.row),
        ),
        Law(
            name="stream",
            about="decoded one id at a time, what was handed out stays, and all of it is the text",
            case=Row,
            draw=draw_row,
            check=lambda case: streams(case.codec, case.row),
        ),
        Law(
            name="saved",
            about="saved and loaded, it is equal and gives the same ids",
            case=Lesson,
            draw=draw_lesson,
            check=lambda case: saved_and_loaded(case.codec, case.accepted),
        ),
        Law(
            name="learn",
            about="the same texts teach the same tokenizer, at any time and in any process",
            case=Lesson,
            draw=draw_lesson,
            check=check_learn,
        ),
        Law(
            name="refuses",
            about="what it cannot hold is refused with the character and its offset, or the id and its index",
            case=Refused,
            draw=draw_refused,
            check=check_refuses,
        ),
    ),
    "corpus": (
        Law(
            name="split",
            about="training and validation, joined, are the text, the same every time",
            case=Play,
            draw=draw_play,
            check=Play.check,
            # What is fetched may be out of reach, and this one is checked by its digest whenever it is read.
            fits=lambda part: part is not TinyShakespeare,
        ),
    ),
}
