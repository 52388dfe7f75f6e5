"""The benchmark of several processes: losses before times."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanotx.hardware.device import Machine

RANKS = Path(__file__).resolve().parents[2] / "benchmarks" / "ranks.py"
TINY = """
[corpus]
part = "playhouse"
size = 20000

[model]
dim = 16
layers = 2
context = 16

[train]
steps = 9
batch_size = 4
micro_batch_size = 1
"""


@pytest.mark.slow
def test_sums_and_what_is_divided_are_timed_after_their_losses(tmp_path):
    recipe, file = tmp_path / "tiny.toml", tmp_path / "figures.json"
    recipe.write_text(TINY, encoding="utf-8")
    words = ["--recipe", str(recipe), "--steps", "2", "--rounds", "2", "--threads", "2", "--json", str(file)]
    subprocess.run([sys.executable, str(RANKS), *words], check=True)
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["fast", "exact", "exact_owner", "fsdp"]
    for row in rows:
        assert row["laws"] == "pass" and row["median_ms"] > 0 and row["rounds"] == 2, row
    assert rows[0]["ratio"] == 1
    assert [rows[1]["losses_apart"], rows[2]["losses_apart"]] == [0, 0]


@pytest.mark.parametrize(
    ("name", "apart", "holds"),
    [
        ("exact", 0, True),
        ("exact", 1e-7, False),
        ("exact_owner", 1e-7, False),
        ("fast", 1e-5, True),
        ("fsdp", 1e-3, False),
    ],
)
def test_step_with_other_losses_is_not_timed(tools, name, apart, holds):
    ranks = importlib.import_module("ranks")
    results = {"losses": {name: [2.0 + apart]}, "times": {name: [0.1, 0.3, 0.2]}}
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, threads=1)
    row = ranks.row_of(name, ranks.RanksFlags(), machine, [2.0], results)
    assert (row["laws"] == "pass") == holds
    assert row["median_ms"] == (pytest.approx(200) if holds else None)
