"""Every combination of parts writes the same text with a cache and without; a cache that rolls is a sliding window."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from nanotx.errors import ConfigError
from nanotx.generation import Sampling
from nanotx.generation.compiled import CompiledModel
from nanotx.generation.engine import BatchEngine, RollingDecodeState, check_rolling
from nanotx.hardware.compiler import CompileTrial
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding import Embedding
from nanotx.nn.ffn import Ffn
from nanotx.nn.kv_cache import RewindableKVCache
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model

ROOT = Path(__file__).resolve().parents[2]
CONTEXT, PROMPT = 5, [1, 2]


def block_of(name, attention, **parts):
    """A block of this name around an attention, or around the block that has it."""
    kind = Block.find(name)
    if "attention" in kind.__dataclass_fields__:
        return kind(attention=attention, **parts)
    return kind(block=PreNorm(attention=attention, **parts))


def built(blocks, position="rope", layers=2, context=CONTEXT, **fields):
    """A small model whose weights are far from small, with all of these blocks."""
    blocks = blocks if isinstance(blocks, tuple) else (blocks,)
    where = {"position": Position.find(position)(), "context": context}
    model = Model(dim=8, layers=max(layers, len(blocks)), blocks=blocks, **where, **fields).build(9)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4).add_(float(parameter.ndim == 1))
    return model.eval()


def greedy(model, count=8):
    """A text of which all but the prompt was written with a cache, and without chance."""
    return [*PROMPT, *BatchEngine(model, [PROMPT], Sampling(temperature=0.0), count).run()[0]]


@torch.no_grad()
def read_anew(model, text):
    """The best token after the prompt and after each token that follows it, in windows read without a cache.

    A window is read once for all its tokens, as none of them sees a later one; of a full one, the newer half and the
    token after it begin the next.
    """
    start, at, best = 0, len(PROMPT), list(PROMPT)
    while at < len(text):
        logits = model(torch.tensor([text[start : start + model.context]]))[0]
        for after in range(at - start, len(logits) + 1):
            best.append(int(logits[after - 1].argmax()))
        at = start + model.context + 1
        start += model.context - model.context // 2
    return best[: len(text)]


KINDS = ["alibi", "learned", "none", "rope", "sinusoidal"]
"""Positions of every kind; the others turn as rope does. Where `flex` is not compiled it takes its time."""
EVERY = {*product(Attention.names(), KINDS), *product(["fused"], Position.names())} - {
    ("flex", name) for name in KINDS if name != "rope"
}


@pytest.mark.parametrize(("attention", "position"), sorted(EVERY))
def test_greedy_texts_with_a_cache_are_those_without_in_every_block(attention, position):
    kind = Attention.find(attention)
    fields = {"window": 3} if attention == "sliding_window" else {}
    blocks = tuple(block_of(name, kind(heads=2, **fields)) for name in Block.names())
    if Position.find(position).adds_bias and not kind.supports_bias:
        with pytest.raises(ConfigError, match=f"{attention}: has no scores for position '{position}' to add to"):
            built(blocks, position)
        return
    model = built(blocks, position)  # each layer a block of another kind
    text = greedy(model)
    assert text == read_anew(model, text)


@pytest.mark.parametrize("embedding", Embedding.names())
@pytest.mark.parametrize("block", ["prenorm", "token_shift"])
def test_greedy_texts_with_a_cache_are_those_without_for_every_embedding(embedding, block):
    model = built(block_of(block, Fused(heads=2)), embedding=Embedding.find(embedding)())
    text = greedy(model, 14)
    assert text == read_anew(model, text)


@pytest.mark.parametrize(("ffn", "norm"), list(product(Ffn.names(), Norm.names())))
def test_greedy_texts_with_a_cache_are_those_without_for_every_ffn_and_norm(ffn, norm):
    block = PreNorm(attention=Fused(heads=2, qk_norm=True), ffn=Ffn.find(ffn)(), norm=Norm.find(norm)())
    model = built(block, norm=Norm.find(norm)())
    text = greedy(model)
    assert text == read_anew(model, text)


def test_check_without_a_cache_catches_a_wrong_text():
    model = built(PreNorm(attention=Fused(heads=2)))
    text = greedy(model)
    for at in (len(PROMPT), len(text) - 1):
        wrong = list(text)
        wrong[at] = (wrong[at] + 1) % 9
        assert wrong != read_anew(model, wrong)


# A cache that rolls.


def rolled(model, text):
    """The logits after each token but the first few, read token by token with a cache that rolls."""
    state, result = RollingDecodeState(model, torch.tensor([text[:2]])), []
    with torch.inference_mode():
        for token in text[2:]:
            result.append(state.next_logits()[0])
            state.append(torch.tensor([token]))
    return torch.stack(result)


TEXT = [(3 * number + number * number // 5) % 9 for number in range(24)]


@pytest.mark.parametrize(("attention", "position"), list(product(["sdpa", "blockwise"], ["rope", "alibi", "none"])))
@pytest.mark.parametrize("block", ["prenorm", "token_shift"])
def test_rolling_cache_is_a_sliding_window_over_the_whole_text(attention, position, block):
    model = built(block_of(block, Attention.find(attention)(heads=2)), position)
    window = built(block_of(block, SlidingWindow(heads=2, window=CONTEXT)), position, context=len(TEXT))
    with torch.no_grad():
        whole = window(torch.tensor([TEXT]))[0, 1:-1]
    torch.testing.assert_close(rolled(model, TEXT), whole, atol=1e-4, rtol=1e-4)


def test_rolling_equals_recomputing_with_one_layer_and_not_with_two():
    for layers, same in ((1, True), (2, False)):
        model = built(PreNorm(attention=Fused(heads=2)), layers=layers)
        with torch.no_grad():
            anew = [model(torch.tensor([TEXT[max(0, at - CONTEXT) : at]]))[0, -1] for at in range(2, len(TEXT))]
        far = (rolled(model, TEXT) - torch.stack(anew)).abs().amax(-1)
        assert far[: CONTEXT - 1].max() < 1e-4  # within the context nothing rolls
        assert (far[CONTEXT:].max() < 1e-4) == same


def test_rolling_cache_stays_small():
    model = built(PreNorm(attention=Fused(heads=2)))
    state = RollingDecodeState(model, torch.tensor([TEXT[:2]]))
    with torch.inference_mode():
        for _ in range(40):
            state.append(state.next_logits().argmax(-1))
    kept = state.cache.layer(0)
    assert kept.length == state.cache.length == CONTEXT - 1 and kept.evicted == 41 - kept.length
    assert kept._keys.untyped_storage().nbytes() // (8 * 4) == CONTEXT + 1


def test_cache_does_not_roll_with_absolute_positions():
    results = {name: Position.find(name)().relative for name in Position.names()}
    assert results == {"rope": True, "alibi": True, "none": True, "learned": False, "sinusoidal": False} | {
        name: results[name] for name in results.keys() - {"rope", "alibi", "none", "learned", "sinusoidal"}
    }
    with pytest.raises(ConfigError, match=r"overflow: the cache cannot roll with position 'learned', .* try recompute"):
        check_rolling(built(PreNorm(attention=Fused(heads=2)), "learned"))


# A cache that takes back.


def test_what_is_taken_back_was_never_read():
    ids = torch.tensor([TEXT[:9]])
    block = block_of("token_shift", Fused(heads=2))
    model = built(block, context=12, embedding=Embedding.find("ngrams")())
    cache = RewindableKVCache(capacity=12, undo=3)
    with torch.no_grad():
        model(ids[:, :4], cache)
        for wrong in (1, 2, 3):
            for number in range(wrong):
                model(torch.tensor([[number]]), cache)
            cache.rewind(wrong)
        read = model(ids[:, 4:], cache)
        torch.testing.assert_close(read, model(ids)[:, 4:], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="cache: expected to rewind at most undo=3 tokens, got 4"):
        cache.rewind(4)


# Compiled.


COMPILING = """
import torch, torch._dynamo
import nanotx.generation.compiled
from nanotx.nn.block.token_shift import TokenShift
from nanotx.hardware.compiler import CompileTrial
from nanotx.nn.transformer import Model
from nanotx.generation import Sampling
from nanotx.generation.engine import BatchEngine

torch.set_num_threads(1)
compile = torch.compile
nanotx.generation.compiled.try_compile = lambda device: CompileTrial(fault="", remedy="", seconds=0.0)
torch.compile = lambda function, **how: compile(function, backend="eager", **how)  # lengths are the same to it
model = Model(dim=8, layers=1, context=6, block=TokenShift()).build(9).eval()
reader = nanotx.generation.compiled.CompiledModel(model)
def same(prompts, new):
    texts = [BatchEngine(one, prompts, Sampling(temperature=0.0), new).run() for one in (model, reader)]
    assert texts[0] == texts[1], prompts
for prompt, new in (([1], 11), ([1, 2, 3], 9), ([4] * 9, 3)):
    same([prompt], new)
found = torch._dynamo.utils.counters
print(found["stats"]["unique_graphs"], sum(found["graph_break"].values()))
same([[1, 2], [3, 4]], 9)  # another number of texts is compiled anew, and one text then is not
same([[5]], 11)
print(found["stats"]["unique_graphs"], sum(found["graph_break"].values()))
"""


@pytest.mark.slow
def test_compiled_generation_gives_the_same_text_for_any_prompt_and_compiles_once():
    # In a process of its own, where no annotation is checked: what checks them would be compiled too.
    done = subprocess.run(
        [sys.executable, "-c", COMPILING], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "0", "2", "0"]


def test_missing_compiler_is_reported_with_the_reason(monkeypatch):
    broken = CompileTrial(fault="there is no C++ compiler", remedy="install g++", seconds=0.0)
    monkeypatch.setattr("nanotx.generation.compiled.try_compile", lambda device: broken)
    with pytest.raises(
        ConfigError, match=r"compile: there is no C\+\+ compiler; install g\+\+; or leave --compile out"
    ):
        CompiledModel(built(PreNorm(attention=Fused(heads=2))))
