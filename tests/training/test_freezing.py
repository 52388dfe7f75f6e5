"""`--freeze PATTERN`: frozen parameters keep every bit, have no gradient and no optimizer state, and are listed."""

from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nanotx
from nanotx import laws
from nanotx.config.schema import to_table
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, LawBroken
from nanotx.hardware.device import choose_machine
from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.recipe import Recipe, Train
from nanotx.training.dataset import load_dataset
from nanotx.training.freezing import describe_frozen
from nanotx.training.trainer import Trainer

TINY = Recipe(
    corpus=Playhouse(size=20_000),
    model=Model(dim=8, layers=2, context=8, block=PreNorm(attention=Attention.find("sdpa")(heads=2))),
    train=Train(steps=3, batch_size=2, eval_every=0, sample_every=0, sample_tokens=1, checkpoint_every=1),
    **{"device": "cpu", "dtype": "float32", "threads": 1, "compile": False},
)
TEXTS = load_dataset(TINY)
PATTERNS = ("embedding*", "blocks.0.*", "blocks.1.*", "*norm*", "*.weight", "blocks.*.attention.*", "blocks.?.ffn.*")


def trainer(**changes):
    recipe = replace(TINY, **changes)
    model = recipe.model.build(TEXTS.codec.vocab_size, recipe.seed)
    return Trainer(recipe, model, TEXTS.windows, choose_machine("cpu", "float32", 1))


def steps(built, count=2):
    return lambda: [built.train_step(keep_gradients=True) for _ in range(count)]


@settings(max_examples=12)
@given(
    patterns=st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3).filter(lambda few: "*.weight" not in few),
    optimizer=st.sampled_from(["adamw", "muon"]),
    attention=st.sampled_from(["sdpa", "per_head"]),
    tied=st.booleans(),
    plan=st.sampled_from([{}, {"ema_decay": 0.9}, {"loss_chunk_size": 3}, {"activation_checkpointing": True}]),
)
def test_training_moves_no_bit_of_what_is_frozen(patterns, optimizer, attention, tied, plan):
    block = replace(TINY.model.block, attention=Attention.find(attention)(heads=2))
    built = trainer(
        freeze=tuple(patterns),
        optimizer=Optimizer.find(optimizer)(),
        model=replace(TINY.model, block=block, tied=tied, embedding=Ngrams(resets=1)),
        train=replace(TINY.train, **plan),
    )
    names = [name for name, _ in built.model.named_parameters()]
    frozen = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
    laws.frozen_stays(built.model, steps(built), frozen)
    held = {id(param) for group in built.optimizer.param_groups for param in group["params"]}
    assert held == {id(param) for name, param in built.model.named_parameters() if name not in frozen}
    if built.ema:
        assert all(torch.equal(built.ema.averages[name], built.model.get_parameter(name)) for name in frozen)


def test_law_catches_what_moves_and_what_only_gets_a_gradient():
    built = trainer()
    with pytest.raises(LawBroken, match=r"embedding\.weight is frozen, and training moved it"):
        laws.frozen_stays(built.model, steps(built), {"embedding.weight"})
    with pytest.raises(LawBroken, match="nothing moved at all"):
        laws.frozen_stays(built.model, lambda: None, set())
    built.release_gradients()
    model = built.model

    def learn():
        model(torch.zeros(1, 2, dtype=torch.long)).sum().backward()
        with torch.no_grad():
            model.embedding.weight += 1

    with pytest.raises(LawBroken, match=r"norm\.weight is frozen, and has a gradient"):
        laws.frozen_stays(model, learn, {"norm.weight"})


def test_tables_of_ngrams_are_reset_unless_they_are_frozen():
    for patterns, zero in (((), True), (("embedding.grams.*",), False)):
        model = replace(TINY.model, embedding=Ngrams(resets=1))
        built = trainer(model=model, freeze=patterns)
        with torch.no_grad():
            built.model.embedding.grams[1].fill_(1.0)
        built.model.embedding.on_step(2, 3)
        assert bool((built.model.embedding.grams[1] == 0).all()) is zero
        assert bool(built.model.embedding.step_note(2, 3)) is zero


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("blocks.0.atention.*",), r"freeze: 'blocks.0.atention.\*' matches no parameter. Near: blocks.0.attention"),
        (("head.weight",), r"'head.weight' matches no parameter. Near: .*norm.weight"),  # it is the embedding's
        (("zzz",), r"'zzz' matches no parameter. Parameters: embedding.weight, .* \(\d+ in all\)"),
        (("*",), r"freeze: \* leaves none of \d+ parameters to train"),
        (("blocks.*", "embedding*", "*norm*"), "leaves none of"),
        (("",), "'' matches no parameter"),
    ],
)
def test_pattern_that_matches_nothing_or_everything_is_refused(patterns, message):
    with pytest.raises(ConfigError, match=message):
        trainer(freeze=patterns)


def test_what_is_frozen_is_listed_with_its_size():
    (line,) = describe_frozen(trainer(freeze=("blocks.0.*",)).model)
    assert line.startswith("frozen: ") and "6 of 14 tensors: blocks.0.attention_norm.weight, " in line
    assert describe_frozen(trainer().model) == []


def test_run_with_frozen_parameters_is_resumed_to_the_bit(tmp_path):
    recipe = replace(TINY, freeze=("blocks.0.*", "embedding*"))
    whole = nanotx.train(recipe, run=tmp_path / "whole", quiet=True)
    nanotx.train(replace(recipe, train=replace(recipe.train, steps=2)), run=tmp_path / "cut", quiet=True)
    again = nanotx.train(recipe, run=tmp_path / "cut", quiet=True, resume=True)
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert again.step == 3 and all(torch.equal(ours[name], theirs[name]) for name in ours)
    fresh = recipe.model.build(TEXTS.codec.vocab_size, recipe.seed).state_dict()
    still = {name for name in ours if torch.equal(ours[name], fresh[name])}
    assert still - {"head.weight"} == {name for name in ours if name.startswith(("blocks.0.", "embedding"))}


def test_recipes_that_freeze_nothing_are_written_as_before():
    assert "freeze" not in to_table(Recipe())
