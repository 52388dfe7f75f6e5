"""The corpus `repeats`: random strings, each twice; what it costs a reader who has read all before is known."""

import math
from itertools import islice

import pytest

from nanotx.data.corpus.repeats import ALPHABET, Repeats
from nanotx.errors import ConfigError
from nanotx.laws.corpora import split


def strings(text):
    """Split a text at the places where its strings end, which the first repeated character shows."""
    while text:
        length = next(place for place in range(1, len(text)) if text[place] == text[0])
        yield text[:length], text[length : 2 * length]
        text = text[2 * length :]


def test_text_is_strings_without_a_repeated_character_each_twice():
    pairs = list(islice(strings(Repeats(size=20_000).text()), 300))
    assert all(first == second and len(set(first)) == len(first) for first, second in pairs)
    assert {len(first) for first, _ in pairs} == set(range(4, 33))
    assert set("".join(first for first, _ in pairs)) == set(ALPHABET)
    assert [first for first, _ in pairs] == list(islice(Repeats().words(), 300))


def test_one_seed_gives_one_text_on_every_machine_and_a_longer_one_begins_with_it():
    assert Repeats(size=500).text() == Repeats(size=2000).text()[:500]
    assert Repeats(size=500).text() != Repeats(size=500, seed=2).text()
    assert Repeats(size=24, shortest=2, longest=6).text() == "0U0UEBPEBPfb0BVfb0BVBTBT"


def test_probabilities_of_the_next_character_sum_to_one():
    corpus = Repeats(shortest=3, longest=6)
    for offset in range(7):
        ends = 2.0 ** -corpus.surprisal(offset, offset) if offset >= 3 else 0.0
        others = len(ALPHABET) - offset
        continues = others * 2.0 ** -corpus.surprisal(6, offset) if offset < 6 else 0.0
        assert ends + continues == pytest.approx(1)
    assert corpus.surprisal(4, 5) == 0


def test_floor_is_the_mean_surprisal_of_the_validation_text():
    corpus = Repeats(size=9_000, shortest=2, longest=5, validation=0.25)
    total = 0.0
    for first, second in strings(corpus.text()[:8_000]):
        bits = math.log2(4) + sum(math.log2(62 - place) for place in range(len(first)))  # its length, its characters
        assert bits == pytest.approx(sum(corpus.surprisal(len(first), place) for place in range(2 * len(first))))
        total += bits if second else 0
    assert corpus.floor() == pytest.approx(total / 8_000, rel=0.02)


def test_repeats_obeys_the_law_of_corpora():
    split(Repeats(size=100))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size: expected a number of at least 1, got 0"),
        ({"longest": 63}, "longest: expected a number of at most 62, got 63"),
        ({"shortest": 9, "longest": 8}, "shortest=9 is more than longest=8"),
        ({"seed": -1}, "seed: expected a number of at least 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Repeats(**fields)
