"""What a step of an arm costs: memory is what its tensors hold at most, whatever else the process holds."""

import pytest
import torch
from test_experiment import BASE

from nanotx.data.corpus.file import File
from nanotx.errors import ConfigError, TokenizerError
from nanotx.experiments.allocated import most_allocated
from nanotx.experiments.costs import measure, step_memory, tensors_of
from nanotx.experiments.plan import make_arms, prepared
from nanotx.hardware.device import choose_machine
from nanotx.training.dataset import load_dataset
from nanotx.training.trainer import Trainer


def test_most_allocated_is_the_peak_and_not_the_sum(capfd):
    before = torch.ones(5000)

    def three_of_which_two_at_a_time() -> None:
        first = before + 1
        second = first + 1
        del first
        third = second + 1
        del second, third

    assert 0 <= most_allocated(three_of_which_two_at_a_time) - 2 * 5000 * 4 < 100  # the ones are tensors too
    assert most_allocated(lambda: None) == 0
    assert "profiler" not in capfd.readouterr().err


def trainer_of(dim: int) -> Trainer:
    (arm,) = make_arms(BASE, [])
    recipe = prepared(make_arms(BASE, [f"model.dim={dim}"])[1].recipe, arm.recipe.corpus, 9, 5)
    data = load_dataset(recipe)
    trainer = Trainer(
        recipe, recipe.model.build(data.codec.vocab_size, 5), data.windows, choose_machine("cpu", "float32", 1)
    )
    trainer.train_step()
    return trainer


def test_memory_of_a_step_holds_weights_gradients_and_optimizer_state():
    small, large = trainer_of(16), trainer_of(64)
    for trainer in (small, large):
        weights = sum(weight.nbytes for weight in trainer.model.parameters())
        held = sum(tensor.nbytes for tensor in tensors_of(trainer))
        assert held >= 3 * weights  # AdamW has two states
        memory = step_memory(trainer)
        assert memory is not None and held + weights <= memory < 20 * held
    assert (step_memory(large) or 0) > 3 * (step_memory(small) or 0)


def test_costs_are_measured_for_each_arm_alone(tmp_path):
    arms = make_arms(BASE, ["model.dim=64"])
    together, alone = measure(arms, BASE.corpus, 1), measure(arms[1:], BASE.corpus, 1)
    assert together[1].memory_bytes == alone[0].memory_bytes
    assert measure(arms, BASE.corpus, 0)[0].memory_bytes is None


def test_warnings_of_the_texts_are_those_of_nanotx_train(tmp_path):
    (arm,) = make_arms(BASE, [])
    (fact,) = measure(make_arms(BASE, ["train.batch_size=4096"])[1:], BASE.corpus, 0)
    assert "the model will memorise it" in fact.warnings[0]
    assert measure([arm], BASE.corpus, 0)[0].warnings == ()
    (tmp_path / "nul.txt").write_text("abcdefg\0" * 200, encoding="utf-8")
    (fact,) = measure([arm], File(path=str(tmp_path / "nul.txt")), 0)
    (warning,) = fact.warnings
    assert warning.startswith("warning: 180 characters of the training text are NUL (U+0000)")


def test_arm_that_cannot_be_built_is_named():
    with pytest.raises(ConfigError, match=r"--change 'attention.heads=5': sdpa: heads=5 do not divide dim=16"):
        measure(make_arms(BASE, ["attention.heads=5"]), BASE.corpus, 0)
    large = 'tokenizer={part="bpe", vocab_size=99999}'
    with pytest.raises(TokenizerError, match=rf"--change '{large}': bpe: vocab_size=99999 cannot be reached"):
        measure(make_arms(BASE, [large]), BASE.corpus, 0)
