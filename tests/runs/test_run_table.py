"""The table of runs: what can be read of each folder, whatever its state."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from nanotx.cli.main import run as nanotx
from nanotx.errors import ConfigError, RunError
from nanotx.runs.run_table import differing, find_runs, incomparable, read_run

RECIPE = """seed = 1
compile = false
[corpus]
part = "playhouse"
[tokenizer]
part = "char"
[model]
dim = 16
[model.norm]
part = "rmsnorm"
[model.block]
part = "prenorm"
[model.block.attention]
part = "sdpa"
heads = 4
[model.block.ffn]
part = "relu2"
[optimizer]
part = "muon"
lr = 0.02
betas = [0.9, 0.99]
[train]
steps = 20
"""


def make(folder: Path, recipe: str = RECIPE, losses: tuple[float | None, ...] = (2.0, 1.5), **summary: Any) -> Path:
    """A run that was not trained: its recipe, an evaluation every 10 steps, and a summary if there is one."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    rows: list[dict[str, Any]] = [
        {"event": "start", "step": 0, "steps": 20, "tokens_per_step": 8, "title": "", "floor": None}
    ]
    for step, loss in enumerate(losses, start=1):
        rows.append(
            {"event": "step", "step": 10 * step, "loss": 2.0, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 5.0}
        )
        rows.append({"event": "eval", "step": 10 * step, "train_loss": loss, "val_loss": loss, "bits_per_byte": loss})
    rows[-1]["my_metric"] = 7.5
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if summary:
        (folder / "summary.json").write_text(json.dumps({"complete": True, "steps": 20} | summary), encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three runs in `runs`."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs/x-2", losses=(2.0, 1.5), train_seconds=61.0, parameters=1000)
    make(tmp_path / "runs/x-10", RECIPE.replace("relu2", "swiglu").replace("0.02", "0.03"), losses=(1.9, 1.4))
    make(tmp_path / "runs/sweep/y", RECIPE.replace("heads = 4", "heads = 2"), losses=(None,))
    return tmp_path


def table(capsys: pytest.CaptureFixture[str], *words: str) -> list[list[str]]:
    """The lines that `nanotx runs` prints, as words."""
    assert nanotx(["runs", *words]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines() if line]


def test_runs_are_listed_with_the_fields_in_which_they_differ(home, capsys):
    head, *rows = table(capsys)
    assert " ".join(head) == "run attention.heads ffn optimizer.lr status step val_loss bits_per_byte train_seconds"
    assert rows == [
        ["runs/sweep/y", "2", "relu2", "0.02", "unfinished", "10", "-", "-", "-"],
        ["runs/x-2", "4", "relu2", "0.02", "complete", "20", "1.5000", "1.5000", "1:01"],
        ["runs/x-10", "4", "swiglu", "0.03", "unfinished", "20", "1.4000", "1.4000", "-"],
    ]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("ffn=relu2", "y x-2"),
        ("ffn==relu2", "y x-2"),
        ("model.block.ffn.part=swiglu", None),
        ("ffn!=relu2", "x-10"),
        ("val_loss<1.45", "x-10"),
        ("val-loss >= 1.5", "x-2"),
        ("val_loss!=1.5", "y x-10"),
        ("heads=2", "y"),
        ("compile=false", "y x-2 x-10"),
        ("lr>0.02", "x-10"),
        ("my_metric=7.5", "y x-2 x-10"),
        ("ffn<3", ""),
    ],
)
def test_condition_selects_runs(home, capsys, where, names):
    if names:
        assert [
            Path(row[0]).name for row in table(capsys, "--where", where)[1:] if row[0].startswith("runs/")
        ] == names.split()
    else:
        with pytest.raises(ConfigError, match="--where"):
            nanotx(["runs", "--where", where])


def test_all_conditions_must_hold(home, capsys):
    assert [row[0] for row in table(capsys, "--where", "ffn=relu2", "--where", "heads=4")[1:]] == ["runs/x-2"]


def test_runs_that_lack_the_column_are_last_in_either_order_and_named(home, capsys):
    for column, order in (("val_loss", "x-10 x-2 y"), ("-val_loss", "x-2 x-10 y"), ("run", "y x-2 x-10")):
        rows = table(capsys, "--sort", column, "--columns", "val_loss")[1:]
        assert [Path(row[0]).name for row in rows if row[0].startswith("runs/")] == order.split()
        assert (" ".join(rows[-1]) == "without val_loss, and so last: runs/sweep/y") == (column != "run")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--where ffm=relu2", r"--where: no run has a column 'ffm'. Did you mean 'ffn'\? Known: run, seed"),
        ("--sort vall_loss", r"--sort: no run has a column 'vall_loss'. Did you mean 'val_loss'\?"),
        ("--columns ffn,optimiser.lr", r"--columns: no run has a column 'optimiser.lr'. Did you mean 'optimizer.lr'\?"),
        ("--where ffn", "--where ffn: expected a field, one of != <= >= = < >, and a value"),
        ("--where ffn=", "--where ffn=: expected a field"),
        ("--where ffn=gelu", "--where ffn=gelu: none of 3 runs meet this"),
        ("--plot curves.txt", "--plot curves.txt: expected a name that ends in .svg, .png, .pdf"),
        ("--csv runs/x-2/metrics.jsonl", "a file of the run"),
        ("--json runs/x-2/summary.json", "a file of the run"),
        ("--plot runs/x-2/recipe.toml", "a file of the run"),
    ],
)
def test_bad_flag_is_refused(home, flags, message):
    with pytest.raises(ConfigError, match=message):
        nanotx(["runs", *flags.split()])


def test_folder_without_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "empty/inner").mkdir(parents=True)
    for folder, message in (("runs", "no such folder"), ("file", "not a folder"), ("empty", "empty: no runs here")):
        with pytest.raises(RunError, match=message):
            nanotx(["runs", folder] if folder != "runs" else ["runs"])


def test_runs_of_an_experiment_are_counted_unless_its_folder_is_named(home, capsys):
    inner = home / "runs/compare-x"
    for arm in ("baseline", "tries/ffn_relu2"):
        make(inner / arm / "seed-1")
    for record in (inner / "experiment.json", inner / "tries/experiment.json"):
        record.write_text("{}", encoding="utf-8")
    shown = table(capsys)
    assert not any(row[0].startswith("runs/compare-x/") for row in shown)
    note = "runs/compare-x: 2 runs of an experiment; nanotx runs runs/compare-x lists them."
    assert " ".join(shown[-1]) == note
    names = [row[0] for row in table(capsys, "--experiments", "--columns", "ffn")]
    assert {"runs/compare-x/baseline/seed-1", "runs/compare-x/tries/ffn_relu2/seed-1"} <= {*names}
    assert nanotx(["runs", "runs/compare-x", "--columns", "ffn"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2
    for name in ("x-2", "x-10", "sweep"):
        shutil.rmtree(home / "runs" / name)
    assert nanotx(["runs"]) == 0 and capsys.readouterr().out == f"{note}\n"
    with pytest.raises(ConfigError, match="all runs in runs are of experiments; add --experiments to list them"):
        nanotx(["runs", "--sort", "val_loss"])


def test_folder_that_is_a_run_itself_is_listed_once(home):
    assert find_runs(["runs/x-2", "runs"]) == ["runs/x-2", "runs/sweep/y", "runs/x-10"]


def test_damaged_run_is_listed_with_what_can_be_read(home, capsys):
    runs = home / "runs"
    make(runs / "no_metrics", parameters=5)
    (runs / "no_metrics/metrics.jsonl").unlink()
    make(runs / "no_recipe", RECIPE[:30] + "[")
    make(runs / "half", summary=1)
    with (runs / "half/metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "eval", "step": 30, "val_l')
    (runs / "half/summary.json").write_text('{"complete": tr', encoding="utf-8")
    make(runs / "newer", RECIPE + "telepathy = 3\n[brain]\npart = 'big'\n", versions={"nanotx": "99.1"})
    make(runs / "list", summary=1)
    (runs / "list/summary.json").write_text("[1]", encoding="utf-8")
    (runs / "bare/checkpoints").mkdir(parents=True)
    lines = [" ".join(row) for row in table(capsys, "--columns", "ffn,status,step,val_loss,brain")]
    assert "runs/no_metrics relu2 no metrics 20 - -" in lines
    assert "runs/no_recipe - unfinished 20 1.5000 -" in lines
    assert "runs/half relu2 unfinished 20 1.5000 -" in lines
    assert "runs/newer relu2 complete 20 1.5000 big" in lines
    assert "runs/bare - no metrics - - -" in lines
    text = "\n".join(lines)
    assert "no_metrics/metrics.jsonl: missing or empty" in text
    assert "no_recipe/recipe.toml: this is not TOML" in text
    assert "half/summary.json: not JSON" in text and "list/summary.json: expected a table, got list" in text
    assert "runs/newer: written by nanotx 99.1, newer than this" in text
    assert "bare/recipe.toml: there is no such file" in text


def test_summary_from_before_the_run_was_resumed_gives_no_figures(tmp_path):
    make(tmp_path / "a", steps=10, train_seconds=9.0)
    run = read_run(str(tmp_path / "a"))
    assert run.value("status") == "unfinished" and run.value("step") == 20 and run.value("train_seconds") is None


def test_control_characters_and_infinities_of_a_foreign_run_do_no_harm(home, capsys):
    recipe = RECIPE.replace('"relu2"', '"\\u001b[31mred"').replace("lr = 0.02", "lr = inf")
    make(home / "runs/foreign", recipe, parameters=10**400, mfu=float("nan"))
    assert nanotx(["runs", "--json", "out.json", "--csv", "out.csv"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert json.loads((home / "out.json").read_text(encoding="utf-8"))["runs"]


def test_json_and_csv_hold_all_digits(home, capsys):
    table(capsys, "--sort", "val_loss", "--columns", "ffn,lr,val_loss", "--json", "out.json", "--csv", "out.csv")
    assert (home / "out.csv").read_text(encoding="utf-8").splitlines()[:2] == [
        "run,ffn,optimizer.lr,val_loss",
        "runs/x-10,swiglu,0.03,1.4",
    ]
    content = json.loads((home / "out.json").read_text(encoding="utf-8"))
    assert content["columns"] == ["run", "ffn", "optimizer.lr", "val_loss"]
    first = content["runs"][0]
    assert first["run"] == "runs/x-10" and first["recipe"]["ffn"] == "swiglu" and first["best_val_loss"] == 1.4


def test_blocks_that_differ_within_a_run_show_all_their_parts(tmp_path):
    block = RECIPE[RECIPE.index("[model.block]") : RECIPE.index("[optimizer]")]
    two = block.replace("[model.block", "[[model.block", 1).replace("]", "]]", 1)
    mixed = RECIPE.replace(block, two + two.replace("relu2", "swiglu"))
    make(tmp_path / "a", mixed), make(tmp_path / "b")
    runs = [read_run(str(tmp_path / name)) for name in "ab"]
    assert runs[0].value("ffn") == "relu2, swiglu" and runs[0].values("attention.heads") == (4,)
    assert differing(runs) == ["ffn"]


def test_field_of_another_part_is_no_difference_but_an_absent_one_is(tmp_path):
    make(tmp_path / "a", RECIPE.replace('part = "relu2"', 'part = "relu2"\nhidden_dim = 5'))
    make(tmp_path / "b")
    make(tmp_path / "c", RECIPE.replace('part = "relu2"', 'part = "moe"\nexperts = 2'))
    a, b, c = (read_run(str(tmp_path / name)) for name in "abc")
    assert differing([a, b]) == ["ffn.hidden_dim"]
    assert differing([b, c]) == ["ffn"]


def test_losses_that_cannot_be_compared_are_named(tmp_path):
    make(tmp_path / "a", corpus_sha256="1")
    make(tmp_path / "b", RECIPE.replace('"char"', '"byte"'), corpus_sha256="2")
    a, b = (read_run(str(tmp_path / name)) for name in "ab")
    assert [reason.split()[0] for reason in incomparable([a, b])] == ["Tokenizers", "Corpora"]
    assert incomparable([a, a]) == []


def test_validation_losses_are_plotted(home, capsys):
    assert " ".join(table(capsys, "--plot", "curves.svg")[-1]) == "curves.svg: the validation losses"
    assert "swiglu" in (home / "curves.svg").read_text(encoding="utf-8") or (home / "curves.svg").stat().st_size > 5000
    with pytest.raises(ConfigError, match="nothing to draw"):
        nanotx(["runs", "runs/sweep", "--plot", "curves.svg"])


def test_on_a_narrow_terminal_the_last_fields_are_left_out_and_named(home, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert nanotx(["runs"]) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    note = "Not shown, for want of width: attention.heads, ffn, optimizer.lr; name columns with --columns."
    assert note in lines and max(len(line) for line in lines if line != note) <= 80
    assert "bits_per_byte" in lines[1]
