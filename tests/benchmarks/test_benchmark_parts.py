"""The benchmarks of attentions and layers: what they write, what they refuse to time, and how they measure."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from einops import rearrange
from helpers import ROOT
from torch.nn.functional import scaled_dot_product_attention

from nanotx.cli.entry import exit_code
from nanotx.errors import ConfigError, RunError

FIELDS = """slot name device dtype shape batch time dim heads pass compiled compile_seconds median_ms iqr_ms rounds
tokens_per_second flops_per_second peak_share reference ratio kernel kernel_backward memory_mb laws laws_tried
laws_passed cases"""

PEEK = """
from dataclasses import dataclass
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.config.registry import Slot
from torch import nn


class Peeking(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.honest = Fused(heads=heads).build(dim)

    def forward(self, x, position=None, cache=None):
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


def row(**changes):
    """A row as a benchmark writes it."""
    measured = {
        "slot": "attention", "name": "sdpa", "device": "cpu", "dtype": "float32", "shape": "baby", "batch": 16,
        "time": 256, "dim": 384, "heads": 6, "pass": "forward+backward", "compiled": False, "compile_seconds": None,
        "median_ms": 50.0, "iqr_ms": 1.0, "rounds": 15, "tokens_per_second": 81920.0, "flops_per_second": 3e11,
        "peak_share": 0.5, "reference": "sdpa", "ratio": 1.0, "ratio_to_raw_torch": 1.01, "ratio_to_torch_mha": 0.9,
        "kernel": "flash", "kernel_backward": "flash", "memory_mb": 70.0, "laws": "pass", "laws_tried": 10,
        "laws_passed": 10, "cases": 104,
    }  # fmt: skip
    return measured | changes


def saved(path, rows, cpu="A Processor", gpu=None):
    """A file as a benchmark writes it."""
    machine = {"cpu": cpu, "threads": 2, "gpu": gpu, "torch": "2.13.0", "peak_flops": {"cpu float32": 6e11}}
    path.write_text(json.dumps({"machine": machine, "rows": rows}), encoding="utf-8")
    return path


def test_every_attention_is_timed_once_it_obeys_and_none_that_does_not(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(PEEK, encoding="utf-8")
    out = tmp_path / "new" / "attn.json"
    words = ("--quick", "--device", "cpu", "--dtype", "float32", "--json", str(out), "--load", str(mine))
    done = benchmark("attn", *words)
    assert done.returncode == 0, done.stderr
    answer = json.loads(out.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert answer.keys() == {"machine", "rows"}
    assert {"cpu", "cores", "threads", "torch", "nanotx", "python", "peak_flops"} <= answer["machine"].keys()
    rows = answer["rows"]
    assert {"per_head", "fused", "sdpa", "raw_torch", "torch_mha", "peek", "lame"} <= {row["name"] for row in rows}
    assert {row["pass"] for row in rows} == {"forward", "forward+backward"}
    figures = ("median_ms", "tokens_per_second", "flops_per_second", "peak_share", "ratio", "ratio_to_raw_torch")
    for row in rows:
        assert row.keys() == {*FIELDS.split(), "ratio_to_raw_torch", "ratio_to_torch_mha"}
        if row["name"] in {"peek", "lame"}:
            assert [row[figure] for figure in (*figures, "iqr_ms", "memory_mb")] == [None] * 8
        elif row["name"] != "flex":
            assert row["laws"] == "pass" and row["laws_passed"] == row["laws_tried"] >= 9
            assert row["cases"] > row["laws_tried"]
            assert all(row[figure] > 0 for figure in figures)
        if row["name"] in {"sdpa", "raw_torch", "torch_mha"}:
            assert (row["kernel"], row["kernel_backward"]) == ("flash", "flash" if "backward" in row["pass"] else None)
        if row["name"] == "sdpa":
            assert row["ratio"] == 1
    message = {row["name"]: row["laws"] for row in rows}
    assert message["peek"].startswith("failed: causal: outputs up to")
    assert message["lame"] == "failed: NotImplementedError: not on this machine"
    assert f"peek: {message['peek']}" in done.stdout
    assert max(map(len, done.stdout.partition("ms: median")[0].splitlines()[1:])) <= 120
    assert "laws: attention/sdpa on cpu in float32" in done.stderr


def test_part_that_does_not_train_on_a_device_is_reported_and_never_passes(command, tmp_path):
    out = tmp_path / "flex.json"
    command("attn", "--quick", "--device", "cpu", "--dtype", "float32", "--parts", "flex,sdpa", "--json", out)
    rows = {(row["name"], row["pass"]): row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert rows["flex", "forward"]["laws"] == rows["flex", "forward+backward"]["laws"] == "not on cpu"
    for way in ("forward", "forward+backward"):
        assert rows["flex", way]["median_ms"] is rows["flex", way]["memory_mb"] is None
    assert rows["sdpa", "forward+backward"]["laws"] == "pass"


def test_layers_of_other_libraries_obey_the_laws_and_equal_ours(command, tmp_path, capsys):
    names = "mlp,raw_mlp,swiglu,raw_swiglu,prenorm,torch_encoder,layernorm,raw_layernorm,rmsnorm,raw_rmsnorm,none,rope"
    names += ",raw_rope"
    out = tmp_path / "layers.json"
    command("layers", "--quick", "--device", "cpu", "--dtype", "float32", "--parts", names, "--json", out)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert {row["slot"] for row in rows} == {"ffn", "block", "norm", "position"}
    assert {row["name"] for row in rows} == set(names.split(","))
    assert {row["laws"] for row in rows} == {"pass"}
    assert all((row["flops_per_second"] is None) == (row["slot"] == "norm") for row in rows)
    assert "x raw" in capsys.readouterr().out


def test_contender_with_other_outputs_is_not_timed(tools, monkeypatch):
    from harness import layer_peers
    from harness.passes import at_shape, equivalent
    from harness.slots import QUICK

    from nanotx.hardware.device import choose_machine

    machine = choose_machine("cpu", "float32", 1)
    assert at_shape("ffn", "raw_mlp", QUICK["quick"], machine) == ("pass", 2)
    other = layer_peers.RawSwiGluFfn.forward
    monkeypatch.setattr(layer_peers.RawSwiGluFfn, "forward", lambda layer, x: 2 * other(layer, x))
    equivalent.cache_clear()  # an earlier test may have compared them
    verdict, _ = at_shape("ffn", "raw_swiglu", QUICK["quick"], machine)
    assert verdict.startswith("failed: equivalent: outputs: at")


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("attn", "--device cuda", "device: expected a CUDA GPU, and torch sees none; try --device cpu"),
        ("training", "--recipe macbok", "--recipe macbok: no such recipe. Did you mean 'macbook'?"),
        ("training", "", "expected transformers to compare with, and it is not installed; try pip"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(command, name, words, says, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert exit_code(lambda: command(name, *words.split())) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("ConfigError: ") and says in output.err
    assert len(output.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        (
            "attn",
            "--device cpu --dtype bfloat61",
            r"--dtype bfloat61: unknown. Did you mean 'bfloat16'\? Known: float32, ",
        ),
        ("attn", "--device cpu --shapes babi", r"--shapes babi: unknown. Did you mean 'baby'\? Known: laptop"),
        ("attn", "--device cpu --parts spda", r"--parts spda: unknown. Did you mean 'sdpa'\? Known: blockwise"),
        ("attn", "--device cpu --rounds 0", "rounds: expected a number of at least 1, got 0"),
        ("attn", "--quick --shapes baby", "--quick: has a shape of its own"),
        ("attn", "--plot here.bmp", r"--plot here.bmp: expected a file that ends in .svg or .png"),
        ("attn", "--merge a.json --device cpu", "--merge: shows what was measured, and measures nothing"),
        ("layers", "--slots fnn", r"--slots fnn: unknown. Did you mean 'ffn'\? Known: ffn, block, norm, position"),
        ("layers", "--slot ffn", "--slot: no such flag. Did you mean '--slots'"),
    ],
)
def test_misspelt_name_is_answered_with_the_right_name(command, name, words, says):
    with pytest.raises(ConfigError, match=says):
        command(name, *words.split())


def test_shapes_are_chosen_by_name_and_by_device(tools):
    from harness.slots import choose_shapes

    assert list(choose_shapes("cpu", "4k, laptop")) == ["laptop", "4k"]
    assert choose_shapes("cpu", "")["baby"].batch == 16
    assert choose_shapes("cpu", "baby_64")["baby_64"] == choose_shapes("cuda", "")["baby"]
    assert max(shape.time for shape in choose_shapes("cuda", "all").values()) >= 16384


def test_results_of_several_machines_stand_side_by_side(command, tmp_path, capsys):
    first = saved(tmp_path / "cpu.json", [row(), row(name="fused", median_ms=75.0, ratio=1.5)])
    other = saved(tmp_path / "cuda.json", [row(device="cuda", batch=64, median_ms=0.5)], gpu="A GPU")
    both, again = tmp_path / "both.json", tmp_path / "again.json"
    assert command("attn", "--merge", first, other, "--json", both) == 0
    out = capsys.readouterr().out
    assert "cpu: A Processor" in out and "cuda: A GPU, A Processor" in out
    (line,) = [line.split() for line in out.splitlines() if line.startswith(" sdpa")]
    assert line == ["sdpa", "50.000", "81,920", "70", "1.00", "10/10", "0.500", "81,920", "70", "1.00", "10/10"]
    (line,) = [line.split() for line in out.splitlines() if line.startswith(" fused")]
    assert line[1] == "75.000" and line[-5:] == ["-"] * 5
    assert "cpu 16 x 256 x 384, 6 heads; cuda 64 x 256 x 384, 6 heads" in out
    answer = json.loads(both.read_text(encoding="utf-8"))
    assert [machine["gpu"] for machine in answer["machines"]] == [None, "A GPU"]
    assert [row["machine"] for row in answer["rows"]] == [0, 0, 1]
    third = saved(tmp_path / "other.json", [row(median_ms=99.0)], cpu="Another")
    assert command("attn", "--merge", third, both, "--json", again) == 0
    out = capsys.readouterr().out
    assert "cpu 1: Another" in out and "cpu 2: A Processor" in out
    assert [row["machine"] for row in json.loads(again.read_text(encoding="utf-8"))["rows"]] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "cannot be read: No such file"), ("{", "this is not JSON"), ("[]", "expected what a benchmark wrote")],
)
def test_file_without_results_is_not_merged(command, tmp_path, text, says):
    if text is not None:
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=f"--merge .*a.json: {says}"):
        command("attn", "--merge", tmp_path / "a.json")


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG\r\n")])
def test_time_against_context_is_drawn_with_the_name_of_each_part_at_its_line(command, tmp_path, suffix, begins):
    rows = [
        row(name=name, time=time, batch=1, median_ms=time * slow, **{"pass": way})
        for name, slow in {"sdpa": 0.1, "fused": 0.2, "torch_mha": 0.15}.items()
        for way in ("forward", "forward+backward")
        for time in (256, 1024, 4096)
    ]
    rows.append(row(name="peek", median_ms=None, laws="failed: causal"))
    picture = tmp_path / f"attn{suffix}"
    assert command("attn", "--merge", saved(tmp_path / "a.json", rows), "--plot", picture) == 0
    drawn = picture.read_bytes()
    assert drawn.startswith(begins)
    if suffix == ".svg":
        texts = set(drawn.decode().split("<!-- ")[1:])
        labels = {text.partition(" -->")[0] for text in texts}
        assert {"sdpa", "fused", "torch_mha", "context", "256", "1k", "4k"} <= labels
        assert "attention, forward, float32 on cpu" in labels and "peek" not in labels


def test_plot_without_timed_rows_is_refused(command, tmp_path):
    failed = saved(tmp_path / "a.json", [row(median_ms=None, laws="failed: causal")])
    with pytest.raises(ConfigError, match="--plot: nothing was timed"):
        command("attn", "--merge", failed, "--plot", tmp_path / "a.svg")


def test_names_at_the_ends_of_lines_never_lie_on_one_another(tools):
    from harness.plot import spread_out

    heights = {"a": 0.5, "b": 0.5, "c": 0.52, "d": 0.9, "e": 0.46}
    placed = spread_out(heights, 0.05)
    order = sorted(placed.values())
    assert all(upper - lower >= 0.05 - 1e-9 for lower, upper in itertools.pairwise(order))
    assert placed["d"] == 0.9 and placed["e"] < placed["a"] < placed["c"]


def test_operations_are_those_of_the_definition_counted_one_by_one(tools):
    from harness.slots import Shape, attention_flops, block_flops, ffn_flops

    shape = Shape(batch=3, time=5, dim=8, heads=2)
    maps, reading, thinking = 0, 0, 0
    for token in range(shape.batch * shape.time):
        maps += 4 * (2 * 8 * 8)
        thinking += 2 * (2 * 8 * 32)
        seen = token % shape.time + 1
        reading += shape.heads * seen * (2 * 4 + 2 * 4)
    assert attention_flops(shape) == maps + reading
    assert ffn_flops(shape) == thinking
    assert block_flops(shape) == maps + reading + thinking


def test_kernel_is_the_one_that_ran(tools):
    from harness.passes import kernels_of

    from nanotx.nn.attention.fused import Fused
    from nanotx.nn.attention.sdpa import Sdpa

    x = torch.randn(1, 4, 8, requires_grad=True)

    def both(layer):
        return lambda: torch.autograd.grad(layer(x).sum(), x)

    assert kernels_of(both(Sdpa(heads=2).build(8))) == ("flash", "flash")

    def dropping(x):
        x = rearrange(x, "b t (h k) -> b h t k", h=2)
        return scaled_dot_product_attention(x, x, x, dropout_p=0.5, is_causal=True)

    assert kernels_of(both(dropping)) == ("math", None)
    assert kernels_of(both(Sdpa(heads=2, dropout=0.5).build(8))) == (None, None)  # drops by itself
    assert kernels_of(both(Fused(heads=2).build(8))) == (None, None)


def test_compiled_parts_are_rows_of_their_own_that_compute_the_same(command, tmp_path, monkeypatch, capsys):
    words = ("--quick", "--device", "cpu", "--dtype", "float32", "--parts", "sdpa,raw_torch", "--compile")
    out = tmp_path / "attn.json"

    def compile_in_name(layer, dynamic):
        return layer

    monkeypatch.setattr(torch, "compile", compile_in_name)
    command("attn", *words, "--json", out)
    rows = [row for row in json.loads(out.read_text(encoding="utf-8"))["rows"] if row["compiled"]]
    assert len(rows) == 4
    assert all(row["compile_seconds"] > 0 and row["median_ms"] > 0 and row["laws"] == "pass" for row in rows)
    assert all(row["ratio"] == 1 for row in rows if row["name"] == "sdpa")
    assert "  compiled" in capsys.readouterr().out

    monkeypatch.setattr(torch, "compile", lambda layer, dynamic: torch.nn.Sequential(layer, torch.nn.Tanh()))
    command("attn", *words, "--json", out)
    rows = [row for row in json.loads(out.read_text(encoding="utf-8"))["rows"] if row["compiled"]]
    assert all(row["laws"].startswith("failed: compiled: forward") and row["median_ms"] is None for row in rows)

    monkeypatch.setattr(torch, "compile", compile_in_name)
    command("attn", *words, "--compile-seconds", "1e-9", "--json", out)
    rows = [row for row in json.loads(out.read_text(encoding="utf-8"))["rows"] if row["compiled"]]
    assert [row["laws"] for row in rows] == ["pass"] + ["not compiled: 0 s were up"] * 3


def test_what_cannot_be_run_stops_no_other(tools):
    from harness.comparison import Candidate, warm_up
    from harness.laws import PASS, LawResults

    def hungry():
        raise torch.OutOfMemoryError("CUDA out of memory")

    passed = LawResults(verdict=PASS, tried=3, passed=3, cases=9)
    fine, other = Candidate(name="fine", results=passed, run=lambda: None), Candidate(name="hungry", results=passed)
    other.run = hungry
    warm_up([fine, other])
    assert fine.results.verdict == PASS and fine.kernels == (None, None) and fine.run is not None
    assert other.results.verdict == "out of memory" and other.run is None


def test_memory_of_pytorchs_kernel_grows_linearly_with_the_context(tools):
    from harness.processes import resident_peak

    if resident_peak() is None:
        pytest.skip("this system does not report it")
    from harness.passes import FORWARD, Task, memory
    from harness.slots import Shape

    from nanotx.hardware.device import choose_machine

    machine = choose_machine("cpu", "float32", 1)

    def peak(name, time):
        shape = Shape(batch=1, time=time, dim=64, heads=2)
        return memory((), Task(slot="attention", name=name, shape=shape, way=FORWARD), machine)

    assert peak("sdpa", 4096) < 30  # all the scores of a head would be 67
    assert peak("fused", 4096) > 134
