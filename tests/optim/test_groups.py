"""Parameter groups of a recipe: the first that matches a name decides its learning rate and its weight decay."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError
from nanotx.optim import Optimizer, ParamGroup
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe


def parameters():
    shapes = {"embedding.weight": (5, 4), "blocks.0.norm.weight": (4,), "blocks.0.to_out.weight": (4, 4)}
    torch.manual_seed(0)
    return [(name, nn.Parameter(torch.randn(shape))) for name, shape in shapes.items()]


def settings(config, named):
    optimizer = config.build_grouped(named)
    names = {parameter: name for name, parameter in named}
    return {
        names[parameter]: (group["base_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_first_group_that_matches_decides():
    groups = (
        ParamGroup(match="*norm*", weight_decay=0.5),
        ParamGroup(match="blocks.*", lr_scale=0.1, weight_decay=0.0),
    )
    assert settings(AdamW(lr=1.0, weight_decay=0.2, groups=groups), parameters()) == {
        "embedding.weight": (1.0, 0.2),
        "blocks.0.norm.weight": (1.0, 0.5),
        "blocks.0.to_out.weight": (0.1, 0.0),
    }
    muon = settings(Muon(lr=1.0, adamw_lr=0.5, weight_decay=0.2, groups=groups), parameters())
    assert muon == {
        "embedding.weight": (0.5, 0.2),
        "blocks.0.norm.weight": (0.5, 0.5),
        "blocks.0.to_out.weight": (0.1, 0.0),
    }


def test_reported_rate_is_that_of_a_group_without_a_pattern():
    optimizer = AdamW(lr=1.0, groups=(ParamGroup(match="embedding.*", lr_scale=0.1),)).build_grouped(parameters())
    assert [group["base_lr"] for group in optimizer.param_groups] == [1.0, 1.0, 0.1]


def test_names_in_groups_of_torch_are_split_too():
    @dataclass(frozen=True, kw_only=True)
    class Sgd(Optimizer):
        def build(self, parameters):
            optimizer = torch.optim.SGD(list(parameters), lr=self.lr)
            optimizer.param_groups[0]["base_lr"] = self.lr
            return optimizer

    groups = Sgd(groups=(ParamGroup(match="*norm*", lr_scale=2.0),)).build_grouped(parameters()).param_groups
    assert [group["param_names"] for group in groups] == [
        ["embedding.weight", "blocks.0.to_out.weight"],
        ["blocks.0.norm.weight"],
    ]


@pytest.mark.parametrize(
    ("patterns", "match"),
    [
        (
            ("embeding.*",),
            r"optimizer\.groups\[0\]\.match: 'embeding\.\*' matches no parameter\. Did you mean 'embedding",
        ),
        (("*", "*norm*"), r"optimizer\.groups\[1\]\.match: .* blocks\.0\.norm\.weight by '\*', and the first match"),
    ],
)
def test_group_that_decides_nothing_is_refused(patterns, match):
    with pytest.raises(ConfigError, match=match):
        AdamW(groups=tuple(ParamGroup(match=pattern) for pattern in patterns)).build_grouped(parameters())


def test_weight_decay_for_an_optimizer_without_it_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Adagrad(Optimizer):
        def build(self, parameters):
            optimizer = torch.optim.Adagrad([tensor for _, tensor in parameters], lr=self.lr)
            optimizer.param_groups[0]["base_lr"] = self.lr
            del optimizer.param_groups[0]["weight_decay"]
            return optimizer

    with pytest.raises(ConfigError, match=r"optimizer\.groups\[0\]\.weight_decay: this optimizer has no weight decay"):
        Adagrad(groups=(ParamGroup(weight_decay=0.1),)).build_grouped(parameters())


def test_groups_are_values_of_a_recipe_that_a_swap_of_optimizers_keeps(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[optimizer]\ngroups = [{ match = "*norm*", weight_decay = 0.0 }]\n', encoding="utf-8")
    recipe, _ = read_recipe(Recipe(), [str(file), "--optimizer", "muon"], "test")
    assert recipe.optimizer == Muon(lr=recipe.optimizer.lr, groups=(ParamGroup(match="*norm*", weight_decay=0.0),))
    file.write_text(write_toml(recipe), encoding="utf-8")
    assert read_recipe(Recipe(), [str(file)], "test")[0] == recipe
    file.write_text('[optimizer]\ngroups = [{ match = "*", lr_scale = -1.0 }]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"optimizer\.groups\[0\]\.lr_scale: expected a number of at least 0"):
        read_recipe(Recipe(), [str(file)], "test")
