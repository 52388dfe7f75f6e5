"""Sampling: the same with a cache and without, greedy when cold, each row by its own chance, in bounded memory."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.errors import ConfigError, Diverged, TextError
from nanotx.generation import Generation, Sampling, generate
from nanotx.generation.engine import BatchEngine, DecodeState
from nanotx.generation.sampler import Sampler, draw
from nanotx.generation.stop_sequences import StopSequences, overlap
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.transformer import Model, Transformer
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

MODEL = Model(dim=16, layers=2, context=8).build(12, seed=1).eval()
BYTES = Byte().train([])
prompts = st.lists(st.integers(0, 11), min_size=1, max_size=20)


class Uncached:
    """A model that reads its whole window anew for every token."""

    def __init__(self, model):
        self.model, self.context = model, model.context

    def next_logits(self, ids, cache=None):
        known = cache.previous(ids, self.context)[:, self.context - cache.length :]
        cache.advance(ids.shape[1])
        return self.model.next_logits(torch.cat([known, ids], dim=1))


def drawn(ids, count, model=MODEL, **fields):
    return BatchEngine(model, [ids], Sampling(**fields), count).run()[0]


@given(ids=prompts, seed=st.integers(0, 99), temperature=st.sampled_from([0.0, 0.7, 3.0]))
@settings(max_examples=8)
def test_cache_changes_nothing_even_beyond_the_context(ids, seed, temperature):
    with_cache = drawn(ids, 16, temperature=temperature, seed=seed)
    assert with_cache == drawn(ids, 16, model=Uncached(MODEL), temperature=temperature, seed=seed)


@given(ids=prompts)
@settings(max_examples=8)
def test_beyond_the_context_the_newer_half_is_recomputed(ids):
    window, greedy = ids[-8:], []
    for _ in range(16):
        best = int(MODEL.next_logits(torch.tensor([window])).argmax())
        greedy.append(best)
        window = [*(window[4:] if len(window) == 8 else window), best]
    assert drawn(ids, 16, temperature=0.0) == greedy


@pytest.mark.parametrize("context", [1, 2, 3])
def test_tiny_context_is_sampled_from(context):
    model = Model(dim=8, layers=1, context=context).build(5, seed=1).eval()
    assert drawn([1, 2], 9, model=model) == drawn([1, 2], 9, model=Uncached(model))


@pytest.mark.parametrize(("prompt", "new", "room"), [(3, 4, 7), (3, 40, 8), (30, 2, 8), (3, None, 8)])
def test_room_is_made_once_and_never_for_more_than_the_context(prompt, new, room):
    state = DecodeState(MODEL, torch.zeros(1, prompt, dtype=torch.long), max_new_tokens=new)
    homes, sizes = set(), set()
    with torch.inference_mode():
        while True:
            logits = state.next_logits()
            homes |= {state.cache.layer(layer)._keys.data_ptr() for layer in range(2)}
            sizes |= {state.cache.layer(layer)._keys.shape[2] for layer in range(2)}
            if state.cache.length == room:
                break
            state.append(logits.argmax(-1))
    assert sizes == {room} and len(homes) == 2


def test_cache_has_capacity_from_the_start_and_grows_when_full():
    cache, x = KVCache(capacity=5), torch.randn(1, 2, 1, 4)
    homes = [cache.append(x, x)[0].data_ptr() for _ in range(5)]
    assert len(set(homes)) == 1
    assert cache.append(x, 2 * x)[1].equal(torch.cat([x] * 5 + [2 * x], dim=2)) and cache.length == 6


def test_seed_gives_one_text_and_another_seed_another():
    texts = [drawn([1], 20, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


@given(ids=st.lists(st.integers(0, 11), min_size=3, max_size=3), rows=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=6)
def test_row_is_what_its_own_seed_gives_alone(ids, rows, seed):
    batch = BatchEngine(MODEL, [ids] * rows, Sampling(temperature=2.0, seed=seed), 12).run()
    assert batch == [drawn(ids, 12, temperature=2.0, seed=seed + row) for row in range(rows)]


def test_calls_share_no_chance():
    tokens = iter(BatchEngine(MODEL, [[1]], Sampling(temperature=3.0, seed=4), 10))
    begun = [next(tokens).id for _ in range(5)]
    drawn([1], 9, temperature=3.0, seed=9)
    torch.manual_seed(0)
    assert begun + [token.id for token in tokens] == drawn([1], 10, temperature=3.0, seed=4)


def test_probability_is_drawn_as_often_as_it_says():
    logits = torch.tensor([[0.0, 1.0]]).expand(4000, 2)
    share = Sampler(Sampling(temperature=0.5), [[0]] * 4000).draw(logits).float().mean()
    assert share == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item(), abs=0.02)


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-30, 0.3, 5.0]), min_size=1, max_size=7).filter(any), seed=st.integers(0)
)
def test_zero_weight_is_never_drawn(weights, seed):
    x = int(draw(torch.tensor([weights]), [torch.Generator().manual_seed(seed % 2**63)]))
    assert weights[x] > 0


def test_temperature_near_zero_is_greedy_and_no_overflow():
    assert drawn([1, 2], 15, temperature=1e-30) == drawn([1, 2], 15, temperature=0.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_non_finite_logits_are_reported_and_not_drawn_from(bad, temperature):
    with pytest.raises(
        Diverged, match="the model's logits are NaN or infinite; sample from an earlier checkpoint with --st"
    ):
        Sampler(Sampling(temperature=temperature), [[0]]).draw(torch.tensor([[0.0, bad]]))


def test_fresh_model_generates_from_python():
    model = Model(dim=64, layers=4, context=64).build(vocab_size=100)
    ids = generate(model, torch.zeros(2, 1, dtype=torch.long), max_new_tokens=50)
    assert ids.shape == (2, 51) and ids.max() < 100
    assert generate(model, ids, max_new_tokens=0).equal(ids)
    assert model.training


def test_generate_leaves_the_model_in_its_mode_also_after_an_error():
    model = Model(dim=8, layers=1, context=8).build(vocab_size=5).train()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with pytest.raises(Diverged):
        generate(model, torch.zeros(1, 1, dtype=torch.long), max_new_tokens=1)
    assert model.training


def test_generate_refuses_an_id_that_the_model_does_not_have():
    with pytest.raises(ConfigError, match="ids: expected ids from 0 to 11, got 3 to 12"):
        generate(MODEL, torch.tensor([[3, 12]]), max_new_tokens=1)


def test_text_longer_than_the_context_is_refused_by_the_model_itself():
    with pytest.raises(ConfigError, match="model: 9 tokens do not fit a context of 8"):
        MODEL(torch.zeros(1, 9, dtype=torch.long))
    cache = KVCache()
    MODEL(torch.zeros(1, 6, dtype=torch.long), cache)
    with pytest.raises(ConfigError, match="model: 9 tokens"):
        MODEL(torch.zeros(1, 3, dtype=torch.long), cache)


# From text to text.


class Parrot(Transformer):
    """Generates a text, byte by byte, whatever it reads."""

    def __init__(self, text):
        super().__init__(Model(dim=2, layers=1, context=1000, blocks=(PreNorm(attention=Fused(heads=1)),)), 256)
        self.bytes, self.steps = text.encode("utf-8"), 0

    def next_logits(self, ids, cache=None):
        self.steps += 1
        return torch.nn.functional.one_hot(torch.tensor([self.bytes[self.steps - 1]]), 256).float()


def pieces_of(prompt, new, stops=(), model=MODEL, codec=BYTES, **fields):
    """The pieces of a continuation."""
    generation = Generation(
        model=model, codec=codec, prompts=[prompt], max_new_tokens=new, sampling=Sampling(**fields), stops=stops
    )
    return [piece for _, piece in generation]


def until_the_first(text, stops):
    """The definition: a character at a time, until a stop is complete; then without it."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(text=st.text("abé", min_size=1, max_size=30), stops=st.lists(st.text("abé", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_its_first_stop_wherever_tokens_end(text, stops):
    parrot = Parrot(text)
    pieces = pieces_of("x", len(text.encode()), stops, parrot, temperature=0.0)
    assert "".join(pieces) == until_the_first(text, stops)
    assert parrot.steps == len(pieces) <= len(text.encode())
    assert all(piece.encode("utf-8") is not None for piece in pieces)


@given(text=st.text("ab", max_size=12), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_where_a_text_is_cut_into_pieces_does_not_move_its_stop(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    for stops in (["abab", "ba"], ["bb"], ["aab", "ab"]):
        search = StopSequences(stops)
        assert "".join(map(search.push, pieces)) + search.end() == until_the_first(text, stops)


@given(text=st.text("ab", max_size=8), stop=st.text("ab", min_size=1, max_size=4))
def test_overlap_is_what_may_become_the_stop(text, stop):
    length = overlap(text, stop)
    assert text.endswith(stop[:length])
    assert not any(text.endswith(stop[:longer]) for longer in range(length + 1, len(stop) + 1))


def test_empty_stop_is_refused():
    with pytest.raises(ConfigError, match="stop: expected a text to end before, got an empty one"):
        pieces_of("x", 1, ["a", ""])


def test_prompt_with_an_unknown_character_is_refused():
    with pytest.raises(TextError, match=r"char: 'z' \(U\+007A\) at offset 1 is not in the alphabet of 3"):
        pieces_of("az", 3, codec=Char().train(["abc"]))
