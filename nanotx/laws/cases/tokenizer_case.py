"""Cases of the laws of tokenizers: a config, its training texts, and a text or ids for the trained tokenizer."""

from dataclasses import dataclass
from itertools import zip_longest

from hypothesis import strategies as st

from nanotx.errors import TextError
from nanotx.laws.law import Case, Where
from nanotx.laws.random_texts import PRIMER, configs_with_texts, texts, trained
from nanotx.laws.segments import split_at_names
from nanotx.laws.strategies import Drawn
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import UNKNOWN, normalize_nfc


@dataclass(frozen=True, kw_only=True)
class TokenizerCase(Case):
    """A tokenizer's config, its training texts, and a text for the trained tokenizer."""

    taught: tuple[str, ...] = (PRIMER,)
    text: str = ""

    @property
    def codec(self) -> Codec:
        """The trained tokenizer."""
        return trained(self.config, self.taught)

    @property
    def names(self) -> list[str]:
        """The names of special tokens, which training skips."""
        return [name for name in self.codec.special_tokens if name != UNKNOWN]

    @property
    def accepted(self) -> str:
        """The text; if it is refused, one of the training texts."""
        return self.held(self.text)

    def held(self, text: str) -> str:
        """Return the text; if it is refused, the longest segment between special tokens of the last training text."""
        try:
            self.codec.encode(text)
        except TextError:
            last = normalize_nfc(self.taught[-1]) if self.codec.nfc else self.taught[-1]
            return max((segment for segment, name in split_at_names(last, self.names) if not name), key=len)
        return text


@dataclass(frozen=True, kw_only=True)
class IdsCase(TokenizerCase):
    """A tokenizer case with ids inserted among those of the text."""

    ids: tuple[int, ...] = ()  # modulo vocab_size
    at: int = 0  # where they are inserted

    @property
    def row(self) -> list[int]:
        """The text's ids with others inserted."""
        ids = self.codec.encode(self.accepted).tolist()
        return [*ids[: self.at], *(number % self.codec.vocab_size for number in self.ids), *ids[self.at :]]


@dataclass(frozen=True, kw_only=True)
class SpecialTokensCase(TokenizerCase):
    """A tokenizer case with names of special tokens inserted into the text."""

    pieces: tuple[str, ...] = ("",)
    between: tuple[int, ...] = ()  # the name after each piece, modulo the number of names
    allowed: int = 0  # which names become their ids: the bits

    @property
    def joined(self) -> str:
        """The pieces that are accepted, with names between them."""
        names = [*self.codec.special_tokens] or ["<|endoftext|>"]
        put = [names[number % len(names)] for number in self.between]
        return "".join(self.held(piece) + name for piece, name in zip_longest(self.pieces, put, fillvalue=""))

    @property
    def chosen(self) -> list[list[str]]:
        """The allowed names, and then the others."""
        bits = [(self.allowed >> index & 1, name) for index, name in enumerate(self.codec.special_tokens)]
        return [[name for bit, name in bits if bit == wanted] for wanted in (1, 0)]

    @property
    def unknown_name(self) -> str:
        """A name that is not a special token."""
        return max(self.codec.special_tokens, key=len, default="<|endoftext|>") + "|"


@dataclass(frozen=True, kw_only=True)
class FileCase(TokenizerCase):
    """A tokenizer case with a change of the tokenizer's file."""

    path: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RefusedCase(TokenizerCase):
    """A tokenizer case with a lone surrogate in the text, and an id out of range."""

    half: int = 0xD800  # the code point
    at: int = 0  # its offset, and the id's index
    beyond: int = 0  # the distance of the id beyond the last, or below 0

    @property
    def broken(self) -> str:
        """The text with a lone surrogate in it."""
        return self.text[: self.at] + chr(self.half) + self.text[self.at :]

    @property
    def ids(self) -> list[list[int]]:
        """Rows of ids, the last id of each out of range."""
        size = self.codec.vocab_size
        wrong = (-1, size, self.beyond if self.beyond < 0 else size + self.beyond)
        return [[0] * self.at + [last] for last in wrong]


places = st.integers(0, 40)
cuttable = st.sampled_from(["e ", "to be ", "'s ", "X\n", "a \n\n", "\u00e9t ", "I'LL  ", "9z \u0301", "\r\nq \t", "o"])


@st.composite
def draw_tokenizer(draw: Drawn, part: type[Tokenizer], where: Where) -> TokenizerCase:
    """Draw any tokenizer and text."""
    config, taught = draw(configs_with_texts(part))
    return TokenizerCase(config=config, taught=taught, text=draw(texts()))


@st.composite
def draw_ids(draw: Drawn, part: type[Tokenizer], where: Where) -> IdsCase:
    """Draw any tokenizer and ids."""
    config, taught = draw(configs_with_texts(part))
    ids = draw(st.lists(st.integers(-4, 511), max_size=12))
    return IdsCase(config=config, taught=taught, text=draw(texts()), ids=tuple(ids), at=draw(places))


@st.composite
def draw_special_tokens(draw: Drawn, part: type[Tokenizer], where: Where) -> SpecialTokensCase:
    """Draw any tokenizer, and a text with any names in it."""
    config, taught = draw(configs_with_texts(part))
    pieces, put = draw(st.lists(texts(4), max_size=4)), draw(st.lists(st.integers(0, 11), min_size=1, max_size=4))
    allowed = draw(st.integers(0, 15))
    return SpecialTokensCase(config=config, taught=taught, pieces=tuple(pieces), between=tuple(put), allowed=allowed)


@st.composite
def draw_cut(draw: Drawn, part: type[Tokenizer], where: Where) -> TokenizerCase:
    """Draw any tokenizer, and a text with many split points."""
    config, taught = draw(configs_with_texts(part))
    pieces = draw(st.lists(st.builds("".join, st.tuples(cuttable, texts(2))), max_size=4))
    return TokenizerCase(config=config, taught=taught, text="".join(pieces))


@st.composite
def draw_file(draw: Drawn, part: type[Tokenizer], where: Where) -> FileCase:
    """Draw any tokenizer, and any change of its file."""
    config, taught = draw(configs_with_texts(part))
    return FileCase(config=config, taught=taught, path=tuple(draw(st.lists(st.integers(0, 2**10), max_size=5))))


@st.composite
def draw_refused(draw: Drawn, part: type[Tokenizer], where: Where) -> RefusedCase:
    """Draw any tokenizer, and a text and ids that it refuses."""
    config, taught = draw(configs_with_texts(part))
    half = draw(st.integers(0xD800, 0xDFFF))
    beyond = draw(st.integers(-300, 300) | st.sampled_from([2**31, 2**63, -(2**40)]))
    return RefusedCase(config=config, taught=taught, text=draw(texts()), half=half, at=draw(places), beyond=beyond)
