"""Losses are their definitions, in one piece and in chunks; evaluation, resume and sampling honour a loss."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import text, tiny
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import nanotx
from nanotx.cli.main import run
from nanotx.errors import ConfigError, UnknownPart
from nanotx.nn.loss import Head, Loss
from nanotx.nn.loss.cross_entropy import CrossEntropy
from nanotx.nn.loss.label_smoothing import LabelSmoothing
from nanotx.nn.loss.multi_token import MultiToken
from nanotx.recipe import Recipe

VOCAB, DIM = 11, 4


def case(seed, rows=2, time=7):
    torch.manual_seed(seed)
    return nn.Linear(DIM, VOCAB), torch.randn(rows, time, DIM), torch.randint(VOCAB, (rows, time))


def total(config, head, x, targets, chunk=0):
    return config.build(VOCAB, DIM)(Head(head, [*head.parameters()], chunk), x, targets)[0]


@given(seed=st.integers(0, 99), chunk=st.sampled_from([0, 3]))
def test_cross_entropy_with_a_z_loss_is_its_definition(seed, chunk):
    head, x, targets = case(seed)
    logits = head(x).flatten(0, 1)
    want = F.cross_entropy(logits, targets.flatten()) + 0.3 * logits.logsumexp(1).square().mean()
    torch.testing.assert_close(total(CrossEntropy(z_loss=0.3), head, x, targets, chunk), want)


@given(seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.1, 0.9]), chunk=st.sampled_from([0, 3]))
def test_label_smoothing_is_the_cross_entropy_with_a_mixture(seed, smoothing, chunk):
    head, x, targets = case(seed)
    mixture = (1 - smoothing) * F.one_hot(targets, VOCAB) + smoothing / VOCAB
    want = -(mixture * head(x).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(total(LabelSmoothing(smoothing=smoothing), head, x, targets, chunk), want)


@given(seed=st.integers(0, 99), ahead=st.integers(2, 4), chunk=st.sampled_from([0, 3]))
def test_multi_token_adds_the_mean_loss_of_the_tokens_further_ahead(seed, ahead, chunk):
    head, x, targets = case(seed)
    module = MultiToken(ahead=ahead, weight=0.3).build(VOCAB, DIM)
    got, cross = module(Head(head, [*head.parameters()], chunk), x, targets)
    further = []
    for distance in range(1, ahead):
        here = x[:, : 7 - distance]
        logits = head(here + here @ module.to_ahead[distance - 1].weight.T)
        further.append(F.cross_entropy(logits.flatten(0, 1), targets[:, distance:].flatten()))
    want = F.cross_entropy(head(x).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(cross, want)
    torch.testing.assert_close(got, want + 0.3 * torch.stack(further).mean())


def test_without_gradients_chunks_give_the_loss_alone():
    head, x, targets = case(1)
    with torch.no_grad():
        whole, parts = (total(CrossEntropy(), head, x, targets, chunk) for chunk in (0, 3))
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize(
    ("name", "fields", "match"),
    [
        ("cross_entropy", {"z_loss": -0.1}, "z_loss: expected a number of at least 0"),
        ("label_smoothing", {"smoothing": 1.0}, "smoothing: expected a fraction"),
        ("multi_token", {"ahead": 1}, "ahead: expected a number of at least 2"),
        ("multi_token", {"loss": MultiToken()}, "loss: multi_token inside multi_token; set a larger ahead"),
    ],
)
def test_field_out_of_range_is_refused(name, fields, match):
    with pytest.raises(ConfigError, match=match):
        Loss.find(name)(**fields)


def test_text_shorter_than_the_tokens_ahead_is_refused_with_the_remedy():
    head, x, targets = case(0, time=3)
    with pytest.raises(ConfigError, match=r"multi_token: ahead=4 needs texts of as many tokens, got 3; try a larger"):
        total(MultiToken(ahead=4), head, x, targets)


def rows_of(folder, event="step"):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row for row in rows if row["event"] == event]


def train(tmp_path, name, *words, **sizes):
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    return run(["train", "macbook", *corpus, *tiny(**sizes), "--run", str(tmp_path / name), *words])


def same_files(first, other):
    for file in ("model.safetensors", "optimizer.safetensors", "ema.safetensors"):
        mine, theirs = (load_file(folder / "checkpoints/step-6" / file) for folder in (first, other))
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine), file
    assert [row["loss"] for row in rows_of(first)] == [row["loss"] for row in rows_of(other)]


def test_loss_with_parameters_is_trained_saved_resumed_to_the_bit_and_not_needed_to_sample(tmp_path):
    flags = ["--loss", "multi_token", "--loss.ahead", "3", "--train.ema-decay", "0.5"]
    assert train(tmp_path, "whole", *flags) == 0
    assert train(tmp_path, "parted", *flags, train_steps=4) == 0
    assert run(["resume", str(tmp_path / "parted"), "--train.steps", "6"]) == 0
    same_files(tmp_path / "whole", tmp_path / "parted")
    weights = load_file(tmp_path / "whole/checkpoints/step-6/model.safetensors")
    first = load_file(tmp_path / "whole/checkpoints/step-4/model.safetensors")
    for name in ("loss.to_ahead.0.weight", "loss.to_ahead.1.weight"):
        assert not torch.equal(weights[name], first[name])
    assert rows_of(tmp_path / "whole", "end")[0]["complete"]
    summary = json.loads((tmp_path / "whole/summary.json").read_text(encoding="utf-8"))
    assert summary["parameters"] == sum(tensor.numel() for tensor in weights.values())
    loaded = nanotx.load(tmp_path / "whole")
    assert loaded.model.parameter_count == summary["parameters"] - 2 * 16 * 16 and loaded.model.loss is None
    assert len(loaded.generate("a", max_new_tokens=5)) == 6
    assert run(["verify", str(tmp_path / "whole")]) == 0


def test_row_logs_the_cross_entropy_and_a_differing_training_loss(tmp_path):
    assert train(tmp_path, "plain") == 0
    assert train(tmp_path, "smooth", "--loss", "label_smoothing", "--loss.smoothing", "0.5") == 0
    plain, smooth = rows_of(tmp_path / "plain")[0], rows_of(tmp_path / "smooth")[0]
    assert smooth["loss"] == plain["loss"] and "total_loss" not in plain
    assert smooth["total_loss"] != smooth["loss"]
    evals = [rows_of(tmp_path / name, "eval")[-1] for name in ("plain", "smooth")]
    assert all(row["bits_per_byte"] == pytest.approx(row["val_loss"] / 0.6931472, rel=0.2) for row in evals)


def test_row_logs_each_auxiliary_loss_by_the_name_of_its_module(tmp_path):
    assert train(tmp_path, "moe", "--ffn", "moe", "--loss.z-loss", "0.01", model_layers=2) == 0
    for row in rows_of(tmp_path / "moe"):
        names = [f"aux_loss/blocks.{layer}.ffn" for layer in range(2)]
        assert row["aux_loss"] == pytest.approx(sum(row[name] for name in names), rel=1e-5) and row["aux_loss"] > 0
        assert row["total_loss"] > row["loss"] + row["aux_loss"]


def test_resume_with_another_loss_is_refused(tmp_path):
    assert train(tmp_path, "run", "--loss", "label_smoothing", train_steps=2) == 0
    with pytest.raises(ConfigError, match=r"loss\.part was 'label_smoothing', not 'cross_entropy'"):
        train(tmp_path, "run", "--resume", "--loss", "cross_entropy")
    assert train(tmp_path, "run", "--resume", "--loss", "label_smoothing", "--loss.smoothing", "0.1") == 0


def test_swap_of_losses_keeps_the_z_loss():
    from nanotx.recipe_flags import read_recipe

    recipe, _ = read_recipe(Recipe(loss=CrossEntropy(z_loss=0.2)), ["--loss", "label_smoothing"], "test")
    assert recipe.loss == LabelSmoothing(z_loss=0.2)
    recipe, _ = read_recipe(recipe, ["--loss", "multi_token", "--loss.ahead", "4"], "test")
    assert recipe.loss == MultiToken(ahead=4, loss=LabelSmoothing(z_loss=0.2))


def test_unknown_loss_is_answered_with_a_near_name():
    with pytest.raises(UnknownPart, match=r"no part named 'label_smooth'\. Did you mean 'label_smoothing'\?"):
        Loss.find("label_smooth")
    assert replace(Recipe(), loss=LabelSmoothing()).loss.smoothing == 0.1
