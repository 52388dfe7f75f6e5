"""`nanotx trace`: the lesson in 80 columns, a file and a page; bad input is refused by name."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from helpers import text, tiny

from nanotx.cli.commands import trace as module
from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError, TextError
from nanotx.nn.shapes import AXES

PLUGIN = '''
from dataclasses import dataclass
from einops import rearrange, reduce
from torch import nn
from nanotx.nn.ffn import Ffn

@Ffn.register("halves")
@dataclass(frozen=True, kw_only=True)
class Halves(Ffn):
    """A feed-forward of a user."""

    def build(self, dim):
        return HalvesFfn()

class HalvesFfn(nn.Module):
    def forward(self, x):
        left, right = rearrange(
            x, "b t (two f) -> two b t f", two=2
        )
        return x * reduce(left * right, "b t f -> b t 1", "sum")
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of a few steps, in which a ffn comes from a file."""
    home = tmp_path_factory.mktemp("trace")
    (home / "halves.py").write_text(PLUGIN, encoding="utf-8")
    corpus = ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    own = ["--ffn", "halves", "--load", str(home / "halves.py")]
    flags = tiny(model_layers=3, train_steps=2, train_checkpoint_every=2)
    assert run(["train", "macbook", "--tokenizer", "char", *corpus, *own, *flags, "--run", str(home / "a_run")]) == 0
    return home


@pytest.fixture(autouse=True)
def one_pass(monkeypatch):
    monkeypatch.setattr(module, "trace", partial(module.trace, passes=1))


def traced(home: Path, *flags: str) -> int:
    return run(["trace", str(home / "a_run"), *flags, "--load", str(home / "halves.py")])


def test_lesson_fits_80_columns_and_shows_the_part_of_a_file(home, capsys):
    capsys.readouterr()
    assert traced(home, "ab cd") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "a=" in out and "·=" in out
    legend = out[out.index("how to read it") : out.index("model  Transformer")]
    assert "statement" in legend and "values  ms" in legend
    assert all(re.search(rf"^  {axis} +{re.escape(AXES[axis])}$", legend, re.MULTILINE) for axis in ("b", "t", "two"))
    assert "blocks.0.ffn  HalvesFfn" in out
    assert "halves.py:17" in out
    assert re.search(r"rearrange +b t \(two f\) -> two b t f +b=1 t=5 two=2 f=8", out)
    assert re.search(r"reduce sum +b t f -> b t 1", out)
    assert "Layers 1, 2 take the steps of layer 0 with their own weights." in out
    assert "logits to the likeliest next token" in out
    likeliest = [float(word) for word in out.splitlines()[-1].split() if "." in word]
    assert likeliest == sorted(likeliest, reverse=True) and len(likeliest) == 5


def test_layer_and_all_choose_what_is_shown(home, capsys):
    capsys.readouterr()
    assert traced(home, "ab", "--layer", "2") == 0
    out = capsys.readouterr().out
    assert "blocks.2.ffn" in out and "blocks.0" not in out
    assert traced(home, "ab", "--all") == 0
    out = capsys.readouterr().out
    assert all(f"blocks.{layer}.ffn" in out for layer in range(3)) and "own weights" not in out


def test_file_and_page_have_every_step(home, tmp_path, capsys):
    file, page = tmp_path / "trace.json", tmp_path / "trace.html"
    assert traced(home, "ab", "--json", str(file), "--html", str(page)) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    assert [token["text"] for token in found["tokens"]] == ["a", "b"]
    own = [step for step in found["steps"] if step["file"].endswith("halves.py") and step["kind"] == "einops"]
    assert [step["layer"] for step in own] == [0, 0, 1, 1, 2, 2]
    assert own[0]["sizes"] == {"b": 1, "t": 2, "two": 2, "f": 8} and own[0]["shape"] == [2, 1, 2, 8]
    assert own[0]["code"].startswith("left, right = rearrange(\n")
    assert len(own[0]["values"]) == 8 and own[0]["ms"] > 0
    html = page.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>") and "blocks.0.ffn" in html and "HalvesFfn" in html


def test_text_longer_than_the_context_is_its_last_window_and_that_is_printed(home, capsys):
    capsys.readouterr()
    assert traced(home, "abcde" * 5) == 0
    assert "the first 17 tokens are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ([""], ConfigError, "TEXT: expected a text of one token at least"),
        (["ab", "--layer", "3"], ConfigError, "--layer: 3, and the model has layers 0 to 2"),
        (["ab", "--layer", "1", "--all"], ConfigError, "leave one out"),
        (["<script>"], TextError, "TEXT"),
        ([], ConfigError, "TEXT"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(home, flags, error, message):
    with pytest.raises(error, match=message):
        traced(home, *flags)


def test_paths_that_cannot_be_written_are_refused(home, tmp_path):
    with pytest.raises(ConfigError, match="a file of the run"):
        traced(home, "ab", "--json", str(home / "a_run" / "metrics.jsonl"))
    with pytest.raises(RunError, match="cannot be written"):
        traced(home, "ab", "--html", str(home / "text.txt" / "x.html"))
