"""A run that trains, as the page sees it: rows as they come, once each; new checkpoints; a film of the heads."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from served import client_of, loaded, served

from nanotx.errors import RunError
from nanotx.serve import watch
from nanotx.serve.watch import GrowingLog, Watch, film_ids, point_of

FIRST = loaded()


def step(number, loss=1.5):
    return {"event": "step", "step": number, "loss": loss, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 5}


def write(path, rows, mode="a"):
    with path.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """A watch of a run whose checkpoints are those that `saved` lists."""
    (run,) = served(monkeypatch, FIRST)
    seen = Watch(run, prompt="to be")
    seen.log = GrowingLog(tmp_path / "metrics.jsonl")
    saved = []
    monkeypatch.setattr(type(run), "saved_steps", lambda self: sorted(saved, reverse=True))
    monkeypatch.setattr(watch, "load", lambda folder, number: dataclasses.replace(FIRST, step=number))
    return SimpleNamespace(watch=seen, saved=saved, file=tmp_path / "metrics.jsonl", run=run)


def test_rows_come_once_each_also_where_a_line_is_half_written(watched):
    log, file = watched.watch.log, watched.file
    assert log.new_rows() == []
    write(file, [step(1), step(2)])
    with file.open("a", encoding="utf-8") as half:
        half.write('{"event": "step", "st')
    assert [row["step"] for row in log.new_rows()] == [1, 2]
    assert log.new_rows() == []
    with file.open("a", encoding="utf-8") as half:
        half.write('ep": 3, "loss": 1, "grad_norm": 1, "lr": 1, "tokens_per_second": 1}\nnot json\n')
    assert [row["step"] for row in log.new_rows()] == [3]
    assert log.restarts == 0


def test_log_that_was_replaced_is_read_anew(watched):
    write(watched.file, [step(1), step(2), step(3)])
    watched.watch.update()
    first = watched.watch.since([0, 0], [0, 0])
    assert first["points"] == [["loss", 1, 1.5], ["loss", 2, 1.5], ["loss", 3, 1.5]] and not first["more"]
    write(watched.file, [step(4)])
    watched.watch.update()
    assert watched.watch.since([0, 0], [3, 0])["points"] == [["loss", 4, 1.5]]
    other = watched.file.with_name("new")
    write(other, [step(1), step(2, loss=9.0)])
    other.replace(watched.file)
    watched.watch.update()
    anew = watched.watch.since([0, 0], [4, 0])
    assert anew["version"] == [1, 0] and anew["from"] == [0, 0]
    assert anew["points"] == [["loss", 1, 1.5], ["loss", 2, 9.0]]


def test_long_curve_is_bounded_and_sent_in_parts(watched, monkeypatch):
    monkeypatch.setattr(watch, "MOST_POINTS", 10)
    monkeypatch.setattr(watch, "MOST_SENT", 4)
    evaluation = {"event": "eval", "step": 6, "train_loss": 1, "val_loss": 2.0, "bits_per_byte": 3}
    write(watched.file, [*(step(number) for number in range(1, 12)), evaluation])
    watched.watch.update()
    result = watched.watch.since([0, 0], [0, 0])
    assert result["version"][0] == 1 and result["more"] and len(result["points"]) == 4
    assert ["eval", 6, 2.0] in watched.watch.points and len(watched.watch.points) == 6


def test_new_checkpoint_is_served_and_becomes_a_frame(watched):
    watched.saved += [5, 7]
    watched.watch.update()
    assert watched.run.newest.step == 7
    result = watched.watch.since([0, 0], [0, 0])
    assert [result["frames"][0]["step"], result["more"], result["film"]] == [5, True, list("to be")]
    watched.saved[:] = [7, 9]
    watched.watch.update()
    assert watched.run.newest.step == 9
    assert [frame["step"] for frame in watched.watch.frames] == [5, 7, 9]
    frame = watched.watch.frames[-1]
    assert sorted(frame["maps"]) == sorted(frame["scores"]) == ["0.0", "0.1", "1.0", "1.1"]
    assert [len(row) for row in frame["maps"]["1.1"]] == [1, 2, 3, 4, 5] and frame["maps"]["1.1"][0] == [100]
    assert all(sum(row) == pytest.approx(100, abs=4) for row in frame["maps"]["0.0"])


def test_film_is_bounded_and_keeps_its_newest_frame(watched, monkeypatch):
    monkeypatch.setattr(watch, "MOST_FRAMES", 4)
    for number in range(8, 14):
        watched.saved[:] = [number]
        watched.watch.update()
    assert [frame["step"] for frame in watched.watch.frames] == [8, 10, 12, 13]
    assert watched.watch.versions == [0, 1]


def test_checkpoint_that_cannot_be_read_is_reported_and_the_watch_continues(watched, monkeypatch):
    def refuse(folder, number):
        raise RunError("step-8: the file is not the one that was saved")

    watched.saved.append(8)
    monkeypatch.setattr(watch, "load", refuse)
    watched.watch.update()
    assert watched.watch.since([0, 0], [0, 0])["problem"].startswith("step-8") and not watched.watch.frames
    assert watched.run.newest.step == 7


def test_text_of_a_film_without_a_prompt_is_repeated():
    ids = film_ids(FIRST, "")
    assert len(ids) == 16 and ids[:8] == ids[8:]


def test_rows_that_the_page_does_not_show_are_left_out():
    assert point_of({"event": "checkpoint", "step": 3}) is None
    assert point_of({"event": "start", "step": 0, "steps": 9}) == ["start", 0, 9]
    assert point_of({"event": "sample", "step": 3, "text": "a" * 3000})[2] == "a" * 2000


def test_page_asks_for_what_is_new(monkeypatch, watched):
    write(watched.file, [step(1)])
    watched.watch.update()
    with client_of([watched.run], watches=[watched.watch]) as api:
        result = api.get("/api/training?run=0&version=-1,-1&after=0,0").json()
        assert result["points"] == [["loss", 1, 1.5]] and result["about"]["step"] == 7
        for query in (
            "",
            "?run=0",
            "?run=1&version=0,0&after=0,0",
            "?run=0&version=0&after=0,0",
            "?run=x&version=0,0&after=-1,0",
        ):
            assert api.get(f"/api/training{query}").status_code == 400
    with client_of([watched.run]) as api:
        assert api.get("/api/training?run=0&version=0,0&after=0,0").status_code == 404
