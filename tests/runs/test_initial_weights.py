"""`--init RUN`: a run begins with the weights of another, matched by name and shape, and records their digest."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from helpers import text, tiny
from safetensors.torch import load_file

import nanotx
from nanotx.cli.main import run
from nanotx.cli.run import with_source
from nanotx.config.schema import to_table
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError, RunError
from nanotx.hub.pack_writer import write_pack
from nanotx.nn.canonical import to_canonical
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.runs.initial_weights import describe, read_source, take_weights
from nanotx.runs.load import load
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import Replay, weights
from nanotx.runs.resume_check import check_init, resolve_auto
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.saved import Saved


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a complete run of six steps, `old`, its pack, and a run that began with it, `new`."""
    home = tmp_path_factory.mktemp("home")
    text(home / "text.txt")
    words = ["--corpus", "file", "--corpus.path", str(home / "text.txt")]
    flags = tiny(train_steps=4, train_checkpoint_every=2, train_eval_every=0, train_sample_every=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert run(["train", "macbook", *words, "--run", "old", *flags]) == 0
        write_pack(load("old"), home / "pack")
        write_pack(load("old"), home / "pack.zip")
        plain = [word for word in zip(flags[::2], flags[1::2], strict=True) if "model" not in word[0]]
        plain = [word for pair in plain for word in pair if "heads" not in pair[0]]
        assert run(["train", "shakespeare_char", *words, "--init", "old", "--run", "new", *plain]) == 0
    return home


@pytest.fixture(autouse=True)
def here(home, monkeypatch):
    monkeypatch.chdir(home)


def newest(folder):
    return load_file(f"{folder}/checkpoints/step-4/model.safetensors")


def test_model_and_tokenizer_follow_from_the_run_and_all_else_from_the_recipe():
    old, new = load("old"), load("new")
    assert new.recipe.model == old.recipe.model
    assert new.recipe.tokenizer == Saved(path="old/tokenizer.json") and new.tokenizer == old.tokenizer
    assert new.recipe.optimizer.part == "muon" != old.recipe.optimizer.part
    assert new.recipe.init == "old"
    file = "old/checkpoints/step-4/model.safetensors"
    assert new.recipe.init_sha256 == hashlib.sha256(Path(file).read_bytes()).hexdigest()  # as sha256sum prints it


@pytest.mark.parametrize("path", ["old", "pack", "pack.zip", "old/checkpoints/step-4"])
def test_run_begins_with_every_bit_of_its_source(path):
    source = read_source(path)
    model = source.recipe.model.build(source.tokenizer.vocab_size, seed=9)
    fit = take_weights(model, source, source.tokenizer)
    ours, theirs = to_canonical(model, dict(model.named_parameters())), newest("old")
    assert ours.keys() == theirs.keys() == {*fit.taken} and not fit.notes()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert describe(source, fit, model)[0].startswith(f"init: {path}, step 4: {len(ours)} tensors")


def test_steps_of_such_a_run_are_replayed_from_its_source_to_the_bit():
    replay = Replay(RunRecord("new"), 0)
    assert all(torch.equal(tensor, newest("old")[name]) for name, tensor in weights(replay.trainer).items())
    replay.go_to(4, lambda step: None)
    assert replay.first_mismatch is None
    assert all(torch.equal(tensor, newest("new")[name]) for name, tensor in weights(replay.trainer).items())


def test_run_that_saved_nothing_begins_again_with_the_weights_that_it_recorded(tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy("new/recipe.toml", tmp_path / "run/recipe.toml")
    assert run(["resume", str(tmp_path / "run")]) == 0
    again = load_file(tmp_path / "run/checkpoints/step-4/model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in newest("new").items())
    recipe = replace(load("new").recipe, init="gone")  # a run that saved needs its source no more
    (tmp_path / "run/recipe.toml").write_text(write_toml(recipe), encoding="utf-8")
    assert nanotx.train(recipe, run=tmp_path / "run", quiet=True, resume=True, allow_mismatch=True).step == 4


def test_checkpoint_with_the_recorded_digest_is_read_although_the_source_went_on():
    earlier = read_source("old/checkpoints/step-2")
    again = read_source("old", earlier.sha256)
    assert again.step == 2 and again.sha256 == earlier.sha256 != read_source("old").sha256
    assert resolve_auto(load("new").recipe, replace(load("new").recipe, init_sha256=None)) == load("new").recipe


def test_weights_that_went_on_are_refused_by_their_digest():
    with pytest.raises(RunError, match=r"init: old: no weights here have the digest 00000000.*trained further"):
        read_source("old", "0" * 64)
    with pytest.raises(RunError, match="init: pack: no weights here have the digest"):
        read_source("pack", "0" * 64)


def fitted(**changes):
    source = read_source("old")
    model = replace(source.recipe.model, **changes).build(source.tokenizer.vocab_size, seed=9)
    return model, source, take_weights(model, source, source.tokenizer)


def test_what_does_not_fit_is_listed_with_both_shapes_and_drawn_from_the_seed():
    model, source, fit = fitted(layers=2)
    assert fit.drawn["blocks.1.ffn.to_out.weight"] == "no such tensor there"
    fresh = model.config.build(model.vocab_size, seed=9)
    assert torch.equal(model.get_parameter("blocks.1.ffn.to_out.weight"), fresh.blocks[1].ffn.to_out.weight)
    block = replace(source.recipe.model.block, ffn=replace(source.recipe.model.block.ffn, hidden_dim=24))
    _, _, fit = fitted(block=block)
    assert fit.drawn["blocks.0.ffn.to_hidden.weight"] == "24 x 16 here, 64 x 16 there"
    assert "drawn from the seed: blocks.0.ffn.to_hidden.weight (24 x 16 here" in fit.notes()[0]


def test_longer_table_of_positions_gives_its_first_rows_and_a_shorter_one_none():
    model, source, fit = fitted(context=5)
    assert torch.equal(model.position.table.weight, source.weights["position.table.weight"][:5]) and not fit.drawn
    assert fitted(context=9)[2].drawn == {"position.table.weight": "9 x 16 here, 8 x 16 there"}


def test_untied_head_takes_the_embedding_of_a_tied_source():
    model, source, fit = fitted(tied=False)
    assert torch.equal(model.head.weight, source.weights["embedding.weight"]) and not fit.drawn


def test_weights_of_ids_are_left_out_under_another_tokenizer():
    source = read_source("old")
    other = Char().train(["bcdef \n"])
    assert other.vocab_size == source.tokenizer.vocab_size
    model = source.recipe.model.build(other.vocab_size)
    assert take_weights(model, source, other).drawn == {"embedding.weight": "the tokenizer is another"}


def test_source_in_which_nothing_fits_is_refused_with_its_shapes():
    with pytest.raises(ConfigError, match=r"init: old: none of its \d+ tensors fits.*embedding.weight \(7 x 12 here, "):
        fitted(dim=12)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "init: nowhere: expected a run's folder"),
        ("old/checkpoints", "It belongs to the run old"),
        ("old/checkpoints/step-3", r"no checkpoint of step 3; it has"),
        ("text.txt", "init: text.txt: expected a run's folder"),
    ],
)
def test_path_that_is_no_run_is_refused(path, message):
    with pytest.raises(RunError, match=message):
        read_source(path)


def test_folder_of_another_library_names_the_command_that_reads_it(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="read it first: nanotx import"):
        read_source(str(tmp_path))


def test_truncated_checkpoint_is_skipped_aloud_and_without_another_refused(tmp_path):
    folder = shutil.copytree("old", tmp_path / "old")
    for step, left in ((4, True), (2, False)):
        file = folder / f"checkpoints/step-{step}/model.safetensors"
        file.write_bytes(file.read_bytes()[:-4])
        if left:
            source = read_source(str(folder))
            assert source.step == 2 and "step-4" in source.skipped[0]
    with pytest.raises(RunError, match=r"init: .*no checkpoint can be read.*size or SHA-256 differ"):
        read_source(str(folder))


def test_run_that_is_still_training_is_named(tmp_path):
    folder = shutil.copytree("old", tmp_path / "old")
    (folder / ".owner").write_text("process 7 of here,", encoding="utf-8")
    source = read_source(str(folder))
    model = source.recipe.model.build(source.tokenizer.vocab_size)
    fit = take_weights(model, source, source.tokenizer)
    with FileLock(folder / ".lock"):
        assert f"process 7 of here is training {folder}" in describe(source, fit, model)[1]
    assert len(describe(source, fit, model)) == 1


# The words of a command line.


def read(*argv, recipe=None):
    base, rest, _ = with_source(recipe or Recipe(), list(argv))
    return read_recipe(base, rest, "nanotx train")[0]


def test_flag_puts_the_source_over_the_recipe_and_under_the_other_flags(tmp_path):
    (tmp_path / "whole.toml").write_text("[model]\ndim = 24\n[train]\nsteps = 7\n", encoding="utf-8")
    (tmp_path / "more.toml").write_text("[model]\ndropout = 0.5\n", encoding="utf-8")
    recipe = read(
        *(str(tmp_path / name) for name in ("whole.toml", "more.toml")), "--init", "old", "--block.dropout=0.1"
    )
    old = load("old").recipe.model
    assert recipe.model == replace(old, dropout=0.5, block=replace(old.block, dropout=0.1)) and recipe.train.steps == 7


def test_file_that_names_a_source_is_put_over_it(tmp_path):
    (tmp_path / "mine.toml").write_text('init = "old"\n[model]\ndropout = 0.5\n', encoding="utf-8")
    recipe = read(str(tmp_path / "mine.toml"))
    assert recipe.model == replace(load("old").recipe.model, dropout=0.5)
    assert recipe.tokenizer == Saved(path="old/tokenizer.json")
    assert read("new/recipe.toml") == load("new").recipe  # a recipe that was recorded is itself
    assert read("new/recipe.toml", "--init", "pack").init_sha256 is None  # another source has another digest
    assert read("new/recipe.toml", "--train.steps=9").init_sha256 is not None


def test_zip_file_needs_a_tokenizer_of_its_own():
    with pytest.raises(ConfigError, match="unpack it into a folder"):
        read("--init", "pack.zip")
    assert read("--init", "pack.zip", "--tokenizer", "pack/tokenizer.json").model == load("old").recipe.model


def test_resumed_run_takes_no_other_weights():
    for more in ([], ["--allow-mismatch"]):
        with pytest.raises(ConfigError, match="--init pack: this run began with old, and a resumed run goes on"):
            run(["train", "macbook", "--run", "new", "--resume", "--init", "pack", *more])
    with pytest.raises(ConfigError, match="--init pack: this run has weights of its own"):
        run(["resume", "old", "--init", "pack"])
    check_init(load("new").recipe, replace(load("new").recipe, init="old"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init": ""}, "init: expected a run such as"),
        ({"init": "old", "init_sha256": "abc"}, "init_sha256: expected 64 digits from 0 to f, got 'abc'"),
        ({"init_sha256": "0" * 64}, "init_sha256: a digest of weights, and init names none"),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(**fields)


def test_flag_without_a_run_is_refused(capsys):
    with pytest.raises(ConfigError, match="--init: expected the folder of a run, got nothing"):
        run(["train", "macbook", "--init"])


def test_recipes_without_a_source_are_written_as_before():
    assert "init" not in to_table(Recipe(model=Model()))
