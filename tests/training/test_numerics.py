"""Numbers that are not finite: caught in their step, named, refused; and what looks at a run leaves it as it was."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_trainer import TEXTS, trainer

from nanotx.errors import Diverged, RunError
from nanotx.runs.callbacks import Checkpoints
from nanotx.runs.folder import RunFolder
from nanotx.runs.metrics_log import read
from nanotx.runs.resume import load_state
from nanotx.runs.trainer_state import save
from nanotx.training.callbacks import Callback
from nanotx.training.callbacks.evaluation import Evaluation, Sample
from nanotx.training.loop import TrainingRun
from nanotx.training.nonfinite import Operations, report
from nanotx.training.signals import Interrupted, Stop
from nanotx.training.trainer import SPIKE, Progress


def spoil(value, where="blocks.1.ffn"):
    """From now on, what a module gives has a number in it that is none."""

    def hook(module, given, made):
        made = made.clone()
        made.view(-1)[3] = math.nan
        return made

    return value.model.get_submodule(where).register_forward_hook(hook)


def test_step_that_is_not_finite_names_the_module_and_the_windows():
    built = trainer()
    spoil(built)
    before = {name: tensor.clone() for name, tensor in built.weights().items()}
    with pytest.raises(Diverged, match=r"It arose in the output of blocks\.1\.ffn \(.*\)\.") as error:
        built.train_step()
    starts = built.windows.starts(0, 4).tolist()
    assert f"begin at token {starts[0]}, {starts[1]}, {starts[2]} and 1 more of the training text" in str(error.value)
    assert "Not finite: the gradient of " in str(error.value) and "--detect-anomaly" in str(error.value)
    assert built.progress.step == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in built.weights().items())


def test_what_arises_on_the_way_back_is_named_too():
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    built = trainer()
    inner = built.model.blocks[0].attention.forward
    built.model.blocks[0].attention.forward = lambda *given, **named: inner(Bad.apply(given[0]), *given[1:], **named)
    with pytest.raises(Diverged, match=r"It arose in the backward pass of blocks\.0\.attention \(.*\)"):
        built.train_step()


def test_operation_is_named_on_request():
    built = trainer()
    built.detect = True
    built.model.blocks[0].ffn.forward = lambda x: x / (x - x)
    with pytest.raises(Diverged, match=r"The first operation that made it: aten\.div\.Tensor"):
        built.train_step()


def test_operation_is_placed_in_our_source():
    from nanotx.nn.loss import Loss  # any operation of ours

    assert Loss
    with Operations() as seen:
        torch.full((2,), -math.inf).exp()  # a mask is no fault
        assert not seen.first
        torch.zeros(2).log().neg()
    assert "aten.neg" in seen.first


def test_weights_that_are_not_finite_are_named_as_such():
    built = trainer()
    with torch.no_grad():
        built.model.norm.weight[1] = math.inf
    message = report(built.model, built.compute_gradients, detect=False)
    assert message == "The weights themselves are not finite: norm.weight."


def test_step_may_be_skipped_and_the_next_is_taken():
    first, other = trainer(on_nonfinite="skip"), trainer()
    hook = spoil(first)
    before = {name: tensor.clone() for name, tensor in first.weights().items()}
    row = first.train_step()
    assert math.isnan(row["loss"]) and row["lr"] == 0 and row["step"] == 1
    assert "the step was not taken" in row["warning"]
    assert all(torch.equal(before[name], tensor) for name, tensor in first.weights().items())
    hook.remove()
    other.progress.step = 1
    assert first.train_step()["loss"] == other.train_step()["loss"]  # as if the first had not been


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    built = trainer()
    with torch.no_grad():
        built.model.norm.weight[1] = math.nan
    with pytest.raises(Diverged, match=r"the weights of norm\.weight are not finite, and are not saved"):
        save(built, RunFolder(tmp_path), TEXTS)
    assert not list(tmp_path.iterdir())


def test_unusually_large_gradient_is_warned_of():
    progress = Progress()
    for step in range(40):
        progress.step = step
        assert not progress.spike(1.0 + step % 2)
    assert not progress.spike(SPIKE)
    assert progress.spike(100 * SPIKE).startswith("step 39: the gradient's norm is 500, and usually 1.")


@pytest.mark.slow
@settings(max_examples=max(8, settings().max_examples // 4))
@given(
    eval_every=st.integers(0, 4),
    sample_every=st.integers(0, 4),
    checkpoint_every=st.integers(0, 4),
    sample_tokens=st.integers(1, 9),
)
def test_however_a_run_is_looked_at_it_comes_to_the_same_bits(
    tmp_path_factory, eval_every, sample_every, checkpoint_every, sample_tokens
):
    plain, watched = (
        trainer(dropout=0.2, steps=5),
        trainer(
            dropout=0.2, steps=5, eval_every=eval_every, sample_every=sample_every, checkpoint_every=checkpoint_every
        ),
    )
    for _ in range(5):
        plain.train_step()

    def keep():
        folder = RunFolder(tmp_path_factory.mktemp("run"))
        TEXTS.codec.save(folder.tokenizer)
        save(watched, folder, TEXTS)

    training_run(watched, [Checkpoints(), Evaluation(eval_texts=SHORT), Sample()], keep).train()
    assert all(torch.equal(tensor, watched.weights()[name]) for name, tensor in plain.weights().items())
    ours, theirs = plain.optimizer_state(), watched.optimizer_state()
    assert ours[1] == theirs[1] and all(torch.equal(tensor, theirs[0][name]) for name, tensor in ours[0].items())


SHORT = {
    name: type(eval_text)(ids=eval_text.ids[:64], start=eval_text.start, size=eval_text.size)
    for name, eval_text in TEXTS.eval_texts.items()
}


def training_run(trainer, own, save=lambda: None, stop=None):
    """The loop of a run that has no folder."""
    stop = stop or Stop()
    return TrainingRun(trainer, own=own, save=save, stop=stop, tokenizer=TEXTS.codec, folder=Path("nowhere"))


class Rows(Callback):
    """Every row that is written."""

    def __init__(self):
        self.rows = []

    def on_row(self, run, row):
        self.rows.append(row)


@dataclass(kw_only=True)
class StoppedEvaluation(Evaluation):
    """An evaluation during which a stop is requested, at one step."""

    at: int
    stop: Stop

    def scores(self, run):
        if run.step == self.at and not self.stop():
            self.stop.signal = 15
            raise Interrupted
        return super().scores(run)


def test_run_stopped_during_an_evaluation_saves_at_once_and_leaves_it_pending():
    built, stop, seen, saved = trainer(steps=6, eval_every=2, checkpoint_every=0), Stop(), Rows(), []

    def take(at):
        keep = lambda: saved.append((built.progress.step, built.progress.eval_pending))  # noqa: E731
        scored = StoppedEvaluation(eval_texts=SHORT, at=at, stop=stop)
        training_run(built, [seen, Checkpoints(), scored, Sample()], keep, stop).train()

    take(at=4)
    assert saved == [(4, True)]
    assert [row["step"] for row in seen.rows if row["event"] == "eval"] == [2]
    stop.signal = 0
    take(at=0)
    assert [row["step"] for row in seen.rows if row["event"] == "eval"] == [2, 4, 6]
    assert [row["step"] for row in seen.rows if row["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert saved == [(4, True), (6, True)]  # a checkpoint comes before the evaluation of its step, and owes it


def test_numbers_of_an_untrusted_state_file_are_refused_by_name(tmp_path):
    from nanotx.runs.trainer_state import read_state

    folder = tmp_path / "step-3"
    folder.mkdir()
    built = trainer()
    built.progress.step = 3
    TEXTS.codec.save(tmp_path / "tokenizer.json")
    save(built, RunFolder(tmp_path), TEXTS)
    result = tmp_path / "checkpoints/step-3"
    sound = (result / "trainer.json").read_text(encoding="utf-8")
    read_state(result)
    for old, new, says in (
        ('"step": 3', '"step": 4', "it is of step 4, in a folder called step-3"),
        ('"step": 3', '"step": "three"', r"progress\.step: 'three' is not what nanotx writes there"),
        ('"step": 3', '"step": -3', r"progress\.step: -3 is not what"),
        ('"step": 3', '"stride": 3', r"progress\.stride: 3 is not what"),
        ('"train_seconds": 0.0', '"train_seconds": 1e999', r"progress\.train_seconds: inf is not what"),
        ('"eval_pending": false', '"eval_pending": 7', r"progress\.eval_pending: 7 is not what"),
        ('"format": 4', '"format": 5', "format 5; this nanotx reads 4"),
        ('"own_layout": []', '"own_layout": {}', "optimizer/own_layout: {} is not what nanotx writes there"),
    ):
        assert old in sound, old
        (result / "trainer.json").write_text(sound.replace(old, new), encoding="utf-8")
        with pytest.raises(RunError, match=says):
            read_state(result)


@pytest.mark.parametrize(
    "row", ['{"event": ["step"]}', '{"event": {}}', '{"event": "eval", "step": 1}', '{"event": "step", "step": true}']
)
def test_metrics_row_that_nanotx_did_not_write_ends_the_reading(tmp_path, row):
    (tmp_path / "metrics.jsonl").write_text(f'{{"event": "end", "step": 3}}\n{row}\n', encoding="utf-8")
    assert [row["step"] for row in read(tmp_path / "metrics.jsonl")] == [3]


def test_optimizers_state_without_its_count_is_refused():
    first, other = trainer(), trainer()
    first.train_step()
    tensors, table = first.optimizer_state()
    with pytest.raises(RunError, match="optimizer: what was saved does not fit this optimizer: KeyError"):
        load_state(other, first.weights(), {key: item for key, item in tensors.items() if "/step" not in key}, table)
