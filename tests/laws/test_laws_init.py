"""The law of initialisation catches models and parts whose weights are not those that `init` states."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn

from nanotx.errors import LawBroken
from nanotx.laws.init import init_as_stated, init_drawn_by_name
from nanotx.nn.init import Init, InitRule, generator_of
from nanotx.nn.transformer import Model

RULES = (
    InitRule(match="blocks.1.ffn.to_hidden.weight", distribution="uniform", std=0.5),
    InitRule(match="blocks.?.ffn.to_hidden.weight", std=0.3, fan_in=True, value=0.5),
    InitRule(match="*norm.weight", distribution="constant", value=0.5),
    InitRule(match="blocks.0.attention.to_out.weight", distribution="orthogonal", std=2.0),
    InitRule(match="*.to_out.weight", distribution="truncated_normal", std=0.1),
)


def check(change=lambda model: None, head_bias=True, **init):
    """Check the law on a model that is wrong after `change`."""

    @dataclass(frozen=True, kw_only=True)
    class Changed(Model):
        def build(self, vocab_size, seed=0):
            model = super().build(vocab_size, seed)
            model.seed = seed
            with torch.no_grad():
                change(model)
            return model

    config = Changed(dim=24, layers=2, context=8, head_bias=head_bias, init=Init(**init))
    init_as_stated(config, vocab_size=20, seed=3)


def randomly(model):
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            yield name, parameter, parameter.std()


@pytest.mark.parametrize("init", [{}, {"std": 0.5}, {"depth_scaled": False}, {"rules": RULES}])
def test_initialisation_as_stated_obeys_the_law(init):
    check(**init)


def draws_in_turn(model):
    generator = torch.Generator().manual_seed(model.seed)
    for _, parameter, std in randomly(model):
        parameter.copy_(std * torch.randn(parameter.shape, generator=generator))


def draws_by_seed_alone(model):
    for _, parameter, std in randomly(model):
        parameter.copy_(std * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(model.seed)))


def draws_without_seed(model):
    for name, parameter, std in randomly(model):
        parameter.copy_(std * torch.randn(parameter.shape, generator=generator_of(0, name)))


def ignores_depth(model):
    for block in model.blocks:
        block.ffn.to_out.weight *= 2


def starts_biases_at_one(model):
    model.head.bias.fill_(1.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (draws_in_turn, r"blocks\.0\..* starts with other numbers when the vocabulary is larger"),
        (draws_by_seed_alone, "share their random numbers"),
        (draws_without_seed, "has the same random numbers with another seed"),
        (ignores_depth, r"blocks\.0\.ffn\.to_out\.weight: .* standard deviation (1\.9|2\.0)"),
        (starts_biases_at_one, r"head\.bias is the bias of a linear map"),
    ],
)
def test_law_of_initialisation_catches_weights_drawn_otherwise(change, match):
    with pytest.raises(LawBroken, match=match):
        check(change)


def decided_by(model, choose):
    """Draw each parameter that rules match by the rule chosen of them."""
    for name, parameter in model.named_parameters():
        if rules := [rule for rule in model.config.init.rules if fnmatchcase(name, rule.match)]:
            parameter.copy_(choose(rules).draw(name, parameter.shape, generator_of(model.seed, name)))


def last_rule_decides(model):
    decided_by(model, lambda rules: rules[-1])


def rules_reach_neighbours(model):
    if model.config.init.rules:
        model.head.bias.fill_(0.5)


def uniform_is_too_wide(model):
    if model.config.init.rules:
        model.blocks[1].ffn.to_hidden.weight *= 1.05


def constant_is_missed(model):
    model.norm.weight.fill_(1.0)


def orthogonal_is_stretched(model):
    model.blocks[0].attention.to_out.weight[0] *= 1.1


def truncated_has_tails(model):
    model.blocks[1].ffn.to_out.weight[0, 0] = 0.3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (last_rule_decides, r"blocks\.(0\.attention\.to_out|1\.ffn\.to_hidden)\.weight"),
        (rules_reach_neighbours, r"head\.bias starts with other numbers when no rule is given"),
        (uniform_is_too_wide, r"1\.ffn\.to_hidden\.weight is 0\.9.* from 0\.0, and at most 0\.866"),
        (constant_is_missed, r"norm\.weight is 0\.5 from 0\.5, and at most 0 is stated"),
        (orthogonal_is_stretched, r"0\.attention\.to_out\.weight is stated as 2\.0 times an orthogonal matrix"),
        (truncated_has_tails, r"1\.ffn\.to_out\.weight is 0\.3 from 0\.0, and at most 0\.2 is stated"),
    ],
)
def test_law_of_initialisation_catches_rules_applied_otherwise(change, match):
    check(rules=RULES)
    with pytest.raises(LawBroken, match=match):
        check(change, rules=RULES)


def test_law_of_initialisation_catches_a_part_that_draws_from_the_global_generator():
    class RandomGain(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.gain = nn.Parameter(torch.randn(4))

    init_drawn_by_name(lambda: nn.Linear(4, 4), seed=1)
    with pytest.raises(LawBroken, match="gain starts with other numbers when other numbers were drawn before"):
        init_drawn_by_name(RandomGain, seed=1)
