"""Logits processors: each leaves what its definition says, draws as often as it says, and refuses what it cannot be."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.generation import Sampling
from nanotx.generation.engine import BatchEngine
from nanotx.generation.sampler import Sampler, min_p_mask, penalize_repetition, top_k_mask, top_p_mask, typical_mask
from nanotx.nn.transformer import Model

weights = st.lists(st.integers(1, 50), min_size=1, max_size=9)
SCORES = [1.5, 0.2, -0.4, 0.9, -2.0, 1.1]
PROMPT = [0, 0, 4]


def softmax(logits):
    top = max(logits)
    grown = [math.exp(logit - top) for logit in logits]
    return [item / sum(grown) for item in grown]


def kept(probabilities, ids):
    """The distribution of these alone."""
    total = sum(probabilities[token_id] for token_id in ids)
    return [probabilities[number] / total if number in ids else 0.0 for number in range(len(probabilities))]


def reaching(probabilities, order, share):
    """The first of an order, until the share is reached."""
    ids = []
    while sum(probabilities[token_id] for token_id in ids) < share:
        ids.append(order[len(ids)])
    return ids


def tabled(p):
    return torch.tensor([p], dtype=torch.float64)


# What each leaves.


@given(logits=st.lists(st.integers(-3, 3), min_size=1, max_size=9), count=st.integers(1, 12))
def test_top_k_keeps_the_k_best_and_of_equal_ones_the_first(logits, count):
    order = sorted(range(len(logits)), key=lambda index: (-logits[index], index))
    assert top_k_mask(torch.tensor([logits]).float(), count)[0].nonzero().flatten().tolist() == sorted(order[:count])


@given(weights=weights, top_p=st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_best_that_reach_the_probability(weights, top_p):
    p = torch.tensor([weights], dtype=torch.float64) / sum(weights)
    inside = top_p_mask(p, top_p)[0]
    chosen = p[0][inside]
    assert len(chosen) >= 1 and (inside.all() or chosen.min() >= p[0][~inside].max())
    assert chosen.sum() >= top_p - 1e-9 and chosen.sum() - chosen.min() < top_p + 1e-9


@given(weights=weights, share=st.floats(0.0, 0.99))
def test_min_p_keeps_what_is_at_least_a_share_as_likely_as_the_best(weights, share):
    p = [tensor / sum(weights) for tensor in weights]
    assert min_p_mask(tabled(p), share)[0].tolist() == [probability >= share * max(p) for probability in p]


@given(weights=weights, share=st.floats(0.01, 1.0))
def test_typical_tokens_are_those_nearest_to_the_entropy_that_reach_the_share(weights, share):
    p = tabled([tensor / sum(weights) for tensor in weights])
    inside = typical_mask(p, share)[0]
    entropy = -sum(probability * math.log(probability) for probability in p[0].tolist())
    distance = (-p[0].log() - entropy).abs()
    assert inside.any() and (inside.all() or distance[inside].max() <= distance[~inside].min() + 1e-9)
    assert p[0][inside].sum() >= share - 1e-9
    assert p[0][inside].sum() - p[0][inside][distance[inside].argmax()] < share + 1e-9 or inside.all()


def test_typical_may_leave_out_the_best_token():
    p = [0.4, *[0.05] * 12]  # an entropy of 2.16 nats; a surprise of 0.92, and twelve of 3.00, which are nearer
    assert typical_mask(tabled(p), 0.52)[0].tolist() == [False, *[True] * 11, False]


def test_token_masked_by_one_processor_stays_masked():
    p = torch.tensor([[0.0, 0.7, 0.3]])
    for choose in (top_p_mask, typical_mask):
        assert choose(p, 1.0)[0].tolist() == [False, True, True]


@given(logit=st.floats(-5, 5), penalty=st.floats(1, 4))
def test_repetition_penalty_never_raises_a_token_that_was_generated(logit, penalty):
    logits = torch.tensor([[logit, logit]])
    changed = penalize_repetition(logits, torch.tensor([[True, False]]), penalty)[0]
    assert changed[0] <= logits[0, 0] and changed[1] == logits[0, 1]
    assert changed[0] == pytest.approx(logit / penalty if logit > 0 else logit * penalty, abs=1e-5)


# How often each is drawn: 20,000 rows against the definition, written out by hand.


def by_hand(name):
    """The field, and the exact distribution under it."""
    p = softmax(SCORES)
    ranked = sorted(range(6), key=lambda index: -p[index])
    entropy = -sum(probability * math.log(probability) for probability in p)
    by_surprise = sorted(range(6), key=lambda index: abs(-math.log(p[index]) - entropy))
    seen = [1.5 / 1.8, 0.2, -0.4, 0.9, -2.0 * 1.8, 1.1]
    biased = [1.5, 0.2, -0.4 + 2.5, 0.9 - 1.0, -2.0, 1.1]
    hot = softmax([item / 1.7 for item in SCORES])
    return {
        "temperature": ({"temperature": 1.7}, hot),
        "top_k": ({"top_k": 3}, kept(p, ranked[:3])),
        "top_p": ({"top_p": 0.7}, kept(p, reaching(p, ranked, 0.7))),
        "min_p": ({"min_p": 0.3}, kept(p, [number for number in range(6) if p[number] >= 0.3 * max(p)])),
        "typical": ({"typical": 0.5}, kept(p, reaching(p, by_surprise, 0.5))),
        "repetition_penalty": ({"repetition_penalty": 1.8}, softmax(seen)),
        "banned_tokens": ({"banned_tokens": (0, 5)}, kept(p, [1, 2, 3, 4])),
        "bias": ({"bias": ((2, 2.5), (3, -1.0))}, softmax(biased)),
        "in order": ({"temperature": 1.7, "top_k": 4, "top_p": 0.6}, ordered(hot, ranked)),
    }[name]


def ordered(hot, ranked):
    """First the temperature, then the four best, then top-p among these."""
    four = kept(hot, ranked[:4])
    return kept(four, reaching(four, ranked, 0.6))


def surprise(counts, chances):
    """Pearson's chi-square, in deviations from its mean: beyond 5 it is not chance."""
    total = sum(counts)
    assert all(count == 0 for count, chance in zip(counts, chances, strict=True) if chance == 0)
    pairs = [(count, total * chance) for count, chance in zip(counts, chances, strict=True) if chance > 0]
    free = len(pairs) - 1
    return (sum((count - mean) ** 2 / mean for count, mean in pairs) - free) / math.sqrt(2 * free)


FIELDS = ["temperature", "top_k", "top_p", "min_p", "typical", "repetition_penalty", "banned_tokens", "bias"]


@pytest.mark.parametrize("name", [*FIELDS, "in order"])
def test_processor_draws_as_often_as_its_definition_says(name):
    fields, chances = by_hand(name)
    rows = 20_000
    sampler = Sampler(Sampling(**{"temperature": 1.0, "seed": 7} | fields), [PROMPT] * rows)
    ids = sampler.draw(torch.tensor([SCORES]).expand(rows, -1))
    counts = torch.bincount(ids, minlength=6).tolist()
    assert surprise(counts, chances) < 5
    assert surprise(counts, softmax(SCORES)) > 5 if all(chances) else 0.0 in chances  # the test would see it missing


def test_frequency_and_presence_count_what_was_drawn_and_not_the_prompt():
    rows, message = 20_000, [3, 3, 1]
    sampling = Sampling(temperature=1.0, frequency_penalty=0.4, presence_penalty=0.7)
    sampler = Sampler(sampling, [PROMPT] * rows)
    for item in message:
        sampler.processors.record(torch.full((rows,), item))
    counts = torch.bincount(sampler.draw(torch.tensor([SCORES]).expand(rows, -1)), minlength=6).tolist()
    changed = [entry - 0.4 * message.count(at) - 0.7 * (at in message) for at, entry in enumerate(SCORES)]
    assert surprise(counts, softmax(changed)) < 5 < surprise(counts, softmax(SCORES))


# In a text.


def test_greedy_texts_heed_bans_biases_and_penalties():
    model = Model(dim=16, layers=2, context=8).build(12, seed=1).eval()

    def written(**fields):
        return BatchEngine(model, [[1, 2]], Sampling(temperature=0.0, **fields), 30).run()[0]

    usual = written()
    assert usual[0] not in written(banned_tokens=(usual[0],))
    assert written(bias=((5, 1e4),)) == [5] * 30
    assert len(set(written(presence_penalty=1e4)[:12])) == 12  # each once, before any comes again
    assert len(set(written(frequency_penalty=1e4)[12:24])) == 12  # and each twice
    assert written(repetition_penalty=1.0) == usual


# What they cannot be.


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"temperature": -1.0}, "temperature: expected a number of at least 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature: expected a number of at least 0, got nan"),
        ({"top_k": 0}, "top_k: expected a number of at least 1, got 0"),
        ({"top_p": 0.0}, r"top_p: expected a number above 0, at most 1, got 0\.0"),
        ({"top_p": 1.5}, r"top_p: expected a number above 0, at most 1, got 1\.5"),
        ({"min_p": 1.0}, r"min_p: expected a fraction from 0 up to but not including 1, got 1\.0"),
        ({"min_p": -0.1}, r"min_p: expected a fraction from 0 up to but not including 1, got -0\.1"),
        ({"typical": 0.0}, r"typical: expected a number above 0, at most 1, got 0\.0"),
        ({"typical": float("nan")}, "typical: expected a number above 0, at most 1, got nan"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty: expected a number of at least 1e-06, got 0\.0"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty: expected a number of at most 1,000,000, got inf"),
        ({"presence_penalty": float("nan")}, "presence_penalty: expected a number of at least -1,000,000, got nan"),
        (
            {"bias": ((1, float("-inf")),)},
            "bias: id 1: expected a number of at least -1,000,000, got -inf; ban a token",
        ),
        ({"seed": -1}, "seed: expected a number of at least 0, got -1"),
    ],
)
def test_fields_out_of_range_are_refused(fields, match):
    with pytest.raises(ConfigError, match=match):
        Sampling(**fields)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"banned_tokens": (6,)}, "banned_tokens: expected ids from 0 to 5, got 6"),
        ({"bias": ((-1, 1.0),)}, "bias: expected ids from 0 to 5, got -1"),
        ({"banned_tokens": tuple(range(6))}, "banned_tokens: expected to leave one of 6 ids at least"),
    ],
)
def test_invalid_ids_are_refused(fields, match):
    with pytest.raises(ConfigError, match=match):
        Sampler(Sampling(**fields), [PROMPT]).draw(torch.tensor([SCORES]))


@given(banned=st.lists(st.integers(0, 5), max_size=14))
@example(banned=[0, 0, 1, 2, 3, 3])
@example(banned=[0, 1, 2, 3, 4, 5, 0])
def test_banned_ids_are_a_set_whatever_their_order_and_however_often_each_is_named(banned):
    def chances(ids):
        return Sampler(Sampling(banned_tokens=tuple(ids)), [PROMPT]).probabilities(torch.tensor([SCORES]))

    if len(set(banned)) < 6:
        assert chances(banned).equal(chances(sorted(set(banned))))
    else:
        with pytest.raises(ConfigError, match="banned_tokens: expected to leave one of 6 ids at least"):
            chances(banned)


def test_rejected_draft_token_leaves_a_token_of_the_prompt_penalised():
    logits, sampling = torch.tensor([SCORES]), Sampling(repetition_penalty=2.0, temperature=1.0)
    before = Sampler(sampling, [PROMPT]).probabilities(logits)
    sampler = Sampler(sampling, [PROMPT])
    for guess in (0, 4, 2):  # two of the prompt, and one that is not
        sampler.record(torch.tensor([guess]))
    sampler.forget([0, 4, 2])
    assert sampler.probabilities(logits).equal(before)
