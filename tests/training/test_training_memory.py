"""What spares memory and time in training, and changes nothing else; and what a run keeps of it."""

import re
from dataclasses import replace

import pytest
import torch

from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, RunError
from nanotx.hardware.device import choose_machine
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.loss.cross_entropy import CrossEntropy
from nanotx.nn.transformer import Model
from nanotx.optim.muon import Muon
from nanotx.optim.schedules.constant import Constant
from nanotx.recipe import Recipe, Train
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import load
from nanotx.runs.resume import restore
from nanotx.runs.resume_check import check_resumable, resolve_auto
from nanotx.runs.trainer_state import save
from nanotx.training import auto_batch
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer

TEXTS = load_dataset(Recipe(corpus=Playhouse(size=20_000), model=Model(context=16)))


def trainer(dropout=0.1, **plan):
    """With every part of it that has a state of its own."""
    recipe = Recipe(
        corpus=Playhouse(size=20_000),
        model=Model(
            dim=16,
            layers=2,
            context=16,
            softcap=10.0,
            embedding=Ngrams(max_n=3, buckets=100),
            block=TokenShift(block=PreNorm(dropout=dropout)),
        ),
        optimizer=Muon(),
        schedule=Constant(),
        loss=CrossEntropy(z_loss=1e-4),
        train=Train(**{"steps": 50, "batch_size": 4} | plan),
        compile=False,
    )
    model = recipe.model.build(TEXTS.codec.vocab_size, recipe.seed)
    return Trainer(recipe, model, TEXTS.windows, choose_machine("cpu", "float32", 1))


def after(made, steps=3):
    """The losses of a few steps, and the weights after them."""
    losses = [made.train_step()["loss"] for _ in range(steps)]
    return losses, made.weights()


def equal(first, other):
    return first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)


def test_values_computed_again_are_the_same_dropout_included():
    (losses, weights), (others, other_weights) = after(trainer()), after(trainer(activation_checkpointing=True))
    assert losses == others
    assert equal(weights, other_weights)


def test_computed_again_means_not_kept():
    assert (
        auto_batch.activation_bytes(trainer(activation_checkpointing=True), 2)
        < auto_batch.activation_bytes(trainer(), 2) / 2
    )


def test_neither_chunks_nor_micro_batches_change_a_step_but_for_rounding():
    losses, weights = after(trainer(dropout=0.0))
    for plan in ({"loss_chunk_size": 7}, {"micro_batch_size": 1}, {"grad_accum_steps": 2}):
        others, other_weights = after(trainer(dropout=0.0, **plan))
        assert losses == pytest.approx(others, abs=1e-5)
        for name, weight in weights.items():
            torch.testing.assert_close(weight, other_weights[name], atol=2e-3, rtol=1e-2)


def test_micro_batches_drop_the_same_and_change_a_gradient_but_for_rounding():
    """Of the first step: later ones start from weights that differ by rounding."""

    def gradients(**plan):
        made = trainer(dropout=0.4, **plan)
        numbers = made.compute_gradients()
        return numbers, {name: weight.grad.to_dense() for name, weight in made.model.named_parameters()}

    numbers, wanted = gradients()
    assert numbers["grad_norm"] != pytest.approx(trainer(dropout=0.0).compute_gradients()["grad_norm"], rel=1e-3)
    for plan in (
        {"grad_accum_steps": 2},
        {"grad_accum_steps": 4},
        {"micro_batch_size": 1},
        {"activation_checkpointing": True, "grad_accum_steps": 2},
    ):
        others, got = gradients(**plan)
        assert others == pytest.approx(numbers, rel=1e-5)
        for name, gradient in wanted.items():
            torch.testing.assert_close(got[name], gradient, atol=1e-6, rtol=1e-4)


def test_tables_of_n_grams_learn_by_the_rows_that_a_step_has_met():
    made = trainer()
    made.train_step()
    states = {name: made.optimizer.state[param] for name, param in made.model.embedding.named_parameters()}
    assert "exp_avg" in states["weight"]
    assert states["grams.0"].keys() == {"exp_avg_sq", "step"}


@pytest.mark.parametrize(("rows", "want"), [(1000, 4), (2.5, 2), (1.0, 1)])
def test_largest_micro_batch_is_the_one_that_fits(monkeypatch, rows, want):
    made = trainer()
    row = auto_batch.activation_bytes(made, 2) - auto_batch.activation_bytes(made, 1)
    monkeypatch.setattr(auto_batch, "available_bytes", lambda: int(rows * row / auto_batch.FREE_FRACTION) + 1)
    before = torch.random.get_rng_state()
    assert auto_batch.largest_micro_batch(made) == want
    assert torch.equal(torch.random.get_rng_state(), before)


def test_where_not_one_window_fits_it_says_what_to_halve(monkeypatch):
    monkeypatch.setattr(auto_batch, "available_bytes", lambda: 10)
    with pytest.raises(ConfigError, match=r"micro_batch_size: not even one window fits .* halve model\.context=16"):
        auto_batch.largest_micro_batch(trainer())


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, r"4 windows at a time; .* --train\.micro-batch-size 2 \(or auto\).*--train\.activation-checkpointing"),
        (
            {"micro_batch_size": 2},
            r"2 windows at a time; .* --train\.micro-batch-size 1, which changes only rounding; or",
        ),
        ({"micro_batch_size": 1}, r"1 window at a time; try --train\.activation-checkpointing\.$"),
        (
            {"micro_batch_size": 1, "activation_checkpointing": True},
            r"1 window at a time; try a smaller --model\.context\.$",
        ),
        ({"batch_size": 12, "micro_batch_size": 4}, r"4 windows at a time; .* --train\.micro-batch-size 2, which"),
        ({"batch_size": 9}, r"9 windows at a time; .* --train\.micro-batch-size 3 "),
        ({"batch_size": 5}, r"5 windows at a time; .* --train\.micro-batch-size 1 "),
        ({"grad_accum_steps": 2}, r"2 windows at a time; .* --train\.grad-accum-steps 4,"),
        ({"batch_size": 12, "grad_accum_steps": 2}, r"6 windows at a time; .* --train\.grad-accum-steps 4,"),
        ({"grad_accum_steps": 4}, r"1 window at a time; try --train\.activation-checkpointing\.$"),
    ],
)
def test_full_accelerator_is_reported_with_its_windows_and_a_remedy_that_the_recipe_accepts(monkeypatch, plan, message):
    made = trainer(**plan)

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(made, "forward_loss", full)
    with pytest.raises(RunError, match=f"memory is full with {message}") as caught:
        made.train_step()
    before = made.recipe.train
    for name, value in re.findall(r"--train\.(micro-batch-size|grad-accum-steps) (\d+)", str(caught.value)):
        smaller = replace(before, **{name.replace("-", "_"): int(value)})
        assert smaller.batch_size // smaller.num_micro_batches <= before.batch_size // before.num_micro_batches / 2


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        ({"micro_batch_size": 3}, r"micro_batch_size: 3 does not divide batch_size=4; try one of \[1, 2, 4\]"),
        ({"micro_batch_size": -1}, "micro_batch_size: -1 does not divide"),
        ({"micro_batch_size": "auto", "grad_accum_steps": 2}, "expected it or grad_accum_steps, got both"),
        ({"ema_decay": 1.0}, "ema_decay: expected a fraction"),
        ({"loss_chunk_size": -1}, "loss_chunk_size: expected a number of at least 0"),
    ],
)
def test_plans_that_cannot_be_are_refused(plan, match):
    with pytest.raises(ConfigError, match=match):
        Train(**{"batch_size": 4} | plan)


def test_full_accelerator_is_reported_with_the_auxiliary_loss_as_a_mean_over_micro_batches(monkeypatch):
    model = Model(dim=8, layers=1, context=16, block=PreNorm(ffn=MixtureOfExperts())).build(TEXTS.codec.vocab_size)
    recipe = Recipe(corpus=Playhouse(size=20_000), model=model.config, train=Train(batch_size=4), compile=False)
    made = Trainer(recipe, model, TEXTS.windows, choose_machine("cpu", "float32", 1))

    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(made, "forward_loss", full)
    with pytest.raises(
        RunError, match="changes only rounding and the auxiliary loss, which is a mean over micro-batches; "
    ):
        made.train_step()


def test_what_a_run_settled_stays_when_it_is_left_to_the_machine_again():
    saved = Recipe(train=Train(batch_size=4, micro_batch_size=2), compile=False)
    requested = replace(saved, train=Train(batch_size=4, micro_batch_size="auto"), compile="auto")
    assert resolve_auto(saved, requested) == saved
    check_resumable(saved, resolve_auto(saved, requested))


def test_ema_weights_are_in_the_model_during_evaluation():
    made = trainer(ema_decay=0.9)
    weights, slow = [], None
    for step in range(1, 5):
        made.train_step()
        weights.append({name: tensor.clone() for name, tensor in made.weights().items()})
        decay = min(0.9, step / (step + 9))
        before = slow or trainer().weights()
        slow = {name: before[name] * decay + weights[-1][name] * (1 - decay) for name in before}
    with made.use_eval_weights():
        judged = {name: tensor.clone() for name, tensor in made.weights().items()}
    for name, item in slow.items():
        torch.testing.assert_close(judged[name], item)
    assert equal(made.weights(), weights[-1])
    assert equal(made.eval_weights(), judged)


def test_run_resumes_with_all_of_its_state_and_is_sampled_with_its_ema_weights(tmp_path):
    folder = RunFolder(tmp_path)
    first = trainer(ema_decay=0.9)
    after(first)
    TEXTS.codec.save(folder.tokenizer)
    save(first, folder, TEXTS)
    folder.recipe.write_text((folder.checkpoints / "step-3/recipe.toml").read_text(encoding="utf-8"), encoding="utf-8")
    loaded = load(tmp_path)
    assert equal(dict(loaded.model.named_parameters()), first.eval_weights())
    other = trainer(ema_decay=0.9)
    restore(other, folder.checkpoints / "step-3", TEXTS)
    assert after(first)[0] == after(other)[0]
    assert equal(first.weights(), other.weights())
    assert equal(first.eval_weights(), other.eval_weights())


@pytest.mark.parametrize("missed", [(1,), (0, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("name", ["norm.weight", "blocks.1.block.attention.to_out.weight", "embedding.weight"])
def test_weight_that_had_no_gradient_in_some_steps_is_resumed_with_a_count_of_its_own(tmp_path, name, missed):
    def made():
        built = trainer()
        compute_gradients = built.compute_gradients

        def partly():
            numbers = compute_gradients()
            if built.progress.step in missed:
                built.model.get_parameter(name).grad = None
            return numbers

        built.compute_gradients = partly
        return built

    folder, first, other = RunFolder(tmp_path), made(), made()
    after(first)
    save(first, folder, TEXTS)
    restore(other, folder.checkpoints / "step-3", TEXTS)
    for step in (4, 5):
        assert first.train_step()["loss"] == other.train_step()["loss"]
        assert equal(first.weights(), other.weights()), step
    mine, theirs = first.optimizer_state(), other.optimizer_state()
    assert mine[1] == theirs[1] and equal(mine[0], theirs[0])
