"""The laws of tokenizers and corpora hold for every part, and each catches the mutants that it is there for."""

import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from planted import planted

from nanotx.data.corpus import Corpus
from nanotx.errors import LawBroken, TextError
from nanotx.laws import subprocess_training
from nanotx.laws.cases.text import LAWS
from nanotx.laws.cases.tokenizer_case import SpecialTokensCase, TokenizerCase
from nanotx.laws.corpora import split
from nanotx.laws.law import Where
from nanotx.laws.random_texts import PRIMER, configs_with_texts, texts
from nanotx.laws.segments import cut_anywhere, special_tokens_by_name, split_at_names, trains_in_blocks
from nanotx.laws.subprocess_training import trains_alike_in_subprocess
from nanotx.laws.text import (
    alter_json,
    exact_bytes,
    lossless,
    refuses_ids,
    refuses_text,
    saved_and_loaded,
    streams,
    unique_digest,
)
from nanotx.tokenizers import StreamingDecoder, Tokenizer, load
from nanotx.tokenizers.base import preset_names
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.hard_texts import TROUBLE
from nanotx.tokenizers.word import Word

ROOT = Path(__file__).resolve().parents[2]
SLOTS = {"tokenizer": Tokenizer, "corpus": Corpus}


def test_mutants_are_in_their_slots_while_they_are_planted_and_never_else():
    with planted("tokenizers"):
        assert "mutant_nfc" in Tokenizer.names()
    assert not [name for name in (*Tokenizer.names(), *Corpus.names()) if name.startswith("mutant")]


# What is drawn.


@given(data=st.data())
def test_case_is_written_as_a_table_and_read_again(data):
    part = Tokenizer.find(data.draw(st.sampled_from(Tokenizer.names())))
    law = data.draw(st.sampled_from(LAWS["tokenizer"]))
    case = data.draw(law.draw(part, Where()))
    assert law.case.of(part, case.table()) == case


@given(data=st.data())
def test_drawn_texts_teach_a_drawn_tokenizer(data):
    config, taught = data.draw(configs_with_texts(Tokenizer.find(data.draw(st.sampled_from(["bpe", "char"])))))
    assert taught[0] == PRIMER
    assert config.train(taught).vocab_size >= len(set(PRIMER))


@pytest.mark.parametrize(
    "drawn",
    [lambda names: {"<|a|>", "<|a|>b"} <= names, lambda names: "e" in names, lambda names: not names],
    ids=["alike", "letter", "none"],
)
def test_names_that_begin_alike_are_drawn_and_names_that_are_letters(drawn):
    names = configs_with_texts(Word).map(lambda drawn: set(drawn[0].special_tokens))
    until = settings(max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    assert drawn(find(names, drawn, settings=until))


def test_what_was_not_learned_from_is_not_accepted_as_if_it_was():
    case = TokenizerCase(config=Word(vocab_size=4, special_tokens=("<|x|>",)), taught=("a<|x|>ab a",), text="b")
    assert case.names == ["<|x|>"]
    assert case.accepted == "ab a"
    assert case.held("a ") == "a "


def test_case_of_names_puts_them_between_pieces_that_are_accepted():
    config = Word(vocab_size=6, special_tokens=("<|x|>", "<|y|>"), unknown=True)
    case = SpecialTokensCase(config=config, taught=("ab a",), pieces=("a", "ab"), between=(1, 3, 2), allowed=2)
    assert case.joined == "a<|y|>ab<|x|><unk>"
    assert case.chosen == [["<|y|>"], ["<|x|>", "<unk>"]]
    assert case.unknown_name == "<|x|>|"
    assert SpecialTokensCase(config=Byte(), between=(0,)).joined == "<|endoftext|>" and SpecialTokensCase(
        config=Byte()
    ).chosen == [[], []]


@pytest.mark.slow
def test_among_the_drawn_texts_is_all_that_ever_went_wrong():
    met = set()

    @settings(max_examples=2000, derandomize=True, database=None)
    @given(text=texts())
    def draw(text):
        met.update(character for character in TROUBLE if character in text)

    draw()
    assert met == set(TROUBLE)


def test_every_tokenizer_among_the_presets_holds_what_all_are_taught_first():
    assert [load(name).decode(load(name).encode(PRIMER)) for name in preset_names()] == [PRIMER] * len(preset_names())


# Each law, plainly.


def test_invalid_id_or_type_breaks_the_law_of_nothing_lost():
    class Long(type(Byte().train([]))):
        def encode_ordinary(self, text):
            return super().encode_ordinary(text).astype("int64")

    with pytest.raises(LawBroken, match=r"lossless: 'a' became .*; expected a new row of int32"):
        lossless(Long(), "a")


def test_text_that_was_learned_from_may_not_be_refused():
    codec = Char().train(["ab"])
    (law, *_) = LAWS["tokenizer"]
    law.check(TokenizerCase(config=Char(), taught=("ab",), text="abc"))
    with pytest.raises(LawBroken, match="lossless: 'abc' was learned from, and is refused: char: 'c'"):
        law.check(Stubborn(config=Char(), taught=("abc",)))
    assert codec.vocab_size == 2


class Stubborn(TokenizerCase):
    @property
    def codec(self):
        return Char().train(["ab"])


def test_refused_or_repaired_ids_break_the_law_of_bytes():
    exact_bytes(Byte().train([]), list(range(256)))
    with planted("tokenizers"):
        with pytest.raises(
            LawBroken, match=r"bytes: ids \[65, 245\] below vocab_size 256 are refused: .* is never met"
        ):
            exact_bytes(Tokenizer.find("mutant_never_met")().train([]), [65, 245])
        with pytest.raises(LawBroken, match=r"bytes: ids \[195, 169\] are b'\\xc3\\xa9', and one by one \[b'\\xef"):
            exact_bytes(Tokenizer.find("mutant_mended")().train([]), [0xC3, 0xA9])


class Hoards(StreamingDecoder):
    """Hands out nothing before the end."""

    def __init__(self, codec):
        super().__init__(codec)
        self.held = ""

    def push(self, value):
        self.held += super().push(value)
        return ""

    def end(self):
        return self.held + super().end()


class Hasty(StreamingDecoder):
    """Hands out U+FFFD for half a character."""

    def push(self, value):
        return self.codec.decode([value])


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
def test_decoder_that_streams_otherwise_breaks_the_law_of_streams(decoder, message):
    codec, ids = Byte().train([]), [97, 0xC3, 0xA9, 0xC3]
    streams(codec, ids)
    with pytest.raises(LawBroken, match=f"stream: {message}"):
        streams(codec, ids, decoder)


@given(ids=st.lists(st.integers(0, 255)))
def test_any_bytes_stream(ids):
    streams(Byte().train([]), ids)
    assert Byte().train([]).decode_bytes(ids) == bytes(ids)


def test_what_is_saved_under_a_name_that_reads_something_else_breaks_the_law():
    codec = Char().train([string.ascii_letters])
    saved_and_loaded(codec, "abc")

    class Other(type(codec)):
        def to_dict(self):
            return super().to_dict() | {"alphabet": self.alphabet[1:]}

    with pytest.raises(LawBroken, match=r"saved: .* which is another"):
        saved_and_loaded(Other(codec.alphabet), "abc")


def test_refusals_say_what_and_where():
    codec = Char().train(["abc"])
    for text in ("abc", "abd", "d", "\ud800", "ab\ud800d"):
        refuses_text(codec, text)
    for ids in ([0, 1], [0, 3], [-1], [2, 10**12]):
        refuses_ids(codec, ids)


def test_special_tokens_are_matched_from_the_left_and_the_longer_name_wins():
    assert split_at_names("ab<a>b<a><b", ["<a>", "<a>b"]) == [
        ("ab", False), ("<a>b", True), ("", False), ("<a>", True), ("<b", False),
    ]  # fmt: skip
    assert split_at_names("", ["a"]) == [("", False)] == split_at_names("", [])
    assert split_at_names("abab", []) == [("abab", False)]


SPECIAL = Bpe(vocab_size=258, special_tokens=("<|a|>", "<|a|>b")).train([PRIMER])


@given(pieces=st.lists(st.text(max_size=5) | st.sampled_from(list(SPECIAL.special_tokens))), allowed=st.integers(0, 3))
def test_names_become_their_ids_where_they_are_allowed(pieces, allowed):
    names = [name for index, name in enumerate(SPECIAL.special_tokens) if allowed >> index & 1]
    special_tokens_by_name(SPECIAL, "".join(pieces), names, "<|b|>")


@pytest.mark.parametrize(
    ("name", "text", "allowed", "message"),
    [
        ("reads_names", "a<|end|>", [], r"'a<\|end\|>' became, with no name allowed, id 256 of '<\|end\|>'"),
        ("first_name", "<|end|>!", ["<|end|>", "<|end|>!"], r"became \[256, 33\]; expected \[257\], of"),
        ("every_name", "<|end|>", ["<|end|>!"], r"became \[256\]; expected \[60, 124, 101"),
        ("strips_behind", "<|end|> a", ["<|end|>"], r"became \[256, 97\]; expected \[256, 32, 97\]"),
        ("any_name", "", [], r"'<\|b\|>' is the name of no special token, and is allowed"),
    ],
)
def test_special_token_that_is_read_otherwise_breaks_the_law_of_special_tokens(name, text, allowed, message):
    with planted("tokenizers"), pytest.raises(LawBroken, match=f"special_tokens: .*{message}"):
        special_tokens_by_name(Tokenizer.find(f"mutant_{name}")().train([]), text, allowed, "<|b|>")


def test_special_ids_decode_to_their_names_and_an_error_names_the_unknown_one():
    class Nameless(type(SPECIAL)):
        def decode_bytes(self, ids):
            return super().decode_bytes(ids).replace(b"<|a|>", b"")

    class Curt(type(SPECIAL)):
        def encode(self, text, allowed_special=()):
            if not set(allowed_special) <= self.special_tokens.keys():
                raise TextError("no")
            return super().encode(text, allowed_special)

    class Alone(type(SPECIAL)):
        def decode(self, ids):
            return super().decode(ids) if len(ids) == 1 else ""

    for codec, message in [
        (Nameless, r"id 256 of '<\|a\|>' is decoded as b''"),
        (Curt, r"'<\|b\|>' is the name of no special token, and the message is: no"),
        (Alone, r"'x<\|a\|>', with \['<\|a\|>'\] allowed, became \[120, 256\], which is ''"),
    ]:
        with pytest.raises(LawBroken, match=f"special_tokens: {message}"):
            special_tokens_by_name(
                codec(SPECIAL.merges, SPECIAL.source, SPECIAL.special_tokens), "x<|a|>", ["<|a|>"], "<|b|>"
            )


def test_text_that_is_refused_with_a_name_in_it_is_refused_between_names_too():
    codec = Word(vocab_size=3, special_tokens=("<|a|>",)).train(["to "])
    special_tokens_by_name(codec, "to<|a|>be", ["<|a|>"], "<|b|>")
    special_tokens_by_name(codec, "to<|a|>to ", ["<|a|>"], "<|b|>")

    class Skips(type(codec)):
        def encode(self, text, allowed_special=()):
            return super().encode(text.replace("be", "") if allowed_special else text, allowed_special)

    with pytest.raises(LawBroken, match=r"special_tokens: 'to<\|a\|>be', .* became \[1, 2\]; expected None"):
        special_tokens_by_name(Skips(codec.words, special_tokens=codec.special_tokens), "to<|a|>be", ["<|a|>"], "<|b|>")


def test_cut_that_changes_ids_breaks_the_law_of_cuts():
    cut_anywhere(SPECIAL, "we are here\nand there ")
    with planted("tokenizers"):
        behind, first = (Tokenizer.find(f"mutant_{name}")().train([]) for name in ("blank_behind", "first_blank"))
        cut_anywhere(behind, "to us e, a\te")
        with pytest.raises(LawBroken, match=r"cut: 'be ' is \[98, 256\]; cut in two, 'be' is \[98, 101\] and ' ' is"):
            cut_anywhere(behind, "be ")
        with pytest.raises(LawBroken, match=r"cut: .*'b c' is \[98, 32, 99\]; .* ' c' is \[256, 99\]"):
            cut_anywhere(first, "b c")


def test_refused_side_breaks_the_law_of_cuts_and_a_refused_whole_does_not():
    class Short(type(Byte().train([]))):
        def encode_ordinary(self, text):
            if len(text) == 1:
                raise TextError("too short")
            return super().encode_ordinary(text)

    cut_anywhere(Short(), "b")
    with pytest.raises(LawBroken, match=r"cut: 'a b' is \[97, 32, 98\]; cut in two, 'a' is None"):
        cut_anywhere(Short(), "a b")

    class Whole(Short):
        splittable = False

    cut_anywhere(Whole(), "a b")


def test_blocks_that_teach_otherwise_break_the_law_of_cuts(monkeypatch):
    trains_in_blocks(Bpe(vocab_size=260), [PRIMER, "a b"])
    trains_in_blocks(Bpe(vocab_size=258, pattern=r"[\s\S]+"), ["ab ab ab"])  # which says that it may not be cut
    with (
        planted("tokenizers"),
        pytest.raises(LawBroken, match=r"cut: \['a ab'\] taught {'alphabet': ' ab'}, and in the blocks \['a', ' ab"),
    ):
        trains_in_blocks(Tokenizer.find("mutant_counts_texts")(), ["a ab"])
    monkeypatch.setattr(Bpe, "splittable", True)
    with pytest.raises(LawBroken, match=r"cut: .* and in the blocks \['ab', ' ab'\] nothing: bpe: vocab_size=259"):
        trains_in_blocks(Bpe(vocab_size=259, pattern=r"[\s\S]+"), ["ab ab"])


@pytest.mark.parametrize(
    ("value", "path", "other"),
    [
        ({"a": [1, 2.5], "b": {}}, [0, 0], {"a": [2, 2.5], "b": {}}),
        ({"a": [1, 2.5], "b": {}}, [0, 1, 7], {"a": [1, 3.5], "b": {}}),
        ({"a": [1, 2.5], "b": {}}, [2], {"a": [1], "b": {}}),
        ({"a": [1, 2.5], "b": {}}, [1], {"a": [1, 2.5], "b": {"x": 0}}),
        ({"a": [], "b": None}, [], {"a": []}),
        ([[]], [0], [[0]]),
        ({}, [5], {"x": 0}),
        (True, [], False),
        ("", [], "x"),
        (None, [1], "x"),
        (0, [], 1),
    ],
)
def test_one_thing_in_a_value_of_json_is_changed(value, path, other):
    before = repr(value)
    assert alter_json(value, path) == other and type(alter_json(value, path)) is type(other)
    assert repr(value) == before


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        (
            "half_read",
            [1],
            r"'size' was changed from 2 to 3 is read, once it is signed anew, as if nothing had changed",
        ),
        ("sorted_again", [0], r"'alphabet' was changed from 'ax' to 'axx' is read, once it is signed anew"),
        ("size_alone", [0], "has the digest 0*2, in its file and once loaded "),
    ],
)
def test_wrong_digest_breaks_the_law(name, path, message):
    unique_digest(Char().train(["ax"]), [2])
    with planted("tokenizers"), pytest.raises(LawBroken, match=f"digest: .*{message}"):
        unique_digest(Tokenizer.find(f"mutant_{name}")().train(["ax"]), path)


def test_changed_file_that_is_read_breaks_the_law_of_the_digest(monkeypatch):
    codec = Char().train(["ab"])
    message = codec.digest
    monkeypatch.setattr("nanotx.tokenizers.loading.digest", lambda part, table: message)
    with pytest.raises(
        LawBroken, match=r"digest: a file of .* in which 'alphabet' was changed from 'ab' to 'abx' is read"
    ):
        unique_digest(codec, [2])


def test_what_is_learned_in_another_process_is_asked_there():
    trains_alike_in_subprocess(Char(), ["é\u2028", "to be"])
    with planted("tokenizers"), pytest.raises(LawBroken, match=r"trains_alike: .* taught .*, and in another process"):
        trains_alike_in_subprocess(Tokenizer.find("mutant_order_of_a_set")(), [string.printable])


def test_training_that_fails_in_another_process_is_reported(monkeypatch):
    monkeypatch.setattr(Bpe, "train", lambda self, texts: Byte().train([]))
    with pytest.raises(
        LawBroken, match=r"taught {}, and in another process {'error': 'TokenizerError: bpe: vocab_size"
    ):
        trains_alike_in_subprocess(Bpe(vocab_size=300), ["a"])


def test_dead_training_process_is_reported_and_replaced():
    trains_alike_in_subprocess(Char(), ["a"])
    subprocess_training._child().kill()
    subprocess_training._child().wait()
    with pytest.raises(LawBroken, match=r"trains_alike: the other process ended with -?[0-9]+ while it learned"):
        trains_alike_in_subprocess(Char(), ["a"])
    trains_alike_in_subprocess(Char(), ["a"])


def test_only_a_corpus_that_is_too_short_may_refuse_to_be_split():
    with planted("corpora"):
        split(Corpus.find("mutant_fixed_share")(size=10, validation=0.1))
        split(Corpus.find("mutant_new_play")(size=1, validation=0.01))
        for name in ("mutant_fixed_share", "mutant_new_play"):
            with pytest.raises(LawBroken, match=r"split|text"):
                split(Corpus.find(name)(size=2000, validation=0.3))


@pytest.mark.parametrize("name", ["text", "segments", "corpora", "subprocess_training"])
def test_plain_laws_of_texts_need_no_torch(name):
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("plain", "nanotx/laws/{name}.py")
spec.loader.exec_module(importlib.util.module_from_spec(spec))
assert "torch" not in sys.modules and "hypothesis" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
