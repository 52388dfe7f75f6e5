"""Loggers: a sink holds each step once, and one that fails harms nothing."""

import csv
import importlib.util
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import text, tiny

import nanotx
from nanotx.cli.main import run as command
from nanotx.cli.run import read_callback
from nanotx.data.corpus.file import File
from nanotx.errors import ConfigError, RunError
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.training.callbacks import Callback
from nanotx.training.callbacks.csv import Csv
from nanotx.training.callbacks.logger import LoggedRun, Logger
from nanotx.training.callbacks.tensorboard import TensorBoard
from nanotx.training.callbacks.trackio import Trackio
from nanotx.training.callbacks.wandb import Wandb

pytestmark = pytest.mark.usefixtures("capsys")
has_tensorboard = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A run that takes a second."""
    small = replace(Recipe(), corpus=File(path=str(text(tmp_path / "text.txt"))))
    return read_recipe(small, tiny(), "tiny")[0]


def rows(folder: Path, *events: str) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] in events]


def weights(folder: Path) -> bytes:
    return (folder / "checkpoints/step-6/model.safetensors").read_bytes()


@dataclass(kw_only=True)
class Faulty(Logger):
    """A logger that fails at one place, with what libraries raise."""

    at: str = ""
    error: type[BaseException] = ValueError

    def fail(self, place: str) -> None:
        if place == self.at:
            raise self.error(f"planted at {place}")

    def open_sink(self, run: LoggedRun) -> None:
        self.sent: list[dict] = []
        self.fail("init")

    def send(self, row: dict) -> None:
        self.sent.append(dict(row))
        self.fail("log")

    def close_sink(self) -> None:
        self.fail("close")


@dataclass(kw_only=True)
class Adds(Callback):
    """A callback that adds a metric, also to evaluations, and ends the first process of a run after 4 steps."""

    stop_at: int = 0

    def on_step(self, run, row):
        if run.step % 2 == 0:
            row["added"] = 10.0 * run.step
        if run.step == self.stop_at:
            raise KeyboardInterrupt

    def on_eval(self, run, row):
        row["gap"] = 1.5


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the run without a logger."""
    home = tmp_path_factory.mktemp("without")
    small = replace(Recipe(), corpus=File(path=str(text(home / "text.txt"))))
    nanotx.train(read_recipe(small, tiny(), "tiny")[0], run=home / "r")
    return weights(home / "r")


@pytest.mark.parametrize(
    ("place", "error"), [("init", ImportError), ("log", OSError), ("close", SystemExit), ("", ValueError)]
)
def test_logger_that_fails_warns_once_and_changes_no_weight(recipe, tmp_path, without, place, error):
    logger = Faulty(at=place, error=error)
    nanotx.train(recipe, run=tmp_path / "r", callbacks=[logger])
    warnings = [row["text"] for row in rows(tmp_path / "r", "warning")]
    assert len(warnings) == (place != "")
    assert all(f"planted at {place}" in warning and "continues without it" in warning for warning in warnings)
    assert weights(tmp_path / "r") == without
    assert len(logger.sent) == {"init": 0, "log": 1, "close": 10, "": 10}[place]


def test_logger_sees_what_later_callbacks_add_and_is_closed_when_the_run_breaks_off(recipe, tmp_path):
    logger = Faulty(at="")
    with pytest.raises(KeyboardInterrupt):
        nanotx.train(recipe, run=tmp_path / "r", callbacks=[logger, Adds(stop_at=5)])
    assert [row["added"] for row in logger.sent if "added" in row] == [20.0, 40.0]
    assert [row["gap"] for row in logger.sent if row["event"] == "eval"] == [1.5]
    assert not logger._is_open


def broken_off_and_resumed(recipe: Recipe, folder: Path, make) -> None:
    """Train to step 5, whose row is lost, and resume from step 4; steps are written by both processes."""
    with pytest.raises(KeyboardInterrupt):
        nanotx.train(recipe, run=folder, callbacks=[make(), Adds(stop_at=5)])
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as log:  # a kill between two checkpoints
        log.write(json.dumps({**rows(folder, "step")[-1], "step": 5}) + "\n")
    nanotx.train(recipe, run=folder, resume=True, callbacks=[make(), Adds()])


def test_csv_holds_the_rows_of_the_metrics_log_each_once_after_a_resume(recipe, tmp_path):
    broken_off_and_resumed(recipe, tmp_path / "r", Csv)
    with (tmp_path / "r/metrics.csv").open(encoding="utf-8", newline="") as file:
        table = [*csv.DictReader(file)]
    expected = rows(tmp_path / "r", "step", "eval")
    assert [(row["event"], int(row["step"])) for row in table] == [(row["event"], row["step"]) for row in expected]
    for row, wanted in zip(table, expected, strict=True):
        assert {key: float(row[key]) for key in row if row[key] and key != "event"} == {
            key: value for key, value in wanted.items() if isinstance(value, int | float)
        }
    assert {row["step"] for row in table if row["added"]} == {"2", "4", "6"}


@has_tensorboard
def test_tensorboard_holds_each_step_once_after_a_resume(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "r"
    broken_off_and_resumed(recipe, folder, TensorBoard)
    (folder / "tensorboard/events.out.tfevents.1.other").touch()
    assert command(["log", str(folder), "--to", "tensorboard"]) == 0  # the same again
    assert len(list((folder / "tensorboard").iterdir())) == 2
    events = EventAccumulator(
        str(next((folder / "tensorboard").glob("*.nanotx"))), {"scalars": 0, "tensors": 0}
    ).Reload()
    for key, event in (("loss", "step"), ("val_loss", "eval"), ("added", "step"), ("gap", "eval")):
        points = [(point.step, pytest.approx(point.value)) for point in events.Scalars(key)]
        assert points == [(row["step"], row[key]) for row in rows(folder, event) if key in row]
    assert [point.step for point in events.Tensors("sample/text_summary")] == [3, 6]


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of an offline run: a header, then chunks that end at each 32 KiB, as in a log of LevelDB."""
    position, record = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        chunk = data[position + 7 : position + 7 + length]
        position += 7 + length
        record = chunk if kind in (1, 2) else record + chunk
        if kind in (1, 4):  # whole, or the last chunk
            yield record


@pytest.mark.slow  # it starts a process of its own
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs wandb")
def test_wandb_holds_each_step_once_after_a_resume_and_changes_no_weight(recipe, tmp_path, without):
    from wandb.proto.wandb_internal_pb2 import Record

    folder = tmp_path / "r"
    broken_off_and_resumed(recipe, folder, Wandb)
    assert weights(folder) == without
    (file,) = (folder / "wandb").glob("offline-run-*-nanotx-*/*.wandb")
    points: dict[int, dict] = {}
    for data in wandb_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            assert items["_step"] not in points
            points[items["_step"]] = items
    assert [*points] == [1, 2, 3, 4, 5, 6]
    for row in rows(folder, "step", "eval"):
        wanted = {key: value for key, value in row.items() if key not in ("event", "step")}
        assert {key: points[row["step"]].get(key) for key in wanted} == wanted
    assert points[6]["sample"] == rows(folder, "sample")[-1]["text"]


has_trackio = pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="needs trackio")


@pytest.mark.slow
@has_trackio
def test_trackio_holds_each_number_once_after_a_resume_and_changes_no_weight(recipe, tmp_path, monkeypatch, without):
    from trackio.sqlite_storage import SQLiteStorage

    folder, project = tmp_path / "r", f"nanotx_test_{tmp_path.name}"
    monkeypatch.setattr(SQLiteStorage, "get_project_db_path", lambda project: tmp_path / f"{project}.db")
    broken_off_and_resumed(recipe, folder, lambda: Trackio(project=project))
    assert weights(folder) == without
    assert command(["log", str(folder), "--to", f'{{part = "trackio", project = "{project}"}}']) == 0  # nothing is new
    name = (folder / "trackio.txt").read_text(encoding="utf-8").strip()
    stored = SQLiteStorage.get_logs(project, name)
    for key, event in (("loss", "step"), ("val_loss", "eval"), ("added", "step"), ("gap", "eval")):
        points = [(point["step"], point[key]) for point in stored if key in point]
        assert points == [(row["step"], row[key]) for row in rows(folder, event) if key in row]


@has_trackio
def test_trackio_on_a_server_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somewhere")
    with pytest.raises(ConfigError, match="TRACKIO_SPACE_ID is set, and only the local store is written"):
        Trackio().send_run(LoggedRun(folder=tmp_path, recipe={}, rows=list))


def test_finished_run_is_sent_and_every_thins_its_steps(recipe, tmp_path, capsys):
    nanotx.train(recipe, run=tmp_path / "r")
    assert command(["log", str(tmp_path / "r"), "--to", '{part = "csv", every = 3}']) == 0
    assert "6 rows sent to csv" in capsys.readouterr().out
    lines = (tmp_path / "r/metrics.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["step", "3"], ["eval", "3"], ["step", "6"], ["eval", "6"]]


def test_numbers_that_are_not_finite_and_rows_half_written_are_left_out(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "recipe.toml").write_text("", encoding="utf-8")
    step = {"event": "step", "step": 1, "loss": None, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 5.0}
    (folder / "metrics.jsonl").write_text(
        json.dumps(step | {"nonfinite": ["loss"]}) + '\n{"event": "st', encoding="utf-8"
    )
    assert command(["log", str(folder), "--to", "csv"]) == 0
    assert (folder / "metrics.csv").read_text(
        encoding="utf-8"
    ) == "event,step,grad_norm,lr,tokens_per_second\nstep,1,1.0,0.1,5.0\n"


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ("missing --to csv", RunError, "expected a run's folder"),
        ("empty --to csv", RunError, "metrics.jsonl: missing or empty; there is nothing to send"),
        ("empty", ConfigError, "--to: missing; expected a logger such as"),
        ("empty --to tensorbord", ConfigError, "no part named 'tensorbord'. Did you mean 'tensorboard'"),
        ("empty --to gradient_norms", ConfigError, "is no logger such as csv"),
        ("empty --to {part='csv',every=0}", ConfigError, "every"),
    ],
)
def test_run_or_a_logger_that_cannot_be_sent_is_refused(tmp_path, monkeypatch, flags, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/recipe.toml").touch()
    with pytest.raises(error, match=message):
        command(["log", *flags.split()])


def test_library_that_is_missing_is_named_with_its_remedy_before_the_run(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tensorboard is not installed; try pip install tensorboard, or"):
        read_callback("tensorboard")


def test_logger_of_a_finished_run_that_fails_is_an_error_of_the_command(recipe, tmp_path, monkeypatch):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/recipe.toml").touch()
    step = {"event": "step", "step": 1, "loss": 1.0, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 5.0}
    (tmp_path / "r/metrics.jsonl").write_text(json.dumps(step) + "\n", encoding="utf-8")
    monkeypatch.setattr(Csv, "send", lambda self, row: SimpleNamespace().missing)
    with pytest.raises(RunError, match=r"--to csv: AttributeError: .* has no attribute 'missing'"):
        command(["log", str(tmp_path / "r"), "--to", "csv"])
