"""Documents that share a row: their positions, their mask, and what cannot keep them apart."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from helpers import ROOT

from nanotx.errors import ConfigError
from nanotx.laws.documents import documents_apart, numbered
from nanotx.nn.attention import Attention
from nanotx.nn.attention.linear import LinearKernel
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.documents import DocumentPosition, document_mask, positions_within
from nanotx.nn.embedding import Embedding, TokenEmbedding
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.position import Position, PositionalEncoding
from nanotx.nn.position.learned import Learned
from nanotx.nn.transformer import Model

DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 1]])
IDS = torch.tensor([[1, 2, 3, 1, 2, 3], [3, 2, 1, 3, 2, 1]])


def model(attention=None, **fields):
    block = PreNorm(attention=attention or Sdpa(heads=2))
    return Model(dim=8, layers=2, context=6, block=block, **fields).build(5).eval()


def test_positions_begin_anew_in_each_document():
    assert positions_within(DOCUMENTS).tolist() == [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 4]]


def test_mask_is_zero_within_a_document_and_minus_infinity_elsewhere():
    mask = document_mask(DOCUMENTS)[:, 0]
    for row, numbers in enumerate(DOCUMENTS.tolist()):
        for query, own in enumerate(numbers):
            for key, other in enumerate(numbers):
                assert mask[row, query, key] == (0.0 if own == other else -torch.inf)


@pytest.mark.slow  # to import its compiler takes seconds
def test_flex_keeps_documents_apart_where_it_only_samples():
    layer, x = Attention.find("flex")(heads=2).build(8).eval(), torch.randn(2, 9, 8)
    for name in ("rope", "alibi"):
        position = Position.find(name)().build(8, 2, 16)
        documents_apart(lambda x, d: layer(x, DocumentPosition(position, d) if d is not None else position), x, (4,))  # noqa: B023


def test_documents_are_apart_with_checkpointed_activations():
    built = model(embedding=Ngrams(), position=Learned()).train()
    plain = built.hidden_states(IDS, None, DOCUMENTS)
    built.activation_checkpointing = True
    again = built.hidden_states(IDS, None, DOCUMENTS)
    again.sum().backward()
    assert torch.equal(plain, again)
    assert not torch.equal(plain, built.hidden_states(IDS))


def test_one_document_per_row_is_the_text_itself():
    built = model()
    torch.testing.assert_close(built.hidden_states(IDS, None, torch.zeros_like(IDS)), built.hidden_states(IDS))


def test_linear_attention_is_refused_by_name_with_those_that_fit():
    with pytest.raises(ConfigError, match=r"attention linear: cannot keep .* apart.*try --attention blockwise"):
        model(LinearKernel(heads=2)).hidden_states(IDS, None, DOCUMENTS)


def test_embedding_of_a_user_is_refused_unless_it_says_that_it_can():
    @dataclass(frozen=True, kw_only=True)
    class Own(Embedding):
        part = "own"

        def build(self, vocab_size, dim):
            return TokenEmbedding(vocab_size, dim)

    with pytest.raises(ConfigError, match=r"embedding own: .*try --embedding bigram"):
        Model(embedding=Own()).check_documents()


def test_position_with_a_bias_of_its_own_place_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Absolute(Position):
        part, adds_bias = "absolute", True

        def build(self, dim, heads, context):
            return PositionalEncoding()

    with pytest.raises(ConfigError, match=r"position absolute: .*--corpus.documents join"):
        Model(position=Absolute()).check_documents()


def test_numbers_of_another_shape_and_a_cache_are_refused():
    built = model()
    with pytest.raises(
        ConfigError, match=r"documents: expected a number for each token, of shape \(2, 6\), got \(1, 6\)"
    ):
        built.document_position(IDS, DOCUMENTS[:1], None)
    with pytest.raises(ConfigError, match="documents: a cache holds one text per row"):
        built.hidden_states(IDS, KVCache(), DOCUMENTS)


def test_rows_of_the_law_have_other_documents_each():
    assert numbered(2, 5, (2, 3)).tolist() == [[0, 0, 1, 2, 2], [0, 0, 0, 1, 2]]


COMPILED = """
import torch
from torch._dynamo.testing import CompileCounter

from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.training.compile import compile_training_calls

documents = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 1, 1]])
ids = torch.tensor([[1, 2, 3, 1, 2, 3], [3, 2, 1, 3, 2, 1]])
model = Model(dim=8, layers=2, context=6, block=PreNorm(attention=Sdpa(heads=2))).build(5).train()
counter = CompileCounter()
compile_training_calls(model.blocks[0], backend=counter, dynamic=False)
for numbers in (documents, documents.flip(0), torch.zeros_like(documents)):
    model.hidden_states(ids, None, numbers).sum().backward()
    print(counter.frame_count)
"""


@pytest.mark.slow  # to import its compiler takes seconds
def test_block_is_compiled_once_for_all_documents():
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, encoding="utf-8", check=False, cwd=ROOT
    )
    assert done.stdout.split() == ["1", "1", "1"], done.stderr  # without the checks of types, which are no part of it
