"""A step that is compiled ahead of time writes the text of the eager model, and is found again on the disk."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nanotx.errors import ConfigError, RunError
from nanotx.generation import Generation, Sampling, ahead_of_time
from nanotx.generation.ahead_of_time import AheadOfTimeModel, Step, build_package, step_capacity
from nanotx.generation.engine import BatchEngine
from nanotx.generation.step_cache import KEPT, StepCache, step_key
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.embedding import Embedding
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import compiled_row
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.tokenizers.char import Char

ROOT = Path(__file__).resolve().parents[2]
GREEDY = Sampling(temperature=0.0)


def built(block, position="rope", context=6, **fields):
    """A small model whose weights are far from small."""
    model = Model(dim=8, layers=2, context=context, block=block, position=Position.find(position)(), **fields).build(9)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4).add_(float(parameter.ndim == 1))
    return model.eval()


def small(**fields):
    """The plainest of them."""
    return built(PreNorm(attention=Fused(heads=2)), **fields)


def stepped(model, batch=1, wrong=0.0):
    """The model with its step as a function of tensors, not compiled; it counts its calls and may be wrong."""
    calls = []

    def run(inputs):
        ids, past, *tensors = inputs
        calls.append(len(past))
        cache = KVCache(step_capacity(model))
        model.next_logits(torch.zeros(batch, 2, dtype=torch.long), cache)
        logits, *newest = Step(model, list(cache.tensors()), cache.capacity)(ids, past, tensors)
        return [logits + wrong, *newest]

    return AheadOfTimeModel(model, run, batch, lambda: calls.append("forgotten")), calls


def blocks():
    """Every attention and every block once, and the embeddings that remember ids."""
    for name in sorted(Attention.names()):
        if name != "flex":  # compiles by itself
            yield PreNorm(attention=Attention.find(name)(heads=2)), "tokens"
    for name in sorted(Block.names()):
        kind = Block.find(name)
        inner = {"attention": Fused(heads=2)} if "attention" in kind.__dataclass_fields__ else {}
        yield kind(**inner) if inner else kind(block=PreNorm(attention=Fused(heads=2))), "tokens"
    yield TokenShift(shifts=2, block=PreNorm(attention=Fused(heads=2))), "ngrams"


@pytest.mark.parametrize(("block", "embedding"), list(blocks()))
def test_step_of_tensors_alone_writes_the_same_text(block, embedding):
    model = built(block, embedding=Embedding.find(embedding)())
    model_with_step, calls = stepped(model)
    for prompt, new in (([1], 13), ([1, 2, 3], 9), ([4] * 9, 3)):
        texts = [BatchEngine(each, [prompt], GREEDY, new).run() for each in (model, model_with_step)]
        assert texts[0] == texts[1], prompt
    assert len(calls) > 8 and set(calls) == {2, 3, 4, 5}  # past a full window too


@pytest.mark.parametrize(("position", "batch"), [*product(["learned", "alibi", "rope"], [1, 3])])
def test_step_samples_the_same_ids_in_a_batch(position, batch):
    model = small(position=position)
    prompts = [[1 + row] * (1 + row) for row in range(batch)]
    model_with_step, calls = stepped(model, batch)
    sampling = Sampling(temperature=1.3, seed=5, top_k=7)
    texts = [BatchEngine(each, prompts, sampling, 20).run() for each in (model, model_with_step)]
    assert texts[0] == texts[1] and calls
    count = len(calls)
    BatchEngine(model_with_step, [[1]] * (batch + 1), sampling, 5).run()  # of another size it is eager
    assert len(calls) == count


def test_step_that_disagrees_with_the_model_is_not_used():
    model = small()
    model_with_step, calls = stepped(model, wrong=0.1)
    texts = [BatchEngine(each, [[1, 2, 3]], GREEDY, 12).run() for each in (model, model_with_step)]
    assert texts[0] == texts[1]
    assert calls == [3, "forgotten"] and model_with_step.run is None


@pytest.mark.parametrize("shape", [(1, 8), (1, 1, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_product_of_a_compiled_row_is_the_linear_map(shape, dtype):
    x, weight = torch.randn(shape), (10 * torch.randn(5, 8)).to(dtype)
    for bias in (None, torch.randn(5)):
        torch.testing.assert_close(compiled_row(x, weight, bias), F.linear(x, weight.float(), bias))


# On the disk.


def test_package_is_found_by_its_key_and_only_whole(tmp_path):
    cache = StepCache(tmp_path / "steps")
    assert cache.find("a") is None
    cache.store("a", b"code")
    path = cache.find("a")
    assert path.read_bytes() == b"code" and cache.find("b") is None
    cache.store("a", b"newer")
    path = cache.find("a")
    assert path.read_bytes() == b"newer" and len(list(cache.folder.iterdir())) == 1
    path.write_bytes(b"newe")  # torn
    assert cache.find("a") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")
def test_package_that_others_may_have_written_is_not_loaded(tmp_path):
    cache = StepCache(tmp_path / "steps")
    cache.store("a", b"code")
    path = cache.find("a")
    path.chmod(0o666)
    assert cache.find("a") is None
    path.chmod(0o600)
    cache.folder.chmod(0o777)
    assert cache.find("a") is None
    cache.store("a", b"code")  # makes both private again
    assert cache.find("a") is not None


def test_cache_keeps_the_most_recently_used_packages(tmp_path):
    cache = StepCache(tmp_path / "steps")
    for number in range(KEPT + 1):
        cache.store(f"k{number}", b"code")
        os.utime(next(iter(cache.packages(f"k{number}"))), (number, number))
        if number == KEPT - 1:
            cache.find("k0")
    assert cache.find("k0") is not None and cache.find("k1") is None
    assert len(cache.packages("*")) == KEPT


def test_key_is_of_the_code_and_not_of_the_weights():
    model, key = small(), step_key(small(), 1)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert step_key(model, 1) == key
    others = [
        step_key(model, 2),
        step_key(small(context=7), 1),
        step_key(small(position="learned"), 1),
        step_key(small().bfloat16(), 1),
    ]
    assert len({key, *others}) == 5


def test_key_changes_with_the_code_of_a_users_own_module(tmp_path, monkeypatch):
    file = tmp_path / "own_head.py"
    file.write_text("from nanotx.nn.linear import Linear\nclass Own(Linear):\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    from own_head import Own

    model = small()
    model.head = Own(8, 9, bias=False)
    key = step_key(model, 1)
    file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert step_key(model, 1) != key


def generation(model, **fields):
    codec = Char().train(["abcdefghi"])
    texts = {"prompts": ["ab"], "max_new_tokens": 40, "sampling": GREEDY} | fields
    return Generation(model=model, codec=codec, **texts)


def test_auto_uses_a_step_on_the_disk_and_builds_none(tmp_path, monkeypatch):
    cache, said = StepCache(tmp_path / "steps"), []
    monkeypatch.setattr(ahead_of_time.StepCache, "of_user", classmethod(lambda cls: cache))
    monkeypatch.setattr(ahead_of_time, "build_package", lambda *a: pytest.fail("built"))
    model = small()
    assert generation(model, compiled="auto", say=said.append).engine.model is model
    cache.store(step_key(model, 1), b"broken")
    assert generation(model, compiled="auto", say=said.append).engine.model is model
    assert re.fullmatch(r"compile: .*\.pt2 cannot be loaded \(.*\); it was removed\.", said[0])
    assert not cache.packages("*")
    monkeypatch.setattr(ahead_of_time, "load_package", lambda path, model: stepped(model)[0].run)
    cache.store(step_key(model, 1), b"code")
    assert isinstance(generation(model, compiled="auto").engine.model, AheadOfTimeModel)
    assert generation(model, compiled="auto", rolling=True).engine.model is model
    assert generation(model, compiled="auto", max_new_tokens=5).engine.model is model
    assert generation(model).engine.model is model


def test_missing_compiler_and_short_context_are_reported(tmp_path, monkeypatch):
    cache = StepCache(tmp_path / "steps")
    monkeypatch.setattr(ahead_of_time.StepCache, "of_user", classmethod(lambda cls: cache))
    monkeypatch.setattr(ahead_of_time, "find_compiler", lambda: None)
    with pytest.raises(ConfigError, match=r"compile: there is no C\+\+ compiler; install g\+\+ .*; or leave"):
        generation(small(), compiled=True)
    with pytest.raises(ConfigError, match="compile: a context of 4 is too short; leave --compile out"):
        generation(small(context=4), compiled=True)
    assert generation(small(context=4), compiled="auto").engine.model.context == 4


def test_folder_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "steps").write_text("a file", encoding="utf-8")
    cache = StepCache(tmp_path / "steps")
    monkeypatch.setattr(ahead_of_time.StepCache, "of_user", classmethod(lambda cls: cache))
    monkeypatch.setattr(ahead_of_time, "build_package", lambda model, batch: b"code")
    with pytest.raises(RunError, match=r"compile: \S+steps cannot be written: File exists; .* XDG_CACHE_HOME"):
        generation(small(), compiled=True)


def test_fault_of_the_compiler_is_reported(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("C++ compile error\n\nOutput:\nfatal error: no such file")

    monkeypatch.setattr(ahead_of_time, "find_compiler", lambda: "g++")
    monkeypatch.setattr(ahead_of_time, "compile_package", fail)
    with pytest.raises(ConfigError, match=r"compile: .* fails: fatal error: no such file; .*; or leave --compile out"):
        build_package(small(), 1)


COMPILING = """
import sys
import torch
from pathlib import Path
from nanotx.generation import Sampling
from nanotx.generation.ahead_of_time import ahead_of_time
from nanotx.generation.engine import BatchEngine
from nanotx.generation.step_cache import StepCache
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.transformer import Model

torch.set_num_threads(1)
said, cache = [], StepCache(Path(sys.argv[1]))
for seed in range(3):
    block = TokenShift(block=PreNorm(attention=Fused(heads=2)))
    model = Model(dim=16, layers=1, context=9, block=block).build(9, seed=seed).eval()
    compiled = ahead_of_time(model, 1, seed == 0, said.append, cache)
    for temperature in (0.0, 1.0):
        sampling = Sampling(temperature=temperature, seed=seed)
        texts = [BatchEngine(each, [[1, 2]], sampling, 40).run() for each in (model, compiled)]
        assert texts[0] == texts[1]
    assert compiled.checked and compiled.run is not None
print(len(said), len(cache.packages("*")))
"""


@pytest.mark.slow
def test_step_is_compiled_once_for_all_weights_and_samples_the_same_ids(tmp_path):
    # In a process of its own, where no annotation is checked: what checks them would be compiled too.
    command = [sys.executable, "-c", COMPILING, str(tmp_path / "steps")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]
