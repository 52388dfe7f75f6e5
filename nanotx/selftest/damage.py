"""A killed run whose files are changed before it is resumed: damage is found and named, a mismatch is refused."""

import hashlib
import json
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from nanotx.runs import checkpoint, valid
from nanotx.runs.checkpoint import MANIFEST
from nanotx.runs.metrics_log import read
from nanotx.selftest import Broken, Case, Finding
from nanotx.selftest.child import Child, run
from nanotx.selftest.tiny_runs import EVERY, KIND, arguments, begin, check_same, last_line, lost, resume, wait_until

FILES = (*sorted(valid.NEEDED), MANIFEST)
HARMS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "a bit flipped": lambda data, draw: flipped(data, draw.randrange(8 * len(data))),
    "cut short": lambda data, draw: data[: draw.randrange(len(data))],
    "zeros": lambda data, draw: bytes(len(data)),
    "missing": lambda data, draw: None,
}


def cases(seed: int) -> list[Case]:
    """Return each case once."""
    return [Case(name=f"damage/{name}", run=run) for name, run in every(seed)]


def every(seed: int) -> Iterator[tuple[str, Callable[[Path], Finding]]]:
    """Yield names and functions of the cases."""
    for file in FILES:
        for harm in HARMS:
            yield f"{file} of the newest checkpoint: {harm}", partial(damaged, file, harm, f"{seed} {file} {harm}")
    yield "every checkpoint damaged", all_damaged
    yield "a torn last line of metrics.jsonl", torn
    yield "a temporary checkpoint of a dead process", leftover
    yield "another corpus", partial(refused, other_text, 3, "corpus of length", True)
    yield "another tokenizer", partial(refused, other_tokenizer, 3, "trained with the tokenizer", False)
    yield "another recipe", other_recipe
    yield "a checkpoint of a newer nanotx", newer


@cache
def killed() -> Path:
    """Return the folder of a run killed after step 12, with checkpoints of steps 8 and 12; made once per process."""
    folder = Path(FOLDER.name) / "killed"
    folder.mkdir()
    child = begin(KIND, folder)
    wait_until(lambda: 3 * EVERY in checkpoint.steps(folder / "run" / "checkpoints"), child)
    child.kill()
    child.finish()
    for step, path in checkpoint.steps(folder / "run" / "checkpoints").items():
        if step not in (2 * EVERY, 3 * EVERY):
            shutil.rmtree(path)
    return folder


FOLDER = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def copied(folder: Path) -> Path:
    """Copy the killed run into a folder; return its newest checkpoint."""
    shutil.copytree(killed(), folder, dirs_exist_ok=True)
    return next(iter(checkpoint.steps(folder / "run" / "checkpoints").values()))


def flipped(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def harm(file: Path, how: str, seed: str) -> None:
    """Damage a file in one of the ways of `HARMS`."""
    data = HARMS[how](file.read_bytes(), random.Random(seed))
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)


def damaged(file: str, how: str, seed: str, folder: Path) -> Finding:
    """Damage the newest checkpoint: it is skipped by name, and the run resumes from the one before it."""
    newest = copied(folder)
    harm(newest / file, how, seed)
    try:
        valid.verify(newest)
    except Exception as error:
        reason = str(error)
    else:
        if file != MANIFEST:
            raise Broken("the damaged checkpoint verifies")
        reason = ""  # a manifest without its last newline is equal
    steps = lost(folder / "run")
    ended = resume(KIND, folder)
    output = ended.out.replace("\n", "")
    if reason and not ("skipped" in output and newest.name in output):
        raise Broken(f"the output does not name the damaged checkpoint: {output[:200]}")
    check_same(KIND, folder / "run")
    return Finding(happened="skipped; equal" if reason else "equal manifest; equal", lost=steps)


def all_damaged(folder: Path) -> Finding:
    """Damage every checkpoint: --resume is refused, and --restart starts at step 0 and sets the old files aside."""
    copied(folder)
    for path in checkpoint.steps(folder / "run" / "checkpoints").values():
        harm(path / "model.safetensors", "zeros", "")
    ended = Child([*arguments(KIND), "--run", "run", "--resume"], folder).finish()
    if ended.code != 4 or "--restart" not in ended.err or "Traceback" in ended.err:
        raise Broken(f"the command ended with {ended.code}: {last_line(ended)}")
    old = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())
    ended = resume(KIND, folder, "--restart")
    if "starts again at step 0" not in ended.out:
        raise Broken("the output does not say that the run restarts")
    if old != sorted(path.name for path in (folder / "run" / "aside-1" / "checkpoints").iterdir()):
        raise Broken("the old checkpoints were not set aside")
    check_same(KIND, folder / "run")
    return Finding(happened="refused; restarted by --restart; equal")


def torn(folder: Path) -> Finding:
    """Append half a row to metrics.jsonl: it is cut off, and nothing before it."""
    copied(folder)
    with (folder / "run" / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"event": "step", "step": 13, "lo\xc3')
    steps = lost(folder / "run")
    resume(KIND, folder)
    check_same(KIND, folder / "run")
    return Finding(happened="cut off; equal", lost=steps)


def leftover(folder: Path) -> Finding:
    """Leave the temporary folder of an interrupted save: it is removed."""
    newest = copied(folder)
    stale = newest.with_name(f".step-99.{2**22 + 1}")
    shutil.copytree(newest, stale)
    steps = lost(folder / "run")
    resume(KIND, folder)
    check_same(KIND, folder / "run")
    if stale.exists():
        raise Broken(f"{stale.name} is still there")
    return Finding(happened="removed; equal", lost=steps)


def other_text(folder: Path) -> None:
    """Prepend a character to the corpus."""
    file = folder / "text.txt"
    file.write_text("a" + file.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")


def other_tokenizer(folder: Path) -> None:
    """Replace the tokenizer by one whose characters have another order."""
    file = folder / "run" / "tokenizer.json"
    argv = ["tokenizer", "train", "char", "other.txt", "--out", str(file)]
    (folder / "other.txt").write_text("zyxabcde \n", encoding="utf-8")
    ended = run(argv, folder)
    if ended.code != 0:
        raise Broken(f"the other tokenizer could not be trained: {last_line(ended)}")


def refused(change: Callable[[Path], None], code: int, message: str, allowed: bool, folder: Path) -> Finding:
    """Change the run: --resume refuses it and names the remedy; where `allowed`, --allow-mismatch resumes it."""
    copied(folder)
    change(folder)
    ended = Child([*arguments(KIND), "--run", "run", "--resume"], folder).finish()
    if ended.code != code or "Traceback" in ended.err or not re.search(f"(?s){message}.*--allow-mismatch", ended.err):
        raise Broken(f"the command ended with {ended.code}: {last_line(ended)}")
    if allowed:
        resume(KIND, folder, "--allow-mismatch")
    return Finding(happened="refused" + ("; resumed by --allow-mismatch" if allowed else ""))


def other_recipe(folder: Path) -> Finding:
    """Change a learning rate, which is refused by name; then only the steps and the evaluations, which is allowed."""
    copied(folder)
    ended = Child([*arguments(KIND, optimizer_lr=0.5), "--run", "run", "--resume"], folder).finish()
    message = r"(?s)optimizer\.lr was [0-9.]+, not 0\.5.*--allow-mismatch"
    if ended.code != 2 or not re.search(message, ended.err):
        raise Broken(f"the command ended with {ended.code}: {last_line(ended)}")
    resume(KIND, folder, train_eval_every=5, train_steps=20)
    rows = [row["step"] for row in read(folder / "run" / "metrics.jsonl") if row["event"] == "step"]
    if rows != list(range(1, 21)):
        raise Broken(f"metrics.jsonl has the steps {rows}")
    return Finding(happened="refused by name; a longer run is allowed")


def newer(folder: Path) -> Finding:
    """Write a checkpoint format of the future, with digests that fit: it is refused."""
    for path in [copied(folder), *checkpoint.steps(folder / "run" / "checkpoints").values()]:
        state = json.loads((path / "trainer.json").read_text(encoding="utf-8"))
        text = json.dumps(state | {"format": 99})
        (path / "trainer.json").write_text(text, encoding="utf-8")
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        manifest["trainer.json"] = {"bytes": len(text.encode("utf-8")), "sha256": digest}
        (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for argv in (["sample", "run"], [*arguments(KIND), "--run", "run", "--resume"]):
        ended = run(argv, folder)
        if ended.code != 4 or "format 99" not in ended.err or "Traceback" in ended.err:
            raise Broken(f"the command ended with {ended.code}: {last_line(ended)}")
    return Finding(happened="refused by its format")
