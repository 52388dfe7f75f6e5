"""Sampling: the same with a cache and without, greedy when cold, within what top-k and top-p allow."""

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError, TextError
from nanotx.model import Model
from nanotx.past import Past
from nanotx.sample import Sampling, choose, generate, nucleus
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.write import overlap, write

MODEL = Model(dim=16, layers=2, context=8).build(12, seed=1).eval()
prompts = st.lists(st.integers(0, 11), min_size=1, max_size=20)


def drawn(ids, count, cached=True, **fields):
    return [int(one) for one in islice(generate(MODEL, torch.tensor([ids]), Sampling(**fields), cached), count)]


@given(ids=prompts, seed=st.integers(0, 99), temperature=st.sampled_from([0.0, 0.7, 3.0]))
def test_a_cache_changes_nothing_also_beyond_the_context(ids, seed, temperature):
    with_cache = drawn(ids, 25, temperature=temperature, seed=seed)
    assert with_cache == drawn(ids, 25, cached=False, temperature=temperature, seed=seed)


@given(ids=prompts)
def test_beyond_the_context_the_newer_half_is_read_anew(ids):
    window, greedy = ids[-8:], []
    for _ in range(20):
        best = int(MODEL.next_scores(torch.tensor([window])).argmax())
        greedy.append(best)
        window = [*(window[4:] if len(window) == 8 else window), best]
    assert drawn(ids, 20, temperature=0.0) == greedy


def test_a_seed_is_a_text_and_another_seed_another():
    texts = [drawn([1], 20, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@given(
    scores=st.lists(st.floats(-5, 5), min_size=2, max_size=9, unique=True), k=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_top_k_draws_among_the_k_best(scores, k, seed):
    best = sorted(range(len(scores)), key=lambda one: -scores[one])[:k]
    one = choose(torch.tensor([scores]), Sampling(top_k=k, temperature=9.0), torch.Generator().manual_seed(seed))
    assert int(one) in best or torch.tensor(scores)[int(one)] == torch.tensor(scores)[best[-1]]


@given(weights=st.lists(st.integers(1, 50), min_size=1, max_size=9), top_p=st.floats(0.01, 1.0))
def test_the_nucleus_is_the_fewest_best_that_reach_the_share(weights, top_p):
    p = torch.tensor([weights], dtype=torch.float64) / sum(weights)
    kept = nucleus(p, top_p)[0]
    chosen = kept[kept > 0]
    assert len(chosen) >= 1 and chosen.min() >= p[0][kept == 0].max() if (kept == 0).any() else True
    assert chosen.sum() >= top_p - 1e-9 or len(chosen) == len(weights)
    assert chosen.sum() - chosen.min() < top_p + 1e-9


def test_a_probability_is_drawn_as_often_as_it_says():
    generator, scores = torch.Generator().manual_seed(0), torch.tensor([[0.0, 1.0]]).expand(4000, 2)
    share = choose(scores, Sampling(temperature=0.5), generator).float().mean()
    assert share == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item(), abs=0.02)


def test_knobs_out_of_range_are_refused():
    for fields, match in [
        ({"temperature": -1.0}, "temperature: expected a number of at least 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k: expected a number of at least 1"),
        ({"top_p": 0.0}, r"top_p: expected a share above 0 and up to 1, got 0\.0"),
    ]:
        with pytest.raises(ConfigError, match=match):
            Sampling(**fields)


def test_a_fresh_model_generates_from_the_library():
    model = Model(dim=64, layers=4, context=64).build(vocab_size=100)
    ids = model.generate(torch.zeros(2, 1, dtype=torch.long), max_new_tokens=50)
    assert ids.shape == (2, 51) and ids.max() < 100
    assert model.generate(ids, max_new_tokens=0).equal(ids)


def test_a_text_longer_than_the_context_is_refused_by_the_model_itself():
    with pytest.raises(ConfigError, match="model: 9 tokens do not fit a context of 8"):
        MODEL(torch.zeros(1, 9, dtype=torch.long))
    past = Past()
    MODEL(torch.zeros(1, 6, dtype=torch.long), past)
    with pytest.raises(ConfigError, match="model: 9 tokens"):
        MODEL(torch.zeros(1, 3, dtype=torch.long), past)


class Parrot:
    """Says a text, byte by byte, whatever it is given."""

    context = 1000

    def __init__(self, text):
        self.bytes, self.said = text.encode("utf-8"), 0

    def next_scores(self, ids, past=None):
        self.said += 1
        return torch.nn.functional.one_hot(torch.tensor([self.bytes[self.said - 1]]), 256).float()


@given(text=st.text(min_size=1, max_size=30), stop=st.text(max_size=3))
def test_a_text_ends_before_its_stop_and_loses_nothing_else(text, stop):
    pieces = list(write(Parrot(text), Byte().learn([]), "x", len(text.encode()), Sampling(temperature=0.0), stop))
    assert "".join(pieces) == (text.partition(stop)[0] if stop else text)
    assert all(piece.encode("utf-8") is not None for piece in pieces)


@given(text=st.text("ab", max_size=8), stop=st.text("ab", min_size=1, max_size=4))
def test_the_overlap_is_what_may_become_the_stop(text, stop):
    length = overlap(text, stop)
    assert text.endswith(stop[:length])
    assert not any(text.endswith(stop[:longer]) for longer in range(length + 1, len(stop) + 1))


def test_a_prompt_with_an_unknown_character_is_refused():
    with pytest.raises(TextError, match=r"char: 'z' \(U\+007A\) at offset 1 is not in the alphabet of 3"):
        list(write(MODEL, Char().learn(["abc"]), "az", 3, Sampling()))
