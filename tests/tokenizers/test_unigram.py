"""Unigram against itself written slowly: every way to cut a piece, one by one."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from signing import signed

from nanotx.cli.commands.tokenizer import encode
from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.laws.random_texts import PRIMER
from nanotx.tokenizers import load
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.unigram import Unigram, UnigramCodec, training
from nanotx.tokenizers.unigram.lattice import Lattice
from nanotx.tokenizers.unigram.training import (
    LONGEST,
    Row,
    expected,
    learn_scores,
    levels,
    losses,
    scores_of,
    seeded,
    stretched,
)
from nanotx.tokenizers.words import SPACED, cut

few_letters = st.text("abc", min_size=1, max_size=8)
several_pieces = st.dictionaries(
    few_letters | st.text("ab \n\0é", min_size=1, max_size=6), st.integers(1, 5), min_size=1
)


def ways(piece, tokens):
    """Every way to cut a piece into tokens."""
    if not piece:
        yield []
    for end in range(1, len(piece) + 1):
        if piece[:end] in tokens:
            yield from ([piece[:end], *rest] for rest in ways(piece[end:], tokens))


def score_of(way, scores):
    """From left to right, as all sums of scores are."""
    total = 0.0
    for token in way:
        total += scores[token]
    return total


def slow_counts(pieces, longest, least):
    """How often each substring occurs, of those that occur often enough, and every character."""
    counts = Counter()
    for piece, count in pieces.items():
        for start in range(len(piece)):
            for end in range(start + 1, min(start + longest, len(piece)) + 1):
                counts[piece[start:end]] += count
    return {token: count for token, count in counts.items() if len(token) == 1 or count >= least}


def slow_expected(pieces, scores):
    """Each way's tokens, by the way's share of all."""
    result = dict.fromkeys(scores, 0.0)
    for piece, count in pieces.items():
        weights = {tuple(way): math.exp(score_of(way, scores)) for way in ways(piece, scores)}
        for way, weight in weights.items():
            for token in way:
                result[token] += count * weight / sum(weights.values())
    return result


@st.composite
def vocabularies(draw, letters="abc"):
    """Tokens with scores: all letters and some longer ones."""
    longer = draw(st.lists(st.text(letters, min_size=2, max_size=4), max_size=12, unique=True))
    tokens = [*letters, *longer]
    # few values, so that there are ties, and sums of them are exact
    numbers = st.sampled_from([-1.0, -2.0, -2.5, -3.0, -4.0])
    return dict(zip(tokens, draw(st.lists(numbers, min_size=len(tokens), max_size=len(tokens))), strict=True))


def lattice_of(scores, unknown=None):
    return Lattice({token: (score, index) for index, (token, score) in enumerate(scores.items())}, unknown)


@given(scores=vocabularies(), piece=few_letters)
def test_likeliest_segmentation_is_the_best_of_all_and_ends_in_the_longest_token(scores, piece):
    names = list(scores)
    best = [names[item] for item in lattice_of(scores).best(piece)]
    assert "".join(best) == piece
    top = max(score_of(way, scores) for way in ways(piece, scores))
    tied = [way for way in ways(piece, scores) if score_of(way, scores) == top]
    assert best == max(tied, key=lambda way: [len(token) for token in reversed(way)])


@given(
    scores=vocabularies("ab"), piece=st.text("ab", min_size=1, max_size=5), alpha=st.sampled_from([0.0, 0.3, 1.0, 2.0])
)
def test_segmentation_is_drawn_as_often_as_it_is_likely(scores, piece, alpha):
    names, lattice, dice, draws = list(scores), lattice_of(scores), np.random.default_rng(0), 2000
    weights = {tuple(way): math.exp(alpha * score_of(way, scores)) for way in ways(piece, scores)}
    drawn = Counter(tuple(names[item] for item in lattice.drawn(piece, dice, alpha)) for _ in range(draws))
    assert drawn.keys() <= weights.keys()
    for way, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(drawn[way] / draws - share) < 5 * math.sqrt(share * (1 - share) / draws) + 2 / draws


@given(pieces=several_pieces, longest=st.integers(1, 6), least=st.integers(1, 6))
def test_each_substring_is_counted_and_numbered_in_the_order_of_code_points(pieces, longest, least):
    row, result, counts = Row(pieces), {}, slow_counts(pieces, longest, least)
    for length, level in enumerate(levels(row, longest, least), 1):
        names = {}
        for at, number in enumerate(level.at.tolist()):
            if number >= 0:
                assert names.setdefault(number, row.text[at : at + length]) == row.text[at : at + length]
        assert [names[number] for number in sorted(names)] == sorted(names.values())
        result |= {names[number]: count for number, count in enumerate(level.counts.tolist())}
    assert result == counts


@given(pieces=several_pieces, wanted=st.integers(1, 3), least=st.integers(1, 3))
def test_seeds_are_the_characters_and_the_best_by_count_times_length(pieces, wanted, least):
    field, possible = seeded(pieces, wanted, least)
    counts = slow_counts(pieces, LONGEST, least)
    letters = sorted(token for token in counts if len(token) == 1)
    others = [token for token in counts if len(token) > 1]
    others.sort(key=lambda token: (-counts[token] * len(token), -len(token), token))
    assert field.tokens() == letters + others[: training.SEEDS * wanted]
    assert possible == len(counts) and field.letters == len(letters)
    assert training._occurrences(field).tolist() == [counts[token] for token in field.tokens()]


@given(pieces=several_pieces, seed=st.integers(0, 99))
def test_expected_counts_are_those_over_every_way(pieces, seed):
    field, _ = seeded(pieces, 2, 1)
    scores = np.log(np.random.default_rng(seed).dirichlet(np.ones(len(field.sizes))))
    slow = slow_expected(pieces, dict(zip(field.tokens(), scores.tolist(), strict=True)))
    assert np.allclose(expected(field, scores), list(slow.values()))


@given(pieces=several_pieces, seed=st.integers(0, 99))
def test_pruning_loss_is_the_expected_count_times_the_cost_of_the_next_best_cut(pieces, seed):
    field, _ = seeded(pieces, 2, 1)
    dice = np.random.default_rng(seed)
    scores, counts = np.log(dice.dirichlet(np.ones(len(field.sizes)))), dice.random(len(field.sizes))
    by_token = dict(zip(field.tokens(), scores.tolist(), strict=True))
    for token, count, loss in zip(by_token, counts, losses(field, scores, counts), strict=True):
        others = {other: score for other, score in by_token.items() if other != token}
        if len(token) == 1:
            assert loss == math.inf
        else:
            otherwise = max(score_of(way, others) for way in ways(token, others))
            assert math.isclose(loss, count * (by_token[token] - otherwise), rel_tol=1e-9, abs_tol=1e-12)


@given(pieces=several_pieces, data=st.data())
def test_pruned_field_is_that_of_the_remaining_tokens(pieces, data):
    field, _ = seeded(pieces, 2, 1)
    alive = np.array([token < field.letters or data.draw(st.booleans()) for token in range(len(field.sizes))])
    left = field.filtered(alive)
    assert left.tokens() == [token for token, lives in zip(field.tokens(), alive, strict=True) if lives]
    scores = dict.fromkeys(left.tokens(), -1.0)
    assert np.allclose(expected(left, np.array(list(scores.values()))), list(slow_expected(pieces, scores).values()))


@given(pieces=several_pieces, rounds=st.integers(1, 4))
def test_texts_become_no_less_likely_in_a_round_of_em(pieces, rounds):
    def likelihood(scores):
        named = dict(zip(field.tokens(), scores.tolist(), strict=True))
        return sum(
            count * math.log(sum(math.exp(score_of(way, named)) for way in ways(piece, named)))
            for piece, count in pieces.items()
        )

    field, _ = seeded(pieces, 2, 1)
    scores = scores_of(training._occurrences(field))
    for _ in range(rounds):
        better = scores_of(expected(field, scores))
        # what keeps a faint token's score takes a little from the others
        assert likelihood(better) >= likelihood(scores) - 0.02 * len(scores)
        scores = better


@given(pieces=several_pieces, wanted=st.integers(1, 30), least=st.integers(1, 3))
def test_what_is_learned_is_of_the_size_asked_for_and_holds_every_character(pieces, wanted, least):
    scores, possible = learn_scores(pieces, wanted, least)
    letters = set("".join(pieces))
    assert possible == len(slow_counts(pieces, LONGEST, least))
    assert len(scores) == max(len(letters), min(wanted, possible)) and letters <= scores.keys()
    assert list(scores.items()) == sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    assert abs(sum(map(math.exp, scores.values())) - 1) < 1e-4
    assert learn_scores(dict(reversed(pieces.items())), wanted, least) == (scores, possible)


@given(pieces=several_pieces)
def test_pruning_drops_the_tokens_of_the_least_loss(pieces):
    field, _ = seeded(pieces, 10**6, 1)
    size = len(field.sizes)
    wanted = max(int(size * training.KEPT), field.letters)  # so that it prunes once
    counts = training._occurrences(field)
    for _ in range(training.ROUNDS):
        counts = expected(field, scores_of(counts))
    loss = dict(zip(field.tokens(), losses(field, scores_of(counts), counts).tolist(), strict=True))
    kept, _ = learn_scores(pieces, wanted, 1)
    dropped = [loss[token] for token in loss if token not in kept]
    assert len(dropped) == size - wanted and max(dropped, default=0.0) <= min(loss[token] for token in kept)


def test_words_that_recur_become_tokens_with_the_space_before_them():
    codec = Unigram(vocab_size=40).train([PRIMER * 3])
    assert {" the", " is"} <= set(codec.tokens)
    assert [codec.tokens[token_id] for token_id in codec.encode(" is the sun.")][:2] == [" is", " the"]
    assert codec.scores[0] == max(codec.scores) and codec.vocab_size == 40


def test_long_piece_is_trained_on_in_segments():
    assert stretched({"a" * 300: 2, "a" * 44: 1, "b": 1}) == {"a" * 128: 4, "a" * 44: 3, "b": 1}


@pytest.mark.parametrize("letters", ["a" * 100_000, "abcde" * 20_000, " " * 100_000, "é\u0301" * 50_000])
def test_long_text_without_a_word_boundary_is_trained_on_encoded_and_sampled(letters):
    codec = Unigram(vocab_size=len(set(letters)) + 5).train([letters])
    ids = codec.encode(letters)
    assert codec.decode(ids) == letters and len(ids) < 0.6 * len(letters)
    assert max(map(len, codec.tokens)) <= LONGEST
    few = letters[:5000]
    assert codec.decode(codec.sample(few, np.random.default_rng(0), 0.5)) == few


def test_training_on_a_long_run_of_random_letters_takes_bounded_memory():
    dice = np.random.default_rng(0)
    letters = "".join(chr(97 + item) for item in dice.integers(0, 26, 20_000))
    codec = Unigram(vocab_size=300).train([letters])
    assert codec.decode(codec.encode(letters)) == letters


def test_sampling_gives_the_text_back_and_the_likeliest_cut_at_a_high_alpha():
    codec, dice = Unigram(vocab_size=60).train([PRIMER * 2]), np.random.default_rng(1)
    drawn = {tuple(codec.sample(PRIMER, dice, 0.2).tolist()) for _ in range(20)}
    assert len(drawn) > 3 and {codec.decode(ids) for ids in drawn} == {PRIMER}
    assert codec.sample(PRIMER, dice, 1e4).tolist() == codec.encode(PRIMER).tolist()
    again = [codec.sample(PRIMER, np.random.default_rng(7)).tolist() for _ in range(2)]
    assert again[0] == again[1] and codec.sample("", dice).tolist() == []


def test_sampling_says_what_it_cannot():
    codec, dice = Unigram(vocab_size=3).train(["abc"]), np.random.default_rng(1)
    for alpha in (-0.5, math.nan, math.inf):
        with pytest.raises(ConfigError, match="unigram: alpha: expected a number of at least 0, got"):
            codec.sample("abc", dice, alpha)
    with pytest.raises(TextError, match=r"unigram: 'd' \(U\+0064\) at offset 1 is not one of the 3 known characters"):
        codec.sample("ad", dice)
    composing = Unigram(vocab_size=2, nfc=True).train(["ée\u0301e"])
    assert composing.decode(composing.sample("e\u0301e", dice)) == "ée"


def test_unknown_character_is_refused_with_its_offset():
    codec = Unigram(vocab_size=4).train(["ab b"])
    with pytest.raises(TextError, match=r"unigram: 'x' \(U\+0078\) at offset 4 is not one of the 3 known characters"):
        codec.encode("ab bx\ud800")
    with pytest.raises(TextError, match=r"unigram: lone surrogate U\+D800 at offset 1"):
        codec.encode("a\ud800x")


def test_run_of_unknown_characters_becomes_one_unk():
    codec = Unigram(vocab_size=6, unknown=True).train(["abab b"])
    assert codec.decode(codec.encode("abxyab z b")) == "ab<unk>ab <unk> b"
    assert codec.decode(codec.encode("xx")) == "<unk>" and not codec.round_trips("x") and codec.round_trips("ab")
    assert codec.decode(codec.sample("xabx", np.random.default_rng(0))) == "<unk>ab<unk>"
    with pytest.raises(TextError, match=r"unigram: lone surrogate U\+D800 at offset 2"):
        codec.encode("xa\ud800")


@given(scores=vocabularies("ab"), piece=st.text("abxy", max_size=10))
def test_unknown_characters_leave_the_cut_of_the_others_as_it_was(scores, piece):
    lattice = lattice_of(scores, unknown=99)
    slow, at = [], 0
    while at < len(piece):
        end = at
        while end < len(piece) and (piece[end] in "ab") == (piece[at] in "ab"):
            end += 1
        slow += lattice.best(piece[at:end]) if piece[at] in "ab" else [99]
        at = end
    assert np.frombuffer(lattice(piece), np.int32).tolist() == slow


def test_invalid_sizes_are_refused_with_valid_ones():
    text = ["ab ab"]
    with pytest.raises(TokenizerError, match=r"vocab_size=2 is too small: these texts need at least 3, for each char"):
        Unigram(vocab_size=2).train(text)
    with pytest.raises(
        TokenizerError, match=r"cannot be reached: these texts allow 6; try --tokenizer.vocab-size 6, or"
    ):
        Unigram(vocab_size=7).train(text)
    with pytest.raises(TokenizerError, match=r"these texts allow 6 of min_frequency=2"):
        Unigram(vocab_size=7, min_frequency=2, unknown=True, special_tokens=("<|x|>",)).train(text)
    for size in (3, 4, 5, 6):
        assert Unigram(vocab_size=size).train(text).vocab_size == size
    with pytest.raises(TokenizerError, match="unigram: an empty text has no words"):
        Unigram().train(iter([]))
    with pytest.raises(TextError, match=r"unigram: lone surrogate U\+D800 at offset 1"):
        Unigram().train(["a\ud800"])
    with pytest.raises(ConfigError, match="vocab_size: expected a number of at least 3, got 2"):
        Unigram(vocab_size=2, unknown=True, special_tokens=("<|x|>",))


@given(several=st.lists(st.text("ab \n\0\x85\u2028\u0301", max_size=30)))
def test_learning_is_blind_to_the_order_of_texts_and_reads_them_once(several):
    def train(texts):
        try:
            return Unigram(vocab_size=9).train(texts)
        except TokenizerError as error:
            return str(error)

    assert train(several) == train(item for item in several) == train(several[::-1])


def test_no_token_crosses_texts_or_special_tokens():
    with pytest.raises(TokenizerError, match="these texts allow 7;"):  # a, b, c, d, ab, cd and the special
        Unigram(vocab_size=20, special_tokens=("<|x|>",)).train(["ab<|x|>cd", "ab", "cd"])


@given(learned=st.text(min_size=1), data=st.data())
def test_any_text_of_the_characters_that_were_learned_comes_back(learned, data):
    assume(cut(SPACED, learned))
    codec = Unigram(vocab_size=len(set(learned))).train([learned])
    text = data.draw(st.text(learned))
    assert codec.decode(codec.encode(text)) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": ["a", "a"]}, "unigram: token 1: 'a' is a duplicate"),
        ({"tokens": ["a", "ab"]}, "unigram: 'ab' is a token, but its character 'b' is not one; expected all of them"),
        ({"tokens": ["a", "a" * 257]}, "unigram: token 1: expected at most 256 characters, got 257"),
        ({"tokens": [], "scores": []}, "unigram: expected at least one token, got none"),
        ({"scores": [0.5]}, "unigram: 1 scores for 2 tokens; expected one each"),
        ({"scores": [0.5, math.nan]}, "a number in it is NaN or infinite"),
        ({"scores": [0.5, 2e6]}, r"unigram: score 1: expected a number from -1e\+06 to 1e\+06, got 2000000\.0"),
        ({"scores": [0.5, -1e300]}, r"unigram: score 1: .*got -1e\+300"),
        ({"scores": [0.5, 1]}, r"unigram: scores: expected list\[float\]"),
        ({"regex": "."}, r"unigram: regex: expected .*, got '\.'"),
        ({"ids": [1, 1]}, "unigram: id 1 is given to b'a' and to b'aa'"),
        ({"special_tokens": {"": 2}}, "unigram: special_tokens: ''"),
    ],
)
def test_flawed_file_is_refused(changes, message, tmp_path):
    path = tmp_path / "mine.json"
    Unigram(vocab_size=2).train(["aa"]).save(path)
    table = json.loads(path.read_text(encoding="utf-8")) | {"tokens": ["a", "aa"]} | changes
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message):
        load(path)


def test_codec_with_ids_of_its_own_uses_them():
    codec = UnigramCodec(("a", "b", "ab"), (-2.0, -2.0, -1.0), ids=(7, 0, 3))
    assert codec.encode("aab").tolist() == [7, 3] and codec.decode([7, 3]) == "aab" and codec.vocab_size == 8
    assert codec.sample("aab", np.random.default_rng(0), 1e3).tolist() == [7, 3]


def test_command_samples_segmentations_reproducibly(tmp_path, capsys):
    Unigram(vocab_size=24).train(["the then there thence " * 9]).save(tmp_path / "mine.json")
    (tmp_path / "text.txt").write_text("then there", encoding="utf-8")

    def ids(*words):
        assert encode.run([str(tmp_path / "mine.json"), str(tmp_path / "text.txt"), *words]) == 0
        return capsys.readouterr().out

    rows = {ids("--alpha", "0.1", "--seed", str(seed)) for seed in range(20)}
    assert len(rows) > 5 and ids("--alpha", "0.1", "--seed", "3") in rows
    codec = load(tmp_path / "mine.json")
    Byte().train([]).save(tmp_path / "byte.json")
    assert {codec.decode(list(map(int, row.split()))) for row in rows} == {"then there"}
    with pytest.raises(ConfigError, match=r"--alpha draws a segmentation .* this tokenizer is byte"):
        encode.run([str(tmp_path / "byte.json"), str(tmp_path / "text.txt"), "--alpha", "1"])
