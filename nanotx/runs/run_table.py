"""The runs of a folder as a table: what each was trained with, and what it reached.

A recipe is read as a plain table, so that runs with parts of files that are not loaded, or of another version, are
listed too. A run that cannot be read in full is listed with what can be read of it, and a note says what is missing.
"""

import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanotx import __version__
from nanotx.config.toml import read_toml
from nanotx.errors import ConfigError, NanotxError, RunError, did_you_mean
from nanotx.runs.folder import RunFolder, run_meant
from nanotx.runs.history import EVAL_KEYS, OWN_KEYS
from nanotx.runs.metrics_log import Row, read
from nanotx.runs.resume_check import leaves
from nanotx.runs.valid import read_json

DEPTH = 4
"""Folders below the one that is named in which runs are looked for."""

Scalar = int | float | str
FIGURES = ("step", "val_loss", "bits_per_byte", "train_seconds", "tokens_per_second")
"""Figures of a run that are shown where no columns are named."""


@dataclass(kw_only=True)
class RunRow:
    """A run, as far as its folder can be read."""

    name: str  # the path of its folder
    recipe: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)  # by field, such as attention.heads
    parts: dict[str, str] = field(default_factory=dict)  # the part that each of these fields belongs to
    figures: dict[str, Scalar] = field(default_factory=dict)  # results
    curve: list[tuple[int, float]] = field(default_factory=list)  # steps and validation losses
    corpus_sha256: str = ""
    notes: list[str] = field(default_factory=list)  # what is wrong with the folder

    def values(self, column: str) -> tuple[Scalar, ...]:
        """Return the values of a column; none if the run lacks it, several if its blocks differ."""
        if column == "run":
            return (self.name,)
        return self.recipe.get(column) or ((self.figures[column],) if column in self.figures else ())

    def value(self, column: str) -> Scalar | None:
        """Return the value of a column, several as one text; None if the run lacks it."""
        values = self.values(column)
        return values[0] if len(values) == 1 else ", ".join(map(str, values)) or None

    def to_json(self) -> dict[str, Any]:
        """Return all that is known of the run as plain values."""
        recipe = {name: list(values) if len(values) > 1 else values[0] for name, values in self.recipe.items()}
        return {"run": self.name, **self.figures, "recipe": recipe, "notes": self.notes}


# Reading.


def find_runs(folders: Iterable[str]) -> list[str]:
    """Return the paths of the runs in some folders, in natural order; a folder that is a run is itself one.

    Links are not followed, and the folder of a run is not searched for others.

    Raises:
        RunError: a folder is missing, cannot be read, or holds no run.
    """
    return list(dict.fromkeys(run for folder in folders for run in runs_below(folder)))


def runs_below(folder: str) -> list[str]:
    """Return the paths of the runs in a folder, or the folder itself."""
    top = Path(folder)
    if not top.is_dir():
        what = "not a folder" if top.exists() else "there is no such folder"
        raise RunError(f"{folder}: {what}; expected a run, or a folder of runs.{run_meant(top)}")
    if RunFolder(top).is_run:
        return [folder]
    paths = list[str]()
    for path, names, _ in os.walk(top, onerror=refuse):
        here = Path(path)
        inner = [here / name for name in names if not name.startswith(".")]
        paths += [str(below) for below in inner if is_run(below)]
        deeper = len(here.relative_to(top).parts) + 1 < DEPTH
        names[:] = [below.name for below in inner if deeper and not is_run(below)]
    if not paths:
        raise RunError(
            f"{folder}: no runs here; a run is a folder with a recipe.toml and a metrics.jsonl. "
            "nanotx train makes one in runs/."
        )
    return sorted(paths, key=natural)


RECORDS = ("experiment.json", "card.json", "tuning.json")
"""Files of which each folder of an experiment has one."""


def experiment_of(run: str, folders: Sequence[str]) -> str | None:
    """Return the folder of the experiment that a run is part of; None if there is none below the folders named."""
    named, experiment = {Path(folder) for folder in folders}, None
    for folder in Path(run).parents:
        if folder in named:
            break
        if any((folder / record).is_file() for record in RECORDS):
            experiment = str(folder)
    return experiment


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run; False where its name is not UTF-8, or it cannot be read."""
    try:
        return RunFolder(folder).is_run
    except (OSError, RunError):
        return False


def refuse(error: OSError) -> None:
    """Raise RunError for a folder that cannot be listed."""
    raise RunError(f"{error.filename}: cannot be read: {error.strerror}.")


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in a text by their size."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", text)]


def read_run(name: str) -> RunRow:
    """Return what a run's folder says; nothing that is wrong with it raises."""
    folder, run = RunFolder(Path(name)), RunRow(name=name)
    read_recipe(folder, run)
    read_metrics(folder, run)
    read_summary(folder, run)
    return run


def read_recipe(folder: RunFolder, run: RunRow) -> None:
    """Read the fields of the recipe; of slots in several blocks, all distinct values."""
    try:
        table = read_toml(folder.recipe)
    except NanotxError as error:
        run.notes.append(str(error))
        return
    keys = dict(leaves(table))
    for key, value in keys.items():
        name, owner = short_name(key, keys)
        shown = value if is_plain(value) else str(value).lower() if isinstance(value, bool) else str(value)
        run.recipe[name] = tuple(dict.fromkeys([*run.recipe.get(name, ()), shown]))
        run.parts[name] = str(keys.get(f"{owner}.part", ""))


def short_name(key: str, keys: dict[str, Any]) -> tuple[str, str]:
    """Return the name of a recipe's field as flags spell it, and the table of the part that it belongs to.

    `model.block.attention.heads` is `attention.heads`, and `model.block.attention.part` is `attention`.
    """
    words = key.split(".")
    for end in range(len(words) - 1, 0, -1):
        owner = ".".join(words[:end])
        if f"{owner}.part" in keys:
            slot = next(word for word in reversed(words[:end]) if not word.isdecimal())
            return slot if words[end:] == ["part"] else ".".join([slot, *words[end:]]), owner
    return key, ""


def read_metrics(folder: RunFolder, run: RunRow) -> None:
    """Read the newest figures of the metrics log, and the curve of the validation loss."""
    step, evals, rows = 0, list[Row](), 0
    try:
        for row in read(folder.metrics):
            rows, step = rows + 1, max(step, row["step"])
            if row["event"] in ("start", "resume"):
                run.figures["steps"] = row["steps"]
            own = {"step": OWN_KEYS, "eval": EVAL_KEYS}.get(row["event"])
            if own is not None:  # metrics that parts or callbacks added
                run.figures |= {key: value for key, value in row.items() if key not in own and is_plain(value)}
            if row["event"] == "eval":
                evals.append(row)
    except RunError as error:
        run.notes.append(str(error))
    if not rows:
        run.notes.append(f"{folder.metrics}: missing or empty; the run has no figures.")
        run.figures["status"] = "no metrics"
        return
    run.figures |= {"status": "unfinished", "step": step}
    run.curve = [(row["step"], row["val_loss"]) for row in evals if row["val_loss"] is not None]
    if evals:
        run.figures |= {key: value for key, value in evals[-1].items() if key in EVAL_KEYS and is_plain(value)}
        run.figures |= {"step": step, "status": "unfinished"}
        del run.figures["event"]
    if run.curve:
        run.figures["best_step"], run.figures["best_val_loss"] = min(run.curve, key=lambda point: point[1])


def read_summary(folder: RunFolder, run: RunRow) -> None:
    """Add the figures of summary.json, unless the run has been trained on since it was written."""
    if not folder.summary.exists():
        return
    try:
        summary = read_json(folder.summary)
    except (OSError, RunError) as error:
        run.notes.append(str(error))
        return
    run.corpus_sha256 = str(summary.get("corpus_sha256", ""))
    versions = summary.get("versions")
    if isinstance(versions, dict) and version(str(versions.get("nanotx"))) > version(__version__):
        run.notes.append(f"{run.name}: written by nanotx {versions['nanotx']!s:.40}, newer than this {__version__}.")
    if summary.get("steps") != run.figures.get("step", summary.get("steps")):
        return
    figures = {"step" if key == "steps" else key: value for key, value in summary.items() if is_plain(value)}
    run.figures = figures | run.figures
    if summary.get("complete") is True and run.figures.get("status") == "unfinished":
        run.figures["status"] = "complete"


def version(text: str) -> list[int]:
    """Return the numbers of a version, for comparison."""
    return [int(word) for word in re.findall(r"\d{1,9}", text)[:3]]


def is_plain(value: object) -> bool:
    """Return whether a value is a finite number or a text."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int | str) and not isinstance(value, bool)


# Choosing.


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Condition:
    """A condition on a column, such as `ffn=relu2` or `val_loss<1.5`."""

    column: str
    operator: str
    word: str

    def __call__(self, run: RunRow) -> bool:
        """Return whether a run meets the condition; one that lacks the column meets only `!=`."""
        met = [self.holds(value) for value in run.values(self.column)]
        return all(met) if self.operator == "!=" else any(met)

    def holds(self, value: Scalar) -> bool:
        """Return whether a value meets the condition: a text is compared as a text, a number as a number."""
        wanted = self.word if isinstance(value, str) else number(self.word)
        if wanted is None:
            return self.operator == "!="
        return OPERATORS[self.operator](value, wanted)


def read_condition(text: str, runs: Sequence[RunRow]) -> Condition:
    """Return the condition that a text states.

    Raises:
        ConfigError: it states none, or names a column that no run has.
    """
    match = re.fullmatch(r"\s*([^=!<>\s]+)\s*(!=|<=|>=|=|<|>)=?\s*(.*?)\s*", text)
    if match is None or not match[3]:
        raise ConfigError(
            f"--where {text}: expected a field, one of {' '.join(OPERATORS)}, and a value, such as 'ffn=relu2' or "
            "'val_loss<1.5'."
        )
    column, sign, word = match.groups()
    return Condition(check_column("--where", column, runs), sign, word)


def number(word: str) -> int | float | None:
    """Return a word as a number; None if it is none."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(word.replace(",", ""))
    return None


def columns_of(runs: Sequence[RunRow]) -> list[str]:
    """Return every column that a run has, in the order of the runs."""
    return list(dict.fromkeys(["run", *(name for run in runs for name in (*run.recipe, *run.figures))]))


def check_column(flag: str, name: str, runs: Sequence[RunRow]) -> str:
    """Return the column of a name; `-` and `_` are one, and a field may be named by its last word alone.

    Raises:
        ConfigError: no run has such a column, or several columns end in this word.
    """
    known, wanted = columns_of(runs), name.replace("-", "_")
    if wanted in known:
        return wanted
    if len(near := [column for column in known if column.endswith(f".{wanted}")]) == 1:
        return near[0]
    if near:
        raise ConfigError(f"{flag} {name}: is it {' or '.join(near)}?")
    if len(near := [column for column in known if wanted.endswith(f".{column}")]) == 1:  # model.block.ffn
        return near[0]
    words = dict.fromkeys([*known, *(column.rpartition(".")[2] for column in known)])
    shown = ", ".join(known[:12])
    raise ConfigError(f"{flag}: no run has a column {name!r}.{did_you_mean(wanted, words)} Known: {shown}, ...")


def sort_runs(runs: Sequence[RunRow], column: str, descending: bool) -> list[RunRow]:
    """Return the runs sorted by a column: numbers before texts, and those that lack it last."""

    def key(run: RunRow) -> tuple[bool, Any]:
        value = run.value(column)
        return isinstance(value, str), natural(value) if isinstance(value, str) else value

    have = [run for run in runs if run.value(column) is not None]
    lack = [run for run in runs if run.value(column) is None]
    return sorted(have, key=key, reverse=descending) + lack


def differing(runs: Sequence[RunRow]) -> list[str]:
    """Return the fields of the recipes in which runs differ.

    A field that a run lacks, because it uses another part, does not count as a difference: the part is one itself.
    """
    readable = [run for run in runs if run.recipe]
    fields = []
    for name in dict.fromkeys(name for run in readable for name in run.recipe):
        owners = {run.parts[name] for run in readable if name in run.recipe}
        slot = name.rpartition(".")[0]
        concerned = [
            run for run in readable if name in run.recipe or not any(owners) or run.recipe.get(slot, ("",))[0] in owners
        ]
        if len({run.recipe.get(name) for run in concerned}) > 1:
            fields.append(name)
    return fields


def incomparable(runs: Sequence[RunRow]) -> list[str]:
    """Return why the losses of some runs cannot be compared, as sentences."""
    reasons = []
    if len({run.figures.get("tokenizer_sha256", run.recipe.get("tokenizer")) for run in runs if run.curve}) > 1:
        reasons.append("Tokenizers differ: compare bits_per_byte; a loss is per token.")
    if len({run.corpus_sha256 for run in runs if run.corpus_sha256}) > 1:
        reasons.append("Corpora differ: losses on different texts cannot be compared.")
    return reasons
