"""Whole experiments, of runs that take a tenth of a second: resumed, refused, looked at twice, and what they print."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT

import nanotx
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, Diverged, LawBroken, RunError
from nanotx.experiments import experiment as experiment_module
from nanotx.experiments import record as record_module
from nanotx.experiments import report, runner
from nanotx.experiments.experiment import Design, Experiment, Outcome
from nanotx.experiments.plan import make_arms
from nanotx.experiments.statistics import EQUAL, judge
from nanotx.hardware.device import Machine
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.recipe import Recipe, Train
from nanotx.runs import shared as shared_module
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.initial_weights import read_source
from nanotx.tokenizers.byte import Byte

BASE = Recipe(
    corpus=Playhouse(size=6000),
    tokenizer=Byte(),
    model=Model(dim=16, layers=1, context=8, block=PreNorm(attention=Sdpa(heads=2), ffn=Mlp())),
    optimizer=AdamW(lr=1e-2),
    train=Train(steps=3, batch_size=2),
    seed=5,
    device="cpu",
    dtype="float32",
)
CHANGES = ("ffn=relu2", "optimizer.lr=0.3")


def design(*changes: str, looks: tuple[int, ...] = (3,), base: Recipe = BASE, **others: object) -> Design:
    arms = tuple(make_arms(base, changes or CHANGES))
    seeds = tuple(range(base.seed, base.seed + looks[-1]))
    plain: dict[str, object] = {"rounds": 0, "examples": 0, **others}
    return Design(name="tiny", arms=arms, seeds=seeds, looks=looks, **plain)  # type: ignore[arg-type]


@pytest.fixture(scope="module", autouse=True)
def known_peak():
    """The peak of this machine is not measured for each run: that takes as long as a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanotx.runs.shared.peak_flops", lambda machine: 1e11)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments") / "whole"


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    return Experiment(design(), folder).run()


def test_each_arm_and_seed_is_a_run_folder_of_equal_windows(folder, outcome):
    runs = sorted(path.parent.relative_to(folder).parts for path in folder.rglob("summary.json"))
    assert len(runs) == 9 and {seed for _, seed in runs} == {"seed-5", "seed-6", "seed-7"}
    digests = {json.loads(path.read_text(encoding="utf-8"))["corpus_sha256"] for path in folder.rglob("summary.json")}
    assert len(digests) == 1
    assert all(loss is not None for losses in outcome.losses.values() for loss in losses)


def test_arm_is_an_ordinary_run_and_trains_to_the_same_bits_alone(folder, outcome, tmp_path):
    arm = RunFolder(folder / "ffn_relu2-c1830b" / "seed-6")
    alone = RunFolder(tmp_path / "alone")
    nanotx.train(read_saved_recipe(arm.recipe), run=alone.path)
    weights = "checkpoints/step-3/model.safetensors"
    assert (arm.path / weights).read_bytes() == (alone.path / weights).read_bytes()
    figures = [json.loads(run.summary.read_text(encoding="utf-8")) for run in (arm, alone)]
    assert figures[0]["val_loss"] == figures[1]["val_loss"] == outcome.nats["ffn=relu2"][1]
    assert [(some["train_loss"] is None, some["train_tokens"] == 0) for some in figures] == [(True,) * 2, (False,) * 2]


def test_runs_of_a_process_share_the_peak_and_the_texts(tmp_path, monkeypatch):
    asked, peak, read = [], shared_module.peak_flops, shared_module.load_dataset
    monkeypatch.setattr(shared_module, "peak_flops", lambda machine: (asked.append("peak"), peak(machine))[1])
    monkeypatch.setattr(shared_module, "load_dataset", lambda *args: (asked.append("texts"), read(*args))[1])
    Experiment(design("model.context=4; train.batch_size=4", looks=(2,)), tmp_path / "x").run()
    assert sorted(asked) == ["peak", "texts", "texts"]  # of two contexts


def test_weights_to_begin_with_are_pinned_and_those_that_do_not_fit_an_arm_are_named(folder, outcome, tmp_path):
    source = str(folder / "baseline" / "seed-5")
    held = Experiment(design("model.layers=2", base=replace(BASE, init=source)), tmp_path / "x")
    whole, deeper = (" ".join(fact.warnings) for fact in held.measured()[0])
    assert "init" not in whole
    assert "init: tensors of this model that are drawn from the seed: blocks.1." in deeper
    assert held.job(held.design.arms[1], 5, 3).recipe.init_sha256 == read_source(source).sha256


def test_dtype_that_a_timing_decides_is_decided_once(tmp_path, monkeypatch):
    decided = iter(["bfloat16", "float32"])
    held = Experiment(design(base=replace(BASE, dtype="auto")), tmp_path / "x")
    machine = Machine(device=torch.device("cpu"), dtype=torch.float32, threads=1)
    monkeypatch.setattr(
        record_module, "choose_machine", lambda *_: replace(machine, dtype=getattr(torch, next(decided)))
    )
    jobs = [held.job(arm, seed, 3) for arm in held.design.arms for seed in (5, 6)]
    assert {job.recipe.dtype for job in jobs} == {"bfloat16"}
    held.record.write()
    assert Experiment(held.design, tmp_path / "x").job(held.design.arms[0], 5, 3).recipe.dtype == "bfloat16"


def test_page_has_a_verdict_for_each_arm_and_fits_80_columns(outcome):
    page = report.page(outcome)
    assert max(map(len, page.splitlines())) <= 80
    words = {name: report.verdict_words(verdict, outcome.unit) for name, verdict in outcome.verdicts.items()}
    assert all(f"{name:<23}  {text[:30]}" in page for name, text in words.items())
    joined = page.replace("\n  ", " ")
    assert "Pairing by seed divides the variance of a difference by" in joined
    assert "(3 seeds cannot go below 0.25)" in joined


@pytest.mark.parametrize(
    ("smallest", "words"),
    [
        (0.1, "better, by 0.011 to 0.039 bits per byte, less than --smallest 0.1"),
        (0.02, "better, by 0.011 to 0.039 bits per byte, perhaps less than --smallest 0.02"),
        (0.01, "better, by 0.011 to 0.039 bits per byte"),
    ],
)
def test_verdict_says_where_a_difference_may_not_matter(smallest, words):
    verdict = judge([1.0] * 5, {"arm": [0.96, 0.97, 0.98, 0.975, 0.99]}, smallest=smallest)["arm"]
    assert report.verdict_words(verdict, "bits per byte") == words


def test_json_holds_the_losses_that_the_verdicts_follow_from(outcome):
    plain = json.loads(json.dumps(report.to_json(outcome), allow_nan=False))
    baseline, first, _ = plain["arms"]
    differences = [arm - base for arm, base in zip(first["losses"], baseline["losses"], strict=True)]
    assert first["difference"] == pytest.approx(sum(differences) / 3) and plain["seeds"] == [5, 6, 7]


def test_same_experiment_again_trains_nothing_and_says_the_same(folder, outcome, monkeypatch):
    monkeypatch.setattr(experiment_module, "run_jobs", lambda *_: pytest.fail("trained again"))
    assert report.page(Experiment(design(), folder).run()) == report.page(outcome)


def test_experiment_stopped_at_any_run_ends_with_the_same_page(outcome, tmp_path, monkeypatch):
    train, calls = runner.train_job, []

    def stopped(job, shared):
        calls.append(job)
        return runner.Result(arm=job.arm, seed=job.seed, stopped=15) if len(calls) in (2, 6) else train(job, shared)

    monkeypatch.setattr(runner, "train_job", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Experiment(design(), tmp_path / "again").run()
    assert report.page(Experiment(design(), tmp_path / "again").run()) == report.page(outcome)
    assert len(calls) == 9 + 2


def test_run_that_a_signal_stopped_is_continued_from_its_checkpoint(folder, outcome, tmp_path, monkeypatch):
    steps = runner.Session.train
    monkeypatch.setattr(runner.Session, "train", lambda self: (setattr(self.stop, "signal", 15), steps(self)))
    held = Experiment(design("ffn=relu2"), tmp_path / "held")
    with pytest.raises(KeyboardInterrupt):
        held.run()
    monkeypatch.setattr(runner.Session, "train", steps)
    assert Experiment(design("ffn=relu2"), tmp_path / "held").run().losses["ffn=relu2"] == outcome.losses["ffn=relu2"]


def test_another_arm_uses_the_runs_of_the_baseline(folder, outcome, monkeypatch):
    jobs = []
    train = runner.train_job
    monkeypatch.setattr(runner, "train_job", lambda job, shared: (jobs.append(job.arm), train(job, shared))[1])
    more = Experiment(design(*CHANGES, "norm=rmsnorm"), folder).run()
    assert set(jobs) == {"norm=rmsnorm"} and len(jobs) == 3
    assert more.losses["ffn=relu2"] == outcome.losses["ffn=relu2"]


def test_validation_text_is_read_only_when_asked_and_each_reading_is_recorded(folder, outcome):
    training, _ = BASE.corpus.split()
    assert (folder / "training.txt").read_text(encoding="utf-8") == training
    record = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    assert record["validation_readings"] == []
    for times in (1, 2):
        held = Experiment(design(), folder)
        again = held.run()
        held.read_validation(again)
        assert len(again.validation) == times
    assert "It was read 2 times" in report.page(again).replace("\n  ", " ")
    assert again.verdicts == outcome.verdicts
    scores = again.validation[-1]["bits_per_byte"]["baseline"]
    assert set(scores) == {"5", "6", "7"} and scores["5"] != outcome.losses["baseline"][0]


def test_seeds_that_are_added_after_a_verdict_are_noted(tmp_path):
    first = Experiment(design("ffn=relu2", looks=(2,)), tmp_path / "x").run()
    assert first.verdicts["ffn=relu2"].outcome == "unknown" and not first.notes
    assert "cannot tell: 2 seeds, and 3 are needed" in report.page(first)
    more = Experiment(design("ffn=relu2", looks=(3,)), tmp_path / "x").run()
    assert "There was a verdict after 2 seeds already" in more.notes[0]


def test_arm_that_is_decided_at_a_look_gets_no_more_seeds(tmp_path):
    arms = ("optimizer.lr=1e-9", "ffn.hidden_dim=60")
    result = Experiment(design(*arms, looks=(3, 4), smallest=1e-6), tmp_path / "x").run()
    assert result.verdicts["optimizer.lr=1e-9"].outcome == "worse" and result.verdicts["optimizer.lr=1e-9"].look == 1
    assert [len(result.losses[name]) for name in arms] == [3, 4]
    assert not Experiment(design(*arms, looks=(3, 4), smallest=1e-6), tmp_path / "x").run().notes


def test_arm_that_diverges_has_that_for_a_verdict_and_is_not_tried_again(tmp_path, monkeypatch):
    changes, session = ("optimizer.lr=1e5",), runner.session

    def diverging(job, shared, stop):
        if job.arm == changes[0] and job.seed != 6:
            raise Diverged("step 2: the loss is NaN.")
        return session(job, shared, stop)

    monkeypatch.setattr(runner, "session", diverging)
    result = Experiment(design(*changes), tmp_path / "x").run()
    verdict = result.verdicts[changes[0]]
    assert (verdict.outcome, verdict.diverged, verdict.seeds) == ("diverged", 2, 3)
    assert "diverged, 2 of 3 seeds: not better" in report.page(result) and "step 2: the loss" in report.page(result)
    monkeypatch.setattr(experiment_module, "run_jobs", lambda *_: pytest.fail("trained again"))
    assert report.page(Experiment(design(*changes), tmp_path / "x").run()) == report.page(result)


def test_equal_arm_is_equal_to_the_bit_and_decides_nothing(tmp_path):
    result = Experiment(design("train.sample_every=7"), tmp_path / "x").run()
    assert result.losses["train.sample_every=7"] == result.losses["baseline"]
    assert result.verdicts["train.sample_every=7"].reason == EQUAL
    assert "equal to the bit, and so no verdict" in report.page(result)


def test_part_that_breaks_a_law_is_not_trained(tmp_path):
    from nanotx.experiments import plan

    peek = ROOT / "tests" / "experiments" / "peeking_part.py"
    from nanotx.config.registry import load_file

    load_file(peek)
    arms = tuple(plan.make_arms(BASE, ["attention=peeks_ahead"]))
    broken = replace(design("ffn=relu2"), arms=arms, examples=5, load=(str(peek),))
    with pytest.raises(LawBroken, match=r"attention/peeks_ahead breaks causal(.|\n)*Nothing was trained"):
        Experiment(broken, tmp_path / "x").run()
    assert not list((tmp_path / "x").rglob("metrics.jsonl"))


def test_laws_of_a_part_are_checked_once(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(experiment_module, "attempt_all", lambda laws, part, examples: checked.append(part) or [])
    for _ in range(2):
        Experiment(design("ffn=relu2", examples=3), tmp_path / "x").check_laws()
    assert len(checked) == 1


def test_experiment_with_an_edited_file_of_the_users_is_another(tmp_path):
    part = tmp_path / "mine.py"
    part.write_text("# scores", encoding="utf-8")
    loaded = design("ffn=relu2", load=(str(part),))
    Experiment(loaded, tmp_path / "x")
    Experiment(loaded, tmp_path / "x")
    part.write_text("# scores, otherwise", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"differs in load_sha256 \(.*choose another folder"):
        Experiment(loaded, tmp_path / "x")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (design(base=replace(BASE, seed=6)), "differs in recipe_sha256"),
        (design(equal="tokens"), r"differs in equal \('steps', and now 'tokens'\)"),
        (design(held_out=0.2), "differs in held_out"),
        (design(looks=(2, 3)), "differs in looks"),
    ],
)
def test_folder_of_another_experiment_is_refused(folder, outcome, other, message):
    with pytest.raises(ConfigError, match=message):
        Experiment(other, folder)


def test_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="not empty, and no experiment"):
        Experiment(design(), tmp_path)
    (tmp_path / "experiment.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        Experiment(design(), tmp_path)
    (tmp_path / "experiment.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(RunError, match="update nanotx"):
        Experiment(design(), tmp_path)


def test_runs_of_two_machines_are_told_apart(folder, outcome):
    held = Experiment(design(), folder)
    held.record.table["results"]["baseline"]["5"]["machine"] = {"cpu": "another"}
    held.record.write()
    assert "made on 2 machines or versions (baseline, seed 5;" in Experiment(design(), folder).run().notes[0]


def test_timing_is_of_every_arm_and_measured_once(tmp_path):
    held = Experiment(design("ffn=relu2", rounds=1), tmp_path / "x")
    facts, steps = held.measured()
    assert all(fact.seconds_per_step and fact.seconds_per_step > 0 for fact in facts) and steps == [3, 3]
    assert Experiment(design("ffn=relu2", rounds=1), tmp_path / "x").measured() == (facts, steps)


def test_warnings_of_an_arm_are_printed_before_it_is_trained_and_on_the_page(tmp_path, monkeypatch):
    lines = list[str]()
    held = Experiment(design("schedule.warmup=90", "ffn=relu2"), tmp_path / "x", lines.append)
    monkeypatch.setattr(experiment_module, "run_jobs", lambda *_: pytest.fail("trained before the warning"))
    facts, _ = held.measured()
    (line,) = [line for line in lines if line.startswith("schedule.warmup=90: warning: schedule ")]
    assert "its warm-up is too long for 3 steps" in line
    again = list[str]()
    assert Experiment(design("schedule.warmup=90", "ffn=relu2"), tmp_path / "x", again.append).measured()[0] == facts
    assert again == []
    assert experiment_module.warned(["a", "b"], [facts[1].warnings] * 2)[0].startswith("every arm: warning: schedule")


def test_equal_flops_give_the_smaller_model_more_steps(tmp_path):
    held = Experiment(design("model.dim=8", equal="flops"), tmp_path / "x")
    facts, steps = held.measured()
    assert steps[1] > steps[0]
    assert steps[1] * facts[1].flops_per_token == pytest.approx(steps[0] * facts[0].flops_per_token, rel=0.1)


@pytest.mark.slow
def test_experiment_killed_twice_in_two_processes_ends_with_the_same_losses(outcome, tmp_path):
    code = f"""
import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(ROOT / "tests/experiments")!r}]
from pathlib import Path
from test_experiment import design
from nanotx.experiments.experiment import Experiment
if __name__ == "__main__":
    Experiment(design(), Path("x")).run(processes=2)
"""
    script = tmp_path / "go.py"
    script.write_text(code, encoding="utf-8")
    for number in (signal.SIGKILL, signal.SIGTERM, None):
        child = subprocess.Popen(
            [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        if number is not None:
            before, deadline = len(list(tmp_path.rglob("metrics.jsonl"))), time.monotonic() + 120
            while (
                len(list(tmp_path.rglob("metrics.jsonl"))) <= before
                and child.poll() is None
                and time.monotonic() < deadline
            ):
                time.sleep(0.01)
            child.send_signal(number)
        child.wait(180)
    assert child.returncode == 0
    assert Experiment(design(), tmp_path / "x").run().losses == outcome.losses
