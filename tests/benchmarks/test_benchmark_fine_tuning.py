"""The benchmark of fine-tuning: each way begins with the base of its seed, and is what its flags make of it."""

import json

import pytest
from helpers import tiny
from torch import nn

import nanotx
from nanotx.cli.run import run
from nanotx.errors import ConfigError
from nanotx.recipe import Recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of two blocks that read a few lines of the stage."""
    folder = tmp_path_factory.mktemp("base") / "base"
    words = tiny(model_dim=8, model_layers=2, model_context=8, train_steps=2)
    corpus = ["--corpus", "playhouse", "--corpus.size", "20000", "--tokenizer", "char"]
    assert run(Recipe(), [*words, *corpus, "--run", str(folder)], "base") == 0
    return folder


@pytest.mark.slow
def test_every_way_begins_with_its_base_and_trains_what_it_names(command, base, tmp_path, capsys):
    file = tmp_path / "x.json"
    words = f"--device cpu --threads 1 --steps 10 --seeds 3,4 --base {base},{base} --json {file}"
    assert command("fine_tuning", *words.split()) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    ways = {(row["name"], row["steps"]): row["trained"] for row in rows}
    model = nanotx.load(base).model
    sizes = {name: param.numel() for name, param in model.named_parameters()}
    last = sum(size for name, size in sizes.items() if name.startswith(("blocks.1.", "norm")))
    lora = sum(8 * sum(m.weight.shape) for m in model.blocks.modules() if isinstance(m, nn.Linear))  # rank 8
    every = sum(sizes.values())
    assert ways == {
        ("the base", 0): 0,
        ("all weights", 10): every,
        ("LoRA, rank 8", 10): lora,
        ("all weights", 4): every,
        ("last block", 10): last,
        ("all weights", 3): every,
    }
    first, second = rows[: len(ways)], rows[len(ways) :]
    for seed in (first, second):
        assert seed[0]["loss_new"] == first[0]["loss_new"] > max(row["loss_new"] for row in seed[1:])
        assert all(row["forgotten"] == row["loss_old"] - first[0]["loss_old"] for row in seed)
    assert first[1]["loss_new"] != second[1]["loss_new"]
    assert f"{(first[1]['loss_new'] + second[1]['loss_new']) / 2:.4f}" in capsys.readouterr().out


def test_bases_are_as_many_as_seeds(command):
    with pytest.raises(ConfigError, match="--base: expected a run for each of 3 seeds, got 1"):
        command("fine_tuning", "--base", "runs/none")
