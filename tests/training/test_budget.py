"""A budget of tokens, bytes, FLOPs or seconds is a number of steps, decided once, recorded, and obeyed."""

import json
import shutil
from fractions import Fraction

import pytest
from helpers import text, tiny
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx.cli.main import run
from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge, read_config, read_toml
from nanotx.data.corpus.file import File
from nanotx.errors import ConfigError, DataError
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.runs import run_budget
from nanotx.tokenizers.bpe.tokenizer import Bpe
from nanotx.tokenizers.token_corpus import mean_bytes
from nanotx.tokenizers.token_file import Header
from nanotx.training import text_cache
from nanotx.training.budget import StepCost, whole_steps
from nanotx.training.dataset import load_dataset

# Arithmetic.

amounts = st.integers(1, 2**62) | st.floats(1e-3, 1e300)


@given(amount=amounts, per_step=st.integers(1, 10**15) | st.floats(1e-6, 1e15) | st.fractions(Fraction(1, 9), 10**9))
def test_steps_of_a_budget_are_rounded_down_and_at_least_one(amount, per_step):
    steps = whole_steps(amount, per_step)
    assert steps >= 1
    assert (steps + 1) * Fraction(per_step) > Fraction(amount)
    assert steps * Fraction(per_step) <= Fraction(amount) or steps == 1


def test_flops_of_a_step_are_counted_forward_and_backward_by_the_shapes_of_the_modules():
    model = Model(dim=24, layers=3, context=8, block=PreNorm()).build(11, seed=1)
    maps = sum(2 * module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    products = 3 * 2 * (2 * 24 * 8)  # layers; of queries and keys, and of weights and values
    assert model.flops_per_token == 3 * (maps + products)  # backward takes twice as many as forward


# The value.


def test_train_has_one_budget():
    assert Train().budget == ("steps", 2000) and Train(steps=7).budget == ("steps", 7)
    assert Train(tokens=900).budget == ("tokens", 900) and Train(tokens=900).steps == 0
    assert Train(flops=1e15).with_steps(12) == Train(steps=12)
    assert from_table(Train, to_table(Train(seconds=2.5))) == Train(seconds=2.5)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"steps": 5, "tokens": 900}, "tokens: exactly one budget.*steps=5 and tokens=900; leave one out"),
        ({"bytes": 5, "seconds": 2.0}, "bytes: exactly one budget.*bytes=5 and seconds=2.0"),
        ({"steps": 0}, "steps: expected a number of at least 1, got 0; or one of tokens"),
        ({"steps": -1, "tokens": 5}, "steps: expected a number of at least 1.*got -1"),
        ({"tokens": 0}, "tokens: expected a number of at least 1.*got 0"),
        ({"bytes": 2**63}, "bytes: .*below 2"),
        ({"flops": -1e9}, "flops: expected a number of at least 1, got -1"),
        ({"flops": float("nan")}, "flops: expected a number of at least 1, got nan"),
        ({"seconds": 0.0}, "seconds: expected a number above 0, got 0.0"),
        ({"seconds": float("inf")}, "seconds: expected a number above 0, got inf"),
    ],
)
def test_budget_that_is_none_or_two_is_refused(fields, fault):
    with pytest.raises(ConfigError, match=fault):
        Train(**fields)


@pytest.mark.parametrize("base", [{"steps": 500}, {"tokens": 9}, {"seconds": 1.0}, {}])
@pytest.mark.parametrize("over", [{"steps": 2000}, {"bytes": 80}, {"flops": 1e9}])
def test_budget_of_a_later_layer_takes_the_place_of_an_earlier_one(base, over):
    merged = from_table(Train, merge(Train, to_table(Train(**base)), over))
    assert merged == Train(**over)


# Runs.


def words(home, *others):
    """The flags of a tiny run without its steps."""
    corpus = ["--corpus", "file", "--corpus.path", str(home / "text.txt")]
    return [*tiny(train_steps=None, train_sample_every=0, train_eval_every=0), *corpus, *others]


def train(home, name, *others, code=0):
    assert run(["train", "macbook", "--run", str(home / name), *words(home, *others)]) == code
    return home / name


def rows(folder, event):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def weights(folder, step):
    return (folder / f"checkpoints/step-{step}/model.safetensors").read_bytes()


DROPOUT = ("--block.dropout", "0.2")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run by the clock, and one of six steps."""
    home = tmp_path_factory.mktemp("budget")
    text(home / "text.txt")
    train(home, "clock", "--train.seconds", "0.05", *DROPOUT)
    train(home, "steps", "--train.steps", "6")
    return home


@pytest.fixture
def no_clock(monkeypatch):
    def never(*args):
        raise AssertionError("the clock was read")

    monkeypatch.setattr(run_budget, "calibrate", never)


def test_seconds_become_steps_by_one_measurement_that_is_recorded(home):
    (start,), figures = rows(home / "clock", "start"), summary(home / "clock")
    steps = whole_steps(0.05, start["calibration_step_seconds"])
    assert (start["budget"], start["budget_amount"], start["steps"]) == ("seconds", 0.05, steps)
    assert 1 <= start["calibration_steps"] <= 50 and start["calibration_seconds"] > 0
    assert read_toml(home / "clock/recipe.toml")["train"]["steps"] == steps == figures["steps"]
    assert "seconds" not in read_toml(home / "clock/recipe.toml")["train"]
    assert {key: figures[key] for key in start if key.startswith(("budget", "calibration"))} == {
        key: start[key] for key in start if key.startswith(("budget", "calibration"))
    }


def test_run_by_the_clock_has_the_bits_of_its_recipe_with_steps(home, no_clock):
    steps = summary(home / "clock")["steps"]
    assert run(["train", str(home / "clock/recipe.toml"), "--run", str(home / "again")]) == 0
    assert weights(home / "again", steps) == weights(home / "clock", steps)
    losses = [[row["loss"] for row in rows(home / name, "step")] for name in ("clock", "again")]
    assert losses[0] == losses[1] and len(losses[0]) == steps
    assert run(["replay", str(home / "clock"), "--step", "1"]) == 0


def test_resume_obeys_the_steps_that_the_clock_decided(home, tmp_path, no_clock, capsys):
    folder = shutil.copytree(home / "clock", tmp_path / "run")
    steps, again = summary(folder)["steps"], ["train", "macbook", "--run", str(folder), "--resume"]
    assert run([*again, *words(home, "--train.seconds", "0.05", *DROPOUT)]) == 0
    assert f"complete at step {steps}" in capsys.readouterr().out
    assert run(["resume", str(folder), "--train.steps", str(steps + 1)]) == 0
    assert rows(folder, "resume")[-1]["budget"] == "steps"


def test_resume_by_another_clock_is_refused(home, no_clock):
    for name in ("clock", "steps"):
        with pytest.raises(ConfigError, match=r"train.seconds: the clock is read once.*--train.steps"):
            run(["resume", str(home / name), "--train.seconds", "0.07"])


@pytest.mark.parametrize(("flag", "amount"), [("tokens", 6 * 16 + 15), ("bytes", 6 * 16 + 15), ("flops", None)])
def test_tokens_bytes_and_flops_buy_whole_steps_and_the_schedule_follows(home, flag, amount):
    amount = amount or 6.99 * rows(home / "steps", "start")[0]["flops_per_step"]
    folder = train(home, flag, f"--train.{flag}", str(amount))
    assert [(row["loss"], row["lr"]) for row in rows(folder, "step")] == [
        (row["loss"], row["lr"]) for row in rows(home / "steps", "step")
    ]
    assert (folder / "recipe.toml").read_bytes() == (home / "steps/recipe.toml").read_bytes()
    assert rows(folder, "start")[0]["budget_amount"] == amount


def test_summary_has_flops_and_bytes(home):
    figures, (start,) = summary(home / "steps"), rows(home / "steps", "start")
    assert figures["tokens"] == figures["bytes"] == 6 * 16  # of one byte each
    assert figures["flops"] == 6 * start["flops_per_step"] and start["bytes_per_step"] == 16
    assert (figures["budget"], figures["budget_amount"]) == ("steps", 6)


@pytest.mark.parametrize("large", [False, True])
def test_bytes_are_those_of_the_training_text_by_its_tokenizer(home, tmp_path, monkeypatch, large):
    letters = (home / "text.txt").read_text(encoding="utf-8").replace("a", "\u00e9")
    (tmp_path / "wide.txt").write_text(letters, encoding="utf-8")
    monkeypatch.setattr(text_cache, "LARGE", 1 if large else 1 << 26)
    monkeypatch.setattr(text_cache, "cache_folder", lambda: tmp_path / "cache")
    corpus = File(path=str(tmp_path / "wide.txt"))
    recipe = Recipe(corpus=corpus, tokenizer=Bpe(vocab_size=270), model=Model(context=8))
    texts = load_dataset(recipe)
    size = len(corpus.split()[0].encode("utf-8"))
    assert len(texts.windows.ids) < size  # a token is more than a byte
    error = abs(texts.bytes_per_token * len(texts.windows.ids) - size)
    assert error <= (0.01 * size if large else 0)  # of a large text the mean is that of all its characters


def header(count, size):
    digests = dict.fromkeys(("tokenizer", "sha256", "sample"), "")
    return Header(width=2, count=count, vocab_size=9, size=size, tokenizer_size=0, **digests)


def test_bytes_of_token_files_are_those_of_their_headers():
    headers = [header(30, 60), header(10, 100), header(0, 0)]
    assert mean_bytes(headers) == 4
    assert mean_bytes([*headers, header(5, 0)]) is None and mean_bytes([]) is None


def test_resume_trains_further_by_tokens_and_refuses_fewer(home, tmp_path, capsys):
    folder = shutil.copytree(home / "steps", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train.steps was 6, and 5 is fewer"):
        run(["resume", str(folder), "--train.tokens", "80"])
    assert run(["resume", str(folder), "--train.tokens", "128"]) == 0
    assert "train.steps 6 -> 8" in capsys.readouterr().out
    assert (
        rows(folder, "resume")[0] | {"budget": "tokens", "budget_amount": 128, "steps": 8} == rows(folder, "resume")[0]
    )
    assert read_config(Recipe, folder / "recipe.toml").train.budget == ("steps", 8)


# What is named.


def config(home, capsys, *others):
    assert run(["train", "macbook", *words(home, *others), "--print-config"]) == 0
    return capsys.readouterr().out


def test_printed_config_holds_the_budget_and_is_a_recipe(home, tmp_path, capsys):
    (tmp_path / "mine.toml").write_text(config(home, capsys, "--train.flops", "1e9"), encoding="utf-8")
    assert read_config(Recipe, tmp_path / "mine.toml").train.budget == ("flops", 1e9)
    assert run(["train", str(tmp_path / "mine.toml"), "--train.steps", "5", "--print-config"]) == 0
    assert "flops" not in capsys.readouterr().out


@pytest.mark.parametrize("others", [("--train.steps", "2000"), ("--train.seconds", "3")])
def test_two_flags_of_budgets_are_refused(home, others):
    with pytest.raises(ConfigError, match=r"and --train.*: exactly one budget decides how long a run is, got 2"):
        run(["train", "macbook", *words(home, "--train.tokens", "900", *others)])


def test_two_budgets_of_a_file_are_refused_with_its_name(tmp_path):
    (tmp_path / "mine.toml").write_text("[train]\nsteps = 2000\ntokens = 900\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine.toml: train.steps and train.tokens: exactly one budget"):
        run(["train", str(tmp_path / "mine.toml")])


def test_preset_gives_way_to_a_flag_and_that_is_printed(home, capsys):
    train(home, "way", "--train.tokens", "33")
    out = capsys.readouterr().out
    assert "budget: train.steps 2,000 gives way to train.tokens 33" in out
    assert "budget: train.tokens 33 is 2 steps of 16 tokens each" in out


def test_budget_of_more_steps_than_there_can_be_is_refused(home):
    with pytest.raises(ConfigError, match=r"train.flops: 1e\+300 is too many steps: .*below 2\*\*63"):
        run(["train", "macbook", *words(home, "--train.flops", "1e300")])


def test_bytes_that_are_unknown_are_refused():
    with pytest.raises(DataError, match=r"train.bytes: .*try --train.tokens"):
        StepCost(tokens=16, flops=1, bytes=None).steps("bytes", 100)
