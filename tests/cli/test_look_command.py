"""`nanotx look`: tables, a map and a file; bad input is refused by name."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import text, tiny

import nanotx
from nanotx.cli.commands import look
from nanotx.cli.main import run
from nanotx.cli.unfinished import report_unfinished
from nanotx.errors import ConfigError, DataError, RunError, TextError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps."""
    home = tmp_path_factory.mktemp("look")
    folder, corpus = home / "a_run", ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    flags = tiny(model_layers=2)
    assert run(["train", "macbook", "--tokenizer", "char", *corpus, *flags, "--run", str(folder)]) == 0
    return folder


def test_tables_the_map_and_the_file_of_a_prompt(trained, tmp_path, capsys):
    file = tmp_path / "look.json"
    capsys.readouterr()
    flags = ["--prompt", "ab cd", "--token", "1", "--head", "1.0", "--json", str(file)]
    assert run(["look", str(trained), *flags]) == 0
    out = capsys.readouterr().out
    assert "After token 1, 'b'; next is '·'" in out
    assert "Head 1.0" in out and "|██|" in out
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert [token["text"] for token in figures["tokens"]] == list("ab·cd")
    assert list(figures["layers"]) == ["embedding", "0", "1"]
    assert f"{figures['layers']['1'][1]['probability']:.3f}" in out
    assert sorted(figures["attention"]) == ["0.0", "0.1", "1.0", "1.1"]
    assert figures["attention"]["1.0"][0][0] == 1.0


def test_prompt_longer_than_the_context_is_cut_to_its_last_window_and_that_is_reported(trained, capsys):
    capsys.readouterr()
    assert run(["look", str(trained), "--prompt", "abc de" * 40]) == 0
    assert "longer than the context: the first 232 tokens are left out" in capsys.readouterr().out


def test_bad_input_is_refused_with_a_remedy(trained):
    with pytest.raises(ConfigError, match=r"no head '7\.0'; layers 0, 1 have heads 0 to 1"):
        run(["look", str(trained), "--prompt", "ab", "--head", "7.0"])
    with pytest.raises(ConfigError, match="expected a text to look at"):
        run(["look", str(trained)])
    with pytest.raises(ConfigError, match="--token: 2, and the tokens shown are 0 to 1"):
        run(["look", str(trained), "--prompt", "ab", "--token", "2"])
    with pytest.raises(TextError, match="--prompt"):
        run(["look", str(trained), "--prompt", "<script>"])
    with pytest.raises(ConfigError, match="a file of the run"):
        run(["look", str(trained), "--prompt", "ab", "--json", str(trained / "metrics.jsonl")])


def test_removing_each_part_and_scoring_the_heads(trained, tmp_path, capsys):
    file = tmp_path / "removed.json"
    capsys.readouterr()
    assert run(["look", str(trained), "--remove", "each", "--scores", "--json", str(file)]) == 0
    out, output = capsys.readouterr().out, json.loads(file.read_text(encoding="utf-8"))
    differences = [removal["difference"] for removal in output["removals"]]
    assert len(differences) == 10 and differences == sorted(differences, reverse=True)
    assert "1.attention.head1" in out and "induction" in out
    assert output["removals"][0]["name"] in out
    with pytest.raises(ConfigError, match=r"no head '5\.attention\.head0'"):
        run(["look", str(trained), "--remove", "5.attention.head0"])


@pytest.mark.parametrize(("sort", "column"), [("induction", 1), ("previous", 2), ("loss", 3)])
def test_scores_are_sorted_by_each_column_and_say_on_what_they_were_measured(trained, capsys, sort, column):
    capsys.readouterr()
    assert run(["look", str(trained), "--scores", "--sort", sort]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line[:3] in ("0.0", "0.1", "1.0", "1.1")]
    figures = [float(row[column]) for row in rows]
    assert len(rows) == 4 and figures == sorted(figures, reverse=True)
    name = {"induction": "induction", "previous": "previous token", "loss": "loss without it"}[sort]
    assert re.search(f"Highest: .*{name} {re.escape(rows[0][0])}.* Sorted by {name};", out)
    assert "Random tokens, read twice over" in out
    assert re.search(r"the one before it, on \d+ tokens of the validation text", out)


def test_scores_without_the_validation_text_are_those_of_random_tokens_and_say_so(trained, capsys, monkeypatch):
    def lost(*_):
        raise DataError("text.txt: no such file.")

    monkeypatch.setattr(look, "validation_text", lost)
    capsys.readouterr()
    assert run(["look", str(trained), "--scores"]) == 0
    out = capsys.readouterr().out
    assert "on the random tokens too, for want of the validation text (text.txt: no such file)" in out
    with pytest.raises(ConfigError, match="--sort loss: sorts the table of --scores; add --scores"):
        run(["look", str(trained), "--prompt", "ab", "--sort", "loss"])


def test_unfinished_run_says_so_in_one_line_with_the_step_and_how_to_train_on(trained, capsys, monkeypatch):
    loaded = replace(nanotx.load(trained), step=1)
    steps = loaded.recipe.train.steps
    monkeypatch.setattr(look, "load", lambda *_: loaded)
    capsys.readouterr()
    assert run(["look", str(trained), "--prompt", "ab"]) == 0
    line = f"{trained}: unfinished; these are the weights of step 1 of {steps}. To train on: nanotx resume {trained}\n"
    assert capsys.readouterr().err == line
    assert run(["look", str(trained), "--prompt", "ab", "--step", "1"]) == 0
    assert capsys.readouterr().err == ""
    report_unfinished(loaded, ["my part.py"])
    assert capsys.readouterr().err.endswith(f"nanotx resume {trained} --load 'my part.py'\n")
    report_unfinished(replace(loaded, step=steps))
    assert capsys.readouterr().err == ""


def test_page_of_a_prompt_is_written(trained, tmp_path, capsys):
    file = tmp_path / "look.html"
    assert run(["look", str(trained), "--prompt", "abc", "--html", str(file)]) == 0
    html = file.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>") and '"tokens":["a","b","c"]' in html
    assert capsys.readouterr().out
    with pytest.raises(ConfigError, match="add --prompt TEXT"):
        run(["look", str(trained), "--scores", "--html", str(file)])
    with pytest.raises(RunError, match="cannot be written"):
        run(["look", str(trained), "--prompt", "abc", "--html", str(file / "x.html")])
    with pytest.raises(ConfigError, match="a file of the run"):
        run(["look", str(trained), "--prompt", "abc", "--html", str(trained / "samples.txt")])
