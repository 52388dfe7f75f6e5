"""WordPiece against itself written slowly: every count anew for each merge, every match by trying all tokens."""

import json
import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from signing import signed

from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.laws.random_texts import PRIMER
from nanotx.tokenizers import load
from nanotx.tokenizers.wordpiece import WordPiece, WordPieceCodec
from nanotx.tokenizers.wordpiece.tokenizer import read_written, written
from nanotx.tokenizers.wordpiece.training import LONGEST, SCORES, alphabet_of, learn_tokens
from nanotx.tokenizers.words import WORDS, cut

few_letters = st.text("ab c\n#1é", max_size=80)
scores = st.sampled_from(sorted(SCORES))


def merged(row, pair, new):
    """The row with each occurrence of the pair, from left to right, made one."""
    out, at = [], 0
    while at < len(row):
        here = tuple(row[at : at + 2]) == pair
        out.append(new if here else row[at])
        at += 1 + here
    return out


def slow_learn(words, alphabet, wanted, least, score):
    """Count everything anew for each merge; ties go to the smallest pair of ids."""
    tokens = list(alphabet)
    rows = [[tokens.index((letter, not at)) for at, letter in enumerate(word)] for word in words]
    whole = sum(map(len, words))
    while len(tokens) < wanted:
        single = Counter(item for row in rows for item in row)
        pairs = Counter(pair for row in rows for pair in pairwise(row))
        value = {}
        for (a, b), count in pairs.items():
            if count >= least and len(tokens[a][0] + tokens[b][0]) <= LONGEST:
                ratio = count / (single[a] * single[b])
                value[a, b] = ratio if score == "ratio" else count * math.log(count * whole / (single[a] * single[b]))
        if not value:
            break
        best = min(value, key=lambda pair: (-value[pair], pair))
        rows = [merged(row, best, len(tokens)) for row in rows]
        tokens.append((tokens[best[0]][0] + tokens[best[1]][0], tokens[best[0]][1]))
    return tokens


def slow_encode(codec, text):
    """The longest token that fits, of all of them; None for a piece that has none."""
    ids = []
    for piece in cut(WORDS, text):
        at = 0
        while at < len(piece):
            fitting = [
                (len(token), index)
                for index, (token, begins) in enumerate(codec.tokens)
                if begins == (at == 0) and piece.startswith(token, at)
            ]
            if not fitting:
                return None
            length, result = max(fitting)
            ids.append(result)
            at += length
    return ids


@given(text=few_letters, more=st.integers(0, 60), least=st.integers(1, 3), score=scores)
@example(text="aaaa aaa aaaaaaa  aa", more=60, least=1, score="ratio")
@example(text="ab" * 40, more=60, least=1, score="gain")
def test_training_makes_the_tokens_of_a_recount(text, more, least, score):
    words = cut(WORDS, text)
    alphabet = alphabet_of(Counter(words))
    learned = learn_tokens(Counter(words), alphabet, len(alphabet) + more, least, score)
    assert learned == slow_learn(words, alphabet, len(alphabet) + more, least, score)
    assert len(set(learned)) == len(learned)


@given(score=scores, more=st.integers(0, 40))
def test_learning_from_sentences_is_as_slow_learning_is(score, more):
    words = cut(WORDS, PRIMER * 2 + PRIMER.upper())
    alphabet = alphabet_of(Counter(words))
    learned = learn_tokens(Counter(words), alphabet, len(alphabet) + more, 1, score)
    assert learned == slow_learn(words, alphabet, len(alphabet) + more, 1, score)


def test_two_scores_choose_as_they_say():
    def first(score):
        words = Counter({"ab": 90, "ac": 90, "ba": 10, "xy": 2})
        alphabet = alphabet_of(words)
        return learn_tokens(words, alphabet, len(alphabet) + 1, 1, score)[-1]

    assert first("ratio") == ("xy", True)  # 2 / (2 * 2) is more than 90 / (180 * 90)
    assert first("gain") == ("ab", True)  # 90 log(384 * 90 / (180 * 90)), as of ac, which is larger by ids


@given(learned=few_letters, text=few_letters, more=st.integers(0, 60), score=scores)
def test_encoding_takes_the_longest_that_fits_each_time(learned, text, more, score):
    words = Counter(cut(WORDS, learned + "a"))
    alphabet = alphabet_of(words)
    codec = WordPieceCodec(tuple(learn_tokens(words, alphabet, len(alphabet) + more, 1, score)))
    slow = slow_encode(codec, text)
    if slow is None:
        with pytest.raises(TextError, match="at offset"):
            codec.encode(text)
        return
    assert codec.encode(text).tolist() == slow == codec.encode(text).tolist()  # the second time from memory
    assert codec.decode(slow) == text


@given(learned=st.text(min_size=1, max_size=20), data=st.data())
@example(learned="e\u0301\x00\x85\u2028\U0001f469\u200d\U0001f680", data=None)
def test_any_text_of_the_characters_that_were_learned_has_ids(learned, data):
    alphabet = alphabet_of(Counter(cut(WORDS, learned)))
    codec = WordPiece(vocab_size=len(alphabet)).train([learned])
    assert codec.tokens == tuple(alphabet)
    text = learned[::-1] * 2 if data is None else data.draw(st.text(learned))
    assert codec.decode(codec.encode(text)) == text


def test_punctuation_marks_do_not_continue_a_word():
    assert alphabet_of({"b": 1, ".": 2, " ": 1}) == [(" ", True), (".", True), ("b", True), (" ", False), ("b", False)]


def test_word_is_its_beginning_and_its_continuations():
    codec = WordPiece(vocab_size=26, score="gain").train(["unaffable unable able affable\n"] * 3)
    assert [written(codec.tokens[token_id]) for token_id in codec.encode("unable  able")] == [
        "un", "##able", " ", "## ", "able",
    ]  # fmt: skip


def test_literal_mark_is_text():
    codec = WordPiece(vocab_size=8).train(["ab ## #a ###b##"])
    for text in ("##a", "a##a", "## a", "#a#", "###"):
        assert codec.decode(codec.encode(text)) == text
    assert codec.encode("##a").tolist() != codec.encode("aa").tolist()[1:]
    assert (
        read_written("##") == ("##", True) and read_written("###") == ("#", False) and read_written("#") == ("#", True)
    )


@given(text=st.text("#a ", min_size=1), begins=st.booleans())
def test_token_that_can_be_written_is_read_again_and_no_two_are_written_alike(text, begins):
    try:
        form = written((text, begins))
    except TokenizerError as error:
        assert begins and text.startswith("##") and f"{text!r} begins a piece, but is written like" in str(error)
    else:
        assert read_written(form) == (text, begins)


def test_codec_of_tokens_that_are_written_alike_is_refused():
    with pytest.raises(TokenizerError, match="the token '##a' begins a piece, but is written like 'a' continuing"):
        WordPieceCodec((("##a", True), ("a", False)))
    with pytest.raises(TokenizerError, match="wordpiece: a token is empty"):
        WordPieceCodec((("", False), ("a", False)))


def test_word_with_an_unknown_character_is_unk_as_a_whole_or_refused_there():
    codec = WordPiece(vocab_size=12, unknown=True).train(["abc ab."])
    assert codec.decode(codec.encode("ab axb  ab")) == "ab <unk>  ab"
    assert codec.encode("éé").tolist() == [codec.special_tokens["<unk>"]] and not codec.round_trips("x")
    with pytest.raises(TextError, match=r"wordpiece: lone surrogate U\+D800 at offset 2"):
        codec.encode("x.\ud800")
    codec = WordPiece(vocab_size=11).train(["abc ab."])
    expected = r"wordpiece: 'x' \(U\+0078\) at offset 4, in 'axb', is beyond the 11 tokens; try without it"
    with pytest.raises(TextError, match=expected):
        codec.encode("ab axb")
    with pytest.raises(TextError, match=r"lone surrogate U\+D800 at offset 2"):
        codec.encode("a.\ud800x")


def test_vocabulary_from_elsewhere_refuses_a_word_that_it_cannot_make():
    codec = WordPieceCodec((("ab", True), ("c", False), (" ", True)), ids=(5, 0, 3))
    assert codec.encode("ab abc").tolist() == [5, 3, 5, 0] and codec.vocab_size == 6
    with pytest.raises(TextError, match=r"'a' \(U\+0061\) at offset 3, in 'aba', is beyond the 3 tokens"):
        codec.encode("ab aba")
    with pytest.raises(TextError, match=r"'a' \(U\+0061\) at offset 0, in 'ax'"):
        codec.encode("ax")
    with pytest.raises(TextError, match="id 1 at index 0 is undefined"):
        codec.decode([1])


def test_invalid_sizes_are_refused_with_valid_ones():
    text = ["ab abc."]
    with pytest.raises(TokenizerError, match=r"vocab_size=8 is too small: these texts need at least 9, for each char"):
        WordPiece(vocab_size=8).train(text)
    with pytest.raises(
        TokenizerError, match=r"cannot be reached: these texts allow 11; try --tokenizer.vocab-size 11,"
    ):
        WordPiece(vocab_size=12).train(text)
    with pytest.raises(TokenizerError, match=r"these texts allow 12 of min_frequency=2"):
        WordPiece(vocab_size=13, min_frequency=2, unknown=True, special_tokens=("<|x|>",)).train(text)
    for size in (9, 10, 11):
        assert WordPiece(vocab_size=size).train(text).vocab_size == size
    with pytest.raises(TokenizerError, match="wordpiece: an empty text has no words"):
        WordPiece().train(iter([]))
    with pytest.raises(TextError, match=r"wordpiece: lone surrogate U\+D800 at offset 1"):
        WordPiece().train(["a\ud800"])
    with pytest.raises(ConfigError, match="vocab_size: expected a number of at least 2, got 1"):
        WordPiece(vocab_size=1, unknown=True)


@given(several=st.lists(st.text("abc ", max_size=30)), score=scores)
def test_learning_is_blind_to_the_order_of_texts_and_reads_them_once(several, score):
    def train(texts):
        try:
            return WordPiece(vocab_size=12, score=score).train(texts)
        except TokenizerError as error:
            return str(error)

    assert train(several) == train(item for item in several) == train(several[::-1])


def test_no_token_crosses_texts_or_special_tokens():
    codec = WordPiece(vocab_size=9, special_tokens=("<|x|>",)).train(["ab<|x|>cd", "ab", "cd"] * 2)
    assert [token for token, _ in codec.tokens[8:]] == [] and codec.special_tokens == {"<|x|>": 8}
    with pytest.raises(TokenizerError, match="these texts allow 11"):
        WordPiece(vocab_size=20, special_tokens=("<|x|>",)).train(["ab<|x|>cd", "ab", "cd"] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("letters", ["a" * 100_000, "abcde" * 20_000, " " * 100_000, "." * 20_000, "é\u0301" * 20_000])
def test_long_piece_is_trained_on_and_encoded(letters):
    codec = WordPiece(vocab_size=30, score="gain").train([letters, "all sorts of words"])
    ids = codec.encode(letters)
    assert codec.decode(ids) == letters and (len(ids) < 0.6 * len(letters) or letters[0] == ".")


def test_no_token_grows_beyond_its_limit():
    with pytest.raises(TokenizerError, match=r"these texts allow (\d+)") as caught:
        WordPiece(vocab_size=1000).train(["a" * 1000])
    most = int(str(caught.value).split("allow ")[1].split(";")[0])
    codec = WordPiece(vocab_size=most).train(["a" * 1000])
    assert LONGEST // 2 < max(len(text) for text, _ in codec.tokens) <= LONGEST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": ["a", "##a", "a"]}, "wordpiece: token 2: 'a' is a duplicate"),
        ({"tokens": ["a", ""]}, "wordpiece: a token is empty"),
        ({"tokens": []}, "wordpiece: expected at least one token, got none"),
        ({"tokens": ["a", "##" + "b" * 257]}, "wordpiece: token 1: expected at most 256 characters, got 257"),
        ({"tokens": ["\udfff"]}, r"wordpiece: token 0: lone surrogate U\+DFFF"),
        ({"regex": "."}, r"wordpiece: regex: expected .*, got '\.'"),
        ({"ids": [1]}, "wordpiece: 1 ids for 2 tokens; expected one each, or none"),
        ({"special_tokens": {"<unk>": 1}}, "wordpiece: id 1 is given to b'a' and to b'<unk>'"),
        ({"special_tokens": {"": 2}}, "wordpiece: special_tokens: ''"),
        ({"nfc": 1}, "wordpiece: nfc: expected bool"),
    ],
)
def test_flawed_file_is_refused(changes, message, tmp_path):
    path = tmp_path / "mine.json"
    WordPiece(vocab_size=2).train(["aaa"]).save(path)
    table = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message):
        load(path)
