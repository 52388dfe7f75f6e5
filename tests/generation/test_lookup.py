"""Prompt lookup gives the text of the plain way, in fewer passes where the text repeats itself."""

import re

import pytest
import torch

from nanotx.errors import ConfigError
from nanotx.generation import Generation, Sampling
from nanotx.generation.engine import BatchEngine
from nanotx.generation.lookup import MAX_MATCH, MIN_MATCH, LookupEngine, Ngrams
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.transformer import Model
from nanotx.tokenizers.char import Char


def model(context=16, seed=0, block=None):
    block = block or PreNorm(attention=Sdpa(heads=2))
    return Model(dim=16, layers=2, context=context, block=block).build(5, seed=seed).eval()


class Counting:
    """A model that counts its passes."""

    def __init__(self, model):
        self.model, self.context, self.passes = model, model.context, 0

    def __call__(self, ids, cache=None):
        self.passes += 1
        return self.model(ids, cache)

    def next_logits(self, ids, cache=None):
        return self.model.next_logits(ids, cache)


SAMPLINGS = [
    Sampling(temperature=0.0),
    Sampling(temperature=0.3, seed=1),
    Sampling(temperature=0.7, seed=2, top_k=3, repetition_penalty=1.1, frequency_penalty=0.2),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("draft_tokens", [1, 4, 9])
def test_lookup_gives_the_ids_of_the_plain_way(sampling, draft_tokens):
    prompts = [[1], [1, 2, 3, 4] * 5, [0, 1, 2] * 3]  # one is longer than the context
    for seed, block in ((0, None), (1, TokenShift(block=PreNorm(attention=Sdpa(heads=2))))):
        plain = model(seed=seed, block=block)
        engine = LookupEngine(plain, prompts, sampling, 40, draft_tokens=draft_tokens)
        assert engine.run() == BatchEngine(plain, prompts, sampling, 40).run()
        assert 0 < engine.accepted <= engine.drafted


def test_text_that_repeats_itself_takes_fewer_passes():
    counting = Counting(model(context=64))
    engine = LookupEngine(counting, [[1, 2, 3] * 4], Sampling(temperature=0.0), 40)
    assert engine.run()[0] == BatchEngine(counting.model, [[1, 2, 3] * 4], Sampling(temperature=0.0), 40).run()[0]
    assert counting.passes < 25


def test_following_tokens_are_those_of_the_longest_and_latest_match():
    assert Ngrams([1, 2, 3, 4, 1, 2, 3]).following(2) == [4, 1]
    assert Ngrams([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3]).following(1) == [5]  # the later of two
    assert Ngrams([9, 1, 2, 3, 4, 0, 1, 2, 3, 5, 9, 1, 2, 3]).following(3) == [4, 0, 1]  # the longer of two
    assert Ngrams([1, 2, 1, 2]).following(4) == []  # shorter than a match must be
    assert Ngrams([7] * 4).following(4) == [7]  # no more is known
    assert Ngrams([1, 2, 3, 4, 1, 2, 3]).following(0) == []
    assert Ngrams([]).following(3) == []


@pytest.mark.parametrize("seed", range(20))
def test_following_tokens_equal_a_search_through_the_text(seed):
    text = torch.randint(3, (40,), generator=torch.Generator().manual_seed(seed)).tolist()

    def search(count):
        for length in range(MAX_MATCH, MIN_MATCH - 1, -1):
            for start in range(len(text) - length - 1, -1, -1):
                if text[start : start + length] == text[-length:] and start + length < len(text):
                    return text[start + length : start + length + count]
        return []

    assert Ngrams(text).following(5) == search(5)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"rolling": True}, "lookup: a rolling cache cannot be rewound"),
        ({"compiled": True}, "lookup: only single-token steps are compiled"),
        ({"draft_model": model()}, "lookup: expected a draft model or lookup, got both"),
    ],
)
def test_what_lookup_cannot_be_combined_with_is_refused(fields, match):
    codec = Char().train(["abcde"])
    texts = {"prompts": ["ab"], "max_new_tokens": 4, "sampling": Sampling()}
    with pytest.raises(ConfigError, match=re.escape(match)):
        Generation(model=model(), codec=codec, lookup=True, **texts, **fields)
    generation = Generation(model=model(), codec=codec, lookup=True, compiled="auto", **texts)
    assert isinstance(generation.engine, LookupEngine)
