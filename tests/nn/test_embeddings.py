"""Embeddings against their definitions, written slowly."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError
from nanotx.hardware.device import choose_machine
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding.bigram import Bigram
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.transformer import Model
from nanotx.optim.muon import Muon
from nanotx.recipe import Recipe, Train
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer


def drawn(config, vocab_size, dim=3):
    """With tables that are not zero any more."""
    torch.manual_seed(0)
    module = config.build(vocab_size, dim)
    for table in module.grams:
        torch.nn.init.normal_(table)
    return module


@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=9), max_n=st.integers(2, 3))
def test_with_room_for_all_each_gram_has_a_row_of_its_own(ids, max_n):
    module = drawn(Ngrams(max_n=max_n, buckets=10_000), 5)
    got, nothing = module(torch.tensor([ids]))[0], -1
    padded = [nothing] * max_n + ids
    for place in range(len(ids)):
        here = max_n + place
        want, row, kinds = module.weight[ids[place]], ids[place], 5
        for back, table in enumerate(module.grams, start=1):
            row, kinds = row + kinds * (padded[here - back] + 1), kinds * 6
            want = want + table[row]
        torch.testing.assert_close(got[place], want)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=9, unique=True))
def test_bigram_is_ngrams_up_to_two(ids):
    first, other = drawn(Bigram(buckets=7), 5), drawn(Ngrams(max_n=2, buckets=7), 5)
    assert torch.equal(first(torch.tensor([ids])), other(torch.tensor([ids])))


def test_unseen_ngram_adds_nothing():
    module = Bigram().build(5, 3)
    ids = torch.tensor([[1, 4, 2]])
    assert torch.equal(module(ids), module.weight[ids])


def test_tables_are_no_larger_than_there_are_grams():
    sizes = [len(table) for table in Ngrams(max_n=4, buckets=500).build(3, 2).grams]
    assert sizes == [4 * 3, 16 * 3, 64 * 3]
    assert [len(table) for table in Ngrams(max_n=4, buckets=20).build(3, 2).grams] == [12, 20, 20]


def test_large_vocabulary_and_long_grams_stay_within_int64():
    module = drawn(Ngrams(max_n=8, buckets=64), 100_000)
    ids = torch.randint(100_000, (2, 30))
    cache = KVCache()
    pieces = torch.cat([module(ids[:, :13], cache), module(ids[:, 13:], cache)], dim=1)
    torch.testing.assert_close(module(ids), pieces)


def test_hashed_grams_spread_over_their_rows():
    module = drawn(Ngrams(max_n=3, buckets=64), 30, dim=1)
    ids = torch.randint(30, (1, 5000), generator=torch.Generator().manual_seed(1))
    apart = (module(ids) - module.weight[ids]).unique().numel()
    assert apart > 2000  # of 64 x 64 sums


def test_tied_head_shares_the_rows_of_ids():
    model = Model(dim=8, layers=1, embedding=Bigram()).build(5)
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize(
    ("part", "fields", "match"),
    [
        (Bigram, {"buckets": 0}, "buckets: expected a number of at least 1, got 0"),
        (Ngrams, {"max_n": 1}, "max_n: expected a number of at least 2, got 1"),
        (Ngrams, {"max_n": 9}, "max_n: expected a number up to 8, got 9"),
        (Ngrams, {"resets": -1}, "resets: expected a number of at least 0, got -1"),
    ],
)
def test_fields_out_of_range_are_refused(part, fields, match):
    with pytest.raises(ConfigError, match=match):
        part(**fields)


def test_while_training_some_grams_are_left_out_whole():
    module, ids = drawn(Ngrams(max_n=2, dropout=0.5), 5, dim=4), torch.randint(5, (3, 50))
    added = (module.train()(ids) - module.weight[ids]).detach()
    whole = (module.eval()(ids) - module.weight[ids]).detach()
    left = added.abs().amax(dim=-1) > 0
    assert 0.3 < left.float().mean() < 0.7
    torch.testing.assert_close(added[left], 2 * whole[left])


def test_tables_of_longer_ngrams_are_reset_at_equal_intervals():
    module = drawn(Ngrams(max_n=4, resets=2), 5)
    for step in range(10):
        module.on_step(step, 10)
        zero = [not bool(table.any()) for table in module.grams]
        assert zero == ([False, True, True] if step in (3, 7) else [False] * 3), step
        with torch.no_grad():
            for table in module.grams:
                table += 1


def test_reset_is_announced_in_the_step_that_does_it_and_nothing_else_is():
    module = drawn(Ngrams(max_n=4, resets=2), 5)
    notes = {step: note for step in range(10) if (note := module.step_note(step, 10))}
    assert notes.keys() == {3, 7} and re.match(r"step 4: .*n-grams of 3 to 4 tokens.*embedding\.resets = 2", notes[3])
    assert "n-grams of triples" in drawn(Ngrams(max_n=3, resets=1), 5).step_note(5, 10)
    assert not drawn(Ngrams(max_n=2, resets=2), 5).step_note(3, 10)  # pairs are never reset


def test_while_it_learns_what_a_table_knew_before_is_gone_and_the_rest_stays():
    texts = load_dataset(Recipe(corpus=Playhouse(size=5_000), model=Model(context=8)))
    block = PreNorm(attention=Fused(heads=1))
    model = Model(dim=8, layers=1, context=8, embedding=Ngrams(max_n=3, buckets=50, resets=1), block=block)
    recipe = Recipe(model=model, optimizer=Muon(), train=Train(steps=6, batch_size=40))
    trainer = Trainer(recipe, model.build(texts.codec.vocab_size), texts.windows, choose_machine("cpu", "float32", 1))
    pairs, triples = trainer.model.embedding.grams
    rows = [trainer.train_step() for _ in range(3)]
    before, known = triples.detach().clone(), int(pairs.detach().any(dim=-1).sum())
    met = before.any(dim=-1)
    trainer.progress.step = 2  # a step that is repeated
    trainer.compute_gradients()
    assert torch.equal(triples, before)
    trainer.progress.step = 3
    trainer.compute_gradients()
    assert met.any()
    assert not triples.any()
    assert int(pairs.detach().any(dim=-1).sum()) == known
    trainer.release_gradients()
    assert not any("reset" in row.get("warning", "") for row in rows)
    row = trainer.train_step()
    assert "were reset to zero" in row["warning"] and row["kind"] == "reset"  # what the screen shows and the log keeps
