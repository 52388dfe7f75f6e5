"""`nanotx.load` and `nanotx import` of a folder of the Hugging Face world, and of a model of the Hub by its id."""

import sys
import types

import httpx
import pytest
import torch
from test_huggingface_export import QWEN3, run_of

import nanotx
from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError
from nanotx.hub.download import FILES, is_model_id
from nanotx.hub.huggingface import proof
from nanotx.hub.huggingface.export import export

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "TEXTS", 5)
        patch.setattr(proof, "WINDOWS", 2)
        return export(run_of(QWEN3), tmp_path_factory.mktemp("exported") / "model").folder


@pytest.fixture
def hub(monkeypatch, tmp_path, folder):
    """A library of the Hub that has one model, in a working folder without runs."""
    monkeypatch.chdir(tmp_path)
    calls = []

    def snapshot_download(name, allow_patterns):
        calls.append((name, allow_patterns))
        if name != "me/model":
            raise httpx.ConnectError("no route")
        return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    return calls


def test_folder_is_loaded_as_it_is(folder):
    loaded, original = nanotx.load(folder), run_of(QWEN3)
    assert loaded.folder == str(folder) and loaded.step == 0
    for name, weight in original.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    assert len(loaded.generate("But", max_new_tokens=5)) == 8
    with pytest.raises(RunError, match="it holds no step 3"):
        nanotx.load(folder, step=3)


def test_model_of_the_hub_is_fetched_without_code_or_pickle(hub, tmp_path, capsys):
    assert nanotx.load("me/model").folder == "me/model"
    assert hub == [("me/model", list(FILES))]
    assert not any(name.endswith((".py", ".bin", ".pt", ".pkl", "*")) for name in FILES)
    assert exit_code(lambda: run(["import", "me/model", "--run", "here", "--no-proof"])) == 0
    assert "of me/model" in (tmp_path / "here" / "README.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith("nanotx sample here\n")


def test_what_cannot_be_fetched_is_one_sentence(hub, monkeypatch):
    with pytest.raises(RunError, match=r"^you/model: nothing of that name is here, and the Hub cannot be reached"):
        nanotx.load("you/model")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match="needs the package huggingface-hub; try pip install huggingface-hub"):
        nanotx.load("you/model")


def test_misspelled_run_is_no_model_of_the_hub(hub, tmp_path):
    (tmp_path / "runs").mkdir()
    assert is_model_id("me/model")
    for name in ("runs/typo", "typo", "./me/model", "/me/model", "a/b/c", "me/model/", "../x", "me/mo del"):
        assert not is_model_id(name), name
    with pytest.raises(RunError, match="runs/typo: expected a run's folder"):
        nanotx.load("runs/typo")
    assert hub == []
