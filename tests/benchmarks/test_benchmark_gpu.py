"""`benchmarks/gpu.py`: what was measured is whole whenever it is stopped, and the next call takes up the rest."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, python

PROGRAM = ROOT / "benchmarks" / "gpu.py"

# The program with three jobs that take a fraction of a second, one that fails, and one that has no end.
FAKE = f"""
import sys
sys.path[:0] = [{str(PROGRAM.parent)!r}, {str(ROOT)!r}]
import gpu
from harness.gpu_jobs import Job, figures
from nanotx.cli.entry import run_and_exit

def job(name, code, minutes=1.0):
    head = "import json, pathlib, sys, time; out = pathlib.Path(sys.argv[1]);"
    words = lambda place: [sys.executable, "-c", head + code, str(place.json)]
    return Job(name=name, about=name, minutes=minutes, command=words, result=figures)

def fine(name):
    return job(name, f"time.sleep(0.15); out.write_text(json.dumps({{{{'rows': [{{name!r}}]}}}}))")

gpu.JOBS = (fine("a"), job("broken", "print('out of memory'); sys.exit(3)"), fine("b"),
            job("endless", "out.write_text('[1'); time.sleep(60)", 0.005), fine("c"))
gpu.commit = lambda: "0123456789ab"
gpu.check_packages = lambda: None
gpu.check_device = lambda name: ("cpu", {{}})
gpu.check_data = lambda jobs, quick: None
run_and_exit(gpu.main)
"""


def start(out, *words):
    command = [sys.executable, "-c", FAKE, "--out", str(out), "--device", "cpu", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")


def results(out):
    (file,) = out.glob("gpu-*.json")
    return {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}


def program(*words):
    return python(PROGRAM, *words)


def test_job_that_fails_or_hangs_is_a_row_and_the_next_job_runs(tmp_path):
    child = start(tmp_path)
    message, _ = child.communicate(timeout=60)
    rows = results(tmp_path)
    assert [row["status"] for row in rows.values()] == ["done", "failed", "done", "cut off", "done"], message
    assert rows["a"]["result"] == {"rows": ["a"]} and rows["a"]["commit"] == "0123456789ab"
    assert rows["broken"]["reason"] == "exit code 3: out of memory" and "out of memory" in rows["broken"]["log"]
    assert "seconds were up" in rows["endless"]["reason"] and rows["endless"]["result"] is None
    assert child.returncode == 1


def test_what_the_minutes_do_not_allow_is_not_begun_and_is_taken_up_by_the_next_call(tmp_path):
    child = start(tmp_path, "--minutes", "0.01")
    message, _ = child.communicate(timeout=60)
    assert {row["status"] for row in results(tmp_path).values()} == {"not begun"} and "--skip-done" in message
    assert child.returncode == 0
    start(tmp_path, "--only", "a", "b").communicate(timeout=60)
    again, _ = start(tmp_path, "--skip-done", "--only", "a", "c").communicate(timeout=60)
    assert "a                done before" in again
    assert {name for name, row in results(tmp_path).items() if row["status"] == "done"} == {"a", "b", "c"}


@pytest.mark.slow
def test_killed_at_any_of_twenty_moments_the_file_is_whole_and_the_next_call_ends_the_work(tmp_path):
    draw, finished = random.Random(16), 0
    for moment in range(20):
        out = tmp_path / str(moment)
        child = start(out)
        time.sleep(draw.uniform(0.1, 2.0))
        child.kill()
        child.communicate()
        before = results(out) if list(out.glob("gpu-*.json")) else {}
        finished += len(before)
        assert all(row["status"] in ("done", "failed", "cut off") for row in before.values())
        if moment % 5 == 0:
            start(out, "--skip-done").communicate(timeout=60)
            after = results(out)
            assert [row["status"] for row in after.values()] == ["done", "failed", "done", "cut off", "done"]
            assert all(after[name] == row for name, row in before.items() if row["status"] == "done")
    assert finished  # or every kill came too early to show anything


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_signal_during_a_job_is_a_row_and_leaves_nothing_running(tmp_path):
    child = start(tmp_path, "--only", "endless", "c")
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("gpu-*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    message, _ = child.communicate(timeout=30)
    assert child.returncode == 143 and "cut off by signal 15" in message
    assert [row["status"] for row in results(tmp_path).values()] == ["cut off"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--only attn baby", r"--only baby: no such job. Did you mean 'baby_gpt'\? Known: device, laws_float32"),
        ("--device cuda:9", r"--device cuda:9: (torch .* can use no GPU here|there are \d GPUs here)"),
        ("--device gpu", r"--device: expected cuda, cuda:N or cpu, got 'gpu'"),
        ("--minutes 0", r"--minutes: expected a number above 0, got 0"),
        ("--device cpu --quick --nanogpt nowhere", r"--nanogpt nowhere: expected a checkout of nanoGPT"),
        ("--publish nowhere.json", r"--publish nowhere.json: cannot be read as results"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_a_minute_is_spent(tmp_path, words, message):
    done = program("--out", tmp_path / "out", *words.split())
    assert done.returncode in (2, 4) and re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "out").exists() and "Traceback" not in done.stderr


def test_unwritable_folder_and_foreign_file_are_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = program("--device", "cpu", "--quick", "--out", tmp_path / "file" / "out")
    assert done.returncode == 4 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
    child = start(tmp_path / "other")
    child.communicate(timeout=60)
    (file,) = (tmp_path / "other").glob("*.json")
    file.write_text('{"rows": 5}', encoding="utf-8")
    message, _ = start(tmp_path / "other").communicate(timeout=60)
    assert "holds no results of this program" in message and file.read_text(encoding="utf-8") == '{"rows": 5}'


def test_missing_packages_are_named_with_their_wheels(monkeypatch):
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        import gpu
    finally:
        sys.path.remove(str(PROGRAM.parent))
    installed = {"torch": "2.9.1+cu126", "numpy": "2.4.6"}
    monkeypatch.setattr(gpu, "version", installed.get)
    with pytest.raises(
        Exception,
        match=r"torch==2\.\d+\.\d+ \(found 2\.9\.1\+cu126\).*jaxtyping==.*wadler-lindig \(needed by jaxtyping",
    ):
        gpu.check_packages()


def test_checkout_of_nanogpt_is_named_to_the_peers_alone(tmp_path):
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        from harness.gpu_jobs import JOBS, Place
    finally:
        sys.path.remove(str(PROGRAM.parent))
    for quick in (False, True):
        place = Place(device="cpu", quick=quick, scratch=tmp_path, nanogpt="/my code/nanoGPT")
        commands = {job.name: job.command(place) for job in JOBS}
        assert [name for name, words in commands.items() if "/my code/nanoGPT" in words] == ["peers"]
        assert all("{" not in word for words in commands.values() for word in words)


def test_interrupted_run_reports_how_far_it_came(tmp_path):
    sys.path.insert(0, str(PROGRAM.parent))
    try:
        from harness.gpu_jobs import Place, run_figures
    finally:
        sys.path.remove(str(PROGRAM.parent))
    (tmp_path / "run").mkdir()
    rows = [{"event": "start", "step": 0, "steps": 5000}]
    rows += [{"event": "step", "step": step, "tokens_per_second": 10.0 * step} for step in range(1, 22)]
    rows += [{"event": "eval", "step": 10, "train_loss": 1.2, "val_loss": 1.5, "wall_seconds": 9.0}]
    rows += [{"event": "eval", "step": 20, "train_loss": 1.1, "val_loss": 1.46, "wall_seconds": 18.0}]
    lines = "".join(json.dumps(row) + "\n" for row in rows) + '{"event": "step", "st'
    Path(tmp_path, "run", "metrics.jsonl").write_text(lines, encoding="utf-8")
    result = run_figures(Place(device="cpu", quick=False, scratch=tmp_path))
    assert result["steps"] == 21 and result["of_steps"] == 5000 and result["summary"] is None
    assert (result["target_step"], result["target_wall_seconds"]) == (20, 18.0)


@pytest.mark.slow
def test_every_job_ends_in_a_row_with_figures_on_a_cpu(tmp_path):
    done = program("--device", "cpu", "--quick", "--minutes", "9", "--out", tmp_path)
    rows = results(tmp_path)
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == dict.fromkeys(rows, ("done", None))
    assert len(rows) == done.stdout.count(" done ") == 16, done.stdout
