"""What a user adds in one short file is trained, killed, resumed to the bit and sampled, and obeys its laws.

The files are the examples of docs/extending.md.
"""

import json
import re
import signal
from pathlib import Path

import pytest
import torch
from helpers import ROOT, Forked, text, tiny
from safetensors.torch import load_file

import nanotx
from nanotx import laws
from nanotx.cli.main import run
from nanotx.config.registry import LOADED
from nanotx.errors import ConfigError
from nanotx.laws.all_laws import SLOTS

STEPS = 6


def example(heading, language="python"):
    """Return the first file under a heading of docs/extending.md."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    (result,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[:1]
    return result


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Write a file with parts, and forget its parts afterwards."""
    monkeypatch.chdir(tmp_path)

    def write(source):
        (tmp_path / "mine.py").write_text(source, encoding="utf-8")
        text(tmp_path / "letters.txt")
        return str(tmp_path / "mine.py")

    yield write
    for slot in SLOTS.values():
        for name in [name for name, part in slot.registered.items() if part.__module__.startswith(LOADED)]:
            del slot.registered[name]


def command(file, name, *flags, **sizes):
    """The command that trains a tiny run with a file: of parts, or of a recipe."""
    corpus = ["--corpus", "file", "--corpus.path", "letters.txt"]
    given = [file] if file.endswith(".toml") else ["--load", file]
    return ["train", "macbook", *given, *corpus, *tiny(**sizes), "--run", name, *flags]


def lives(tmp_path, file, *flags, **sizes):
    """Train a run whole, and another one that is killed and resumed; both are equal to the bit. Return the whole."""
    assert run(command(file, "whole", *flags, **sizes)) == 0
    child = Forked(*command(file, "killed", *flags, **sizes), cwd=tmp_path)
    child.until(lambda: child.text() and (tmp_path / "killed/checkpoints/step-2").exists())
    child.send(signal.SIGKILL)
    child.finish()
    load = [] if file.endswith(".toml") else ["--load", file]
    assert run(["resume", "killed", *load]) == 0
    for name in ("model", "optimizer"):
        first, other = (load_file(tmp_path / f"{folder}/checkpoints/step-6/{name}.safetensors") for folder in PAIR)
        assert first.keys() == other.keys() and all(torch.equal(first[key], other[key]) for key in first), name
    losses = [[row["loss"] for row in steps(tmp_path / folder)] for folder in PAIR]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
    assert run(["sample", "whole", "--max-new-tokens", "5", *load]) == 0
    loaded = nanotx.load("whole")
    ids = torch.randint(loaded.model.vocab_size, (2, 8), generator=torch.Generator().manual_seed(0))
    laws.cache_agrees(loaded.model, ids, cuts=[1, 2, 5])
    return tmp_path / "whole"


PAIR = ("whole", "killed")


def steps(folder: Path):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["event"] == "step"]


def obeys(file, *names):
    """Try the laws of a part on a few cases each."""
    assert run(["laws", *names, "--load", file, "--examples", "6", "--jobs", "1"]) == 0


def test_loss_is_added_in_one_file(tmp_path, added):
    file = added(example("Add a loss"))
    obeys(file, "loss/confidence_penalty")
    whole = lives(tmp_path, file, "--loss", "confidence_penalty", "--train.loss-chunk-size", "5")
    assert all(row["total_loss"] < row["loss"] for row in steps(whole))


def test_loss_that_is_wrong_is_named_with_its_file(added):
    file = added(example("Add a loss").replace(").sum()", ").sum(-1)"))
    with pytest.raises(ConfigError, match=r"loss 'confidence_penalty' \(.*mine\.py\): "):
        run(command(file, "wrong", "--loss", "confidence_penalty"))


def test_optimizer_with_factored_state_is_added_in_one_file(tmp_path, added):
    file = added(example("Add an optimizer"))
    obeys(file, "optimizer/factored")
    whole = lives(tmp_path, file, "--optimizer", "factored")
    state = load_file(whole / "checkpoints/step-6/optimizer.safetensors")
    assert {key.rpartition("/")[2] for key in state} == {"rows", "columns", "square"}


def test_initialisation_and_groups_are_set_in_a_recipe(tmp_path, added):
    added("")
    (tmp_path / "mine.toml").write_text(example("Set the initialisation and groups of parameters", "toml"), "utf-8")
    whole = lives(tmp_path, "mine.toml")
    assert load_file(whole / "checkpoints/step-4/model.safetensors")["norm.weight"].mean() < 0.6
    assert all(row["lr"] > 0 for row in steps(whole))


@pytest.mark.parametrize("flags", [[], ["--train.activation-checkpointing", "--train.grad-accum-steps", "2"]])
def test_value_residual_is_added_in_one_file(tmp_path, added, flags):
    file = added(example("Hand a value to later layers"))
    whole = lives(tmp_path, file, "--attention", "value_residual", *flags, model_layers=3)
    weights = load_file(whole / "checkpoints/step-6/model.safetensors")
    assert weights["blocks.2.attention.mix"] != 0.5 and weights["blocks.0.attention.mix"] == 0.5  # it mixes v with v


def test_value_residual_obeys_its_laws(added):
    obeys(added(example("Hand a value to later layers")), "attention/value_residual")


def test_block_that_is_applied_twice_is_added_in_one_file(tmp_path, added):
    file = added(example("Share weights between layers"))
    whole = lives(tmp_path, file, "--block", "twice", "--block.dropout", "0.2")
    names = load_file(whole / "checkpoints/step-6/model.safetensors").keys()
    assert sum(name.endswith("to_qkv.weight") for name in names) == 1
    obeys(file, "block/twice")


TIED = """
from dataclasses import dataclass
from nanotx.nn.block import Block
from nanotx.nn.block.base import TwoBranches
from nanotx.nn.block.prenorm import PreNormBlock

@Block.register("tied_ffns")
@dataclass(frozen=True, kw_only=True)
class TiedFfns(TwoBranches):
    def build(self, dim):
        return TiedFfnsBlock(self, dim)

class TiedFfnsBlock(PreNormBlock):
    def __init__(self, config, dim):
        super().__init__(config, dim)
        self.second = config.ffn.build(dim)
        self.second.to_out.weight = self.ffn.to_out.weight

    def forward(self, x, position=None, cache=None):
        x = super().forward(x, position, cache)
        return x + self.second(x)
"""


def test_parameter_that_two_layers_of_a_block_share_is_saved_once_and_resumed(tmp_path, added):
    whole = lives(tmp_path, added(TIED), "--block", "tied_ffns")
    names = load_file(whole / "checkpoints/step-6/model.safetensors").keys()
    assert {"blocks.0.ffn.to_out.weight", "blocks.0.second.to_hidden.weight"} <= names
    assert "blocks.0.second.to_out.weight" not in names
