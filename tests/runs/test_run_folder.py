"""What a user had in a run's folder, the user still has, whatever became of it during the run or between two."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from helpers import text, tiny
from safetensors.torch import load_file

import nanotx
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import ConfigError, RunError, TokenizerError
from nanotx.runs import checkpoint
from nanotx.runs.folder import run_meant
from nanotx.runs.session import Session
from nanotx.training.trainer import Trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete run of six steps, with checkpoints of steps 4 and 6."""
    home = tmp_path_factory.mktemp("home")
    text(home / "text.txt")
    corpus = ["--corpus", "file", "--corpus.path", str(home / "text.txt")]
    assert nanotx_command(["train", "shakespeare_char", *corpus, "--run", str(home / "run"), *tiny()]) == 0
    return home / "run"


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "run")


def train(folder, *words):
    return nanotx_command(["train", "shakespeare_char", "--run", str(folder), *words])


def resume(folder, *words, steps=8):
    return train(folder, "--resume", "--train.steps", str(steps), *words)


def rows(folder, *events):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] in events]


def contents(folder):
    """Every file of a folder, by name, but for those of the lock."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name not in (".lock", ".owner")
    }


def weights(folder):
    return load_file(folder / "checkpoints/step-8/model.safetensors")


def equal(folder, other):
    first, two = weights(folder), weights(other)
    return first.keys() == two.keys() and all(torch.equal(first[name], two[name]) for name in first)


@pytest.fixture(scope="module")
def longer(trained, tmp_path_factory):
    """The same run of eight steps, which nobody disturbed."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("longer") / "run")
    assert resume(folder) == 0
    return folder


def moved(folder):
    shutil.move(folder / "checkpoints", folder.parent / "away")


def dangling(folder):
    moved(folder)
    (folder / "checkpoints").symlink_to(folder.parent / "nowhere")


def a_file(folder):
    moved(folder)
    (folder / "checkpoints").write_text("", encoding="utf-8")


def without_manifests(folder):
    for path in (folder / "checkpoints").glob("*/MANIFEST.json"):
        path.unlink()


def damaged(folder):
    for path in (folder / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])


def moved_and_no_journal(folder):
    moved(folder)
    (folder / "metrics.jsonl").unlink()


def moved_and_no_recipe(folder):
    moved(folder)
    (folder / "recipe.toml").unlink()


def killed_and_moved(folder):
    """As a run that was killed after its step 5 leaves it; its checkpoints are elsewhere."""
    moved(folder)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 5]
    (folder / "metrics.jsonl").write_text("".join(kept), encoding="utf-8")
    (folder / "summary.json").unlink()


def of_an_older_nanotx(folder):
    """The same, of a nanotx that did not record its checkpoints."""
    killed_and_moved(folder)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["event"] != "checkpoint"]
    (folder / "metrics.jsonl").write_text("".join(kept), encoding="utf-8")


UNSEEN = [
    (moved, "records 6 steps and a checkpoint"),
    (dangling, "a link to .*nowhere', which does not exist"),
    (a_file, "checkpoints: cannot be read"),
    (without_manifests, "MANIFEST.json"),
    (damaged, "model.safetensors: the file is not the one that was saved"),
    (moved_and_no_journal, "summary.json is of a run that was saved"),
    (moved_and_no_recipe, "records 6 steps and a checkpoint"),
    (killed_and_moved, "records 5 steps and a checkpoint"),
    (of_an_older_nanotx, "records 5 steps and a checkpoint"),
]


@pytest.mark.parametrize(("harm", "missing"), UNSEEN, ids=[harm.__name__ for harm, _ in UNSEEN])
def test_run_with_inaccessible_checkpoints_is_not_resumed_and_nothing_changes(folder, harm, missing):
    harm(folder)
    before = contents(folder)
    with pytest.raises(RunError, match=missing) as caught:
        resume(folder)
    assert caught.value.exit_code == 4
    assert contents(folder) == before


def test_checkpoint_folder_that_cannot_be_listed_is_reported_by_every_reader(folder, monkeypatch):
    listed = Path.iterdir

    def closed(path):
        if path.name == "checkpoints":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", closed)
    before = contents(folder)
    for words in (["sample"], ["eval"], ["verify"], ["replay", "--step", "2"]):
        with pytest.raises(RunError, match=r"checkpoints: cannot be read: Permission denied"):
            nanotx_command([words[0], str(folder), *words[1:]])
    with pytest.raises(RunError, match=r"checkpoints: cannot be read: Permission denied"):
        resume(folder)
    assert contents(folder) == before


def test_restart_sets_the_old_files_aside_and_deletes_none(folder, capsys):
    damaged(folder)
    before = contents(folder)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert resume(folder, "--restart") == 0
    assert "starts again at step 0; its old files are in" in capsys.readouterr().out
    assert contents(folder / "aside-1") == before
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert [row["step"] for row in rows(folder, "step")] == list(range(1, 9))
    assert nanotx.load(folder).recipe.model.dim == 16  # the run's own recipe
    assert resume(folder, "--restart") == 0
    assert nanotx.load(folder / "aside-2").step == 8 and contents(folder / "aside-1") == before


@pytest.mark.parametrize("harm", [dangling, a_file, moved_and_no_recipe])
def test_restart_begins_at_step_0_whatever_the_folder_holds(folder, trained, harm):
    harm(folder)
    words = (
        [] if harm is not moved_and_no_recipe else ["--corpus", "file", "--corpus.path", str(text(Path("text.txt")))]
    )
    assert train(folder, "--resume", "--restart", *words, *tiny()) == 0
    assert nanotx.load(folder).step == 6 and (folder / "aside-1/metrics.jsonl").exists()


def test_restart_without_resume_begins_the_recipe_that_is_named(folder):
    corpus = ["--corpus", "file", "--corpus.path", str(text(folder.parent / "text.txt"))]
    assert train(folder, "--restart", *corpus, *tiny(model_dim=32)) == 0
    assert nanotx.load(folder).recipe.model.dim == 32
    assert nanotx.load(folder / "aside-1").recipe.model.dim == 16


def test_restart_refuses_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thing.txt").touch()
    with pytest.raises(ConfigError, match="already exists"):
        train(tmp_path / "mine", "--restart", *tiny())
    assert list(contents(tmp_path)) == ["mine/thing.txt"]


def test_run_that_was_killed_before_its_first_checkpoint_begins_at_step_0_and_says_so(folder, capsys):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 2 and json.loads(line)["event"] != "checkpoint"]
    (folder / "metrics.jsonl").write_text("".join(kept), encoding="utf-8")
    shutil.rmtree(folder / "checkpoints")
    for name in ("summary.json", "samples.txt"):
        (folder / name).unlink()
    assert resume(folder) == 0
    assert "begins at step 0" in capsys.readouterr().out
    assert [row["step"] for row in rows(folder, "step")] == list(range(1, 9))


def test_resume_where_no_rows_are_begins_at_step_0_and_says_so(folder, capsys):
    for path in folder.glob("*"):
        if path.name not in ("recipe.toml", "tokenizer.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert resume(folder) == 0
    assert "begins at step 0" in capsys.readouterr().out


# The run's own files change.


def at_step(monkeypatch, step, action):
    """Have something happen while a run trains, before it takes a step."""
    before = Trainer.train_step

    def train_step(self, keep_gradients=False):
        if self.progress.step == step - 1:
            action()
        return before(self, keep_gradients)

    monkeypatch.setattr(Trainer, "train_step", train_step)


@pytest.mark.parametrize(
    "harm", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"{}")]
)
def test_tokenizer_file_damaged_in_mid_run_damages_no_checkpoint(folder, longer, monkeypatch, harm):
    at_step(monkeypatch, 7, lambda: harm(folder / "tokenizer.json"))
    assert resume(folder) == 0
    assert equal(folder, longer)
    assert nanotx.load(folder).generate("ab", max_new_tokens=3).startswith("ab")
    for path in (folder / "checkpoints").iterdir():
        assert (path / "tokenizer.json").read_bytes() == (longer / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", ["recipe.toml", "tokenizer.json"])
@pytest.mark.parametrize(
    "harm", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(bytes(99))]
)
def test_file_that_is_missing_or_blank_is_restored_from_its_copy_in_the_checkpoint(folder, longer, name, harm, capsys):
    harm(folder / name)
    assert nanotx.load(folder).step == 6
    assert nanotx_command(["replay", str(folder), "--step", "5"]) == 0
    assert resume(folder) == 0
    assert f"{name}: missing or empty; restored from" in capsys.readouterr().out
    assert (folder / name).read_bytes() == (longer / name).read_bytes() and equal(folder, longer)
    assert any(name in row["text"] for row in rows(folder, "warning"))


@pytest.mark.parametrize(
    ("name", "content", "kind"), [("recipe.toml", "seed = ", ConfigError), ("tokenizer.json", "{}", TokenizerError)]
)
def test_file_that_is_damaged_is_refused_and_its_copy_is_offered(folder, name, content, kind):
    (folder / name).write_text(content, encoding="utf-8")
    before = contents(folder)
    with pytest.raises(kind, match=f"A copy that verifies is .*step-6/{name}"):
        resume(folder)
    assert contents(folder) == before


def edit(folder, old, new):
    file = folder / "recipe.toml"
    content = file.read_text(encoding="utf-8")
    assert old in content
    file.write_text(content.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr = 0.014", "lr = 0.5", r"optimizer\.lr was 0\.014, not 0\.5"),
        ("seed = 5", "seed = 6", "seed was 5, not 6"),
        ("steps = 6", "steps = 4", "train.steps was 6, and 4 is fewer"),
        ("batch_size = 2", "batch_size = 4", "train.batch_size was 2, not 4"),
    ],
)
def test_recipe_that_was_edited_by_hand_is_refused_with_what_was_edited(folder, old, new, message):
    edit(folder, old, new)
    before = contents(folder)
    with pytest.raises(ConfigError, match=f"edited since the last checkpoint: {message}.*--allow-mismatch"):
        train(folder, "--resume")
    assert contents(folder) == before
    if "steps" not in old:
        assert resume(folder, "--allow-mismatch") == 0
        assert resume(folder, steps=9) == 0  # the checkpoint holds the edited one by now


def test_edit_of_what_a_resume_may_change_is_taken(folder):
    edit(folder, "steps = 6", "steps = 8")
    assert train(folder, "--resume") == 0
    assert nanotx.load(folder).step == 8


def test_metrics_log_that_is_deleted_in_mid_run_is_written_again_and_the_run_says_so(folder, monkeypatch, capsys):
    at_step(monkeypatch, 8, (folder / "metrics.jsonl").unlink)
    assert resume(folder) == 0
    assert [row["step"] for row in rows(folder, "step")] == list(range(1, 9))
    assert "metrics.jsonl: deleted while the run was training; its rows are written again" in capsys.readouterr().out
    assert nanotx_command(["verify", str(folder)]) == 0


def test_run_moved_after_a_checkpoint_prunes_nothing_of_the_run_that_took_its_name(
    folder, longer, trained, tmp_path, monkeypatch
):
    other = shutil.copytree(longer, tmp_path / "other")
    shutil.copytree(trained / "checkpoints/step-4", other / "checkpoints/step-4", dirs_exist_ok=True)
    write_atomic = checkpoint.write_atomic

    def then_move(path, *rest):
        write_atomic(path, *rest)
        folder.rename(tmp_path / "moved")
        shutil.copytree(other, folder)

    monkeypatch.setattr(checkpoint, "write_atomic", then_move)
    with pytest.raises(RunError, match="this run's folder was moved or removed"):
        resume(folder)
    assert contents(folder) == contents(other)
    assert (tmp_path / "moved/checkpoints/step-8").is_dir()


@pytest.mark.parametrize("name", [".lock", ".owner"])
def test_lock_file_deleted_in_mid_run_costs_the_run_nothing(folder, longer, monkeypatch, capsys, name):
    at_step(monkeypatch, 8, (folder / name).unlink)
    assert resume(folder) == 0
    assert "moved" not in capsys.readouterr().out
    assert equal(folder, longer) and [row["step"] for row in rows(folder, "end")] == [6, 8]
    assert nanotx_command(["verify", str(folder)]) == 0


@pytest.mark.parametrize(
    ("at", "words"),
    [(0, ["nanotx resume run"]), (3, ["nanotx resume run", "nanotx sample run"]), (6, None)],
    ids=["stopped before the first step", "stopped", "complete"],
)
def test_every_command_that_a_run_prints_brings_the_users_own_files(tmp_path, monkeypatch, capsys, at, words):
    first = Session.start_row

    def asked(self, *given):
        signal.raise_signal(signal.SIGTERM)
        return first(self, *given)

    monkeypatch.chdir(tmp_path)
    for name in ("one.py", "a two.py"):
        (tmp_path / name).write_text("", encoding="utf-8")
    if at == 0:
        monkeypatch.setattr(Session, "start_row", asked)
    elif at < 6:
        at_step(monkeypatch, at, lambda: signal.raise_signal(signal.SIGTERM))
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    loads = ["--load", "one.py", "--load", "a two.py"]
    code = nanotx_command(["train", "shakespeare_char", *corpus, "--run", "run", *tiny(), *loads])
    assert code == (0 if words is None else 128 + signal.SIGTERM)
    words = words or ["nanotx resume run --train.steps 12", "nanotx sample run"]
    output = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nanotx ")]
    assert output == [f"{line} --load one.py --load 'a two.py'" for line in words]


def test_metrics_log_that_is_replaced_in_mid_run_is_kept_and_written_again(folder, monkeypatch):
    def replace():
        (folder / "other").write_text("mine\n", encoding="utf-8")
        (folder / "other").replace(folder / "metrics.jsonl")

    at_step(monkeypatch, 8, replace)
    assert resume(folder) == 0
    assert [row["step"] for row in rows(folder, "step")] == list(range(1, 9))
    assert (folder / "metrics.jsonl-1").read_text(encoding="utf-8") == "mine\n"


def test_metrics_log_that_is_cut_in_mid_run_is_reported(folder, monkeypatch, capsys):
    at_step(monkeypatch, 8, lambda: (folder / "metrics.jsonl").write_text("", encoding="utf-8"))
    assert resume(folder) == 0
    assert "metrics.jsonl: cut while the run was training" in capsys.readouterr().out


@pytest.mark.parametrize("garbage", [b"garbage\n", b"\0\0\0\n", b'{"event": "step", "step": "x"}\n', b"\xff\xfe\n"])
def test_garbage_line_in_metrics_jsonl_costs_no_other_row_and_no_sample(folder, capsys, garbage):
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    spoilt = b"".join([*lines[:3], garbage, *lines[3:]])
    (folder / "metrics.jsonl").write_bytes(spoilt)
    samples = (folder / "samples.txt").read_text(encoding="utf-8")
    assert nanotx_command(["show", str(folder)]) == 0
    assert resume(folder) == 0
    assert "line 4 cannot be read and are removed" in capsys.readouterr().out
    assert [row["step"] for row in rows(folder, "step")] == list(range(1, 9))
    assert (folder / "metrics.jsonl-1").read_bytes() == spoilt
    assert (folder / "samples.txt").read_text(encoding="utf-8").startswith(samples.removesuffix("\n"))
    assert nanotx_command(["verify", str(folder)]) == 0


def test_metrics_log_that_is_missing_before_a_resume_is_reported_and_the_samples_are_kept(folder, longer, capsys):
    (folder / "metrics.jsonl").unlink()
    samples = (folder / "samples.txt").read_bytes()
    assert resume(folder) == 0
    out = capsys.readouterr().out
    assert "metrics.jsonl: missing or empty, and the checkpoint is of step 6" in out
    assert (folder / "samples.txt-1").read_bytes() == samples
    assert equal(folder, longer)


# Checkpoints that are kept.


def flip(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def sound(folder):
    """The steps of the checkpoints from which one can sample."""
    names = [path.name.removeprefix("step-") for path in (folder / "checkpoints").glob("step-*")]
    steps = sorted(int(name) for name in names if name.isdecimal())
    return [step for step in steps if not fails(folder, step)]


def fails(folder, step):
    try:
        nanotx.load(folder, step)
    except RunError:
        return True
    return False


@pytest.mark.parametrize("when", ["before", "while"])
def test_two_sound_checkpoints_are_kept_next_to_a_damaged_one(folder, monkeypatch, when):
    broken = folder / "checkpoints/step-6/optimizer.safetensors"
    if when == "before":
        flip(broken)
    else:
        at_step(monkeypatch, 7, lambda: flip(broken))
    best = json.loads((folder / "checkpoints/step-6/trainer.json").read_text(encoding="utf-8"))["progress"]["best"]
    assert resume(folder, "--train.checkpoint-every", "7", steps=7) == 0
    assert {4, 7} <= set(sound(folder)) and best["step"] in (3, 6)
    assert broken.exists()  # to be looked at
    assert resume(folder, "--train.checkpoint-every", "8", steps=8) == 0
    assert {7, 8} <= set(sound(folder))


def test_checkpoint_that_reads_back_differently_is_not_published(folder, monkeypatch):
    from nanotx import disk

    write = disk.write

    def spoil(file, content):
        write(file, content)
        if file.name == "model.safetensors":
            flip(file)

    monkeypatch.setattr(disk, "write", spoil)
    with pytest.raises(RunError, match=r"what was read back is not what was written.*earlier ones are untouched"):
        resume(folder)
    monkeypatch.undo()
    assert sound(folder) == [4, 6]


def test_run_that_was_stopped_before_its_first_step_begins_again_as_its_last_line_says(tmp_path, monkeypatch, capsys):
    first = Session.start_row

    def asked(self, *given):
        signal.raise_signal(signal.SIGTERM)
        return first(self, *given)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, "start_row", asked)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    assert nanotx_command(["train", "shakespeare_char", *corpus, "--run", "run", *tiny()]) == 128 + signal.SIGTERM
    assert "nanotx resume run" in capsys.readouterr().out and not rows(tmp_path / "run", "step")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert nanotx_command(["resume", "run"]) == 0
    assert [row["step"] for row in rows(tmp_path / "run", "step")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("left", [lambda path: None, lambda path: (path / "recipe.toml").unlink()])
def test_resume_without_a_recipe_is_refused_and_begins_no_run(folder, left):
    for path in folder.iterdir():
        if path.name != "checkpoints":
            path.unlink()
    for path in (folder / "checkpoints").iterdir():
        left(path)
        (path / "model.safetensors").write_bytes(b"")
    before = contents(folder)
    with pytest.raises(RunError, match=r"recipe.toml: missing or empty, and no checkpoint .* holds a copy"):
        nanotx_command(["resume", str(folder)])
    assert contents(folder) == before


def test_what_a_user_put_among_the_checkpoints_is_not_pruned(folder):
    place, away = folder / "checkpoints", folder.parent / "away"
    shutil.copytree(place / "step-4", place / "step-004")
    shutil.copytree(place / "step-4", away)
    (place / "step-1").symlink_to(away, target_is_directory=True)
    (place / "step-2").mkdir()
    (place / "step-2/mine.txt").write_text("mine", encoding="utf-8")
    (place / "step-0").write_text("mine", encoding="utf-8")
    shutil.copytree(place / "step-4", place / "step-5")
    (place / "step-5/plots").mkdir()
    (place / "step-4/notes.txt").write_text("mine", encoding="utf-8")
    before = contents(place)
    assert resume(folder, steps=12) == 0
    after = contents(place)
    assert {name: after.get(name) for name in before if not name.startswith("step-6")} == {
        name: content for name, content in before.items() if not name.startswith("step-6")
    }
    assert (place / "step-1").is_symlink() and (place / "step-5/plots").is_dir() and contents(away)
    assert not (place / "step-8").exists() and {10, 12} <= set(sound(folder))
    kept = [row["text"] for row in rows(folder, "warning") if "no longer needed" in row["text"]]
    assert len(kept) == 1 and "step-5, step-4, step-2, step-1, step-0: " in kept[0]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_file_of_a_file_manager_does_not_keep_a_checkpoint(folder, name):
    place = folder / "checkpoints"
    for step in (4, 6):
        (place / f"step-{step}" / name).write_bytes(b"\0")
    (place / name).write_bytes(b"\0")
    assert nanotx_command(["verify", str(folder)]) == 0
    assert resume(folder, steps=12) == 0
    assert not (place / "step-4").exists() and {10, 12} <= set(sound(folder))
    assert not [row for row in rows(folder, "warning") if "not removed" in row["text"]]
    assert (place / name).exists()


@pytest.mark.parametrize("name", [".DS_Store", "desktop.ini"])
def test_folder_named_like_a_file_managers_file_keeps_a_checkpoint(folder, name):
    place = folder / "checkpoints/step-4"
    (place / name).mkdir()
    (place / name / "mine.txt").write_text("mine", encoding="utf-8")
    assert resume(folder, steps=12) == 0
    assert (place / name / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_run_begins_in_a_folder_that_holds_only_files_of_a_file_manager(folder, tmp_path):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / name).write_bytes(b"\0")
    corpus = ["--corpus", "playhouse", "--corpus.size", "4000", "--tokenizer", "byte"]
    assert train(tmp_path / "new", *corpus, *tiny(train_steps=1)) == 0


def test_copied_run_whose_checkpoints_are_a_link_changes_nothing_through_it(folder, tmp_path):
    away, copy = tmp_path / "away", tmp_path / "a copy"
    shutil.move(folder / "checkpoints", away)
    (folder / "checkpoints").symlink_to(away, target_is_directory=True)
    shutil.copytree(folder, copy, symlinks=True)
    before = contents(away)
    for place in (folder, copy):
        for flags in ([], ["--allow-mismatch"], ["--train.steps", "12"]):
            with pytest.raises(RunError, match=r"checkpoints: a link to .*away.*cp -a") as error:
                nanotx_command(["resume", str(place), *flags])
            assert error.value.exit_code == 4
    for words in (["sample", str(copy), "--max-new-tokens", "2"], ["eval", str(copy)], ["verify", str(copy)]):
        assert nanotx_command(words) == 0
    assert contents(away) == before
    remedy = str(error.value).partition("its own: ")[2].partition("; or")[0]
    subprocess.run(remedy, shell=True, check=True)
    assert resume(copy, steps=12) == 0
    assert contents(away) == before


def test_run_whose_whole_folder_is_a_link_is_resumed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    assert resume(tmp_path / "link") == 0


def test_run_whose_checkpoints_are_a_link_restarts_without_changing_what_it_names(folder, tmp_path):
    away = tmp_path / "away"
    shutil.move(folder / "checkpoints", away)
    (folder / "checkpoints").symlink_to(away, target_is_directory=True)
    before = contents(away)
    assert nanotx_command(["resume", str(folder), "--restart"]) == 0
    assert contents(away) == before and not (folder / "checkpoints").is_symlink()


@pytest.mark.parametrize("kind", ["a file", "a folder", "a link", "a checkpoint with notes"])
def test_what_a_user_put_under_a_checkpoints_name_is_moved_before_that_one_is_saved(folder, kind):
    place = folder / "checkpoints/step-8"
    mine = place.parent / "step-8-1"
    if kind == "a file":
        place.write_text("mine", encoding="utf-8")
    elif kind == "a link":
        place.symlink_to(folder.parent / "nowhere")
    else:
        if kind == "a folder":
            place.mkdir()
        else:
            shutil.copytree(place.parent / "step-6", place)
            flip(place / "model.safetensors")
        (place / "notes.txt").write_text("mine", encoding="utf-8")
    assert resume(folder) == 0
    assert 8 in sound(folder)
    if kind == "a link":
        assert mine.is_symlink()
    else:
        assert (mine if kind == "a file" else mine / "notes.txt").read_text(encoding="utf-8") == "mine"


LONG = "1" + "0" * 31


@pytest.mark.parametrize("name", [f"step-{LONG}", f"step-{2**63}", "step-7", "step-007", "step-06", "step-1e3"])
def test_copy_of_a_checkpoint_under_another_name_is_skipped_with_a_note(folder, longer, capsys, name):
    copy = folder / "checkpoints" / name
    shutil.copytree(folder / "checkpoints/step-6", copy)
    before = contents(copy)
    assert nanotx.load(folder).step == 6
    assert nanotx_command(["sample", str(folder), "--max-new-tokens", "2"]) == 0
    assert nanotx_command(["replay", str(folder), "--step", "6"]) == 0
    capsys.readouterr()
    assert resume(folder) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (f"skipped: {copy}: " in out) == (name not in ("step-06", "step-1e3")), out
    assert contents(copy) == before and equal(folder, longer)


@pytest.mark.parametrize(("name", "wanted"), [("step-007", "rename it to step-7"), ("step-9", "rename it to step-6")])
def test_run_with_a_misnamed_checkpoint_alone_is_refused_with_its_right_name(folder, name, wanted):
    (folder / "checkpoints/step-6").rename(folder / "checkpoints" / name)
    shutil.rmtree(folder / "checkpoints/step-4")
    for path in (folder / "checkpoints").glob("step-[0-5]"):
        shutil.rmtree(path)
    before = contents(folder)
    for command in (nanotx.load, resume):
        with pytest.raises(RunError, match=wanted):
            command(folder)
    assert contents(folder) == before


def test_checkpoint_copied_to_another_step_by_hand_is_still_there_when_that_step_is_saved(folder):
    mine = folder / "checkpoints/step-8"
    shutil.copytree(folder / "checkpoints/step-6", mine)
    before = contents(mine)
    assert resume(folder) == 0
    assert 8 in sound(folder) and contents(mine.with_name("step-8-1")) == before


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("runs/shakespear_char-1", "Did you mean runs/shakespeare_char-1?"),  # the newest one is number 2
        ("runs/shakespeare_char1", "Did you mean runs/shakespeare_char-1?"),
        ("runs/Shakespeare_char-1", "Did you mean runs/shakespeare_char-1?"),
        ("shakespeare_char-1", "Did you mean runs/shakespeare_char-1?"),
        ("run/shakespeare_char-1", "Did you mean runs/shakespeare_char-1?"),
        ("runs/shakespeare_char-9", "Did you mean runs/shakespeare_char-2?"),
        ("shakespeare_char", "Did you mean runs/shakespeare_char-2?"),
        ("runs/shakespeare_ngram-1", "Did you mean runs/shakespeare_ngrams-1?"),
        ("macb", "Did you mean runs/macbook-3?"),
        ("trials/narow", "Did you mean trials/narrow?"),
        ("runs/narrow", "The newest run here is runs/macbook-3."),
        ("trials", "It holds runs: try trials/wide."),
        ("runs/xyz", "The newest run here is runs/macbook-3."),
        (".", "The newest run here is runs/macbook-3."),
    ],
)
def test_misspelled_run_is_answered_with_the_run_that_is_nearest_in_spelling(tmp_path, monkeypatch, typed, meant):
    monkeypatch.chdir(tmp_path)
    names = ("shakespeare_char-1", "shakespeare_char-2", "shakespeare_ngrams-1", "macbook-3")
    for age, name in enumerate(["trials/narrow", "trials/wide", *(f"runs/{name}" for name in names)]):
        (folder := Path(name)).mkdir(parents=True)
        (folder / "recipe.toml").touch()
        os.utime(folder, (age, age))
    assert run_meant(Path(typed)) == f" {meant}"
