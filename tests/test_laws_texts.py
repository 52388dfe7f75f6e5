"""The laws of tokenizers and corpora hold for every part, and each catches the mutants that it is there for."""

import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import planted

from nanotx.corpus import Corpus
from nanotx.errors import LawBroken
from nanotx.laws import elsewhere
from nanotx.laws.book_texts import LAWS, Lesson
from nanotx.laws.corpora import splits
from nanotx.laws.elsewhere import learns_elsewhere
from nanotx.laws.law import Where
from nanotx.laws.text import exact_bytes, lossless, refuses_ids, refuses_text, saved_and_loaded, streams
from nanotx.laws.texts import PRIMER, TROUBLE, lessons, texts
from nanotx.tokenizers import StreamingDecoder, Tokenizer, load, stored
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

ROOT = Path(__file__).resolve().parent.parent
SLOTS = {"tokenizer": Tokenizer, "corpus": Corpus}


def test_mutants_are_in_their_slots_while_they_are_planted_and_never_else():
    with planted("tokenizers"):
        assert "mutant_nfc" in Tokenizer.names()
    assert not [name for name in (*Tokenizer.names(), *Corpus.names()) if name.startswith("mutant")]


# What is drawn.


@given(data=st.data())
def test_a_case_is_written_as_a_table_and_read_again(data):
    part = Tokenizer.find(data.draw(st.sampled_from(Tokenizer.names())))
    law = data.draw(st.sampled_from(LAWS["tokenizer"]))
    case = data.draw(law.draw(part, Where()))
    assert law.case.of(part, case.table()) == case


@given(data=st.data())
def test_drawn_texts_teach_a_drawn_tokenizer(data):
    idea, taught = data.draw(lessons(Tokenizer.find(data.draw(st.sampled_from(["bpe", "char"])))))
    assert taught[0] == PRIMER
    assert idea.learn(taught).vocab_size >= len(set(PRIMER))


def test_among_the_drawn_texts_is_all_that_ever_went_wrong():
    met = set()

    @settings(max_examples=2000, derandomize=True, database=None)
    @given(text=texts())
    def draw(text):
        met.update(one for one in TROUBLE if one in text)

    draw()
    assert met == set(TROUBLE)


def test_every_tokenizer_on_the_shelf_holds_what_all_are_taught_first():
    assert [load(name).decode(load(name).encode(PRIMER)) for name in stored()] == [PRIMER] * len(stored())


# Each law, plainly.


def test_an_id_or_a_type_that_is_none_breaks_the_law_of_nothing_lost():
    class Long(type(Byte().learn([]))):
        def ordinary(self, text):
            return super().ordinary(text).astype("int64")

    with pytest.raises(LawBroken, match=r"lossless: 'a' became .*; expected a new row of int32"):
        lossless(Long(), "a")


def test_a_text_that_was_learned_from_may_not_be_refused():
    codec = Char().learn(["ab"])
    (law, *_) = LAWS["tokenizer"]
    law.check(Lesson(idea=Char(), taught=("ab",), text="abc"))
    with pytest.raises(LawBroken, match="lossless: 'abc' was learned from, and is refused: char: 'c'"):
        law.check(Stubborn(idea=Char(), taught=("abc",)))
    assert codec.vocab_size == 2


class Stubborn(Lesson):
    @property
    def codec(self):
        return Char().learn(["ab"])


def test_ids_that_are_refused_or_mended_break_the_law_of_bytes():
    exact_bytes(Byte().learn([]), list(range(256)))
    with planted("tokenizers"):
        with pytest.raises(
            LawBroken, match=r"bytes: ids \[65, 245\] below vocab_size 256 are refused: .* is never met"
        ):
            exact_bytes(Tokenizer.find("mutant_never_met")().learn([]), [65, 245])
        with pytest.raises(LawBroken, match=r"bytes: ids \[195, 169\] are b'\\xc3\\xa9', and one by one \[b'\\xef"):
            exact_bytes(Tokenizer.find("mutant_mended")().learn([]), [0xC3, 0xA9])


class Hoards(StreamingDecoder):
    """Hands out nothing before the end."""

    def __init__(self, codec):
        super().__init__(codec)
        self.held = ""

    def push(self, one):
        self.held += super().push(one)
        return ""

    def end(self):
        return self.held + super().end()


class Hasty(StreamingDecoder):
    """Hands out U+FFFD for half a character."""

    def push(self, one):
        return self.codec.decode([one])


class Careless(StreamingDecoder):
    """Forgets half a character at the end."""

    def end(self):
        return ""


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (Hoards, r"after 1 of the ids \[97, 195, 169, 195\] '' was handed out; these ids are 'a'"),
        (Hasty, r"after 2 of the ids \[97, 195, 169, 195\] 'a\ufffd' was handed out; .* all of them 'aé\ufffd'"),
        (Careless, r"the ids \[97, 195, 169, 195\] are 'aé\ufffd'; one at a time they came out as 'aé'"),
    ],
)
def test_a_decoder_that_streams_otherwise_breaks_the_law_of_streams(decoder, message):
    codec, ids = Byte().learn([]), [97, 0xC3, 0xA9, 0xC3]
    streams(codec, ids)
    with pytest.raises(LawBroken, match=f"stream: {message}"):
        streams(codec, ids, decoder)


@given(ids=st.lists(st.integers(0, 255)))
def test_any_bytes_stream(ids):
    streams(Byte().learn([]), ids)
    assert Byte().learn([]).decode_bytes(ids) == bytes(ids)


def test_what_is_saved_under_a_name_that_reads_something_else_breaks_the_law():
    codec = Char().learn([string.ascii_letters])
    saved_and_loaded(codec, "abc")

    class Other(type(codec)):
        def table(self):
            return super().table() | {"alphabet": self.alphabet[1:]}

    with pytest.raises(LawBroken, match=r"saved: .* which is another"):
        saved_and_loaded(Other(codec.alphabet), "abc")


def test_refusals_say_what_and_where():
    codec = Char().learn(["abc"])
    for text in ("abc", "abd", "d", "\ud800", "ab\ud800d"):
        refuses_text(codec, text)
    for ids in ([0, 1], [0, 3], [-1], [2, 10**12]):
        refuses_ids(codec, ids)


def test_what_is_learned_in_another_process_is_asked_there():
    learns_elsewhere(Char(), ["é\u2028", "to be"])
    with planted("tokenizers"), pytest.raises(LawBroken, match=r"learn: .* taught .*, and in another process"):
        learns_elsewhere(Tokenizer.find("mutant_order_of_a_set")(), [string.printable])


def test_a_lesson_that_fails_in_another_process_is_told(monkeypatch):
    monkeypatch.setattr(Bpe, "learn", lambda self, texts: Byte().learn([]))
    with pytest.raises(
        LawBroken, match=r"taught {}, and in another process {'error': 'TokenizerError: bpe: vocab_size"
    ):
        learns_elsewhere(Bpe(vocab_size=300), ["a"])


def test_another_process_that_ended_is_told_and_followed_by_another():
    learns_elsewhere(Char(), ["a"])
    elsewhere._child().kill()
    elsewhere._child().wait()
    with pytest.raises(LawBroken, match=r"learn: the other process ended with -?[0-9]+ while it learned"):
        learns_elsewhere(Char(), ["a"])
    learns_elsewhere(Char(), ["a"])


def test_a_corpus_that_is_too_short_may_refuse_to_be_split_and_no_other():
    with planted("corpora"):
        splits(Corpus.find("mutant_fixed_share")(size=10, validation=0.1))
        splits(Corpus.find("mutant_new_play")(size=1, validation=0.01))


@pytest.mark.parametrize("name", ["text", "corpora", "elsewhere"])
def test_the_plain_laws_of_texts_need_no_torch(name):
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("plain", "nanotx/laws/{name}.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
assert "torch" not in sys.modules and "hypothesis" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
