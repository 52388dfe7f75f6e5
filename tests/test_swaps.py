"""A swap by a flag changes the part that was named; what else it has to change is printed when the run begins."""

import dataclasses

import pytest
from runs import ROOT, text, tiny

from nanotx.cli import run
from nanotx.config import fields, to_table
from nanotx.layers import read_config
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe, swaps
from nanotx.recipes.shakespeare_char import recipe as shakespeare
from nanotx.registry import Slot

MACBOOK, _ = read_recipe(Recipe(), [str(ROOT / "recipes/macbook.toml")], "nanotx")


def block(name, base=MACBOOK, *words):
    return read_recipe(base, ["--block", name, *words], "nanotx")[0].model.block


def test_a_wrapper_takes_the_block_that_was_there_whole():
    assert block("shift").block == MACBOOK.model.block
    assert block("shift", shakespeare) == shakespeare.model.block


@pytest.mark.parametrize("name", ["prenorm", "postnorm", "parallel", "sandwich"])
def test_a_block_in_place_of_a_wrapper_has_the_parts_that_were_inside(name):
    inside, new = shakespeare.model.block.block, block(name, shakespeare)
    assert new.part == name
    assert all(getattr(new, field) == getattr(inside, field) for field in fields(type(inside)) if hasattr(new, field))


def test_a_part_named_beside_a_wrapper_goes_inside_it():
    new = block("shift", MACBOOK, "--ffn", "relu2", "--attention.dropout", "0.25")
    inside = MACBOOK.model.block
    assert (new.block.ffn.part, new.block.norm) == ("relu2", inside.norm)
    assert new.block.attention == dataclasses.replace(inside.attention, dropout=0.25)


def slots(config):
    for name in fields(type(config)):
        item = getattr(config, name)
        for one in item if isinstance(item, tuple) else (item,):
            if isinstance(one, Slot):
                yield one.family
            if dataclasses.is_dataclass(one):
                yield from slots(one)


def leaves(table, at=""):
    if isinstance(table, dict):
        return {place: leaf for key, one in table.items() for place, leaf in leaves(one, f"{at}.{key}").items()}
    return {at: table}


SLOTS = {family.slot: family for family in slots(shakespeare)}
PAIRS = [
    (slot, name)
    for slot, family in sorted(SLOTS.items())
    for name in family.names()
    if name not in {"saved", "tiktoken", "huggingface", "file"}
]


@pytest.mark.parametrize(("slot", "name"), PAIRS)
@pytest.mark.parametrize("base", [shakespeare, MACBOOK], ids=["shakespeare_char", "macbook"])
def test_whatever_a_swap_changes_is_printed_and_what_is_shared_stays(base, slot, name):
    new, _ = read_recipe(base, [f"--{slot}", name], "nanotx")
    before, after = leaves(to_table(base)), leaves(to_table(new))
    lines = swaps(base, [f"--{slot}", name], new)
    changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    assert bool(changed) == bool(lines)
    if slot != "block":
        told = {line.removeprefix("swapped: ").partition(": ")[0] for line in lines}
        assert {place.removeprefix(".").removesuffix(".part") for place in changed} <= told


def test_a_run_prints_what_a_swap_changed_and_no_run_without_one_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    sizes = tiny(train_steps=2, train_eval_every=0, train_sample_every=0)
    command = ["train", "macbook", *corpus, *sizes, "--optimizer.lr", "0.01"]
    assert run([*command, "--run", "plain"]) == 0
    plain = capsys.readouterr().out
    assert not [line for line in plain.splitlines() if line.startswith("swapped: ") and "corpus" not in line]
    assert (
        run([*command, "--run", "swapped", "--block", "shift", "--optimizer", "muon", "--optimizer.momentum", "0.9"])
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("swapped: ")]
    assert "swapped: model.block: prenorm -> shift" in lines and "swapped: model.block.taps: new, 1" in lines
    assert "swapped: optimizer: adamw -> muon" in lines
    assert any(line.startswith("swapped: optimizer.iterations: new, ") for line in lines)
    assert not any(word in line for line in lines for word in ("optimizer.lr", "momentum", "ffn", "norm:", "attention"))
    saved = read_config(Recipe, tmp_path / "swapped/recipe.toml")
    assert saved.model.block.block.ffn == read_config(Recipe, tmp_path / "plain/recipe.toml").model.block.ffn
