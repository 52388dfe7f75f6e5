"""The benchmark of tokenizers: equal ids before times."""

import json
from pathlib import Path

import pytest
from helpers import python


@pytest.mark.slow
def test_tokenizers_are_timed_beside_others_that_give_the_same_ids(tmp_path):
    file = tmp_path / "figures.json"
    words = ["--quick", "--sections", "learn,encode", "--texts", "shakespeare", "--json", str(file)]
    done = tokenization(*words, NANOTX_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    answer = json.loads(file.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "tiktoken", "numba"} <= answer["machine"].keys()
    rows = answer["rows"]
    assert {row["task"] for row in rows} == {"learn", "encode"}
    for row in rows:
        assert row["laws"] == "pass" and row["cases"] > 0 and row["rounds"] == 3, row
        assert row["megabytes_per_second"] == pytest.approx(row["megabytes"] / row["median_ms"] * 1e3)
        if row["name"] == row["reference"]:
            assert row["ratio"] == 1
    (warm,) = [row for row in rows if (row["task"], row["name"], row["state"]) == ("encode", "nanotx", "warm")]
    assert warm["hits"] == 1.0 and warm["threads"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "--device: expected cpu, got 'cuda'"),
        (["--texts", "ascci"], "--texts ascci: unknown. Did you mean 'ascii'?"),
        (["--sections", "learned"], "--sections learned: unknown. Did you mean 'learn'?"),
        (["--megabytes", "1,x"], "expected whole numbers from 1 on, separated by commas, got 'x'"),
        (["--vocab-sizes", "100"], "--vocab-sizes: expected sizes of at least 256"),
    ],
)
def test_invalid_arguments_of_the_tokenizer_benchmark_are_refused(words, message):
    done = tokenization(*words)
    assert done.returncode == 2 and message in " ".join(done.stderr.split())


def tokenization(*words, **environment):
    return python(Path("benchmarks", "tokenization.py"), *words, **environment)
