"""Every figure that a run reports is one that can be had from its folder in another way."""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
import torch
from helpers import tiny
from mutants.training import RESUMED, RUN
from mutated import mutated
from safetensors.torch import load_file

import nanotx
from nanotx.cli.main import run as nanotx_command
from nanotx.config.schema import from_table
from nanotx.config.toml import read_toml
from nanotx.data.batches import Windows
from nanotx.laws.training_step import initial_state, training_step
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.recipe import Recipe
from nanotx.tokenizers import load

RECIPE = """
[model]
norm = "layernorm"
[model.block]
part = "prenorm"
norm = "layernorm"
attention = "sdpa"
ffn = "mlp"
dropout = 0.1
[optimizer]
part = "adamw"
lr = 0.03
weight_decay = 0.1
[schedule]
part = "cosine"
warmup = 3
final = 0.2
[tokenizer]
part = "bpe"
vocab_size = 264
[corpus]
part = "file"
path = "text.txt"
"""
STEPS, BATCH, CONTEXT, EVERY = 15, 4, 8, 3
FLAGS = {"batch_size": BATCH, "steps": STEPS, "grad_accum_steps": 2, "ema_decay": 0.5, "sample_every": 0}
LOOKS = {"eval_every": EVERY, "checkpoint_every": EVERY, "sample_tokens": 4}
MUON = ["--optimizer", "muon", "--embedding", "ngrams", "--embedding.buckets", "64", "--embedding.resets", "2"]


def text():
    """A line again and again, and then its letters in no order: who learns the one is worse and worse at the other."""
    draw = random.Random(1)
    line = "".join(draw.choice("abcé ü\n") for _ in range(30))
    return line * 18 + "".join(draw.choice("abcé ü\n") for _ in range(60))


def train(folder, *words, **flags):
    """Train in a folder; returns the exit code."""
    (folder / "text.txt").write_text(text(), encoding="utf-8", newline="")
    (folder / "mine.toml").write_text(RECIPE, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        settings = {
            name if name == "dtype" else f"train_{name}": item for name, item in (FLAGS | LOOKS | flags).items()
        }
        return nanotx_command(["train", "mine.toml", "--run", "run", *tiny(**settings), *words])
    finally:
        os.chdir(before)


@dataclass(frozen=True)
class Left:
    """What a run left in its folder."""

    folder: Path
    most: float = math.inf  # the seconds that it can have taken
    least: float = 0.0

    @cached_property
    def rows(self):
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]

    def events(self, name):
        return [row for row in self.rows if row["event"] == name]

    @cached_property
    def summary(self):
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))

    @cached_property
    def recipe(self):
        return from_table(Recipe, read_toml(self.folder / "recipe.toml"))

    @cached_property
    def codec(self):
        return load(self.folder / "tokenizer.json")

    @cached_property
    def texts(self):
        """The training and the validation text; a tenth of the characters are for validation."""
        whole = text()
        cut = len(whole) - round(len(whole) / 10)
        return whole[:cut], whole[cut:]

    def tensors(self, name):
        return load_file(self.folder / "checkpoints" / f"step-{self.summary['steps']}" / f"{name}.safetensors")

    def nats(self, text):
        """What each window of a text costs a model of the averaged weights, and its tokens; float64 from logits on."""
        model = self.recipe.model.build(self.codec.vocab_size).eval()
        weights = from_canonical(model, self.tensors("ema"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
            ids, results = [self.codec.start, *self.codec.encode(text).tolist()], []
            for first in range(0, len(ids) - 1, CONTEXT):
                window = torch.tensor(ids[first : first + CONTEXT + 1])
                logits = model(window[None, :-1])[0].double()
                costs = logits.log_softmax(dim=-1)[range(len(window) - 1), window[1:]]
                results.append((-costs.sum().item(), len(costs)))
        return results


# The checks, by name; each takes what a run left.


def steps(left):
    """Loss, norm and learning rate of every step, and the weights and averages at the end, are those written out."""
    windows = Windows(ids=left.codec.encode(left.texts[0]), context=CONTEXT, seed=5)
    model = left.recipe.model.build(left.codec.vocab_size, 5).train()
    state, rows, dtype = initial_state(model), left.events("step"), getattr(torch, left.recipe.dtype)
    model.embedding.sparse = left.recipe.optimizer.takes_sparse
    assert [row["step"] for row in rows] == list(range(1, left.summary["steps"] + 1))
    for row in rows:
        wanted = training_step(left.recipe, model, windows, row["step"] - 1, state, dtype)
        assert {key: row[key] for key in wanted} == wanted, row
    for name, tensors in (("model", dict(model.named_parameters())), ("ema", state["ema"])):
        wanted = to_canonical(model, {key: tensor.detach() for key, tensor in tensors.items()})
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in left.tensors(name).items()), name


def rates(left):
    """A row's learning rate is that of its step: up in a line, then half a cosine."""
    for row in left.events("step"):
        step, warmup, final = row["step"] - 1, 3, 0.2
        rise = (step + 1) / (warmup + 1)
        fall = final + (1 - final) * (1 + math.cos(math.pi * (step - warmup) / (left.recipe.train.steps - warmup))) / 2
        assert row["lr"] == pytest.approx(0.03 * (rise if step < warmup else fall), rel=1e-12)


def losses(left):
    """The losses are those of the averaged weights over each token of the text, the last included, and once."""
    training, validation = left.texts
    last = left.events("eval")[-1]
    for name, shown in (("train", training[: len(validation)]), ("val", validation)):
        windows = left.nats(shown)
        total, tokens = (sum(column) for column in zip(*windows, strict=True))
        assert last[f"{name}_loss"] == left.summary[f"{name}_loss"] == pytest.approx(total / tokens, rel=1e-5)
        bits = total / math.log(2) / len(shown.encode("utf-8"))
        assert last["bits_per_byte" if name == "val" else "train_bits_per_byte"] == pytest.approx(bits, rel=1e-5)
        assert left.summary[f"{name}_tokens"] == tokens == len(left.codec.encode(shown))
    squares = sum((cost - total / tokens * length) ** 2 for cost, length in windows) / (len(windows) - 1)
    assert left.summary["val_stderr"] == pytest.approx(math.sqrt(squares * len(windows)) / tokens, rel=1e-4)
    assert left.summary["bits_per_byte"] == last["bits_per_byte"]
    for row in (*left.events("eval"), left.summary):
        assert row["perplexity"] == pytest.approx(math.exp(row["val_loss"]))


def best(left):
    """The best step is that of the lowest validation loss, and its checkpoint is kept."""
    scores = {row["step"]: row["val_loss"] for row in left.events("eval")}
    winner = min(scores, key=scores.get)
    assert (left.summary["best_step"], left.summary["best_val_loss"]) == (winner, scores[winner])
    assert (left.folder / "checkpoints" / f"step-{winner}").is_dir()
    training = {row["step"]: row["train_loss"] for row in left.events("eval")}
    assert winner not in (min(scores), max(scores), min(training, key=training.get)), scores  # else nothing was shown


def counts(left):
    """Steps, tokens, parameters and operations are those that can be counted in the files."""
    done = len(left.events("step"))
    assert left.summary["steps"] == done and left.summary["tokens"] == done * BATCH * CONTEXT
    assert left.summary["complete"] == (done == left.recipe.train.steps) == left.events("end")[-1]["complete"]
    tensors = left.tensors("model").values()
    assert left.summary["parameters"] == sum(math.prod(tensor.shape) for tensor in tensors)
    maps = sum(math.prod(tensor.shape) for tensor in tensors if tensor.ndim == 2)  # the tied table is the head's map
    flops = 6 * maps + 12 * left.recipe.model.layers * left.recipe.model.dim * CONTEXT
    speed, peak = left.summary["tokens_per_second"], left.summary["peak_flops"]
    assert left.summary["mfu"] == pytest.approx(speed * flops / peak) and 1e7 < peak < 1e14


def clocks(left):
    """Seconds of training are those of the steps' rows; all others, too, are between the begin and the end."""
    seconds = sum(BATCH * CONTEXT / row["tokens_per_second"] for row in left.events("step"))
    assert left.summary["train_seconds"] == pytest.approx(seconds)
    assert left.summary["tokens_per_second"] == pytest.approx(left.summary["tokens"] / seconds)
    looks = [row["wall_seconds"] for row in left.events("eval")]
    assert looks == sorted(looks) and seconds < looks[-1] == left.summary["wall_seconds"]
    assert left.least < looks[-1] < left.most


def names(left):
    """What the figures are of."""
    text = "".join(left.texts).encode("utf-8")
    assert left.summary["corpus_sha256"] == hashlib.sha256(text).hexdigest()
    assert left.summary["tokenizer_sha256"] == left.codec.digest
    known = {"vocab_size": 264, "seed": 5, "corpus": "file", "tokenizer": "bpe", "device": "cpu", "dtype": "float32"}
    assert known | {"threads": 1, "compiled": False} == {
        key: left.summary[key] for key in [*known, "threads", "compiled"]
    }


def loaded(left):
    """What is loaded from the folder has the averaged weights, and scores the validation text as the run did."""
    run = nanotx.load(left.folder)
    model, loss = run.model, left.summary["val_loss"]
    assert repr(run) == (
        f"<LoadedRun {left.folder}: step {run.step}, {model.parameter_count:,} weights, bpe of 264, validation loss "
        f"{loss:.4f}; .model .tokenizer .recipe .generate()>"
    )
    result, wanted = to_canonical(model, dict(model.named_parameters())), left.tensors("ema")
    assert all(torch.equal(result[name], tensor) for name, tensor in wanted.items())
    figures = left.folder / "eval.json"
    shown = left.folder / "validation.txt"
    shown.write_text(left.texts[1], encoding="utf-8", newline="")
    assert (
        nanotx_command(["eval", str(left.folder), "--text", str(shown), "--json", str(figures), "--device", "run"]) == 0
    )
    scored = json.loads(figures.read_text(encoding="utf-8"))
    assert scored["loss"] == pytest.approx(left.summary["val_loss"], rel=1e-6)
    assert scored["bits_per_byte"] == pytest.approx(left.summary["bits_per_byte"], rel=1e-6)
    assert (scored["tokens"], scored["bytes"]) == (left.summary["val_tokens"], len(left.texts[1].encode("utf-8")))


CHECKS = {check.__name__: check for check in (steps, rates, losses, best, counts, clocks, names, loaded)}


def now():
    """Seconds since this process began."""
    return time.perf_counter() - nanotx.started


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    assert train(folder) == 0
    return Left(folder / "run", most=now())


@pytest.mark.parametrize("name", CHECKS)
def test_figure_equals_one_computed_another_way(left, name):
    CHECKS[name](left)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"grad_accum_steps": 1, "micro_batch_size": "auto"}, []),
        ({"dtype": "bfloat16", "loss_chunk_size": 3, "grad_clip": 0}, ["--train.activation-checkpointing"]),
        ({}, MUON),
    ],
    ids=["micro_batch_size", "bfloat16", "muon"],
)
def test_whole_run_takes_the_reference_steps(flags, words, tmp_path, quick_peak):
    assert train(tmp_path, *words, **{"steps": 4, "eval_every": 0, "checkpoint_every": 0}, **flags) == 0
    steps(Left(tmp_path / "run"))


@pytest.fixture(scope="module")
def quick_peak():
    """The machine's peak by one product, which is enough where it does not matter."""
    with mutated("nanotx.hardware.device:measured_peak", "range(tries)", "range(1)"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("bug", RUN)
def test_bug_in_a_figure_is_seen_in_what_a_run_leaves(bug, tmp_path, quick_peak):
    check, place, old, new = RUN[bug]
    short = {} if check == "best" else {"steps": 5, "eval_every": 3, "checkpoint_every": 0}
    with mutated(place, old, new):
        assert train(tmp_path, **short) == 0
    planted = mutated(place, old, new) if check == "loaded" else nullcontext()
    with planted, pytest.raises((AssertionError, FileNotFoundError)):
        CHECKS[check](Left(tmp_path / "run", most=now()))


# A run that is stopped, and continues.


STOP = ("nanotx.training.trainer:Trainer.take_step", "numbers = self.compute_gradients()")
ASKED = "numbers = self.compute_gradients()\n        if step == 9:\n            __import__('signal').raise_signal(15)"
"""In the tenth step somebody asks for an end."""


@pytest.fixture(scope="module")
def stopped(quick_peak, tmp_path_factory):
    """A folder with a run that was stopped."""
    folder = tmp_path_factory.mktemp("stopped")
    with mutated(*STOP, ASKED):
        assert train(folder) == 128 + signal.SIGTERM
    return folder


def resumed(stopped, folder):
    """What the run has left when it was resumed in a copy of its folder."""
    shutil.copytree(stopped, folder, dirs_exist_ok=True)
    least = Left(folder / "run").events("eval")[-1]["wall_seconds"] + now()
    assert train(folder, "--resume") == 0
    return Left(folder / "run", least=least)


def test_figures_of_a_run_that_was_stopped_and_resumed_are_those_of_all_its_steps(stopped, tmp_path):
    first, last = Left(stopped / "run"), resumed(stopped, tmp_path)
    assert first.summary["complete"] is False and first.summary["steps"] == 10
    assert first.summary["best_step"] == last.summary["best_step"] < 10
    counts(first)
    for check in (steps, rates, losses, best, counts, clocks, names):
        check(last)


@pytest.mark.slow
@pytest.mark.parametrize("bug", RESUMED)
def test_bug_in_resuming_is_seen_in_what_a_run_leaves(bug, stopped, tmp_path):
    check, place, old, new = RESUMED[bug]
    with mutated(place, old, new):
        left = resumed(stopped, tmp_path)
    with pytest.raises(AssertionError):
        CHECKS[check](left)


def test_muon_resumes_where_the_steps_that_are_written_out_would_be(quick_peak, tmp_path):
    with mutated(*STOP, ASKED):
        assert train(tmp_path, *MUON) == 128 + signal.SIGTERM
    assert train(tmp_path, *MUON, "--resume") == 0
    steps(Left(tmp_path / "run"))
