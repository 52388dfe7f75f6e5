"""A swap by a flag changes the part that was named; what else it has to change is printed when the run begins."""

import dataclasses

import pytest
from helpers import ROOT, text, tiny
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nanotx.cli.main import run
from nanotx.config.registry import Slot
from nanotx.config.schema import fields, to_table
from nanotx.config.toml import read_config
from nanotx.errors import ConfigError
from nanotx.laws.strategies import any_part_of
from nanotx.nn.block import Block
from nanotx.nn.embedding import Embedding
from nanotx.nn.loss import Loss
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.optim.schedules import Schedule
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.recipe_swaps import find_swaps
from nanotx.recipes.shakespeare_ngrams import recipe as shakespeare
from nanotx.tokenizers import Tokenizer

MACBOOK, _ = read_recipe(Recipe(), [str(ROOT / "recipes/macbook.toml")], "nanotx")


def block(name, base=MACBOOK, *words):
    return read_recipe(base, ["--block", name, *words], "nanotx")[0].model.block


def test_wrapper_takes_over_the_whole_previous_block():
    assert block("token_shift").block == MACBOOK.model.block
    assert block("token_shift", shakespeare) == shakespeare.model.block


@pytest.mark.parametrize("name", ["prenorm", "postnorm", "parallel", "sandwich"])
def test_block_in_place_of_a_wrapper_has_the_parts_that_were_inside(name):
    inside, new = shakespeare.model.block.block, block(name, shakespeare)
    assert new.part == name
    assert all(getattr(new, field) == getattr(inside, field) for field in fields(type(inside)) if hasattr(new, field))


def test_part_named_next_to_a_wrapper_becomes_its_inner_part():
    new = block("token_shift", MACBOOK, "--ffn", "relu2", "--attention.dropout", "0.25")
    inside = MACBOOK.model.block
    assert (new.block.ffn.part, new.block.norm) == ("relu2", inside.norm)
    assert new.block.attention == dataclasses.replace(inside.attention, dropout=0.25)


def slots(config):
    for name in fields(type(config)):
        item = getattr(config, name)
        for entry in item if isinstance(item, tuple) else (item,):
            if isinstance(entry, Slot):
                yield entry.family
            if dataclasses.is_dataclass(entry):
                yield from slots(entry)


def printed_places(swaps):
    """Return the dotted places that some swaps name, of parts and fields; each is in the line that is printed."""
    for swap in swaps:
        assert all(f" {name} " in f"{swap} " for name in swap.fields) and bool(swap.parts or swap.fields)
    return {place for swap in swaps for place in (swap.place, *(f"{swap.place}.{name}" for name in swap.fields))}


def lines_of(base, argv, new):
    """Return the lines that a run prints."""
    return [f"swapped: {swap}" for swap in find_swaps(base, argv, new)]


def leaves(table, at=""):
    """Return the plain values of a table by their dotted places; tables in a list have numbers."""
    if isinstance(table, list) and table and isinstance(table[0], dict):
        table = dict(enumerate(table))
    if isinstance(table, dict):
        return {place: leaf for key, item in table.items() for place, leaf in leaves(item, f"{at}.{key}").items()}
    return {at: table}


SLOTS = {family.slot: family for family in slots(shakespeare)}
PAIRS = [
    (slot, name)
    for slot, family in sorted(SLOTS.items())
    for name in family.names()
    if name not in {"saved", "tiktoken", "huggingface", "file"}
]


@pytest.mark.parametrize(("slot", "name"), PAIRS)
@pytest.mark.parametrize("base", [shakespeare, MACBOOK], ids=["shakespeare_ngrams", "macbook"])
def test_whatever_a_swap_changes_is_printed_and_what_is_shared_stays(base, slot, name):
    new, _ = read_recipe(base, [f"--{slot}", name], "nanotx")
    before, after = leaves(to_table(base)), leaves(to_table(new))
    swaps = find_swaps(base, [f"--{slot}", name], new)
    changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    assert bool(changed) == bool(swaps)
    if slot != "block" and name != "multi_token":  # what wraps the old part moves it to another place
        assert {place.removeprefix(".").removesuffix(".part") for place in changed} <= printed_places(swaps)


@st.composite
def recipes(draw):
    """Draw a recipe of any parts."""
    blocks = draw(st.lists(any_part_of(Block), min_size=1, max_size=2))
    model = Model(
        layers=2,
        embedding=draw(any_part_of(Embedding)),
        position=draw(any_part_of(Position)),
        norm=draw(any_part_of(Norm)),
        **({"block": blocks[0]} if len(blocks) == 1 else {"blocks": tuple(blocks)}),
    )
    optimizer, schedule, loss = (draw(any_part_of(slot)) for slot in (Optimizer, Schedule, Loss))
    tokenizer = draw(st.sampled_from([Tokenizer.find(name)() for slot, name in PAIRS if slot == "tokenizer"]))
    return Recipe(model=model, optimizer=optimizer, schedule=schedule, loss=loss, tokenizer=tokenizer)


def wraps(recipe):
    """Return whether a part of a recipe wraps another of its slot, which a swap moves to another place."""
    blocks = (*recipe.model.blocks, recipe.model.block)
    return recipe.loss.part == "multi_token" or any(hasattr(block, "block") for block in blocks)


@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(base=recipes(), swaps=st.lists(st.sampled_from(PAIRS), min_size=1, max_size=3, unique_by=lambda pair: pair[0]))
def test_swaps_in_any_recipe_change_the_slots_that_were_asked_for_or_are_printed(base, swaps):
    flags = [word for slot, name in swaps for word in (f"--{slot}", name)]
    try:
        new, _ = read_recipe(base, flags, "nanotx")
    except ConfigError:  # the parts do not fit together
        assume(False)
    before, after = leaves(to_table(base)), leaves(to_table(new))
    printed = find_swaps(base, flags, new)
    changed = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    assert bool(changed) == bool(printed)
    for slot, name in swaps:
        if slot not in ("block", "loss"):
            assert {leaf for place, leaf in after.items() if place.endswith(f".{slot}.part")} <= {name}
    if not wraps(base) and not wraps(new):
        assert {place.removeprefix(".").removesuffix(".part") for place in changed} <= printed_places(printed)


@pytest.mark.parametrize(("base", "name", "lr"), [(MACBOOK, "muon", 0.02), (shakespeare, "adamw", 0.001)])
def test_optimizer_has_its_own_learning_rate_unless_a_rate_is_named(base, name, lr):
    new, _ = read_recipe(base, ["--optimizer", name], "nanotx")
    assert new.optimizer.lr == lr and new.optimizer.weight_decay == base.optimizer.weight_decay
    (line,) = lines_of(base, ["--optimizer", name], new)
    assert line.startswith(f"swapped: optimizer: {base.optimizer.part} -> {name}; lr {base.optimizer.lr} -> {lr}; ")
    words = ["--optimizer", name, "--optimizer.lr", "0.5"]
    named, _ = read_recipe(base, words, "nanotx")
    assert named.optimizer.lr == 0.5 and not any(" lr " in line for line in lines_of(base, words, named))


def test_run_prints_what_a_swap_changed_and_nothing_without_a_swap(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    sizes = tiny(train_steps=2, train_eval_every=0, train_sample_every=0)
    command = ["train", "macbook", *corpus, *sizes, "--optimizer.lr", "0.01"]
    assert run([*command, "--run", "plain"]) == 0
    plain = capsys.readouterr().out
    assert not [line for line in plain.splitlines() if line.startswith("swapped: ") and "corpus" not in line]
    assert (
        run(
            [
                *command,
                "--run",
                "swapped",
                "--block",
                "token_shift",
                "--optimizer",
                "muon",
                "--optimizer.momentum",
                "0.9",
            ]
        )
        == 0
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("swapped: ")]
    block, optimizer = lines
    assert block == "swapped: model.block: prenorm -> token_shift, around prenorm; new: shifts 1"
    assert optimizer.startswith("swapped: optimizer: adamw -> muon; new: iterations ") and "; gone: " not in optimizer
    assert not any(word in line for line in lines for word in (" lr ", "momentum", "ffn", "norm:", "attention"))
    saved = read_config(Recipe, tmp_path / "swapped/recipe.toml")
    assert saved.model.block.block.ffn == read_config(Recipe, tmp_path / "plain/recipe.toml").model.block.ffn


def printed(capsys):
    return {
        line for line in capsys.readouterr().out.splitlines() if line.startswith("swapped: ") and "corpus" not in line
    }


@pytest.mark.parametrize(
    ("name", "optimizer", "field", "schedule"),
    [("shakespeare_ngrams", "adamw", "eps", "constant"), ("macbook", "muon", "momentum", "wsd")],
)
def test_swap_in_a_file_is_printed_as_one_by_flags_is(tmp_path, monkeypatch, capsys, name, optimizer, field, schedule):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    sizes = tiny(train_steps=1, train_eval_every=0, train_sample_every=0)
    (tmp_path / "swap.toml").write_text(
        f'optimizer = {{ part = "{optimizer}", {field} = 0.9 }}\nschedule = "{schedule}"\n', encoding="utf-8"
    )
    flags = ["--optimizer", optimizer, f"--optimizer.{field}", "0.9", "--schedule", schedule]
    assert run(["train", name, *corpus, *sizes, *flags, "--run", "by_flags"]) == 0
    by_flags = printed(capsys)
    assert run(["train", name, "swap.toml", *corpus, *sizes, "--run", "by_file"]) == 0
    assert printed(capsys) == by_flags
    assert len(by_flags) == 2 and not any(f" {field} " in line for line in by_flags)
    assert read_config(Recipe, tmp_path / "by_file/recipe.toml") == read_config(
        Recipe, tmp_path / "by_flags/recipe.toml"
    )


def swapped(tmp_path, base, content, *flags):
    file = tmp_path / "swap.toml"
    file.write_text(content, encoding="utf-8")
    words = [str(file), *flags]
    return lines_of(base, words, read_recipe(base, words, "nanotx")[0])


def test_field_that_a_file_names_is_not_printed_and_the_same_field_elsewhere_is(tmp_path):
    lines = swapped(
        tmp_path, MACBOOK, '[model]\nnorm = "rmsnorm"\n[model.block]\nnorm = { part = "rmsnorm", eps = 1e-3 }\n'
    )
    outer, inner = lines
    assert outer.startswith("swapped: model.norm: layernorm -> rmsnorm; ") and "gone: bias " in outer
    assert inner.startswith("swapped: model.block.norm: layernorm -> rmsnorm; gone: ") and " eps " not in inner


def test_file_without_a_swap_prints_nothing_and_a_later_flag_is_compared_with_it(tmp_path):
    assert swapped(tmp_path, MACBOOK, "[model.block.ffn]\nhidden_dim = 77\n") == []
    lines = swapped(tmp_path, MACBOOK, "[model.block.ffn]\nactivation = 'relu'\n", "--ffn", "swiglu")
    (line,) = lines
    assert line.startswith("swapped: model.block.ffn: mlp -> swiglu; ") and "; gone: activation 'relu'" in line


def test_recipe_file_prints_nothing_and_the_next_file_does(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('[model.block]\nffn = "swiglu"\n', encoding="utf-8")
    words = [str(ROOT / "recipes/macbook.toml"), str(mine)]
    assert lines_of(Recipe(), words[:1], read_recipe(Recipe(), words[:1], "nanotx")[0]) == []
    (line,) = lines_of(Recipe(), words, read_recipe(Recipe(), words, "nanotx")[0])
    assert line.startswith("swapped: model.block.ffn: mlp -> swiglu; ")
