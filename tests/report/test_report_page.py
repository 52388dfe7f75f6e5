"""The page of a run: whole, self-contained, and made of whatever a folder holds."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from helpers import text, tiny

import nanotx
from nanotx.cli.commands import report as command
from nanotx.cli.main import run as nanotx_command
from nanotx.errors import ConfigError, Diverged, RunError
from nanotx.evaluation.loss import EvalText, evaluate
from nanotx.hardware.device import choose_machine
from nanotx.nn.ffn import Ffn
from nanotx.report import make_report
from nanotx.report.passage import predictions
from nanotx.report.recipe_rows import recipe_fields

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete run of six steps."""
    home = tmp_path_factory.mktemp("reported")
    corpus = ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    assert nanotx_command(["train", "shakespeare_char", *corpus, "--run", str(home / "run"), *tiny()]) == 0
    return home / "run"


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "run")


def data_of(page):
    (values,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(values)


def page_of(*folders):
    return make_report([str(folder) for folder in folders])[0]


def rewrite(folder, change):
    """Change the rows of a metrics log."""
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)), encoding="utf-8")


def notes(page):
    return " ".join(re.findall(r'<ul class="notes".*?</ul>', page, re.DOTALL))


def test_every_run_ends_with_its_report(trained):
    page = (trained / "report.html").read_text(encoding="utf-8")
    data = data_of(page)
    (run,) = data["runs"]
    assert [metric["name"] for metric in run["metrics"]] == ["loss", "lr", "grad_norm", "tokens_per_second"]
    assert run["tables"][0]["step"] == [1, 2, 3, 4, 5, 6] and run["tables"][0]["tokens"] == [16, 32, 48, 64, 80, 96]
    assert [sample["step"] for sample in run["samples"]] == [3, 6]
    assert [line["name"] for line in data["references"]] == ["uniform", "unigram", "bigram"]
    assert "complete, 6 steps" in page and "notes" not in notes(page)
    assert len(data["passage"]["maps"]) == 2 and data["passage_step"] == 6


def test_page_asks_for_nothing_outside_of_itself(trained):
    page = (trained / "report.html").read_text(encoding="utf-8")
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"\b(?:src|href|action|data)\s*=|@import|url\(|http-equiv=.refresh", markup)
    assert "default-src 'none'" in page and len(page) < 200_000


def test_report_of_the_command_is_that_of_the_end_of_the_run(folder, capsys):
    at_end = data_of((folder / "report.html").read_text(encoding="utf-8"))
    assert nanotx_command(["report", str(folder)]) == 0
    now = data_of((folder / "report.html").read_text(encoding="utf-8"))
    for data in (at_end, now):
        data["passage"].pop("surprise"), data["passage"].pop("guesses")  # of float32 here, and of the run's dtype
    assert at_end == now
    assert re.search(r"report.html: [\d,]+ bytes", capsys.readouterr().out)


def test_failure_of_a_report_is_one_warning_and_leaves_the_run_as_it_is(tmp_path, monkeypatch, capsys):
    def fail(session, whole):
        raise RuntimeError("the page is on fire")

    monkeypatch.setattr("nanotx.cli.run.write_report", fail)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    assert nanotx_command(["train", "shakespeare_char", *corpus, "--run", str(tmp_path / "run"), *tiny()]) == 0
    out = capsys.readouterr().out
    assert out.count("the page is on fire") == 1 and "nanotx report" in out
    assert not (tmp_path / "run/report.html").exists()
    assert nanotx_command(["verify", str(tmp_path / "run")]) == 0
    assert nanotx_command(["report", str(tmp_path / "run")]) == 0


WILD = """
from dataclasses import dataclass
from torch import nn
from nanotx.nn.ffn import Ffn
from nanotx.nn.hooks import OnStepModule

@Ffn.register("wild")
@dataclass(frozen=True, kw_only=True)
class Wild(Ffn):
    def build(self, dim: int) -> nn.Module:
        return WildModule(dim)

class WildModule(OnStepModule):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.step = nn.Linear(dim, dim), 0

    def on_step(self, step: int, steps: int) -> None:
        self.step = step

    def forward(self, x):
        return self.inner(x) * (float("nan") if self.step >= 3 else 1.0)
"""


def test_run_that_diverges_has_a_report_of_its_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    (tmp_path / "wild.py").write_text(WILD, encoding="utf-8")
    words = ["--corpus", "file", "--corpus.path", "text.txt", "--load", "wild.py", "--ffn", "wild", "--run", "run"]
    try:
        with pytest.raises(Diverged):
            nanotx_command(["train", "shakespeare_char", *words, *tiny()])
    finally:
        Ffn.registered.pop("wild", None)
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    (run,) = data_of(page)["runs"]
    assert run["tables"][0]["step"][-1] == 3 and [event["kind"] for event in run["events"]] == ["warning"]
    assert "the loss is nan" in page and not data_of(page)["passage"]


def test_texts_of_a_run_never_become_html(folder):
    rewrite(folder, lambda rows: [row | ({"text": NASTY} if row["event"] == "sample" else {}) | (
        {"title": NASTY} if row["event"] == "start" else {}) for row in rows] + [
        {"event": "warning", "step": 6, "text": NASTY}])  # fmt: skip
    page = page_of(folder)
    assert NASTY not in page and "<img" not in page
    assert data_of(page)["runs"][0]["samples"][0]["text"] == NASTY


def test_metrics_of_callbacks_are_drawn(folder):
    def add(rows):
        return [row | {"grad_norm/blocks.0": 1.5, "word": "x"} if row["event"] == "step" else
                row | {"mine": 0.5} if row["event"] == "eval" else row for row in rows]  # fmt: skip

    rewrite(folder, add)
    names = {metric["name"] for metric in data_of(page_of(folder))["runs"][0]["metrics"]}
    assert {"grad_norm/blocks.0", "mine"} < names


@pytest.mark.parametrize(
    ("harm", "wanted"),
    [
        (lambda run: (run / "metrics.jsonl").unlink(), "missing or empty; the run has no figures"),
        (lambda run: (run / "summary.json").unlink(), "no summary.json yet"),
        (lambda run: (run / "summary.json").write_text("{", encoding="utf-8"), "not JSON"),
        (lambda run: (run / "recipe.toml").write_text("[", encoding="utf-8"), "No recipe is shown"),
        (lambda run: (run / "tokenizer.json").write_text("", encoding="utf-8"), "are left out: "),
        (lambda run: shutil.rmtree(run / "checkpoints"), "The passage and the attention maps are left out"),
        (lambda run: (run / ".owner").write_text("process 1", encoding="utf-8"), "A process was training"),
        (lambda run: replace(run / "recipe.toml", 'part = "blockwise"', 'part = "mine"'), "A part is not loaded"),
        (lambda run: replace(run / "summary.json", '"nanotx": "', '"nanotx": "9'), "newer than this"),
        (lambda run: replace(run / "recipe.toml", "text.txt", "gone.txt"), "gone.txt"),
        (lambda run: rewrite(run, lambda rows: rows[:4]), "summary.json is of step 6"),
    ],
    ids=["no metrics", "no summary", "half a summary", "half a recipe", "empty tokenizer", "no checkpoints",
         "still training", "part not loaded", "newer version", "corpus gone", "half written"],
)  # fmt: skip
def test_what_a_folder_lacks_is_left_out_and_the_page_says_so(folder, harm, wanted):
    harm(folder)
    page = page_of(folder)
    assert wanted in notes(page), notes(page)
    assert page.rstrip().endswith("</html>") and data_of(page)["runs"]


def replace(path, old, new):
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new), encoding="utf-8")


def test_rows_that_are_not_finite_are_gaps_and_events(folder):
    def lose(rows):
        lost = {"loss": None, "grad_norm": None, "nonfinite": ["loss", "grad_norm"]}
        return [row | lost if row["event"] == "step" and row["step"] > 4 else row for row in rows]

    rewrite(folder, lose)
    page = page_of(folder)
    (run,) = data_of(page)["runs"]
    assert run["metrics"][0]["y"][-2:] == [None, None] and "diverged after 6 of 6" not in page
    assert [(event["step"], event["until"]) for event in run["events"]] == [(5, 6)]


def test_several_runs_share_a_page_with_what_differs(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    replace(other / "recipe.toml", "lr = 0.014", "lr = 0.5")
    replace(other / "summary.json", '"corpus_sha256": "', '"corpus_sha256": "0')
    page = page_of(folder, other)
    data = data_of(page)
    assert [run["name"] for run in data["runs"]] == ["run", "other"]
    assert "<th>optimizer.lr</th>" in page and "Corpora differ" in notes(page)
    assert "another text now" in notes(page) and not data["passage"]


@pytest.mark.slow
def test_hundred_thousand_rows_fit_a_page(folder):
    def many(rows):
        (step,) = [row for row in rows if row["event"] == "step"][:1]
        steps = [
            step | {"step": number, **{f"m{index}": number * 0.37 for index in range(6)}} for number in range(1, 10**5)
        ]
        return [rows[0] | {"steps": 10**5}, *steps]

    rewrite(folder, many)
    (folder / "summary.json").unlink()
    page = page_of(folder)
    assert len(page) < 2_000_000
    assert data_of(page)["runs"][0]["tables"][0]["step"][-1] == 99_999


def test_surprise_of_the_passage_is_the_models_loss(trained):
    loaded = nanotx.load(trained)
    ids = np.random.default_rng(0).integers(0, loaded.tokenizer.vocab_size, 9)
    surprise, guesses = predictions(loaded.model, ids)
    text = EvalText(ids=ids[:0], start=0, size=0, windows=(ids,))
    assert np.mean(surprise) == pytest.approx(
        evaluate(loaded.model, text, choose_machine("cpu", "float32", 1)).loss, rel=1e-3
    )
    assert all(row == sorted(row, key=lambda pair: -pair[1]) and len(row) == 3 for row in guesses)


@pytest.mark.parametrize("length", [2, 8, 9, 10, 12, 13, 40])
def test_every_token_of_a_passage_is_predicted_once_from_half_a_context_at_least(trained, length):
    model = nanotx.load(trained).model  # its context is 8
    ids = np.random.default_rng(length).integers(0, model.vocab_size, length)
    surprise, guesses = predictions(model, ids)
    assert len(surprise) == len(guesses) == length - 1
    for place in range(1, length):
        possible = []
        for first in range(max(0, place - 8), max(1, place - 3)):
            with torch.no_grad():
                row = model(torch.from_numpy(ids[None, first:place]))[0, -1].log_softmax(-1)
            possible.append(-float(row[ids[place]]))
        assert min(abs(one - surprise[place - 1]) for one in possible) < 2e-3, place


def test_recipe_shows_where_it_differs_from_the_defaults(trained):
    rows = {(field.table, field.name): field for field in recipe_fields(trained / "recipe.toml")[0]}
    assert rows["model", "layers"].value == "1" and rows["model", "layers"].differs
    assert rows["", "optimizer"].value == "muon" and rows["", "optimizer"].default == "adamw"
    assert not rows["optimizer", "iterations"].differs and not rows["", "device"].differs
    assert rows["model.block.attention", "heads"].value == "2"


def test_recipe_shows_where_it_differs_from_the_recipe_that_was_named(trained):
    """`shakespeare_char` has muon and 4 layers; the run has 1 layer, by a flag."""
    page = (trained / "report.html").read_text(encoding="utf-8")
    rows = dict(re.findall(r'<tr class="(?:differs|same)"><th scope="row">(\w+)</th><td>.*?</td><td>(.*?)</td>', page))
    assert rows["layers"] == "was 4" and rows["optimizer"] == "" and rows["device"] == ""
    assert rows["corpus"] == "was tiny_shakespeare"
    assert "from the recipe shakespeare_char, with which the run began" in page


def test_recipe_of_a_run_without_a_name_is_compared_with_the_defaults_and_says_so(folder):
    rewrite(folder, lambda rows: [{key: row[key] for key in row if "recipe" not in key} for row in rows])
    page = page_of(folder)
    assert "differ from nanotx&#x27;s defaults" in page and "<td>default adamw</td>" in page


def test_field_that_was_changed_later_is_compared_with_the_recipe_that_was_named(folder):
    """The run began with the 0.014 of its recipe, so that its start does not say it; a resume changed it."""
    changed = {"event": "changed", "step": 6, "changes": {"optimizer.lr": [0.014, 0.5]}, "recipe_sha256": ""}
    rewrite(folder, lambda rows: [*rows, changed])
    recipe = folder / "recipe.toml"
    saved = re.sub(r"(?m)^lr = .*$", "lr = 0.5", recipe.read_text(encoding="utf-8"), count=1)
    recipe.write_text(saved, encoding="utf-8")
    assert "<td>was 0.014</td>" in page_of(folder)


@pytest.mark.parametrize(
    ("words", "error", "wanted"),
    [
        (["nowhere"], RunError, "there is no such folder"),
        ([], ConfigError, "RUN"),
        (["{run}", "--out", "{run}/metrics.jsonl"], ConfigError, "metrics.jsonl"),
        (["{run}", "--out", "no/such/place.html"], RunError, "cannot be written"),
        (["{run}", "--plots", "{run}/recipe.toml"], RunError, "cannot be written"),
    ],
)
def test_mistakes_on_the_command_line_are_answered(folder, words, error, wanted):
    with pytest.raises(error, match=wanted):
        nanotx_command(["report", *(word.format(run=folder) for word in words)])


def test_plots_are_written_as_png_and_svg(folder, tmp_path, capsys):
    assert nanotx_command(["report", str(folder), "--plots", str(tmp_path / "plots")]) == 0
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {
        f"{name}.{form}" for name in ("loss", "lr", "grad_norm", "tokens_per_second") for form in ("png", "svg")
    } == names


def test_verify_knows_the_report_of_a_run(folder, capsys):
    assert nanotx_command(["verify", str(folder)]) == 0
    assert "no script but those of this nanotx" in " ".join(capsys.readouterr().out.split())
    page = folder / "report.html"
    page.write_text(
        page.read_text(encoding="utf-8").replace("script-src 'sha256-", "script-src 'unsafe-inline' 'sha256-"),
        encoding="utf-8",
    )
    assert nanotx_command(["verify", str(folder)]) == 0
    assert "not written by this version" in " ".join(capsys.readouterr().out.split())
    page.write_text("<html>", encoding="utf-8")
    assert nanotx_command(["verify", str(folder)]) == 4


def test_flags_of_the_command_are_described():
    assert {field.name for field in dataclasses.fields(command.Flags)} == {"folders", "out", "plots", "threads", "load"}
