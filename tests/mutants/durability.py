"""Bugs of what a run writes to the disk, each planted by changing an attribute, and what the law of durability says."""

import threading
from contextlib import nullcontext

import nanotx.disk
import nanotx.runs.metrics_log
import nanotx.runs.session

CATCHES: dict[str, str] = {}
"""None of them is a part."""

SYNC, FLUSH, PUBLISH = nanotx.disk.sync, nanotx.runs.metrics_log.MetricsLog.sync, nanotx.runs.session.write_atomic


def manifest_first(path, held=[]):  # noqa: B006  it holds what is not flushed yet
    if not path.parent.name.startswith(".step-"):
        for item in sorted(held, key=lambda value: value.name != "MANIFEST.json"):
            SYNC(item)
        held.clear()
        return SYNC(path)
    return held.append(path)


def late_row(log):
    FLUSH(log)
    log.write({"event": "warning", "step": 1, "text": "late"})


def unlocked(log):
    """The metrics log is flushed, and a row of another thread comes before the checkpoint gets its name."""
    FLUSH(log)
    row = {"event": "warning", "step": 1, "text": "beside"}
    thread = threading.Thread(target=log.write, args=(row,))
    log.lock = nullcontext()
    thread.start()
    thread.join()


def written_to_later(path, content):
    PUBLISH(path, content)
    with path.open("a", encoding="utf-8") as file:
        file.write("\n")


BUGS = {
    "files are renamed before they are flushed": (
        "not flushed, as it is, before the rename",
        (nanotx.disk, "sync", lambda path: SYNC(path) if path.is_dir() else None),
    ),
    "a checkpoint's folder is not flushed": (
        r"step-1: \. was not flushed",
        (nanotx.disk, "sync", lambda path: None if path.name.startswith(".step-") else SYNC(path)),
    ),
    "the folder above is not flushed": (
        "its folder not flushed before",
        (nanotx.disk, "sync", lambda path: None if path.name == "checkpoints" else SYNC(path)),
    ),
    "the run's folder is not flushed": (
        "its folder not flushed before",
        (nanotx.disk, "sync", lambda path: None if path.name == "run" else SYNC(path)),
    ),
    "a manifest is flushed first": ("flushed after MANIFEST.json", (nanotx.disk, "sync", manifest_first)),
    "the metrics log is not flushed before a checkpoint": (
        "before metrics.jsonl, to which it refers, was flushed",
        (nanotx.runs.metrics_log.MetricsLog, "sync", lambda self: None),
    ),
    "the metrics log is flushed, and then a row is written": (
        "before metrics.jsonl, to which it refers, was flushed",
        (nanotx.runs.metrics_log.MetricsLog, "sync", late_row),
    ),
    "the metrics log is flushed, and another thread does not wait with its row": (
        "before metrics.jsonl, to which it refers, was flushed",
        (nanotx.runs.metrics_log.MetricsLog, "sync", unlocked),
    ),
    "a summary is written under its final name": (
        "summary.json was written under its final name",
        (nanotx.runs.session, "write_atomic", lambda path, content: path.write_text(content, encoding="utf-8")),
    ),
    "a file is written to after it was published": (
        r"\w+\.\w+ was written to after it was published",
        (nanotx.runs.session, "write_atomic", written_to_later),
    ),
}
