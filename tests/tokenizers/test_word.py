"""Words against themselves cut and counted slowly, and what is said of words that are not there."""

import json
from collections import Counter
from itertools import groupby

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st
from signing import signed

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.laws.random_texts import texts
from nanotx.tokenizers import load
from nanotx.tokenizers.word import Word, WordCodec
from nanotx.tokenizers.words import SPACED, WORDS, PieceCache, cut

TROUBLE = "a\x00b\x85\u2028  \x1c\x1d\te\u0301\u0301 \U0001f469\u200d\U0001f680 \u0661\u0662_x \u0301!\u0301??"
TROUBLE += " \ufeff\xa0\u3000.\r\n\n"


def kind(letter):
    """What a character is: part of a word, white space, or neither."""
    if regex.match(r"[\p{L}\p{M}\p{N}_]", letter):
        return "word"
    return "space" if regex.match(r"\s", letter) else "other"


def slow_words(text):
    """Runs of words and of white space, and all else a character at a time."""
    pieces = []
    for item, run in groupby(text, kind):
        whole = "".join(run)
        pieces += whole if item == "other" else [whole]
    return pieces


def slow_spaced(text):
    """Runs of each kind; the last of a run of white space, if it is the space itself, goes to what follows."""
    pieces = ["".join(run) for _, run in groupby(text, kind)]
    for at in range(1, len(pieces)):
        if kind(pieces[at - 1][-1:] or "a") == "space" and pieces[at - 1].endswith(" "):
            pieces[at - 1], pieces[at] = pieces[at - 1][:-1], " " + pieces[at]
    return [piece for piece in pieces if piece]


@given(text=texts() | st.text("ab 1_.\n\u0301 !"))
@example(text=TROUBLE)
@example(text="\ud800a \udfff\ud800")
def test_words_and_spaced_words_are_the_runs_of_their_kinds(text):
    assert cut(WORDS, text) == slow_words(text)
    assert cut(SPACED, text) == slow_spaced(text)
    assert "".join(cut(WORDS, text)) == "".join(cut(SPACED, text)) == text


@given(text=texts() | st.text("ab 1_.\n\u0301"), data=st.data())
def test_text_ended_after_a_word_is_cut_as_before(text, data):
    words = cut(WORDS, text)
    count = data.draw(st.integers(0, len(words)))
    assert cut(WORDS, "".join(words[:count])) == words[:count]
    assert cut(WORDS, "".join(words[count:])) == words[count:]


@given(several=st.lists(st.text("ab .\n"), min_size=1), size=st.integers(1, 12), least=st.integers(1, 3))
def test_vocabulary_is_the_most_frequent_words(several, size, least):
    config = Word(vocab_size=size + 1, min_frequency=least, unknown=True)
    counts = Counter(word for text in several for word in slow_words(text))
    often = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))
    if len(often) < size:
        with pytest.raises(TokenizerError, match=rf"an empty text|these texts allow {len(often) + 1}\b"):
            config.train(several)
        return
    codec = config.train(iter(several))
    assert (
        list(codec.words) == often[:size] and codec.special_tokens == {"<unk>": size} and codec.vocab_size == size + 1
    )
    assert codec == config.train(reversed(several))
    text = "".join(several)
    known = [word if word in codec.words else "<unk>" for word in slow_words(text)]
    assert codec.decode(codec.encode(text)) == "".join(known) and len(codec.encode(text)) == len(known)


def test_words_of_a_text_give_it_back():
    codec = Word(vocab_size=len(set(cut(WORDS, TROUBLE)))).train([TROUBLE])
    ids = codec.encode(TROUBLE * 2)
    assert codec.decode(ids) == TROUBLE * 2 and ids.dtype == "int32" and ids.flags.writeable
    assert codec.encode("").tolist() == []


def test_unknown_word_is_refused_where_it_begins():
    codec = Word(vocab_size=4).train(["to be, to"])
    expected = r"word: 'bee', which begins with 'b' \(U\+0062\) at offset 3, is none of the 4 words; try without it"
    with pytest.raises(TextError, match=expected):
        codec.encode("to bee, \ud800")
    with pytest.raises(TextError, match=r"word: lone surrogate U\+D800 at offset 3 is not a character"):
        codec.encode("to \ud800bee")
    with pytest.raises(TextError, match=r"' {2}', which begins with ' ' \(U\+0020\) at offset 2"):
        codec.encode("to  be")


def test_unknown_word_becomes_unk_and_a_lone_surrogate_does_not():
    codec = Word(vocab_size=5, unknown=True).train(["to be, to"])
    assert codec.decode(codec.encode("to bee,\n")) == "to <unk>,<unk>" and not codec.round_trips("bee")
    assert codec.encode("<unk>").tolist() == [4, 4, 4] and codec.encode("<unk>", {"<unk>"}).tolist() == [4]
    with pytest.raises(TextError, match=r"word: lone surrogate U\+D800 at offset 4"):
        codec.encode("bee \ud800")


def test_without_unk_every_word_is_in_the_vocabulary_or_the_needed_size_is_named():
    with pytest.raises(
        TokenizerError, match=r"word: vocab_size=3 is too small: these texts need at least 4, a word each"
    ):
        Word(vocab_size=3).train(["to be, to"])
    with pytest.raises(
        TokenizerError, match=r"cannot be reached: these texts allow 4; try --tokenizer.vocab-size 4, or"
    ):
        Word(vocab_size=5).train(["to be, to"])
    with pytest.raises(
        TokenizerError, match=r"min_frequency=2 leaves out 2 of the 4 words .* --tokenizer.min-frequency 1"
    ):
        Word(vocab_size=4, min_frequency=2).train(["to be, to"])
    with pytest.raises(TokenizerError, match=r"these texts allow 3 of min_frequency=2; try --tokenizer.vocab-size 3"):
        Word(vocab_size=5, min_frequency=2, unknown=True).train(["to be, to"])
    with pytest.raises(TokenizerError, match="word: an empty text has no words"):
        Word().train(["", ""])
    with pytest.raises(TextError, match=r"word: lone surrogate U\+DFFF at offset 3"):
        Word().train(["bad\udfff"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 0}, "vocab_size: expected a number of at least 1, got 0"),
        ({"vocab_size": 2, "unknown": True, "special_tokens": ("<|x|>",)}, "at least 3, got 2"),
        ({"min_frequency": 0}, "min_frequency: expected a number of at least 1"),
        ({"special_tokens": ("",)}, "special_tokens: ''"),
    ],
)
def test_invalid_word_tokenizer_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Word(**fields)


def test_no_word_is_learned_across_a_special_and_the_special_has_an_id_of_its_own():
    codec = Word(vocab_size=5, special_tokens=("<|x|>",), unknown=True).train(["to<|x|>day", " "])
    assert set(codec.words) == {"to", "day", " "} and codec.special_tokens == {"<|x|>": 3, "<unk>": 4}
    assert codec.decode(codec.encode("to<|x|>day", {"<|x|>"})) == "to<|x|>day"


def test_normal_form_c_is_put_on_before_words_are_cut():
    codec = Word(vocab_size=1, nfc=True).train(["e\u0301"])
    assert codec.words == ("é",) and codec.decode(codec.encode("e\u0301")) == "é"


def test_word_of_100_000_characters_is_a_word():
    codec = Word(vocab_size=2, unknown=True).train(["ab"])
    assert codec.encode("ab" * 50_000 + "." * 100_000).tolist() == [1] * 100_001
    long = Word(vocab_size=2).train(["ab" * 50_000 + " "])
    assert long.decode(long.encode("ab" * 50_000)) == "ab" * 50_000


def test_cache_of_pieces_is_bounded_and_skips_what_it_cannot_hold(monkeypatch):
    monkeypatch.setattr("nanotx.tokenizers.words.MEMORY", 3)
    memory = PieceCache(lambda piece: None if "x" in piece else piece.encode())
    assert [memory[str(number)] for number in range(10)] == [b"%d" % number for number in range(10)]
    assert 0 < len(memory) <= 3 and memory["a" * 65] == b"a" * 65 and "a" * 65 not in memory
    assert memory.knows("9") and memory.knows("a") and not memory.knows("x")
    with pytest.raises(KeyError):
        memory["x"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": ["a", "b", "a"]}, "word: token 2: 'a' is a duplicate"),
        ({"words": ["a", ""]}, "word: token 1: '' is empty"),
        ({"words": []}, "word: expected at least one token, got none"),
        ({"words": ["a", "\ud800"]}, r"word: token 1: lone surrogate U\+D800"),
        ({"words": ["a", 1]}, r"word: words: expected list\[str\]"),
        ({"regex": "a"}, "word: regex: expected '.*, got 'a'"),
        ({"special_tokens": {"<unk>": 0}}, "word: id 0 is given to b' ' and to b'<unk>'"),
        ({"special_tokens": {"": 2}}, "word: special_tokens: ''"),
    ],
)
def test_flawed_file_is_refused(changes, message, tmp_path):
    path = tmp_path / "mine.json"
    Word(vocab_size=2).train(["a a "]).save(path)
    table = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message):
        load(path)


def test_codecs_of_different_words_differ():
    assert WordCodec(("a", "b")) == WordCodec(("a", "b")) != WordCodec(("b", "a"))
