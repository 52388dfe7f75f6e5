"""A run's folder spoilt while nobody worked on it: what is broken is found and named, what is another's is refused."""

import hashlib
import json
import random
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
from nanotx.selftest.small import EVERY, KIND, argv, begin, lost, resume, same, tail, until

FILES = (*sorted(valid.NEEDED), MANIFEST)
HARMS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "a bit flipped": lambda data, draw: flipped(data, draw.randrange(8 * len(data))),
    "cut short": lambda data, draw: data[: draw.randrange(len(data))],
    "zeros": lambda data, draw: bytes(len(data)),
    "missing": lambda data, draw: None,
}


def cases(seed: int) -> list[Case]:
    """Each of these once."""
    return [Case(name=f"damage/{name}", run=run) for name, run in every(seed)]


def every(seed: int) -> Iterator[tuple[str, Callable[[Path], Finding]]]:
    """Names, and what is done."""
    for file in FILES:
        for harm in HARMS:
            yield f"{file} of the newest checkpoint: {harm}", partial(spoilt, file, harm, f"{seed} {file} {harm}")
    yield "every checkpoint spoilt", all_spoilt
    yield "a last line of metrics.jsonl that was torn", torn
    yield "a draft of a process that is dead", draft
    yield "another corpus", partial(refused, other_text, 3, "corpus of .* characters", True)
    yield "another tokenizer", partial(refused, other_tokenizer, 3, "trained with the tokenizer", False)
    yield "a recipe told otherwise", recipe_told_otherwise
    yield "a checkpoint of a newer nanotx", newer


@cache
def killed() -> Path:
    """A run with checkpoints of steps 8 and 12, killed after that; it lies there for as long as this process."""
    folder = Path(HELD.name) / "killed"
    folder.mkdir()
    child = begin(KIND, folder)
    until(lambda: 3 * EVERY in checkpoint.steps(folder / "run" / "checkpoints"), child)
    child.kill()
    child.finish()
    for step, path in checkpoint.steps(folder / "run" / "checkpoints").items():
        if step not in (2 * EVERY, 3 * EVERY):
            shutil.rmtree(path)
    return folder


HELD = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def copied(folder: Path) -> Path:
    """A copy of the killed run; returns its newest checkpoint."""
    shutil.copytree(killed(), folder, dirs_exist_ok=True)
    return next(iter(checkpoint.steps(folder / "run" / "checkpoints").values()))


def flipped(data: bytes, bit: int) -> bytes:
    """Bytes with one bit the other way."""
    spoilt = bytearray(data)
    spoilt[bit // 8] ^= 1 << bit % 8
    return bytes(spoilt)


def harm(file: Path, how: str, seed: str) -> None:
    """Do harm to a file."""
    data = HARMS[how](file.read_bytes(), random.Random(seed))
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)


def spoilt(file: str, how: str, seed: str, folder: Path) -> Finding:
    """The newest checkpoint is passed over by name, and the one before it is taken."""
    newest = copied(folder)
    harm(newest / file, how, seed)
    try:
        valid.verify(newest)
    except Exception as error:
        reason = str(error)
    else:
        if file != MANIFEST:
            raise Broken("it verifies all the same")
        reason = ""  # a manifest with a space or newline less says the same
    gone = lost(folder / "run")
    ended = resume(KIND, folder)
    said = ended.out.replace("\n", "")
    if reason and not ("passed over" in said and newest.name in said):
        raise Broken(f"nothing was said of it: {said[:200]}")
    same(KIND, folder / "run")
    return Finding(happened="passed over; equal" if reason else "says the same; equal", lost=gone)


def all_spoilt(folder: Path) -> Finding:
    """There is nothing to resume from: that is refused, and --restart begins anew and sets the old files aside."""
    copied(folder)
    for path in checkpoint.steps(folder / "run" / "checkpoints").values():
        harm(path / "model.safetensors", "zeros", "")
    ended = Child([*argv(KIND), "--run", "run", "--resume"], folder).finish()
    if ended.code != 4 or "--restart" not in ended.err or "Traceback" in ended.err:
        raise Broken(f"it ended with {ended.code}: {tail(ended)}")
    old = sorted(path.name for path in (folder / "run" / "checkpoints").iterdir())
    ended = resume(KIND, folder, "--restart")
    if "begins anew at step 0" not in ended.out:
        raise Broken("it does not say that it begins anew")
    if old != sorted(path.name for path in (folder / "run" / "aside-1" / "checkpoints").iterdir()):
        raise Broken("the old checkpoints were not set aside")
    same(KIND, folder / "run")
    return Finding(happened="refused; begins anew with --restart; equal")


def torn(folder: Path) -> Finding:
    """The line is cut away, and nothing before it."""
    copied(folder)
    with (folder / "run" / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"event": "step", "step": 13, "lo\xc3')
    before = lost(folder / "run")
    resume(KIND, folder)
    same(KIND, folder / "run")
    return Finding(happened="cut away; equal", lost=before)


def draft(folder: Path) -> Finding:
    """It is cleared away."""
    newest = copied(folder)
    stale = newest.with_name(f".step-99.{2**22 + 1}")
    shutil.copytree(newest, stale)
    gone = lost(folder / "run")
    resume(KIND, folder)
    same(KIND, folder / "run")
    if stale.exists():
        raise Broken(f"{stale.name} is still there")
    return Finding(happened="cleared away; equal", lost=gone)


def other_text(folder: Path) -> None:
    """The corpus gets one letter more."""
    file = folder / "text.txt"
    file.write_text("a" + file.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")


def other_tokenizer(folder: Path) -> None:
    """The tokenizer's letters stand in another order."""
    file = folder / "run" / "tokenizer.json"
    told = ["tokenizer", "train", "char", "other.txt", "--out", str(file)]
    (folder / "other.txt").write_text("zyxabcde \n", encoding="utf-8")
    ended = run(told, folder)
    if ended.code != 0:
        raise Broken(f"no other tokenizer could be made: {tail(ended)}")


def refused(change: Callable[[Path], None], code: int, said: str, goes_on: bool, folder: Path) -> Finding:
    """What has changed is refused with a message that tells the way out; told so, the run goes on with it."""
    import re

    copied(folder)
    change(folder)
    told = [*argv(KIND), "--run", "run", "--resume"]
    ended = Child(told, folder).finish()
    if ended.code != code or "Traceback" in ended.err or not re.search(f"(?s){said}.*--allow-mismatch", ended.err):
        raise Broken(f"it ended with {ended.code}: {tail(ended)}")
    if goes_on:
        resume(KIND, folder, "--allow-mismatch")
    return Finding(happened="refused" + ("; goes on when told so" if goes_on else ""))


def recipe_told_otherwise(folder: Path) -> Finding:
    """Another rate is refused, and taken when told so; a longer run and other looks are taken at once."""
    copied(folder)
    told = [*argv(KIND, optimizer_lr=0.5), "--run", "run", "--resume"]
    ended = Child(told, folder).finish()
    if ended.code != 2 or "optimizer.lr was 0.01, not 0.5" not in ended.err or "--allow-mismatch" not in ended.err:
        raise Broken(f"it ended with {ended.code}: {tail(ended)}")
    resume(KIND, folder, train_eval_every=5, train_steps=20)
    rows = [row["step"] for row in read(folder / "run" / "metrics.jsonl") if row["event"] == "step"]
    if rows != list(range(1, 21)):
        raise Broken(f"the journal tells of the steps {rows}")
    return Finding(happened="refused by name; a longer run is taken")


def newer(folder: Path) -> Finding:
    """It is refused by its format, though every digest is right."""
    for path in [copied(folder), *checkpoint.steps(folder / "run" / "checkpoints").values()]:
        state = json.loads((path / "trainer.json").read_text(encoding="utf-8"))
        text = json.dumps(state | {"format": 99})
        (path / "trainer.json").write_text(text, encoding="utf-8")
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        manifest["trainer.json"] = {"bytes": len(text.encode("utf-8")), "sha256": digest}
        (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    for told in (["sample", "run"], [*argv(KIND), "--run", "run", "--resume"]):
        ended = run(told, folder)
        if ended.code != 4 or "format 99" not in ended.err or "Traceback" in ended.err:
            raise Broken(f"it ended with {ended.code}: {tail(ended)}")
    return Finding(happened="refused by its format")
