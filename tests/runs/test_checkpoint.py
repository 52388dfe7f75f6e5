"""Checkpoints are published whole, and believed only when every digest agrees; whole runs: test_selftest.py."""

import json

import pytest
import torch

from nanotx import disk
from nanotx.errors import RunError
from nanotx.runs import checkpoint, valid
from nanotx.runs.metrics_log import MetricsLog, read

DEAD = 2**22 + 1
"""The number of no process."""


def published(tmp_path):
    folder = tmp_path / "step-4"
    checkpoint.write_atomic(folder, {"a.txt": "text\n", "w.safetensors": {"w": torch.arange(6.0)}})
    return folder


def test_whole_checkpoint_verifies_and_leaves_no_temporary_file(tmp_path):
    valid.verify(published(tmp_path), set())
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]
    assert torch.equal(valid.read_tensors(tmp_path / "step-4/w.safetensors")["w"], torch.arange(6.0))


@pytest.mark.parametrize("name", ["a.txt", "w.safetensors", "MANIFEST.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "zero", "remove"])
def test_any_damage_to_any_file_is_detected(tmp_path, name, harm):
    file = published(tmp_path) / name
    data = file.read_bytes()
    harmed = {"flip": bytes([data[0] ^ 4]) + data[1:], "cut": data[:-1], "zero": bytes(len(data))}
    file.unlink() if harm == "remove" else file.write_bytes(harmed[harm])
    if (name, harm) == ("MANIFEST.json", "cut"):
        return  # the last newline is no part of the manifest
    with pytest.raises(RunError, match=name if name != "a.txt" or harm == "remove" else "a.txt: the file is not"):
        valid.verify(file.parent, set())


def test_manifest_cannot_name_a_file_elsewhere(tmp_path):
    folder = published(tmp_path)
    (folder / "MANIFEST.json").write_text('{"../x": {"bytes": 1, "sha256": ""}}', encoding="utf-8")
    with pytest.raises(RunError, match=r"names '\.\./x', which is not a file of this folder"):
        valid.verify(folder, set())


def test_failing_disk_leaves_the_old_checkpoint_and_no_temporary_file(tmp_path, monkeypatch):
    folder = published(tmp_path)

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(RunError, match=r"the checkpoint cannot be written: .*space left.*earlier ones are untouched"):
        checkpoint.write_atomic(folder, {"a.txt": "new"})
    valid.verify(folder, set())
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]


def test_newest_two_and_the_best_are_kept(tmp_path):
    for step in (2, 4, 6, 8, 10):
        checkpoint.write_atomic(tmp_path / f"step-{step}", {"a.txt": "a"})
    (tmp_path / f".step-12.{DEAD}").mkdir()
    checkpoint.prune(tmp_path, keep=2, best=4, newest=10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-4", "step-8"]


def test_metrics_log_drops_torn_and_undone_rows(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = {"event": "step", "step": 1, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 9.0}
    path.write_text("".join(json.dumps(first | {"step": step}) + "\n" for step in (1, 2)) + '{"ev', encoding="utf-8")
    log = MetricsLog(path, step=1)
    log.write(first | {"step": 2, "loss": float("nan")})
    log.close()
    assert list(read(path)) == [first, first | {"step": 2, "loss": None, "nonfinite": ["loss"]}]


@pytest.mark.parametrize("eval_pending", [False, True])
def test_evaluations_at_a_checkpoints_step_are_cut_from_the_metrics_log_only_where_pending(tmp_path, eval_pending):
    path, loss = tmp_path / "metrics.jsonl", {"train_loss": 1.0, "val_loss": 1.0, "bits_per_byte": 1.0}
    numbers = {"loss": 1.0, "grad_norm": 1.0, "lr": 1.0, "tokens_per_second": 1.0}
    written = MetricsLog(path, step=0)
    for step in (1, 2):
        written.write({"event": "step", "step": step, **numbers})
        written.write({"event": "eval", "step": step, **loss})
        written.write({"event": "sample", "step": step, "text": "a"})
    written.close()
    MetricsLog(path, step=2, eval_pending=eval_pending).close()
    looks = [(row["event"], row["step"]) for row in read(path) if row["event"] != "step"]
    assert looks == [("eval", 1), ("sample", 1), *([] if eval_pending else [("eval", 2), ("sample", 2)])]
