"""Arms, changes, texts and budgets of an experiment."""

from dataclasses import replace
from pathlib import Path

import pytest

from nanotx.data.conversations import Message, as_line, conversations_of
from nanotx.data.corpus.file import File
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.data.corpus.small_talk import SmallTalk
from nanotx.data.corpus.tokens import Tokens
from nanotx.errors import ConfigError, DataError, UnknownPart
from nanotx.experiments.plan import (
    Arm,
    Facts,
    change_flags,
    changed_parts,
    equal_arms,
    equal_steps,
    make_arms,
    prepared,
    split_change,
    training_corpus,
)
from nanotx.recipe import Recipe, Train
from nanotx.recipes.shakespeare_char import recipe as base

FACTS = Facts(tokens_per_step=100, bytes_per_token=1.0, flops_per_token=50.0, seconds_per_step=0.1, parameters=1)


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ("ffn=relu2", ["--ffn=relu2"]),
        ("ffn = 'relu2' ; optimizer.lr = 4e-3;", ["--ffn=relu2", "--optimizer.lr=0.004"]),
        ('attention={part="mine", window=9}', ["--attention=mine", "--attention.window=9"]),
        ("attention.qk-norm=false", ["--attention.qk_norm=false"]),
        ("optimizer={betas=[0.9, 0.98]}", ["--optimizer.betas", "0.9", "0.98"]),
        ("tokenizer='a;b.json'", ["--tokenizer=a;b.json"]),
        ("tokenizer=runs/x-1/tokenizer.json", ["--tokenizer=runs/x-1/tokenizer.json"]),
    ],
)
def test_change_is_read_as_toml_and_becomes_flags_of_the_recipe(change, flags):
    assert change_flags(split_change(change)) == flags


def test_arm_keeps_all_that_its_change_does_not_name():
    arm = make_arms(base, ["optimizer.lr=0.5"])[1]
    assert arm.recipe == replace(base, optimizer=replace(base.optimizer, lr=0.5))
    assert arm.name == "optimizer.lr=0.5" and arm.swapped == ()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("", ConfigError, "got nothing"),
        (";", ConfigError, "got nothing"),
        ("ffn", ConfigError, "expected FIELD=VALUE such as ffn=relu2"),
        ("ffn=", ConfigError, "expected FIELD=VALUE"),
        ("--help", ConfigError, "expected FIELD=VALUE"),
        ("ffn=a b", ConfigError, "strings with spaces need quotes"),
        ("ffn=swigl", UnknownPart, "--change 'ffn=swigl'.*Did you mean 'swiglu'"),
        ("model.layers=0", ConfigError, "expected a number of at least 1"),
        ("nothing=1", ConfigError, "--change 'nothing=1': --nothing: no such flag. See nanotx train macbook --help"),
        ("corpus=playhouse", ConfigError, "all arms have the same text"),
        ("train.steps=9", ConfigError, "budgets would differ"),
        ("seed=3", ConfigError, "set them with --seeds"),
        ("data_seed=3", ConfigError, "set them with --seeds"),
    ],
)
def test_change_that_cannot_be_is_refused_by_name(change, error, message):
    with pytest.raises(error, match=message):
        make_arms(base, [change], prog="nanotx train macbook")


def test_change_given_twice_is_refused():
    with pytest.raises(ConfigError, match="given twice"):
        make_arms(base, ["ffn=mlp", " ffn=mlp;"])


def test_swap_that_changes_another_field_is_refused_unless_allowed_or_named():
    with pytest.raises(ConfigError, match=r"changes other fields too: optimizer: muon -> adamw; lr 0.014 -> 0.001"):
        make_arms(base, ["optimizer=adamw"])
    allowed = make_arms(base, ["optimizer=adamw"], allow_swaps=True)[1]
    assert "lr 0.014 -> 0.001" in allowed.swapped[0]
    named = make_arms(base, ["optimizer=adamw; optimizer.lr=1e-3"])[1]
    assert named.recipe == allowed.recipe and "gone: momentum 0.85" in named.swapped[0]


def test_arms_have_folders_of_their_own_and_readable_names():
    arms = make_arms(base, ["ffn=mlp", "attention.heads=2", "attention.heads=1"])
    folders = [arm.folder for arm in arms]
    assert len(set(folders)) == 4 and folders[0] == "baseline" and folders[1].startswith("ffn_mlp-")


def test_arm_that_equals_the_baseline_is_recognised():
    same = f"ffn={base.model.block.ffn.part}"
    assert equal_arms(make_arms(base, [same, "ffn=mlp"])) == [same]


def test_changed_parts_are_those_that_only_arms_have():
    arms = make_arms(base, ["ffn=mlp", "norm=layernorm; ffn=mlp", "optimizer.lr=1"])
    assert changed_parts(arms) == ["ffn/mlp", "norm/layernorm"]


def test_corpus_of_the_arms_holds_the_training_text_alone(tmp_path):
    play = Playhouse(size=2000, validation=0.2)
    training, validation = play.split()
    held_out = training_corpus(play, tmp_path, 0.1)
    learned, judged = held_out.split()
    assert learned + judged == training and len(judged) == 160
    files = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()]
    assert files == [training] and validation[:50] not in files[0]


def test_corpus_keeps_line_ends_as_they_are(tmp_path):
    source = tmp_path / "text.txt"
    source.write_bytes(b"a\r\nb\rc\n" * 40)
    learned, judged = training_corpus(File(path=str(source)), tmp_path, 0.5).split()
    assert (learned + judged).encode() == b"a\r\nb\rc\n" * 36


def test_corpus_of_the_arms_holds_the_conversations_to_train_on_alone(tmp_path):
    talk = SmallTalk(count=40, documents="join", validation=0.25)
    training, validation = talk.split_conversations()
    held_out = training_corpus(talk, tmp_path, 0.1)
    learned, judged = held_out.split_conversations()
    assert learned + judged == training and len(judged) == 3 and held_out.documents == "join"
    assert [path.name for path in tmp_path.iterdir()] == ["training.jsonl"] and validation[0] not in learned + judged


def test_line_of_a_conversation_is_read_as_it_was():
    talk = (Message("system", "a\u2028b\nc"), Message("user", '"é\\'), Message("assistant", "\u0000 x"))
    assert conversations_of("here", as_line(talk)) == [talk]


def test_files_that_are_kept_apart_are_refused_with_what_to_type(tmp_path):
    (tmp_path / "a.txt").write_text("abc\n" * 40, encoding="utf-8")
    with pytest.raises(DataError, match=r"not of files that are kept apart; try --corpus\.documents join"):
        training_corpus(File(path=str(tmp_path), documents="separate"), tmp_path / "out", 0.1)


def test_text_too_short_to_hold_a_piece_out_is_refused(tmp_path):
    source = tmp_path / "text.txt"
    source.write_text("abcdef", encoding="utf-8")
    with pytest.raises(DataError, match="too short to hold a piece of it out"):
        training_corpus(File(path=str(source), validation=0.3), tmp_path, 0.1)


def test_mixture_of_token_files_keeps_its_weights(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.tok").write_bytes(b"x")
    path, val_path = (str(tmp_path / "[ab].tok"), str(tmp_path / "c.tok")), (str(tmp_path / "c.tok"),)
    mixed = Tokens(path=path, weights=(0.75, 0.25), val_path=val_path)
    assert training_corpus(mixed, tmp_path, 0.1) == Tokens(path=path, weights=(0.75, 0.25), validation=0.1)


def test_token_files_need_validation_files(tmp_path, monkeypatch):
    from nanotx.data.corpus import TokenFiles

    monkeypatch.setattr(Tokens, "token_files", lambda self: TokenFiles(train=["a.tok"], val=self.val_path))
    with pytest.raises(DataError, match=r"--corpus\.val-path"):
        training_corpus(Tokens(path=("a.tok",)), tmp_path, 0.1)
    assert training_corpus(Tokens(path=("a.tok",), val_path=("b.tok",)), tmp_path, 0.1) == Tokens(path=("a.tok",))


def arms_of(steps: int) -> list[Arm]:
    recipe = replace(base, train=Train(steps=steps))
    return [Arm(name="baseline", recipe=recipe), Arm(name="other", recipe=recipe)]


@pytest.mark.parametrize(
    ("equal", "other", "steps"),
    [
        ("steps", FACTS, 60),
        ("tokens", replace(FACTS, tokens_per_step=200), 30),
        ("bytes", replace(FACTS, tokens_per_step=50, bytes_per_token=4.0), 30),
        ("flops", replace(FACTS, tokens_per_step=200, flops_per_token=100.0), 15),
        ("seconds", replace(FACTS, seconds_per_step=0.02), 300),
        ("flops", replace(FACTS, flops_per_token=1e9), 1),
    ],
)
def test_equal_budget_becomes_steps(equal, other, steps):
    assert equal_steps(arms_of(60), [FACTS, other], equal) == [60, steps]


def test_budget_of_the_recipe_is_that_of_every_arm():
    recipe = replace(base, train=Train(tokens=1000))
    arms = [Arm(name=name, recipe=recipe) for name in ("baseline", "other")]
    assert equal_steps(arms, [FACTS, replace(FACTS, tokens_per_step=50)], "tokens") == [10, 20]


def test_equal_steps_of_unequal_size_are_refused():
    with pytest.raises(ConfigError, match=r"budgets would differ: a step learns from 50 tokens.*--equal tokens"):
        equal_steps(arms_of(60), [FACTS, replace(FACTS, tokens_per_step=50)], "steps")


def test_equal_seconds_need_the_timing():
    with pytest.raises(ConfigError, match="needs the timing"):
        equal_steps(arms_of(60), [FACTS, replace(FACTS, seconds_per_step=None)], "seconds")


@pytest.mark.parametrize(
    ("steps", "batch", "every"), [(600, 12, 521), (500, 12, 0), (2000, 12, 521), (3000, 12, 750), (100, 3200, 25)]
)
def test_prepared_run_has_few_checkpoints_and_enough_tokens_between_them(steps, batch, every):
    recipe = replace(base, model=replace(base.model, context=64), train=replace(base.train, batch_size=batch))
    assert prepared(recipe, File(path="x"), steps, 77).train.checkpoint_every == every


def test_prepared_run_has_one_thread_and_one_evaluation_at_its_end():
    recipe = prepared(base, File(path="x"), 10, 77)
    assert (recipe.threads, recipe.seed, recipe.train.steps, recipe.train.eval_every) == (1, 77, 10, 0)
    assert recipe.compile is False
    assert isinstance(recipe, Recipe) and Path(recipe.corpus.path) == Path("x")
