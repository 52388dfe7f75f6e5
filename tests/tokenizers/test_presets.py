"""The shelves' tables are true: every file and every part stands there, with its command, its result and its code."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT

import nanotx.recipes
from nanotx.cli.main import run as nanotx_command
from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge
from nanotx.recipe import Recipe
from nanotx.recipes.shakespeare_char import recipe as shakespeare_char
from nanotx.tokenizers import Tokenizer, load

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
TOKENIZERS = sorted((ROOT / "tokenizers").glob("*.json"))
SET_UPS = {"baby_gpt", "decoder_384", "deep_64", "macbook", "micropgpt", "my_gpt", "nanogpt_64"}

SCHEDULE = {"schedule", "schedule.part", "schedule.warmup", "schedule.final"}

TUNED = {
    "macbook": {"optimizer.lr", "optimizer.weight_decay"},
    "deep_64": {"optimizer.lr", *SCHEDULE},
    "nanogpt_64": {"optimizer.lr", *SCHEDULE},
}
"""The fields in which the tuned sibling of a recipe differs from it."""

SCALED = {f"{name}{size}" for name in ("gpt2_124m", "tinystories", "enwik8") for size in ("", "_minute")}


def row(folder, name):
    """The cells of the row about `name` in a folder's table."""
    table = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    match = [line for line in table.splitlines() if re.match(rf"\| \[?`{name}`", line)]
    assert len(match) == 1, f"{folder}/README.md: expected one row that begins with `{name}`, got {len(match)}"
    return [cell.strip() for cell in match[0].strip("|").split("|")]


def description(text):
    """What a recipe's own file says of itself: its first sentence, and what it reached."""
    lines = [line.lstrip("# ").rstrip() for line in text.splitlines()]
    about = lines[0].strip('"')
    first = next(index for index, line in enumerate(lines) if line.startswith("Reached:"))
    rest = lines[first:]
    end = next((index for index, line in enumerate(rest) if not line or line == '"""'), len(rest))
    return about, " ".join(rest[:end]).removeprefix("Reached: ")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_table_lists_a_preset_recipe_with_what_its_file_states(path):
    about, reached = description(path.read_text(encoding="utf-8"))
    assert row("recipes", path.stem)[1:] == [
        about, f"`nanotx train {path.stem}`", reached, "[recipe.py](../nanotx/recipe.py)",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["shakespeare_char", "shakespeare_ngrams", "shakespeare_bpe"])
def test_table_lists_a_python_recipe_with_what_its_file_states(name):
    about, reached = description((ROOT / f"nanotx/recipes/{name}.py").read_text(encoding="utf-8"))
    assert row("recipes", name)[1:] == [
        about, f"`python -m nanotx.recipes.{name}`", reached, f"[{name}.py](../nanotx/recipes/{name}.py)",
    ]  # fmt: skip
    assert len(list((ROOT / "nanotx/recipes").glob("[a-z]*.py"))) == 3 and nanotx.recipes.__doc__


def link(part: str) -> str:
    """The link to a tokenizer's code, as it is in the table."""
    file = Path(sys.modules[Tokenizer.find(part).__module__].__file__).relative_to(ROOT)
    return f"[{part}.py](../{file.as_posix()})"


@pytest.mark.parametrize("part", Tokenizer.names())
def test_table_lists_a_tokenizer_written_in_python(part):
    about = (Tokenizer.find(part).__doc__ or "").partition("\n")[0]
    cells = row("tokenizers", part)
    assert cells[1] == about and cells[4] == link(part)


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.stem)
def test_table_lists_a_preset_tokenizer_and_how_it_was_made(path):
    codec = load(path)
    cells = row("tokenizers", path.stem)
    assert codec.origin is not None and codec.origin.command == f"nanotx tokenizer train {codec.part} --corpus " + (
        codec.origin.corpus + cells[2].partition(codec.origin.corpus)[2].strip("`")
    )
    assert f"{codec.vocab_size} ids" in cells[3] and cells[4] == link(codec.part)


def test_seven_setups_are_listed():
    assert {path.stem for path in RECIPES} >= SET_UPS | SCALED


@pytest.mark.parametrize("name", sorted(SET_UPS | SCALED | {f"{name}_tuned" for name in TUNED}))
def test_setup_is_the_same_on_any_recipe(name):
    table = tomllib.loads((ROOT / f"recipes/{name}.toml").read_text(encoding="utf-8"))
    first, other = (from_table(Recipe, merge(Recipe, to_table(base), table)) for base in (Recipe(), shakespeare_char))
    assert first == other


def values(table, prefix=""):
    """The values of nested tables by their dotted names."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("name", sorted(TUNED))
def test_tuned_sibling_differs_in_what_was_tuned_alone(name):
    base, tuned = (
        dict(values(tomllib.loads((ROOT / f"recipes/{stem}.toml").read_text(encoding="utf-8"))))
        for stem in (name, f"{name}_tuned")
    )
    assert {field for field in base.keys() | tuned.keys() if base.get(field) != tuned.get(field)} == TUNED[name]


@pytest.mark.parametrize(
    ("name", "sizes"),
    {
        "nanogpt_64": (16, 64, 64, 4, 4, 0.2, 3e-4, 5000),
        "micropgpt": (32, 128, 384, 4, 4, 0.2, 3e-4, 3000),
        "my_gpt": (64, 256, 384, 6, 6, 0.2, 3e-4, 5000),
        "deep_64": (16, 32, 64, 4, 8, 0.0, 1e-3, 5000),
        "decoder_384": (32, 256, 384, 6, 6, 0.2, 3e-4, 5000),
        "baby_gpt": (64, 256, 384, 6, 6, 0.2, 1e-3, 5000),
        "macbook": (12, 64, 128, 4, 4, 0.0, 1e-3, 2000),
    }.items(),
)
def test_published_setup_has_its_sizes(name, sizes, capsys):
    assert nanotx_command(["train", name, "--print-config"]) == 0
    recipe = from_table(Recipe, tomllib.loads(capsys.readouterr().out))
    model, block = recipe.model, recipe.model.block
    assert sizes == (
        recipe.train.batch_size, model.context, model.dim, block.attention.heads, model.layers, model.dropout,
        recipe.optimizer.lr, recipe.train.steps,
    )  # fmt: skip
    assert block.dropout == block.attention.dropout == model.dropout
    ours = name in {"baby_gpt", "macbook"}
    assert model.tied == ours and block.ffn.bias != ours and block.attention.out_bias != ours
    assert block.attention.part == ("sdpa" if ours else "per_head") and not block.attention.bias
    assert recipe.corpus.validation == (0.2 if name == "micropgpt" else 0.1)
    assert recipe.train.eval_every == {"nanogpt_64": 500, "deep_64": 100}.get(name, recipe.train.eval_every)
