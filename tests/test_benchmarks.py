"""The benchmarks: what they promise to write, what they refuse to time, and how they measure."""

import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanotx.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
FIELDS = "name device dtype shape batch time dim heads pass median_ms iqr_ms tokens_per_second memory_mb ratio laws"

PEEK = """
from dataclasses import dataclass
from nanotx.attention import Attention
from nanotx.attention.fused import Fused
from nanotx.registry import Slot
from torch import nn


class Peeking(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.honest = Fused(heads=heads).build(dim)

    def forward(self, x, position=None, past=None):
        return self.honest(x) + x.roll(-1, dims=1)


@Attention.register("peek")
@dataclass(frozen=True, kw_only=True)
class Peek(Attention):
    heads: int = 2

    def build(self, dim):
        return Peeking(dim, self.heads)


@Attention.register("lame")
@dataclass(frozen=True, kw_only=True)
class Lame(Attention):
    def build(self, dim):
        raise NotImplementedError("not on this machine")
"""


def benchmark(name, *words, **environment):
    """A benchmark run as its reader would, in the checkout, on one thread and without a GPU."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"} | environment
    command = [sys.executable, str(Path("benchmarks", f"{name}.py")), "--threads", "1", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture
def tools(monkeypatch):
    """The benchmarks' own modules, found as when a benchmark runs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import timing

    yield timing
    for file in BENCHMARKS.glob("*.py"):
        sys.modules.pop(file.stem, None)


def test_every_attention_is_timed_once_it_obeys_and_none_that_does_not(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(PEEK, encoding="utf-8")
    out = tmp_path / "new" / "attn.json"
    done = benchmark("attn", "--quick", "--device", "cpu", "--json", str(out), "--load", str(mine))
    assert done.returncode == 0, done.stderr
    answer = json.loads(out.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert answer.keys() == {"machine", "rows"}
    assert {"cpu", "cores", "threads", "torch", "nanotx", "python", "peak_flops"} <= answer["machine"].keys()
    rows = answer["rows"]
    assert {"per_head", "fused", "sdpa", "peek", "lame"} <= {row["name"] for row in rows}
    assert {row["pass"] for row in rows} == {"forward", "forward+backward"}
    figures = ("median_ms", "tokens_per_second", "ratio")
    for row in rows:
        assert row.keys() == {*FIELDS.split(), "cases"}
        if row["name"] in {"peek", "lame"}:
            assert [row[figure] for figure in (*figures, "iqr_ms", "memory_mb")] == [None] * 5
        else:
            assert row["laws"] == "pass"
            assert all(row[figure] > 0 for figure in figures)
        if row["name"] == "sdpa":
            assert row["ratio"] == 1
    told = {row["name"]: row["laws"] for row in rows}
    assert told["peek"].startswith("failed: causal: outputs up to")
    assert told["lame"] == "failed: NotImplementedError: not on this machine"
    assert f"peek: {told['peek']}" in done.stdout
    assert "laws: quick on cpu in float32" in done.stderr


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("attn", "--device cuda", "device: expected a CUDA GPU, and torch sees none; try --device cpu"),
        ("training", "--recipe macbok", "--recipe macbok: no such recipe. Did you mean 'macbook'?"),
        ("training", "", "expected Hugging Face's transformers to compare with, and it is not installed; try pip"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(name, words, says, tmp_path):
    (tmp_path / "transformers.py").write_text("raise ImportError", encoding="utf-8")
    done = benchmark(name, *words.split(), PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("ConfigError: ") and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_device_is_asked_for_by_its_name(tools):
    from hardware import machines

    with pytest.raises(ConfigError, match=r"device: expected cpu, cuda, .* got 'cdua'. Did you mean 'cuda'\?"):
        machines("cpu,cdua", threads=1)
    assert [str(one.device) for one in machines("cpu, cpu", threads=1, dtypes=("float32",))] == ["cpu"]


@pytest.mark.parametrize("name", ["macbook", "baby_gpt", "decoder_384", "my_gpt", "deep_64"])
def test_a_recipe_is_compared_with_gpt2_where_it_is_one(tools, name):
    from contenders import read_recipe
    from rival import parts

    try:
        recipe = read_recipe(name, batch=4)
    except ConfigError as error:
        assert "GPT-2 has" in str(error) and name not in {"macbook", "baby_gpt"}
    else:
        assert recipe.train.batch == 4 and recipe.dtype == "float32"
        assert parts(recipe)[0].part == "prenorm"


def test_turns_are_taken_in_rounds_and_each_comes_first_in_its_turn(tools):
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    times = tools.take_turns(runs, rounds=3, device=torch.device("cpu"), calls=2)
    assert "".join(order) == "aabbcc" + "bbccaa" + "ccaabb"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_ratio_is_the_median_over_rounds_whatever_the_rounds_were_like(tools):
    times = {"one": [2.0, 20.0, 9.0], "other": [1.0, 10.0, 3.0], "none": []}
    assert tools.ratio(times, "one", "other") == 2.0
    assert tools.ratio(times, "one", "none") is tools.ratio(times, "absent", "one") is None
    assert tools.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0
    assert tools.spread([7.0]) == 0.0
    assert tools.spread(range(101)) == statistics.quantiles(range(101), n=4, method="inclusive")[2] - 25


def test_memory_is_that_of_the_child_alone_however_large_its_parent(tools):
    if tools.resident_peak() is None:
        pytest.skip("this system does not tell")
    size, ballast = 64 << 20, os.urandom(128 << 20)
    taken = tools.megabytes(tools.peak_in_child(os.urandom, size), tools.peak_in_child(os.urandom, 1))
    assert len(ballast) > size
    assert taken == pytest.approx(size / 1e6, rel=0.3)
    assert tools.megabytes(None, 1) is tools.megabytes(1, None) is None


def test_no_benchmark_bears_the_name_of_a_package():
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    assert not taken & {file.stem for file in BENCHMARKS.glob("*.py")}
