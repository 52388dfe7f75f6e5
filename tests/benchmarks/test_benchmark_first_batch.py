"""The benchmark of the first batch: laws of its rows before times."""

import json
import os

import pytest

from nanotx.errors import ConfigError

SMALL = ["--documents", 300, "--tokens", 30_000, "--contexts", "16,64", "--vocab-sizes", 300, "--rounds", 3]


@pytest.mark.slow
def test_first_batch_is_timed_in_processes_of_its_own(command, tmp_path):
    file, states = tmp_path / "figures.json", "cached,disk" if hasattr(os, "posix_fadvise") else "cached"
    assert command("first_batch", *SMALL, "--states", states, "--folder", tmp_path, "--json", file) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 4 * len(states.split(","))
    for row in rows:
        assert row["laws"] == "pass" and row["rounds"] == 3 and row["documents"] == 300, row
        assert row["median_ms"] > row["open_ms"] > 0 and (row["pack_ms"] > 0) == (row["name"] == "separate")
        assert row["name"] != "join" or row["ratio"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]  # the token file is removed


def test_file_is_not_read_where_a_law_is_broken(command, tmp_path, monkeypatch):
    monkeypatch.setattr("nanotx.data.packed_files.OVERLAP", 0)
    file = tmp_path / "figures.json"
    assert command("first_batch", *SMALL, "--folder", tmp_path, "--json", file) == 1
    assert json.loads(file.read_text(encoding="utf-8"))["rows"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda"], "--device: expected cpu, got 'cuda'"),
        (["--vocab-sizes", "100"], "--vocab-sizes: expected sizes from 256 to 65792, got '100'"),
        (["--contexts", "8,x"], "--contexts: expected whole numbers from 1 on"),
        (["--states", "disc"], "--states disc: unknown. Did you mean 'disk'?"),
        (["--documents", "10"], "documents"),
        (["--tokens", "10"], "tokens"),
    ],
)
def test_invalid_arguments_of_the_first_batch_are_refused(command, words, message):
    with pytest.raises(ConfigError) as refused:
        command("first_batch", *words)
    assert message in str(refused.value)
