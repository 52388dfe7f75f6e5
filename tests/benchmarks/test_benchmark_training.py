"""The benchmark of training: who is equal before anything is timed, what is told of a race and of whole runs."""

import contextlib
import io
import json
import math
import statistics
import sys

import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError, RunError

TINY = """
tokenizer = "char"
corpus = { part = "playhouse", size = 20000 }
[model]
dim = 16
layers = 1
context = 16
position = "learned"
norm = { part = "layernorm", eps = 1e-5, bias = false }
[model.block]
part = "prenorm"
norm = { part = "layernorm", eps = 1e-5, bias = false }
attention = { part = "sdpa", heads = 2 }
ffn = { part = "mlp" }
[optimizer]
part = "adamw"
[train]
steps = 5
batch_size = 2
eval_every = 2
sample_tokens = 2
"""


@pytest.fixture
def tiny(tmp_path):
    """A recipe of GPT-2's kind that is learned at once."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY, encoding="utf-8")
    return file


def recipe_of(file, **changes):
    from harness.recipes import read_recipe

    return read_recipe(str(file), changes=changes)


# A race.


def test_contenders_take_turns_and_learn_and_their_figures_follow_from_one_another(
    command, tiny, tmp_path, monkeypatch, capsys
):
    out, asked_before = tmp_path / "training.json", set()

    def peak(machine):  # half as much the first time as the second
        again = machine.dtype in asked_before
        asked_before.add(machine.dtype)
        return 2e11 if again else 1e11

    monkeypatch.setattr("harness.machine.peak", peak)
    words = "--device cpu --threads 1 --rounds 3 --steps 1 --starts 0 --dropouts 0.2 --compile off --learn 2"
    asked = ("--contenders", "torch_encoder", "--target", "9", "--recipe", tiny, "--json", out)
    assert command("training", *words.split(), *asked) == 0
    answer = json.loads(out.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    rows = {row["name"]: row for row in answer["rows"]}
    assert list(rows) == ["nanotx_plain", "torch_encoder"]
    for name, row in rows.items():
        assert row["laws"] == "pass" and row["pass"] == "step" and row["rounds"] == 3, row
        assert row["tokens_per_second"] == pytest.approx(2 * 16 / row["median_ms"] * 1e3)
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * row["flops_per_token"] / 2e11)
        assert row["start_seconds"] is None and row["compiled"] is False and row["compile_seconds"] is None
        assert row["seeds"] == [1337, 1338] and row["val_loss"] == statistics.fmean(row["losses"])
        assert row["val_loss_interval"] > 0 and row["losses"][0] != row["losses"][1]
        assert row["reached"] == 2 and 0 < row["target_seconds"] <= row["train_seconds"], name
        assert row["losses"] == pytest.approx(rows["nanotx_plain"]["losses"], abs=0.02)
    assert rows["nanotx_plain"]["ratio"] == rows["nanotx_plain"]["speedup"] == 1
    assert rows["torch_encoder"]["parameters"] == rows["nanotx_plain"]["parameters"]
    shown = capsys.readouterr().out
    assert "A step of tiny on cpu: 1 layers, 2x16x16, 2 heads, dropout 0.2" in shown and " to 9" in shown


@pytest.mark.parametrize(
    ("name", "biases"),
    [
        *[(name, False) for name in ("transformers", "x_transformers", "torch_encoder", "nanotx", "nanotx_blockwise")],
        *[(name, True) for name in ("transformers", "x_transformers", "torch_encoder")],
    ],
)
def test_each_contender_is_the_reference_in_scores_losses_and_dropout(tools, tiny, name, biases):
    from harness.contenders import CONTENDERS
    from harness.equal_training import verdict_on
    from harness.gpt2 import BIASES, LIBRARIES

    library = CONTENDERS[name].library
    if library:
        pytest.importorskip(LIBRARIES[library].package.replace("-", "_"))
    message = verdict_on(name, recipe_of(tiny, model=BIASES if biases else {}), (0.0, 0.2), "cpu", 1)
    unlike = name == "x_transformers" and biases
    assert message.startswith("failed: x_transformers: its norms have no biases") if unlike else message == "pass"


@pytest.mark.parametrize(
    ("says", "mutate"),
    [
        ("same_function: logits differ", lambda module: module.encoder.layers[0].linear1.register_forward_hook(louder)),
        ("same_losses: after", lambda module: module.position.weight.register_hook(lambda slope: 0 * slope)),
        ("same_dropout: what is dropped", lambda module: setattr(module.encoder.layers[0].dropout2, "p", 0.0)),
        ("same_dropout: what is dropped", lambda module: setattr(module.encoder.layers[0].dropout, "p", 0.2)),
        ("same_dropout: what is dropped", lambda module: setattr(module.encoder.layers[0].self_attn, "dropout", 0.0)),
    ],
)
def test_contender_that_computes_learns_or_drops_differently_is_reported(tools, tiny, monkeypatch, says, mutate):
    from harness import gpt2
    from harness.equal_training import verdict_on

    honest = gpt2.TorchEncoder.build

    def build(library, recipe, vocab_size):
        module = honest(library, recipe, vocab_size)
        if recipe.model.dropout or not says.startswith("same_dropout"):
            mutate(module)
        return module

    monkeypatch.setattr(gpt2.TorchEncoder, "build", build)
    assert verdict_on("torch_encoder", recipe_of(tiny), (0.2,), "cpu", 1).startswith(f"failed: {says}")


def louder(module, read, answer):
    return 1.01 * answer


@pytest.mark.parametrize("loss", [4.05, math.nan])
def test_first_losses_far_from_the_references_are_no_pass(tools, loss):
    from harness.race import Began, far_first_losses

    def began(*losses):
        figures = {"dtype": "bfloat16", "compiled": True, "reason": "", "parameters": 1, "memory_mb": None}
        return Began(losses=losses, first=1.0, later=1.0, **figures)

    all_of_them = {"nanotx_plain": began(4.0, 3.9), "near": began(4.01, 3.91), "far": began(loss, 3.9)}
    message = far_first_losses(all_of_them, has_dropout=False)
    assert list(message) == ["far"] and "first losses are" in message["far"] and "more than 0.02" in message["far"]
    assert list(far_first_losses(all_of_them, has_dropout=True)) == (["far"] if math.isnan(loss) else [])


def test_one_that_cannot_begin_says_why_and_stops_no_other(tools, tiny):
    from harness.contenders import Where
    from harness.race import Worker

    where = Where(device="cpu", threads=1, best="float61")
    with pytest.raises(RunError, match="AttributeError: module 'torch' has no attribute 'float61'"):
        Worker("nanotx", recipe_of(tiny), where, "off")


def test_one_that_dies_on_its_way_is_named(tools, tiny):
    from harness.contenders import Where
    from harness.race import Worker

    where = Where(device="cpu", threads=1, best="float32")
    worker = Worker("torch_encoder", recipe_of(tiny), where, "off")
    worker.process.kill()
    worker.process.join()
    with pytest.raises(RunError, match=r"torch_encoder: (the process died|\[Errno)"):
        worker.ask("steps", 1)
    worker.end()


def test_start_up_time_is_the_median_of_several_and_ends_with_the_first_step(tools, tiny, monkeypatch, capsys):
    from harness import race
    from harness.contenders import Where

    race.first_step(str(tiny), "nanotx", "cpu", "1", "float32")
    assert capsys.readouterr().out == "done\n"
    taken = iter([3.0, 1.0, 9.0, 1.0, 5.0, 2.0])
    monkeypatch.setattr(race, "start", lambda name, file, where: next(taken))
    where = Where(device="cpu", threads=1, best="float32")
    assert race.start_all(["a", "b"], recipe_of(tiny), where, tries=3) == {"a": 5.0, "b": 1.0}
    assert race.start_all(["a", "b"], recipe_of(tiny), where, tries=0) == {}
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RunError, match="a: a process of its own ended with 1 before its first step"):
        race.start("a", tiny, where)


def test_start_is_timed_whatever_a_library_prints_before_its_step(tools, tiny, monkeypatch):
    from harness import race
    from harness.contenders import Where

    class Process(contextlib.nullcontext):
        stdout, returncode = io.StringIO("number of parameters: 0.80M\ndone\n"), 0

        def __enter__(self):
            return self

    monkeypatch.setattr(race.subprocess, "Popen", lambda *words, **options: Process())
    assert race.start("nanogpt", tiny, Where(device="cpu", threads=1, best="float32")) > 0


def test_turn_is_filled_with_steps(tools):
    from harness.race import steps_per_turn

    assert [steps_per_turn(number) for number in (1e-9, 0.02, 0.25, 9.0)] == [50, 12, 1, 1]


# Whole runs.


def test_whole_run_is_timed_from_before_its_process_starts(tools, tiny):
    from harness.whole_runs import Wanted, row_of, train

    seen = train([str(tiny), "--seed", "7", "--device", "cpu", "--threads", "1"])
    row = row_of(Wanted(recipe=str(tiny), target=1e-3), [seen], [], [7])
    assert row["name"] == "tiny" and row["pass"] == "run" and row["seeds"] == [7] and row["steps"] == 5
    assert row["val_loss"] == row["losses"][0] and row["val_loss_interval"] is None
    assert 0 < row["train_seconds"] < row["wall_seconds"]
    assert 0.5 < row["first_step_seconds"] < row["wall_seconds"]
    assert row["reached"] == 0 and row["target_seconds"] is None and 1e-3 < row["nearest"] <= row["val_loss"]
    assert row["tokens_per_second"] > 0 and 0 < row["mfu"] < 1


def test_recipes_take_turns_seed_by_seed_and_each_is_started_without_compiling_as_well(tools, monkeypatch):
    from harness import whole_runs
    from harness.whole_runs import Observed

    asked, seen = [], Observed(rows=[(0.5, {"event": "step"})])

    def train(words, until_first=False):
        asked.append((words[0], words[2], until_first, "--no-compile" in words, "--threads" in words))
        return seen

    monkeypatch.setattr(whole_runs, "train", train)
    monkeypatch.setattr(whole_runs, "row_of", lambda *of: of[1:])
    wishes = [whole_runs.Wanted(recipe=name, target=None) for name in ("flash", "record")]
    rows = whole_runs.run_all(wishes, [1, 2], ["--threads", "1"], lambda text: None)
    runs = [(name, seed) for seed in "12" for name in ("flash", "record")]
    assert asked == [(*run, first, first, True) for run in runs for first in (True, False)]
    assert rows == [([seen, seen], [0.5, 0.5], [1, 2])] * 2


def test_failing_run_reports_its_error(tools, tmp_path):
    from harness.whole_runs import observe

    from nanotx.runs.folder import RunFolder

    folder, message = RunFolder(tmp_path / "run"), tmp_path / "said.txt"
    with pytest.raises(RunError, match=r"ended with 1: ConfigError: it cannot be"):
        observe([sys.executable, "-c", "raise SystemExit('first\\nConfigError: it cannot be')"], folder, message)
    with pytest.raises(RunError, match=r"ended with 0: no output"):
        observe([sys.executable, "-c", ""], folder, message)


def test_target_is_reached_at_the_first_evaluation_at_or_under_it(tools):
    from harness.whole_runs import Observed, Wanted, row_of

    figures = {"device": "cpu", "dtype": "float32", "compiled": True, "threads": 1, "parameters": 9, "steps": 3}
    figures |= {"tokens": 30, "peak_flops": 1e9, "bits_per_byte": 2.0, "train_seconds": 3.0, "mfu": 0.1}
    figures |= {"tokens_per_second": 9.0}

    def seen(*losses):
        rows = [(1.0, {"event": "start", "tokens_per_step": 10})]
        for step, loss in enumerate(losses, start=1):
            rows.append((2.0 * step, {"event": "step", "tokens_per_second": 1.0 if step == 1 else 10.0}))
            rows.append((2.0 * step + 1, {"event": "eval", "val_loss": loss}))
        return Observed(seconds=9.0, peak=10**6, rows=rows, summary=figures | {"val_loss": losses[-1]})

    row = row_of(Wanted(recipe="a", target=1.5), [seen(1.6, 1.5, 1.55), seen(1.4, 1.6, 1.45)], [0.5, 0.7], [1, 2])
    assert row["reached"] == 2 and row["target_seconds"] == (5.0 + 3.0) / 2
    assert row["val_loss"] == 1.5 and row["val_loss_interval"] == pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert row["compile_seconds"] == 9.0 and row["start_seconds"] == 0.6 and row["memory_mb"] == 1.0
    row = row_of(Wanted(recipe="a", target=1.42), [seen(1.6, 1.5), seen(1.4, 1.6)], [], [1, 2])
    assert row["reached"] == 1 and row["target_seconds"] is None and row["nearest"] == 1.4
    assert row["start_seconds"] is None


def test_seconds_of_a_run_are_those_of_its_work_and_add_up(tools):
    from harness.whole_runs import Observed

    events = {1.5: "start", 2.0: "step", 2.25: "warning", 2.5: "checkpoint", 4.0: "eval", 4.5: "sample", 6.0: "step"}
    observed = Observed(seconds=6.5, rows=[(at, {"event": event}) for at, event in events.items()])
    assert observed.phases() == {
        "start": 1.5, "steps": 2.0, "evaluations": 1.5, "samples": 0.5, "checkpoints": 0.5, "end": 0.5
    }  # fmt: skip


def test_table_of_phases_shows_their_seconds_not_other_figures_of_the_run(tools, capsys):
    import training

    phases = {"start": 1.5, "steps": 74.5, "evaluations": 14.3, "samples": 2.3, "checkpoints": 0.2, "end": 0.9}
    run = {
        "name": "mine", "dtype": None, "compiled": False, "val_loss": None, "target": None, "wall_seconds": 94.0,
        "steps": 2000, "phases": phases,
    }  # fmt: skip
    training.show({"cpu": "a", "threads": 1, "torch": "2"}, [], [run])
    seconds = capsys.readouterr().out.split("Where their seconds go")[1]
    assert "74.5" in seconds and "2000" not in seconds


def test_peer_takes_turns_with_the_recipes_and_the_ratio_is_that_of_turns(tools, monkeypatch, tmp_path):
    from harness import whole_runs
    from harness.nanogpt_run import check_checkout, laptop_run

    with pytest.raises(ConfigError, match=r"--nanogpt .*: expected a checkout of nanoGPT, and it has no train\.py\."):
        check_checkout(str(tmp_path))
    program = (
        "import sys; print('step 0: train loss 4.2, val loss 4.1'); print(f'step 3: train loss 2, val loss {LOSS}')"
    )
    (tmp_path / "train.py").write_text(program.replace("{LOSS}", "1.75"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"prepare\.py there first"):
        check_checkout(str(tmp_path))
    row = laptop_run(tmp_path, 1, seed=1, steps=3)
    assert row["val_loss"] == 1.75 and 0 < row["wall_seconds"] < 30 and row["steps"] == 3
    (tmp_path / "train.py").write_text("raise SystemExit('no data')", encoding="utf-8")
    with pytest.raises(RunError, match="nanoGPT, seed 1: ended with 1: no data"):
        laptop_run(tmp_path, 1, seed=1)

    runs = iter([whole_runs.Observed(seconds=30.0), whole_runs.Observed(seconds=50.0)])
    others = iter([20.0, 100.0])
    starts = whole_runs.Observed(rows=[(0.5, {"event": "step"})])
    monkeypatch.setattr(whole_runs, "train", lambda words, until_first=False: starts if until_first else next(runs))
    monkeypatch.setattr(whole_runs, "row_of", lambda *of: {"name": "mine"})
    wishes = [whole_runs.Wanted(recipe="mine", target=None)]
    ours, peer = whole_runs.run_all(
        wishes, [1, 2], [], lambda text: None, lambda seed: {"wall_seconds": next(others), "val_loss": 1.0 + seed}
    )
    assert ours == {"name": "mine", "ratio_to_peer": 1.0}  # the median of 1.5 and 0.5
    assert peer["wall_seconds"] == 60.0 and peer["val_loss"] == 2.5 and peer["losses"] == [2.0, 3.0]


def test_metrics_log_is_read_as_it_grows_and_a_partial_line_waits(tools, tmp_path):
    from harness.whole_runs import Observed, take_rows

    journal, seen = tmp_path / "metrics.jsonl", Observed()
    assert take_rows(journal, 0, seen) == 0
    journal.write_bytes(b'{"event": "start"}\n{"event": "st')
    read = take_rows(journal, 0, seen)
    assert [row for _, row in seen.rows] == [{"event": "start"}]
    with journal.open("ab") as file:
        file.write(b'ep"}\n')
    seen.seconds = 2.0
    take_rows(journal, read, seen)
    assert seen.rows[1:] == [(2.0, {"event": "step"})] and seen.when("step") == 2.0 and seen.when("eval") is None


# Intervals.


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=9), st.floats(0.1, 9), st.floats(-9, 9))
def test_interval_is_moved_and_scaled_with_its_figures(values, scale, shift):
    half_width = interval_of()
    moved = [scale * value + shift for value in values]
    assert half_width(moved) == pytest.approx(scale * half_width(values), rel=1e-6, abs=1e-6)
    assert half_width(values, 0.5) <= half_width(values, 0.95)
    assert half_width(values[:1]) is None


def interval_of():
    import importlib.util

    spec = importlib.util.spec_from_file_location("timing_of_benchmarks", ROOT / "benchmarks" / "harness" / "timing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.confidence_interval


# Bad input.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--contenders nanotxx", r"--contenders nanotxx: unknown. Did you mean 'nanotx'\? Known: nanotx_plain, "),
        ("--contenders nanogpt", "expected a checkout of nanoGPT to compare with, .*; try --nanogpt PATH"),
        ("--recipes macbok", r"--recipes macbok: no such recipe. Did you mean 'macbook'\?"),
        ("--recipes macbook --target 1.8,1.9", "--target: expected one loss, or one for each of 1 recipes, got 2"),
        ("--recipes macbook --target -1", "--target: expected losses above 0 such as 1.4697, .* got '-1'"),
        ("--no-peers --dropouts 0,1", "--dropouts: expected shares from 0 up to but not including 1, .* got '0,1'"),
        ("--seeds 0", "seeds: expected a number of at least 1, got 0"),
        ("--rounds 0", "--rounds 0: times no steps, and no --recipes are named"),
        (
            "--recipe decoder_384",
            "--recipe: GPT-2 computes no such model: .*heads have no bias.*; try --recipe macbook",
        ),
        ("--no-peers --device gpu", "--device gpu: unknown. Did you mean 'cpu'.* Known: auto, cpu, cuda, mps"),
    ],
)
def test_invalid_argument_is_refused_before_anything_is_timed(command, words, says):
    with pytest.raises(ConfigError, match=says):
        command("training", *words.split())


def test_ours_alone_need_no_other_library(tools):
    from harness.contenders import CONTENDERS, choose_contenders

    assert choose_contenders("", peers=False) == ("nanotx_plain", "nanotx", "nanotx_blockwise")
    assert choose_contenders("all", peers=True) == tuple(
        name for name in CONTENDERS if "nanogpt" not in name
    )  # it wants a checkout
    assert choose_contenders("torch_encoder", peers=True) == ("nanotx_plain", "torch_encoder")
    assert "transformers_compiled" in choose_contenders("", peers=True)


@pytest.mark.parametrize("name", ["macbook", "baby_gpt", "decoder_384", "my_gpt", "deep_64"])
def test_recipe_of_gpt2s_architecture_is_compared_with_gpt2(tools, name):
    from harness.gpt2 import gpt2_shape
    from harness.recipes import read_recipe

    recipe = read_recipe(name, changes={"train": {"batch_size": 4}, "model": {"layers": 1}})
    assert (recipe.train.batch_size, recipe.model.layers) == (4, 1)
    if name in {"macbook", "baby_gpt"}:
        assert gpt2_shape(recipe).layer.block == "prenorm"
    else:
        with pytest.raises(ConfigError, match="GPT-2 computes no such model: "):
            gpt2_shape(recipe)
