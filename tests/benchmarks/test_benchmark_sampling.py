"""The benchmark of sampling: what writes another text is not timed, and the figures are what they say."""

import importlib
import json

import pytest
import torch

from nanotx.errors import ConfigError

TINY = "--device cpu --threads 1 --dim 16 --heads 2 --layers 1 --context 32 --tokens 6 --batch 2 --rounds 2 --learn 1"
TINY += " --draft-dim 8 --no-compile"


@pytest.fixture
def sampling(command):
    """The benchmark's main, called in this process with words."""
    pytest.importorskip("transformers")
    return lambda words: command("sampling", *words.split())


def test_every_way_writes_the_same_text_and_is_timed_beside_the_others(sampling, tmp_path, capsys):
    sampling(f"{TINY} --json {tmp_path / 'x.json'}")
    answer = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    rows = {row["name"]: row for row in answer["rows"]}
    assert list(rows) == ["uncached", "cached", "batch", "speculative", "lookup", "transformers"]
    for name, row in rows.items():
        assert row["laws"] == "pass" and row["cases"] == 3 and row["batch"] == (2 if name == "batch" else 1)
        assert row["tokens_per_second"] == pytest.approx(1e3 / row["median_ms"])
        assert (row["bandwidth_share"] is None) == (name in ("uncached", "speculative", "lookup"))
        assert (row["accepted"] is None) == (name != "speculative")
    assert rows["transformers"]["ratio"] == rows["cached"]["ratio_to_cached"] == 1
    # One layer of 16: maps of 12 * 16^2 numbers, three norms, a head of 16 * v; and a cache of 3.5 tokens on the mean.
    head = rows["cached"]["bytes_per_token"] / 4 - 12 * 16**2 - 3 * 16 - 3.5 * 2 * 16
    assert head % 16 == 0 and 20 < head / 16 < 200
    assert "transformers" in capsys.readouterr().out


def test_generator_with_another_text_is_not_timed(sampling, tmp_path, monkeypatch):
    generators = importlib.import_module("harness.generators")
    right = generators.Generators.cached

    def wrong(self, ids, new, how):
        return (right(self, ids, new, how) + 1) % self.vocab_size

    monkeypatch.setattr(generators.Generators, "cached", wrong)
    sampling(f"{TINY} --json {tmp_path / 'x.json'}")
    rows = {row["name"]: row for row in json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]}
    for name in ("cached", "batch"):
        assert rows[name]["laws"] == "failed: same_text: after a prompt of 1, token 0 is another than without a cache"
        assert rows[name]["median_ms"] is None and rows[name]["ratio"] is None
    assert rows["uncached"]["laws"] == "pass" and rows["uncached"]["ratio_to_cached"] is None


def test_some_ways_are_timed_alone(sampling, tmp_path):
    sampling(f"{TINY} --ways transformers,cached --json {tmp_path / 'x.json'}")
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["cached", "transformers"]
    assert all(row["ratio_to_uncached"] is None and row["ratio"] for row in rows)
    with pytest.raises(ConfigError, match=r"--ways cache: unknown\. Did you mean 'cached'\?"):
        sampling(f"{TINY} --ways cache")


def test_text_that_does_not_fit_is_refused(sampling):
    with pytest.raises(ConfigError, match="context: expected room for a text of 501 tokens, got 64; try fewer"):
        sampling("--context 64")
    with pytest.raises(ConfigError, match="rounds: expected a number of at least 1, got 0"):
        sampling("--rounds 0")


def test_plain_reading_is_measured(sampling):
    machine = importlib.import_module("harness.machine")
    assert 1e8 < machine.read_bandwidth(torch.device("cpu"), size=2**20, tries=3) < 1e13
