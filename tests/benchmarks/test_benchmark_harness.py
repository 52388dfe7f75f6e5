"""What the benchmarks share: interleaved times, laws before times, memory, and no name of a package."""

import importlib.metadata
import json
import os
import statistics
import sys

import pytest
import torch
from helpers import ROOT

from nanotx.errors import ConfigError, LawBroken

BENCHMARKS = ROOT / "benchmarks"


def test_device_is_requested_by_name(tools):
    from harness.machine import choose_machines

    with pytest.raises(ConfigError, match=r"--device cdua: unknown. Did you mean 'cuda'\? Known: auto, cpu, "):
        choose_machines("cpu,cdua", threads=1)
    assert [str(item.device) for item in choose_machines("cpu, cpu", threads=1, dtypes="float32")] == ["cpu"]


def test_turns_are_taken_in_rounds_and_each_comes_first_in_its_turn(tools):
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    times = tools.interleave(runs, rounds=3, device=torch.device("cpu"), calls=2)
    assert "".join(order) == "aabbcc" + "bbccaa" + "ccaabb"
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_rounds_end_when_the_time_is_up_but_for_a_few(tools):
    times = tools.interleave({"a": lambda: None}, 100, torch.device("cpu"), calls=1, limit=0.0)
    assert len(times["a"]) == tools.MIN_ROUNDS


def test_ratio_is_the_median_over_rounds(tools):
    times = {"one": [2.0, 20.0, 9.0], "other": [1.0, 10.0, 3.0], "none": []}
    assert tools.ratio(times, "one", "other") == 2.0
    assert tools.ratio(times, "one", "none") is tools.ratio(times, "absent", "one") is None
    assert tools.iqr([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0
    assert tools.iqr([7.0]) == 0.0
    assert tools.iqr(range(101)) == statistics.quantiles(range(101), n=4, method="inclusive")[2] - 25


def test_memory_is_that_of_the_child_alone_however_large_its_parent(tools):
    from harness.processes import megabytes, peak_in_child, resident_peak

    if resident_peak() is None:
        pytest.skip("this system does not report it")
    size, ballast = 64 << 20, os.urandom(128 << 20)
    taken = megabytes(peak_in_child(os.urandom, size), peak_in_child(os.urandom, 1))
    assert len(ballast) > size
    assert taken == pytest.approx(size / 1e6, rel=0.3)
    assert megabytes(None, 1) is megabytes(1, None) is None


def test_no_benchmark_bears_the_name_of_a_package():
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    assert not taken & {file.stem for file in BENCHMARKS.glob("*.py")}


def test_only_candidates_whose_laws_hold_are_called_and_have_figures(tools):
    from harness.laws import PASS, figures, time_lawful

    called = []
    runs = {name: lambda name=name: called.append(name) for name in ("right", "wrong", "lost")}
    verdicts = {"right": PASS, "wrong": "failed: causal", "lost": "not on cpu"}
    times = time_lawful(runs, verdicts, 3, torch.device("cpu"), calls=1)
    assert called == ["right"] * 3 and list(times) == ["right"]
    right, wrong = (figures(times, name, "right", {"tokens_per_second": 8}) for name in ("right", "wrong"))
    assert right["tokens_per_second"] == pytest.approx(8e3 / right["median_ms"]) and right["ratio"] == 1
    assert wrong.pop("rounds") == 0 and wrong.pop("reference") == "right" and set(wrong.values()) == {None}
    assert figures(times, "right", "wrong", {"tokens_per_second": None})["ratio"] is None
    assert figures(times, "right", None, {"tokens_per_second": None})["tokens_per_second"] is None


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (LawBroken("causal: it peeks"), "failed: causal: it peeks"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (ValueError("first line\nsecond line"), "failed: ValueError: first line"),
    ],
)
def test_verdict_is_pass_or_the_error_in_one_line(tools, error, verdict):
    from harness.laws import verdict as verdict_of

    def check():
        raise error

    assert verdict_of(check) == verdict and verdict_of(int) == "pass"


@pytest.mark.parametrize("name", ["saving", "watching"])
def test_every_recipe_is_found_before_one_is_timed(command, name):
    with pytest.raises(ConfigError, match=r"--recipes nope: no such recipe\."):
        command(name, "--device", "cpu", "--threads", "1", "--recipes", "macbook,nope")


def test_figures_that_are_no_numbers_are_never_written(tools, tmp_path):
    from harness.report import write_json

    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {}, [{"name": "a", "median_ms": float("nan")}])
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("name", "words", "keys"),
    [
        (
            "saving",
            "--device cpu --threads 1 --turns 2 --recipes {tiny}",
            "name device dtype threads parameters bytes median_ms iqr_ms step_ms every share",
        ),
        (
            "watching",
            "--device cpu --threads 1 --rounds 2 --steps 3 --watched dashboard,csv --recipes {tiny}",
            "name recipe device dtype threads median_ms iqr_ms tokens_per_second ratio cost cpu_ms cpu_ratio load",
        ),
        ("peaks", "--device cpu --threads 1 --size 8 --tries 1", "name device"),
    ],
)
def test_small_programs_write_a_machine_and_rows(command, tmp_path, capsys, monkeypatch, name, words, keys):
    from harness import machine

    monkeypatch.setattr(machine, "peak", lambda _: 1e9)
    tiny, out = tmp_path / "tiny.toml", tmp_path / "out.json"
    model = "model = { dim = 16, layers = 1, context = 8 }"
    recipe = f'tokenizer = "char"\ncorpus = {{ part = "playhouse", size = 9000 }}\n{model}\n'
    tiny.write_text(recipe, encoding="utf-8")
    assert command(name, *words.format(tiny=tiny).split(), "--json", out) == 0
    answer = json.loads(out.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert answer["machine"]["threads"] == 1 and answer["machine"]["peak_flops"] == {"cpu float32": 1e9}
    assert answer["rows"] and all(row.keys() >= set(keys.split()) for row in answer["rows"])
    assert all(row["name"] in capsys.readouterr().out for row in answer["rows"][:1])
