"""In a notebook a run is one output of its cell, updated in place."""

import re
import sys
from types import SimpleNamespace

import pytest
from cli.test_dashboard import ROWS
from helpers import ROOT

from nanotx.cli.dashboard import Display
from nanotx.cli.notebook import NotebookDisplay, in_notebook, run_display


class Cell:
    """What IPython does with an output: it is shown once, and then replaced."""

    def __init__(self):
        self.outputs, self.updates = [], 0

    def display(self, bundle, *, raw, display_id):
        assert raw and display_id
        self.outputs.append(bundle)
        return self

    def update(self, bundle, *, raw):
        assert raw
        self.outputs[-1], self.updates = bundle, self.updates + 1


@pytest.fixture
def cell():
    return Cell()


def test_all_of_a_run_is_one_output_and_its_end_is_shown(cell):
    display = NotebookDisplay(cell.display)
    display.say("on two cores")
    display.shout("no network", "playhouse")
    with display:
        for row in ROWS:
            display.show(row)
    display.say("sample from it")
    (output,) = cell.outputs
    text = output["text/plain"]
    places = [
        text.index(word) for word in ("on two cores", "no network", "a run", "2/4", "2.8850", "Ay me", "sample from")
    ]
    assert places == sorted(places) and cell.updates >= 4
    assert output["text/html"].startswith("<pre") and "Ay me" in output["text/html"]


def test_hundred_quick_steps_are_few_updates_and_the_last_is_shown(cell):
    with NotebookDisplay(cell.display) as display:
        display.show(ROWS[0] | {"steps": 100})
        for step in range(1, 101):
            display.show(ROWS[1] | {"step": step})
        before = cell.updates
    assert before < 50 and "100/100" in cell.outputs[0]["text/plain"]


def test_curve_takes_its_columns_also_where_its_font_is_of_another_width(cell):
    with NotebookDisplay(cell.display) as display:
        for row in ROWS:
            display.show(row)
    html = cell.outputs[0]["text/html"]
    runs = re.findall(r"width: (\d+)ch[^>]*>([\u2800-\u28ff]+)</span>", html)
    assert runs and all(int(width) == len(text) for width, text in runs)


def test_text_of_a_sample_that_grows_is_shown(cell, monkeypatch):
    with NotebookDisplay(cell.display) as display:
        display.show(ROWS[0])
        display.show(ROWS[1])
        display.pause = 0.0
        display.doing("sample", "O Romeo, Ro")
        assert "O Romeo, Ro" in cell.outputs[0]["text/plain"]
    assert "O Romeo, Ro" not in cell.outputs[0]["text/plain"]


def test_sample_writes_no_markup_into_the_page(cell):
    with NotebookDisplay(cell.display) as display:
        display.show(ROWS[0])
        display.show({"event": "sample", "step": 1, "text": "<script>alert(1)</script>\x1b[31m"})
    assert "<script>" not in cell.outputs[0]["text/html"] and "&lt;script&gt;" in cell.outputs[0]["text/html"]
    assert "\x1b" not in cell.outputs[0]["text/html"]


def test_only_the_kernel_of_a_notebook_is_a_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel.zmqshell", raising=False)
    assert not in_notebook() and type(run_display()) is Display
    for begun in (False, True):
        shell = SimpleNamespace(ZMQInteractiveShell=SimpleNamespace(initialized=lambda begun=begun: begun))
        monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", shell)
        assert in_notebook() == begun


CODE = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from dataclasses import replace
import nanotx
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
train = Train(steps=12, batch_size=2, eval_every=4, sample_every=6, sample_tokens=8)
recipe = Recipe(corpus=Playhouse(size=20_000), model=Model(dim=16, layers=1, context=16), train=train)
run = nanotx.train(recipe, run="run")
"""


@pytest.mark.slow
def test_in_a_real_kernel_training_is_one_output_of_the_cell(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert "12/12" in output.data["text/plain"] and "validation loss" in output.data["text/html"]
    assert (tmp_path / "run" / "summary.json").is_file()
