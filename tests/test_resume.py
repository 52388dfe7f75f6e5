"""A run that is stopped or killed goes on as if nothing had been, bit for bit; a bad checkpoint is passed over."""

import json
import signal
import sys
import time

import pytest
import torch
from runs import finish, start, text, tiny
from safetensors.torch import load_file

from nanotx import checkpoint, disk, verified
from nanotx.errors import RunError
from nanotx.journal import Journal, read

WORDS = ["train", "shakespeare_char", "--corpus", "file", "--corpus.path", "text.txt", "--block.dropout", "0.2"]


def run(folder, *words, cwd, every=5):
    flags = tiny(train_steps=40, train_eval_every=8, train_sample_every=8, train_checkpoint_every=every)
    return start(*WORDS, *flags, "--run", folder, *words, cwd=cwd)


def end(folder):
    """What a run comes to: weights, averages, and what it wrote, but for times."""
    last = folder / "checkpoints/step-40"
    rows = [
        {key: value for key, value in row.items() if key not in ("tokens_per_second", "wall_seconds", "title")}
        for row in read(folder / "metrics.jsonl")
        if row["event"] in ("step", "eval", "sample")
    ]
    return load_file(last / "model.safetensors"), load_file(last / "optimizer.safetensors"), rows


def wait_for(folder, step, child):
    """Until a step stands in the journal."""
    for _ in range(600):
        done = [row["step"] for row in read(folder / "metrics.jsonl")]
        if (done and done[-1] >= step) or child.poll() is not None:
            return
        time.sleep(0.02)


def same(one, other):
    assert one[2] == other[2]
    for mine, theirs in zip(one[:2], other[:2], strict=True):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    text(folder / "text.txt")
    code, _, err = finish(run("run", cwd=folder))
    assert code == 0, err
    return end(folder / "run")


@pytest.mark.parametrize("step", [1, 17])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(tmp_path, whole, step):
    text(tmp_path / "text.txt")
    child = run("run", cwd=tmp_path)
    wait_for(tmp_path / "run", step, child)
    child.kill()
    finish(child)
    code, _, err = finish(run("run", "--resume", cwd=tmp_path))
    assert code == 0, err
    same(end(tmp_path / "run"), whole)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM that can be heard")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_asked_to_stop_saves_says_how_to_go_on_and_does(tmp_path, whole, number, code):
    text(tmp_path / "text.txt")
    child = run("run", cwd=tmp_path, every=0)
    wait_for(tmp_path / "run", 5, child)
    child.send_signal(number)
    got, out, err = finish(child)
    assert got == code and "Traceback" not in err
    assert out.splitlines()[-1] == "nanotx train run/recipe.toml --run run --resume"
    assert "and saved" in out
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1
    assert not json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["complete"]
    code, _, err = finish(start(*out.splitlines()[-1].split()[1:], cwd=tmp_path))
    assert code == 0, err
    same(end(tmp_path / "run"), whole)


def test_a_corrupt_checkpoint_is_passed_over_by_name(tmp_path, whole):
    text(tmp_path / "text.txt")
    child = run("run", cwd=tmp_path)
    wait_for(tmp_path / "run", 20, child)
    child.kill()
    finish(child)
    newest = next(iter(checkpoint.steps(tmp_path / "run/checkpoints").values()))
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    code, out, err = finish(run("run", "--resume", cwd=tmp_path))
    assert code == 0, err
    assert "passed over" in out and "model.safetensors: the file is not the one that was saved" in out.replace("\n", "")
    same(end(tmp_path / "run"), whole)


def published(tmp_path):
    folder = tmp_path / "step-4"
    checkpoint.publish(folder, {"a.txt": "text\n", "w.safetensors": {"w": torch.arange(6.0)}})
    return folder


def test_a_checkpoint_that_is_whole_verifies_and_leaves_no_draft(tmp_path):
    verified.verify(published(tmp_path), set())
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]
    assert torch.equal(verified.read_tensors(tmp_path / "step-4/w.safetensors")["w"], torch.arange(6.0))


@pytest.mark.parametrize("name", ["a.txt", "w.safetensors", "MANIFEST.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "zero", "remove"])
def test_any_harm_to_any_file_is_found(tmp_path, name, harm):
    file = published(tmp_path) / name
    data = file.read_bytes()
    harmed = {"flip": bytes([data[0] ^ 4]) + data[1:], "cut": data[:-1], "zero": bytes(len(data))}
    file.unlink() if harm == "remove" else file.write_bytes(harmed[harm])
    if (name, harm) == ("MANIFEST.json", "cut"):
        return  # the last newline is no part of the manifest
    with pytest.raises(RunError, match=name if name != "a.txt" or harm == "remove" else "a.txt: the file is not"):
        verified.verify(file.parent, set())


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path):
    folder = published(tmp_path)
    (folder / "MANIFEST.json").write_text('{"../x": {"bytes": 1, "sha256": ""}}', encoding="utf-8")
    with pytest.raises(RunError, match=r"names '\.\./x', which is no file of this folder"):
        verified.verify(folder, set())


def test_a_disk_that_refuses_leaves_the_old_checkpoint_and_no_draft(tmp_path, monkeypatch):
    folder = published(tmp_path)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(RunError, match=r"the checkpoint cannot be written: .*space left.*earlier ones are untouched"):
        checkpoint.publish(folder, {"a.txt": "new"})
    verified.verify(folder, set())
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"step-{step}").mkdir()
    (tmp_path / ".step-12.99").mkdir()
    checkpoint.prune(tmp_path, keep=2, best=4, newest=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-4", "step-8"]


def test_a_journal_drops_what_was_torn_or_undone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = {"event": "step", "step": 1, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 9.0}
    path.write_text("".join(json.dumps(first | {"step": step}) + "\n" for step in (1, 2)) + '{"ev', encoding="utf-8")
    journal = Journal(path, step=1)
    journal.write(first | {"step": 2, "loss": float("nan")})
    journal.close()
    assert list(read(path)) == [first, first | {"step": 2, "loss": None, "nonfinite": ["loss"]}]
