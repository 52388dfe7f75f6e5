"""Weights are drawn by the rules of the recipe, each from the seed and its name."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import to_canonical
from nanotx.nn.ffn import Ffn
from nanotx.nn.init import Init, InitRule
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe


def weights(seed=0, attention="fused", bias=True, **init):
    block = PreNorm(attention=Attention.find(attention)(heads=4, bias=bias, out_bias=True), ffn=Ffn.find("mlp")())
    model = Model(dim=32, layers=2, context=8, block=block, init=Init(**init)).build(50, seed)
    return to_canonical(model, {name: param.detach() for name, param in model.named_parameters()})


def test_std_and_depth_scaling_are_those_of_gpt2():
    for init, residual in (({}, 0.02 / 2), ({"depth_scaled": False}, 0.02), ({"std": 0.1}, 0.1 / 2)):
        drawn = weights(**init)
        std = init.get("std", 0.02)
        assert drawn["blocks.1.ffn.to_hidden.weight"].std().item() == pytest.approx(std, rel=0.05)
        assert drawn["blocks.1.ffn.to_out.weight"].std().item() == pytest.approx(residual, rel=0.05)
        assert not drawn["blocks.0.attention.to_qkv.bias"].any()


@pytest.mark.parametrize(
    ("rule", "mean", "std"),
    [
        ({"distribution": "normal", "std": 0.3}, 0.0, 0.3),
        ({"distribution": "normal", "std": 0.3, "value": 2.0}, 2.0, 0.3),
        ({"distribution": "uniform", "std": 0.3}, 0.0, 0.3),
        ({"distribution": "normal", "std": 1.0, "fan_in": True}, 0.0, 1 / math.sqrt(32)),
        ({"distribution": "constant", "value": 0.5}, 0.5, 0.0),
        ({"distribution": "truncated_normal", "std": 0.3}, 0.0, 0.3 * 0.8796),
    ],
)
def test_rule_draws_its_distribution(rule, mean, std):
    x = weights(rules=(InitRule(match="*.to_hidden.weight", **rule),))["blocks.0.ffn.to_hidden.weight"]
    assert x.mean().item() == pytest.approx(mean, abs=0.02) and x.std().item() == pytest.approx(std, rel=0.06, abs=1e-6)
    if rule["distribution"] == "uniform":
        assert x.abs().max() <= 0.3 * math.sqrt(3)
    if rule["distribution"] == "truncated_normal":
        assert x.abs().max() <= 0.6


def test_orthogonal_rule_draws_orthogonal_rows():
    rules = (InitRule(match="blocks.0.attention.to_out.weight", distribution="orthogonal", std=2.0),)
    x = weights(rules=rules)["blocks.0.attention.to_out.weight"]
    torch.testing.assert_close(x @ x.T, 4 * torch.eye(32))


def test_first_rule_that_matches_decides_and_the_rest_stays_to_the_bit():
    usual = weights()
    rules = (
        InitRule(match="blocks.1.*.weight", std=0.5),
        InitRule(match="blocks.*.bias", distribution="constant", value=3.0),
    )
    drawn = weights(rules=rules)
    for name, weight in drawn.items():
        if name.startswith("blocks.1.") and name.endswith(".weight"):
            assert weight.std().item() == pytest.approx(0.5, rel=0.3), name
        elif name.startswith("blocks.") and name.endswith("bias"):
            assert (weight == 3.0).all(), name
        else:
            assert torch.equal(weight, usual[name]), name


@given(seed=st.integers(0, 99))
def test_rule_gives_equivalent_attentions_the_same_weights(seed):
    rules = (InitRule(match="*.attention.*", std=0.3), InitRule(match="*norm*", distribution="constant", value=0.1))
    first, other = (weights(seed, attention, bias=False, rules=rules) for attention in ("fused", "per_head"))
    assert first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("rules", "match"),
    [
        (
            ("embeding.*",),
            r"init\.rules\[0\]\.match: 'embeding\.\*' matches no parameter\. Did you mean 'embedding\.weight'\?",
        ),
        (("*.weight", "norm.*"), r"init\.rules\[1\]\.match: 'norm\.\*' matches only .* norm\.weight by '\*\.weight'"),
    ],
)
def test_rule_that_decides_nothing_is_refused_with_the_names(rules, match):
    with pytest.raises(ConfigError, match=match):
        weights(rules=tuple(InitRule(match=pattern) for pattern in rules))


def test_rules_are_values_of_a_recipe(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[model.init]\nstd = 0.05\n[[model.init.rules]]\nmatch = "embedding.*"\nstd = 1.0\n', encoding="utf-8"
    )
    recipe, _ = read_recipe(Recipe(), [str(file), "--init.no-depth-scaled"], "test")
    assert recipe.model.init == Init(std=0.05, depth_scaled=False, rules=(InitRule(match="embedding.*", std=1.0),))
    file.write_text(write_toml(recipe), encoding="utf-8")
    assert read_recipe(Recipe(), [str(file)], "test")[0] == recipe
    file.write_text('[[model.init.rules]]\nmatch = "*"\ndistribution = "gamma"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model\.init\.rules\[0\]\.distribution: expected one of 'normal'"):
        read_recipe(Recipe(), [str(file)], "test")
