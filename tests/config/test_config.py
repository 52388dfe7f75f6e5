"""Configs are strict, and say where and what to try; layers are merged as a user would expect."""

import tomllib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.config.schema import check_fraction, check_min, from_table, to_table
from nanotx.config.toml import merge, read_toml, write_toml
from nanotx.errors import ConfigError, UnknownPart
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.postnorm import PostNorm
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train


def refused(table, match):
    with pytest.raises(ConfigError, match=match):
        from_table(Recipe, table)


def test_unknown_key_is_named_with_its_place_and_its_neighbour():
    table = {"model": {"block": {"part": "prenorm", "attention": {"part": "sdpa", "haeds": 6}}}}
    refused(table, r"model\.block\.attention\.haeds: Sdpa has no such field\. Did you mean 'heads'\? It has: bias, dro")


def test_wrong_type_is_named_with_an_example():
    refused({"train": {"steps": "10k"}}, r"train\.steps: expected int such as 2000, got str '10k'\.")
    refused({"train": {"steps": True}}, r"train\.steps: expected int such as 2000, got bool True")
    refused({"train": {"grad_clip": float("nan")}}, r"train\.grad_clip: expected a finite number, got nan")
    refused({"optimizer": {"part": "adamw", "betas": [0.9]}}, r"optimizer\.betas: expected 2 values such as")
    refused({"optimizer": {"part": "adamw", "betas": 0.9}}, r"optimizer\.betas: expected a list, got float")
    refused({"model": 3}, r"model: expected a table, got int 3")
    refused({"device": "gpu"}, r"device: expected one of 'auto', 'cpu', 'cuda', 'mps', got 'gpu'")
    refused({"dtype": "bflot16"}, r"dtype: .* got 'bflot16'\. Did you mean 'bfloat16'\?")


def test_value_out_of_range_is_named_with_its_place():
    refused({"train": {"steps": 0}}, r"^train\.steps: expected a number of at least 1, got 0")
    block = {"part": "prenorm", "attention": {"part": "sdpa", "heads": 0}}
    refused({"model": {"block": block}}, r"^model\.block\.attention\.heads: expected a number of at least 1")
    refused(
        {"model": {"dropout": 1.0}}, r"^model\.dropout: expected a fraction from 0 up to but not including 1, got 1\.0"
    )
    refused(
        {"train": {"batch_size": 12, "grad_accum_steps": 5}},
        r"^train\.grad_accum_steps: 5 does not divide batch_size=12; try one of \[1, ",
    )
    refused({"schedule": {"part": "cosine", "final": 2.0}}, r"^schedule\.final: expected a factor from 0 to 1")
    refused({"optimizer": {"part": "adamw", "betas": [0.9, 1.0]}}, r"^optimizer\.betas: expected two shares")


def test_unknown_part_is_named_with_its_place_and_its_neighbour():
    with pytest.raises(
        UnknownPart, match=r"model\.position: nanotx\.position: no part named 'rop'\. Did you mean 'rope'"
    ):
        from_table(Recipe, {"model": {"position": "rop"}})
    refused(
        {"tokenizer": 3}, r'tokenizer: expected the name of a part such as "bpe", or a table with `part`, got int 3'
    )
    refused({"tokenizer": {"vocab_size": 3}}, r"tokenizer: expected the name of a part")


def test_integer_is_accepted_as_a_float():
    assert from_table(Recipe, {"optimizer": {"part": "adamw", "lr": 1}}).optimizer.lr == 1.0


def test_part_that_is_swapped_keeps_the_fields_that_the_two_share():
    base = to_table(
        Recipe(model=Model(block=PreNorm(attention=Sdpa(heads=8, bias=True), ffn=Mlp(hidden_dim=99), dropout=0.5)))
    )
    table = merge(Recipe, base, {"model": {"block": {"attention": "per_head"}}})
    assert from_table(Recipe, table).model.block.attention == PerHead(heads=8, bias=True)
    table = merge(Recipe, base, {"model": {"block": "postnorm"}})
    block = from_table(Recipe, table).model.block
    assert isinstance(block, PostNorm) and block.attention.heads == 8 and block.dropout == 0.5
    table = merge(Recipe, base, {"model": {"block": {"ffn": {"part": "swiglu", "bias": True}}}})
    assert from_table(Recipe, table).model.block.ffn.hidden_dim == 99
    table = merge(Recipe, base, {"schedule": "constant"})
    assert to_table(from_table(Recipe, table).schedule) == {"part": "constant"}


def test_table_without_a_part_changes_the_fields_of_the_present_part():
    table = merge(Recipe, to_table(Recipe()), {"optimizer": {"lr": 0.5}})
    assert from_table(Recipe, table).optimizer.lr == 0.5
    assert from_table(Recipe, table).optimizer.betas == Recipe().optimizer.betas


def test_blocks_take_the_place_of_a_block_and_the_reverse():
    pattern = merge(Recipe, to_table(Recipe()), {"model": {"blocks": [{"part": "prenorm"}, "postnorm"]}})
    recipe = from_table(Recipe, pattern)
    assert recipe.model.block is None and [type(item) for item in recipe.model.pattern()] == [PreNorm, PostNorm] * 2
    again = merge(Recipe, to_table(recipe), {"model": {"block": "postnorm"}})
    assert from_table(Recipe, again).model.pattern() == (PostNorm(),) * 4
    refused({"model": {"block": "prenorm", "blocks": ["prenorm"]}}, "blocks: expected either block or blocks, got both")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["part", "model", "block", "steps", "train", "blocks", "seed", "x"]), x)
        ),
        max_leaves=9,
    )
)
def test_any_table_is_either_a_recipe_or_refused(table):
    try:
        assert isinstance(from_table(Recipe, table), Recipe)
    except ConfigError as error:
        assert str(error)


def test_toml_that_cannot_be_read_is_refused_with_its_name(tmp_path):
    file = tmp_path / "x.toml"
    for content, match in [
        (b"seed = !", r"x\.toml: this is not TOML: .*line 1"),
        (b"seed = 1\nseed = 2", r"x\.toml: this is not TOML"),
        (b"a = '\xff'", r"x\.toml: expected UTF-8, got byte 0xff at offset 5"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=match):
            read_toml(file)
    with pytest.raises(ConfigError, match=r"y\.toml: there is no such file"):
        read_toml(tmp_path / "y.toml")
    file.write_bytes(b"\xef\xbb\xbfseed = 3\r\n[train]\r\n\tsteps = 4\r\n")
    assert read_toml(file) == {"seed": 3, "train": {"steps": 4}}


def test_what_is_written_is_read_back_equal():
    recipe = Recipe(model=Model(blocks=(PreNorm(), PostNorm(dropout=0.1))), train=Train(steps=7))
    assert from_table(Recipe, tomllib.loads(write_toml(recipe))) == recipe


def test_range_is_checked_in_python_too():
    @dataclass(frozen=True, kw_only=True)
    class Ranges:
        count: int = 1
        rest: float = 0.0

        def __post_init__(self):
            check_min(self, 1, "count")
            check_fraction(self, "rest")

    Ranges(count=1, rest=0.99)
    for fields, match in [({"count": 0}, "count"), ({"rest": 1.0}, "rest"), ({"rest": float("nan")}, "rest")]:
        with pytest.raises(ConfigError, match=match):
            Ranges(**fields)
