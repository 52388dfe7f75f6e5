"""Speculation: the text of the model alone, greedy to the letter and by chance in distribution, whatever the draft."""

import math
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.generation import Sampling
from nanotx.generation.engine import BatchEngine
from nanotx.generation.sampler import Sampler
from nanotx.generation.speculative import SpeculativeEngine
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.embedding.bigram import Bigram
from nanotx.nn.transformer import Model

SIZE, LENGTH = 3, 3
torch.manual_seed(0)
TARGET, DRAFT = torch.randn(2, SIZE + 1, SIZE + 1, SIZE) * 1.2


class Pairs:
    """Scores by the last two tokens, out of a table; what was read before is asked of the cache."""

    context = 6

    def __init__(self, table):
        self.table = table

    def __call__(self, ids, cache=None):
        known = torch.nn.functional.pad(ids + 1, (1, 0)) if cache is None else None
        if cache is not None:
            known = torch.cat([cache.previous(ids + 1), ids + 1], dim=1)
            cache.advance(ids.shape[1])
        return self.table[known[:, :-1], known[:, 1:]]

    def next_logits(self, ids, cache=None):
        return self(ids, cache)[:, -1]


def exact(sampling, prompt):
    """The probability of every text of so many tokens, by the model alone: its window is the sampler's."""
    result = {}
    for text in product(range(SIZE), repeat=LENGTH):
        window, chance, sampler = list(prompt), 1.0, Sampler(sampling, [prompt])
        for character in text:
            chance *= float(sampler.probabilities(Pairs(TARGET).next_logits(torch.tensor([window])))[0, character])
            if sampler.processors is not None:
                sampler.processors.record(torch.tensor([character]))
            window = [*(window[3:] if len(window) == 6 else window), character]
        result[text] = chance
    return result


def deviations(counts, chances):
    """Pearson's chi-square, in deviations from its mean, over texts that are expected five times at least."""
    total = sum(counts.values())
    often = [text for text, chance in chances.items() if total * chance >= 5]
    assert not any(counts[text] for text, chance in chances.items() if chance == 0)
    pairs = [(counts[text], total * chances[text]) for text in often]
    rest = total - sum(count for count, _ in pairs), total * (1 - sum(chances[text] for text in often))
    pairs += [rest] if rest[1] > 1 else []
    free = max(1, len(pairs) - 1)
    return (sum((count - mean) ** 2 / mean for count, mean in pairs) - free) / math.sqrt(2 * free)


def pairwise_deviations(ids, sampling):
    """The same for each pair of tokens, of what follows it in one long text."""
    sampler, worst = Sampler(sampling, [[0]]), 0.0
    for pair in product(range(SIZE), repeat=2):
        follow = Counter((ids[at],) for at in range(2, len(ids)) if (ids[at - 2], ids[at - 1]) == pair)
        chances = sampler.probabilities(Pairs(TARGET).next_logits(torch.tensor([pair])))[0].tolist()
        if follow.total() > 20:
            worst = max(worst, deviations(follow, {(index,): chance for index, chance in enumerate(chances)}))
    return worst


@pytest.mark.parametrize("fields", [{}, {"temperature": 0.6, "top_k": 2}], ids=["plain", "top_k"])
def test_what_is_speculated_is_distributed_as_what_the_model_draws(fields):
    sampling = Sampling(**{"temperature": 1.0, "seed": 1} | fields)
    both = SpeculativeEngine(Pairs(TARGET), Pairs(DRAFT), [[0, 1]], sampling, 800, draft_tokens=3)  # beyond the context
    assert pairwise_deviations(both.run()[0], sampling) < 5
    assert 0.1 < both.accepted / both.drafted < 0.9


def test_whole_texts_are_too_where_chances_hang_on_all_that_was_said():
    sampling, prompt, counts = (
        Sampling(temperature=1.0, frequency_penalty=0.8, repetition_penalty=1.5),
        [0, 2, 1],
        Counter(),
    )
    chances = exact(sampling, prompt)
    assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
    for seed in range(200):
        seeded = replace(sampling, seed=seed)
        both = SpeculativeEngine(Pairs(TARGET), Pairs(DRAFT), [prompt], seeded, LENGTH, draft_tokens=2)
        counts[tuple(both.run()[0])] += 1
    assert deviations(counts, chances) < 5 < deviations(counts, exact(Sampling(temperature=1.0), prompt))


def test_test_catches_a_draft_that_is_accepted_unchecked():
    sampling = Sampling(temperature=1.0)
    ids = BatchEngine(Pairs(DRAFT), [[0, 1]], sampling, 1000).run()[0]
    assert pairwise_deviations(ids, sampling) > 20


def small(seed, **fields):
    """A model that looks back in every way there is."""
    block = TokenShift(shifts=2, block=PreNorm(attention=Fused(heads=2)))
    model = Model(**{"dim": 8, "layers": 2, "context": 8, "block": block, "embedding": Bigram()} | fields).build(9)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4).add_(float(parameter.ndim == 1))
    return model.eval()


MODEL, OTHER = small(1), small(2, layers=1, context=5)


@given(prompt=st.lists(st.integers(0, 8), min_size=1, max_size=12), tokens=st.integers(1, 6), penalized=st.booleans())
@settings(max_examples=3)
def test_greedy_texts_are_the_models_own_also_beyond_the_context(prompt, tokens, penalized):
    sampling = Sampling(temperature=0.0, presence_penalty=1.5 * penalized)
    prompts = [prompt, [*prompt, 1]]
    alone = BatchEngine(MODEL, prompts, sampling, 16).run()
    for draft in (OTHER, MODEL):
        both = SpeculativeEngine(MODEL, draft, prompts, sampling, 16, draft_tokens=tokens)
        assert both.run() == alone
    assert both.accepted == both.drafted > 0  # a model agrees with itself


def test_draft_model_with_a_context_of_one_works():
    sampling = Sampling(temperature=0.0)
    alone = BatchEngine(MODEL, [[3]], sampling, 12).run()
    assert SpeculativeEngine(MODEL, small(4, context=1), [[3]], sampling, 12).run() == alone


def test_log_probabilities_are_the_models_own():
    both = SpeculativeEngine(MODEL, OTHER, [[1, 2]], Sampling(temperature=1.0, top_k=3), 6)
    text = [1, 2]
    for token in both:
        with torch.no_grad():
            want = MODEL.next_logits(torch.tensor([text])).log_softmax(-1)[0, token.id]
        assert token.log_prob == pytest.approx(float(want), abs=1e-4)
        text.append(token.id)


def test_text_that_stops_in_the_middle_of_a_round_changes_no_other():
    sampling = Sampling(temperature=1.0, seed=4)
    whole = SpeculativeEngine(MODEL, MODEL, [[1], [2]], sampling, 9).run()
    engine, ids = SpeculativeEngine(MODEL, MODEL, [[1], [2]], sampling, 9), [[], []]
    for token in engine:
        ids[token.row].append(token.id)
        if len(ids[0]) == 2:
            engine.stop(0)
    assert ids == [whole[0][:2], whole[1]]


def test_no_token_at_a_time_is_refused():
    with pytest.raises(ConfigError, match="draft_tokens: expected a number of at least 1, got 0"):
        SpeculativeEngine(MODEL, OTHER, [[1]], Sampling(), 1, draft_tokens=0)
