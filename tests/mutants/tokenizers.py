"""Tokenizers that are wrong, each in one way that somebody's was; and for each the law that is there to catch it.

They are parts like any other, imported by `--load`:

    nanotx laws tokenizer/mutant_nfc --load tests/mutants/tokenizers.py
"""

import random
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from nanotx.errors import TextError
from nanotx.tokenizers import Codec, Tokenizer
from nanotx.tokenizers.base import utf8
from nanotx.tokenizers.storage import exactly

CATCHES: dict[str, str] = {}
"""For each mutant the law that catches it, and that all before it let pass."""


def mutant(name, law):
    """Registers a tokenizer whose thing is the class that is decorated."""

    def enter(codec):
        def train(self, texts):
            return codec.trained_on(texts)

        def from_dict(cls, table):
            return codec.from_table(table)

        body = {
            "train": train,
            "from_dict": classmethod(from_dict),
            "splittable": codec.splittable,
            "__doc__": codec.__doc__,
        }
        Tokenizer.register(f"mutant_{name}")(
            dataclass(frozen=True, kw_only=True)(type(f"Mutant_{name}", (Tokenizer,), body))
        )
        codec.part = f"mutant_{name}"
        CATCHES[f"tokenizer/mutant_{name}"] = law
        return codec

    return enter


class Bytes(Codec):
    """A token a byte, in steps that a mutant may change."""

    vocab_size = 256

    @classmethod
    def trained_on(cls, texts):
        return cls()

    @classmethod
    def from_table(cls, table):
        exactly(cls.part, table, {})
        return cls()

    def encode_ordinary(self, text):
        return np.frombuffer(utf8(self.part, self.before(text)), np.uint8).astype(np.int32)

    def before(self, text):
        return text

    def decode_bytes(self, ids):
        return bytes(self.check_ids(ids).tolist())

    def to_dict(self):
        return {}


class Letters(Codec):
    """A token a character, in steps that a mutant may change."""

    def __init__(self, alphabet):
        self.alphabet, self.vocab_size = alphabet, len(alphabet)

    @classmethod
    def trained_on(cls, texts):
        return cls("".join(sorted(set("".join(texts)))))

    @classmethod
    def from_table(cls, table):
        exactly(cls.part, table, {"alphabet": str})
        return cls(table["alphabet"])

    def encode_ordinary(self, text):
        self.check(text)
        return np.array([self.alphabet.index(character) for character in text], np.int32)

    def check(self, text):
        for offset, character in enumerate(text):
            if character not in self.alphabet:
                raise TextError(
                    f"{self.part}: {character!r} (U+{ord(character):04X}) at offset {offset} is not in the alphabet."
                )

    def decode_bytes(self, ids):
        return "".join(self.alphabet[token_id] for token_id in self.check_ids(ids).tolist()).encode("utf-8")

    def to_dict(self):
        return {"alphabet": self.alphabet}


# Something is lost.


@mutant("nfc", "lossless")
class Nfc(Bytes):
    """Puts letters and their accents together."""

    def before(self, text):
        return unicodedata.normalize("NFC", text)


@mutant("strip", "lossless")
class Strip(Bytes):
    """Cuts what is blank from both ends."""

    def before(self, text):
        return text.strip()


@mutant("next_line", "lossless")
class NextLine(Bytes):
    """Reads U+0085 as the end of a line, as `splitlines` does."""

    def before(self, text):
        return text.replace("\x85", "\n")


@mutant("line_ends", "lossless")
class LineEnds(Bytes):
    """Reads a text as a file is read in text mode."""

    def before(self, text):
        return text.replace("\r\n", "\n")


@mutant("byte_order", "lossless")
class ByteOrder(Bytes):
    """Takes U+FEFF for a byte-order mark wherever a text begins with one."""

    def before(self, text):
        return text.removeprefix("\ufeff")


@mutant("spaces", "lossless")
class Spaces(Bytes):
    """Has tokens for runs of up to sixteen spaces, and cuts longer ones."""

    def before(self, text):
        return re.sub(" {17,}", " " * 16, text)


@mutant("special", "lossless")
class Special(Bytes):
    """Reads a special token where a text merely spells it."""

    def before(self, text):
        return text.replace("<|endoftext|>", "")


@mutant("sixteen_bits", "lossless")
class SixteenBits(Bytes):
    """Keeps the lower sixteen bits of a character."""

    def before(self, text):
        return "".join(chr(ord(character) & 0xFFFF) for character in text).encode("utf-8", "replace").decode("utf-8")


@mutant("nul", "lossless")
class Nul(Bytes):
    """Decodes as if a text ended where a byte is zero."""

    def decode_bytes(self, ids):
        return super().decode_bytes(ids).partition(b"\0")[0]


@mutant("lost_byte", "lossless")
class LostByte(Bytes):
    """Decodes in lines of 64, and drops the byte between two."""

    def decode_bytes(self, ids):
        return b"".join(bytes([token_id]) for at, token_id in enumerate(super().decode_bytes(ids)) if at % 65 != 64)


@mutant("first_letters", "lossless")
class FirstLetters(Bytes):
    """Remembers a text by its first eight letters."""

    def __init__(self):
        self.memory = {}

    def encode_ordinary(self, text):
        return self.memory.setdefault(text[:8], super().encode_ordinary(text)).copy()


@mutant("top", "lossless")
class Top(Letters):
    """Counts its ids from one."""

    def encode_ordinary(self, text):
        return super().encode_ordinary(text) + 1

    def decode_bytes(self, ids):
        return super().decode_bytes([token_id - 1 for token_id in ids])


# Ids do not stand for bytes of their own.


@mutant("first_space", "bytes")
class FirstSpace(Bytes):
    """Puts a space before a text, and takes it off again, from whatever is decoded."""

    def before(self, text):
        return f" {text}"

    def decode_bytes(self, ids):
        return super().decode_bytes(ids).removeprefix(b" ")


@mutant("mended", "bytes")
class Mended(Bytes):
    """Puts U+FFFD in the place of bytes that are no character, too early."""

    def decode_bytes(self, ids):
        return super().decode_bytes(ids).decode("utf-8", errors="replace").encode("utf-8")


@mutant("never_met", "bytes")
class NeverMet(Bytes):
    """Refuses ids that no text has, though they are in range, and a model may write them."""

    def check_ids(self, ids):
        ids = super().check_ids(ids)
        for index, token_id in enumerate(ids.tolist()):
            if token_id > 0xF4:
                raise TextError(f"{self.part}: id {token_id} at index {index} is never met.")
        return ids


# Streaming is not decoding.


@mutant("ignores", "stream")
class Ignores(Bytes):
    """Decodes as if bytes that are no character were not there."""

    def decode(self, ids):
        return self.decode_bytes(ids).decode("utf-8", errors="ignore")


@mutant("escaped", "stream")
class Escaped(Bytes):
    """Decodes bytes that are no character as lone surrogates."""

    def decode(self, ids):
        return self.decode_bytes(ids).decode("utf-8", errors="surrogateescape")


# What is saved is not what was learned.


@mutant("blank_ends", "saved")
class BlankEnds(Letters):
    """Is saved without the blank letters at the ends of the alphabet."""

    def to_dict(self):
        return {"alphabet": self.alphabet.strip()}


@mutant("its_own", "saved")
class ItsOwn(Bytes):
    """Is equal to itself alone."""

    def __eq__(self, other):
        return self is other

    __hash__ = Codec.__hash__


class ShiftedCodec(Bytes):
    """Each id is a byte and a number more."""

    def __init__(self, shift=0):
        self.shift = shift

    def encode_ordinary(self, text):
        return (super().encode_ordinary(text) + self.shift) % 256

    def decode_bytes(self, ids):
        return bytes((token_id - self.shift) % 256 for token_id in self.check_ids(ids).tolist())


@Tokenizer.register("mutant_forgotten_field")
@dataclass(frozen=True, kw_only=True)
class ForgottenField(Tokenizer):
    """Forgets, when it is saved, a field that changes the ids."""

    shift: int = 0

    def train(self, texts):
        codec = ShiftedCodec(self.shift)
        codec.part = self.part
        return codec

    @classmethod
    def from_dict(cls, table):
        return cls().train([])


CATCHES["tokenizer/mutant_forgotten_field"] = "saved"


# The same texts teach another tokenizer.


@mutant("old_letters", "trains_alike")
class OldLetters(Letters):
    """Knows letters from an earlier lesson, too."""

    known = set()  # noqa: RUF012

    @classmethod
    def trained_on(cls, texts):
        cls.known.update("".join(texts))
        return super().trained_on(cls.known)


@mutant("reads_twice", "trains_alike")
class ReadsTwice(Letters):
    """Goes over its texts twice: first for how many there are, then for their letters."""

    @classmethod
    def trained_on(cls, texts):
        return super().trained_on(texts if sum(1 for _ in texts) else [])


@mutant("by_chance", "trains_alike")
class ByChance(Letters):
    """Numbers its letters in an order drawn by chance."""

    @classmethod
    def trained_on(cls, texts):
        letters = list(set("".join(texts)))
        random.SystemRandom().shuffle(letters)
        return cls("".join(letters))


@mutant("order_of_a_set", "trains_alike")
class OrderOfASet(Letters):
    """Numbers its letters as a set has them, which differs from process to process."""

    @classmethod
    def trained_on(cls, texts):
        return cls("".join(set("".join(texts))))


# What cannot be held is not refused, or not said where.


@mutant("half_replaced", "refuses")
class HalfReplaced(Bytes):
    """Takes half a character for a question mark."""

    def before(self, text):
        return text.encode("utf-8", "replace").decode("utf-8")


@mutant("half_passed", "refuses")
class HalfPassed(Bytes):
    """Gives half a character bytes, which no other program reads."""

    def encode_ordinary(self, text):
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)


@mutant("nowhere", "refuses")
class Nowhere(Letters):
    """Does not say where the character is that it refuses."""

    def check(self, text):
        for character in text:
            if character not in self.alphabet:
                raise TextError(f"{self.part}: {character!r} (U+{ord(character):04X}) is not in the alphabet.")


@mutant("counts_bytes", "refuses")
class CountsBytes(Bytes):
    """Says at which byte half a character is, not at which character."""

    def encode_ordinary(self, text):
        try:
            return super().encode_ordinary(text)
        except TextError as error:
            offset = int(re.search(r"offset (\d+)", str(error))[1])
            raise TextError(
                f"{self.part}: U+{ord(text[offset]):04X} at offset {len(text[:offset].encode())}."
            ) from None


@mutant("last_one", "refuses")
class LastOne(Letters):
    """Names the last character that it does not know."""

    def check(self, text):
        for offset, item in reversed(list(enumerate(text))):
            if item not in self.alphabet:
                raise TextError(f"{self.part}: {item!r} (U+{ord(item):04X}) at offset {offset} is not in the alphabet.")


@mutant("from_the_end", "refuses")
class FromTheEnd(Letters):
    """Counts ids below zero from the end, as Python does."""

    def check_ids(self, ids):
        ids = list(ids)
        return super().check_ids(
            [token_id + self.vocab_size if -self.vocab_size <= token_id < 0 else token_id for token_id in ids]
        )


@mutant("one_too_many", "refuses")
class OneTooMany(Bytes):
    """Takes vocab_size itself for an id."""

    def check_ids(self, ids):
        return super().check_ids([token_id % 256 if token_id == 256 else token_id for token_id in ids])


@mutant("no_index", "refuses")
class NoIndex(Bytes):
    """Does not say which of the ids it refuses."""

    def check_ids(self, ids):
        try:
            return super().check_ids(ids)
        except TextError:
            raise TextError(f"{self.part}: an id is out of range.") from None


# A special is met where it was not allowed, or not where it was.


class Ended(Bytes):
    """A token a byte, and one that says that a text has ended, with a longer one beside it."""

    vocab_size = 258
    special_tokens = MappingProxyType({"<|end|>": 256, "<|end|>!": 257})

    def decode_bytes(self, ids):
        names = {token_id: name.encode() for name, token_id in self.special_tokens.items()}
        return b"".join(names.get(token_id) or bytes([token_id]) for token_id in self.check_ids(ids).tolist())


@mutant("reads_names", "special_tokens")
class ReadsNames(Ended):
    """Gives an ordinary text that ends with the name of a special the special's id."""

    def encode_ordinary(self, text):
        if not text.endswith("<|end|>"):
            return super().encode_ordinary(text)
        return np.append(super().encode_ordinary(text.removesuffix("<|end|>")), np.int32(256))


@mutant("first_name", "special_tokens")
class FirstName(Ended):
    """Of two names that begin at one place, takes the one that was registered first."""

    def encode(self, text, allowed_special=()):
        rows = [np.empty(0, np.int32)]
        names = "|".join(re.escape(name) for name in self.special_tokens if name in allowed_special)
        for token_id in (
            re.split(f"({names})", text) if names and super().encode("", allowed_special) is not None else [text]
        ):
            rows.append(
                np.array([self.special_tokens[token_id]], np.int32)
                if token_id in allowed_special
                else self.encode_ordinary(token_id)
            )
        return np.concatenate(rows)


@mutant("any_name", "special_tokens")
class AnyName(Ended):
    """Passes over the name of a special that there is not."""

    def encode(self, text, allowed_special=()):
        return super().encode(text, [name for name in allowed_special if name in self.special_tokens])


@mutant("strips_behind", "special_tokens")
class StripsBehind(Ended):
    """Drops the blanks behind a special."""

    def encode(self, text, allowed_special=()):
        for name in allowed_special:
            text = re.sub(re.escape(name) + r"\s+", name.replace("\\", ""), text)
        return super().encode(text, allowed_special)


@mutant("every_name", "special_tokens")
class EveryName(Ended):
    """Takes all names for allowed where one is."""

    def encode(self, text, allowed_special=()):
        super().encode("", allowed_special)
        return super().encode(text, self.special_tokens if allowed_special else ())


# A cut is felt.


@mutant("blank_behind", "cut")
class BlankBehind(Bytes):
    """Has a token for `e` and the blank behind it, and says that a text may be cut between the two."""

    vocab_size, splittable = 257, True

    def encode_ordinary(self, text):
        ids, result = super().encode_ordinary(text).tolist(), []
        for token_id in ids:
            if token_id == 32 and result[-1:] == [101]:
                result[-1] = 256
            else:
                result.append(token_id)
        return np.array(result, np.int32)

    def decode_bytes(self, ids):
        return b"".join(b"e " if token_id == 256 else bytes([token_id]) for token_id in self.check_ids(ids).tolist())


@mutant("first_blank", "cut")
class FirstBlank(Bytes):
    """Has a second id for a blank with which a text begins, and says that a text may be cut before one."""

    vocab_size, splittable = 257, True

    def encode_ordinary(self, text):
        ids = super().encode_ordinary(text)
        ids[:1][ids[:1] == 32] = 256
        return ids

    def decode_bytes(self, ids):
        return bytes(32 if token_id == 256 else token_id for token_id in self.check_ids(ids).tolist())


@mutant("counts_texts", "cut")
class CountsTexts(Letters):
    """Numbers its letters by how many texts they occur in, and says that it may be given blocks of them."""

    splittable = True

    @classmethod
    def trained_on(cls, texts):
        counts = Counter(letter for text in texts for letter in set(text))
        return cls("".join(sorted(counts, key=lambda letter: (-counts[letter], letter))))


# A digest is not its own.


@mutant("half_read", "digest")
class HalfRead(Letters):
    """Does not look at all that stands in its file."""

    @classmethod
    def from_table(cls, table):
        exactly(cls.part, table, {"alphabet": str, "size": int})
        return cls(table["alphabet"])

    def to_dict(self):
        return super().to_dict() | {"size": self.vocab_size}


@mutant("sorted_again", "digest")
class SortedAgain(Letters):
    """Mends what it reads: sorts its letters, and drops those that are there twice."""

    @classmethod
    def from_table(cls, table):
        exactly(cls.part, table, {"alphabet": str})
        return cls("".join(sorted(set(table["alphabet"]))))


@mutant("size_alone", "digest")
class SizeAlone(Letters):
    """Takes the number of its ids for all that it is."""

    @property
    def digest(self):
        return f"{self.vocab_size:064x}"


class NoNames(Bytes):
    """Takes names of special tokens, and gives none of them an id."""

    part = "mutant_no_names"


@Tokenizer.register("mutant_no_names")
@dataclass(frozen=True, kw_only=True)
class NoNamesIdea(Tokenizer):
    """Takes names of special tokens, and gives none of them an id."""

    special_tokens: tuple[str, ...] = ()

    def train(self, texts):
        return NoNames()

    @classmethod
    def from_dict(cls, table):
        return NoNames.from_table(table)


CATCHES["tokenizer/mutant_no_names"] = "special_tokens"


class FormHalf(Bytes):
    """Learns from texts in a normal form, and does not put those into it that it reads."""

    part = "mutant_form_half"


@Tokenizer.register("mutant_form_half")
@dataclass(frozen=True, kw_only=True)
class FormHalfIdea(Tokenizer):
    """Learns from texts in a normal form, and does not put those into it that it reads."""

    nfc: bool = False

    def train(self, texts):
        return FormHalf()

    @classmethod
    def from_dict(cls, table):
        return FormHalf.from_table(table)


CATCHES["tokenizer/mutant_form_half"] = "lossless"


class FormUnread(Bytes):
    """Keeps what was asked for in its file, and never puts a text into that form."""

    part = "mutant_form_unread"

    def __init__(self, composing):
        self.composing = composing

    @classmethod
    def from_table(cls, table):
        exactly(cls.part, table, {"composing": bool})
        return cls(table["composing"])

    def to_dict(self):
        return {"composing": self.composing}


@Tokenizer.register("mutant_form_unread")
@dataclass(frozen=True, kw_only=True)
class FormUnreadIdea(Tokenizer):
    """Takes a normal form, which no text is ever put into."""

    composing: bool = False

    def train(self, texts):
        return FormUnread(self.composing)

    @classmethod
    def from_dict(cls, table):
        return FormUnread.from_table(table)


CATCHES["tokenizer/mutant_form_unread"] = "field_matters"
