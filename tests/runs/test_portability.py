"""What only some systems have is done without on the others: a run trains, saves, goes on and writes there too."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A system as poor as they come, in the eyes of our modules alone: what torch and the rest import stays as it is.
POOR = """
import builtins, os, signal, sys, types

MISSING = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "readline", "syslog"}
ABSENT = {
    "os": "sched_getaffinity sched_setaffinity getuid geteuid fork forkpty killpg getpgid setsid nice mkfifo statvfs "
    "O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_CLOEXEC fchmod chown getloadavg sysconf uname".split(),
    "signal": "SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGKILL SIGPIPE SIGTSTP SIGCONT alarm pause pthread_kill".split(),
}


def poor(module):
    names = {name: value for name, value in vars(module).items() if name not in ABSENT[module.__name__]}
    copy = types.ModuleType(module.__name__)
    copy.__dict__.update(names)
    return copy


def open_no_folder(path, *flags, **more):
    if os.path.isdir(path):
        refused.append(os.fspath(path))
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return os.open(path, *flags, **more)


refused = []
eyes = {"os": poor(os), "signal": poor(signal)}
eyes["os"].name, eyes["os"].open = "nt", open_no_folder
plain = builtins.__import__


def look(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and (globals or {}).get("__name__", "").split(".")[0] == "nanotx":
        if name.split(".")[0] in MISSING:
            raise ImportError(f"No module named {name!r}")
        if name in eyes:
            return eyes[name]
    return plain(name, globals, locals, fromlist, level)


builtins.__import__ = look
"""

# Trains two steps and goes on to the third, then tells what it saw of the system.
TRIP = """
import json
from nanotx.runs import checkpoint
from nanotx.hardware import device
from nanotx.training import signals
from nanotx.runs.load import load
from nanotx.recipe import Recipe
from nanotx.cli.run import run

words = sys.argv[2:]
assert run(Recipe(), [*words, "--train.steps", "2"], "first") == 0
assert run(Recipe(), ["--run", sys.argv[1], "--resume", "--train.steps", "3"], "second") == 0
print(json.dumps({
    "system": checkpoint.os.name,
    "affinity": hasattr(device.os, "sched_getaffinity"),
    "hangup": hasattr(signals.signal, "SIGHUP"),
    "refused": refused,
    "text": load(sys.argv[1]).generate("To be", max_new_tokens=5, seed=1),
}))
"""
TINY = """
    --model.dim 16 --model.layers 1 --model.context 8 --attention.heads 2 --train.batch-size 2 --train.sample-tokens 5
    --corpus playhouse --corpus.size 4000 --tokenizer byte --device cpu --dtype float32
"""


def trip(prelude: str, folder: Path) -> dict[str, object]:
    """What a child tells of its trip; without `--threads`, so that it counts the cores itself."""
    code = prelude + TRIP
    words = [str(folder), "--run", str(folder), *TINY.split()]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_run_without_locks_hangups_affinity_and_synced_folders_trains_saves_and_resumes(tmp_path):
    message = trip(POOR, tmp_path / "run")
    text = str(message.pop("text"))
    assert message == {"system": "nt", "affinity": False, "hangup": False, "refused": []}  # no folder was even tried
    assert text.startswith("To be")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["complete"] and summary["steps"] == 3
    steps = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert steps[-1] == "step-3" and not [name for name in steps if name.startswith(".")]  # and no draft is left
    rows = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["step"] for row in rows if json.loads(row)["event"] == "step"] == [1, 2, 3]


def test_system_without_posix_has_no_posix_modules():
    code = POOR + (
        "exec(compile('import fcntl', 'ours', 'exec'), {'__name__': 'nanotx.some', '__builtins__': builtins})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert "ImportError: No module named 'fcntl'" in done.stderr
    code = POOR + (
        "ours = {'__name__': 'nanotx.some', '__builtins__': builtins}\n"
        "exec('import os, signal', ours)\n"
        "assert not hasattr(ours['signal'], 'SIGHUP') and hasattr(signal, 'SIGINT')\n"
        "try:\n    ours['os'].open('.', 0)\nexcept PermissionError:\n    print(len(refused))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.split() == ["1"], done.stderr
