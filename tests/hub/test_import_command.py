"""`nanotx import`: from a folder of the Hugging Face world to a pack that samples, and what it refuses."""

import json

import pytest
import torch
from foreign import LESSON, small_gpt2
from helpers import text, tiny
from test_huggingface_export import QWEN3, run_of
from test_huggingface_layouts import GPT2

import nanotx
from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.errors import RunError
from nanotx.hub.huggingface import proof
from nanotx.hub.huggingface.export import export
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.saved import Saved

pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(proof, "TEXTS", 20)
    monkeypatch.setattr(proof, "WINDOWS", 4)


def nanotx_import(*words):
    """The exit code of the command."""
    return exit_code(lambda: run(["import", *map(str, words)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export(run_of(QWEN3), tmp_path_factory.mktemp("exported") / "model").folder


def test_import_of_an_export_is_the_run_again(folder, tmp_path, capsys):
    assert not nanotx_import(folder, "--run", tmp_path / "run")
    printed = capsys.readouterr().out
    assert "gate and up are one weight" in printed
    assert "proven with transformers" in printed
    assert f"nanotx sample {tmp_path / 'run'}" in printed
    loaded, original = nanotx.load(tmp_path / "run"), run_of(QWEN3)
    for name, weight in original.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    assert loaded.tokenizer.encode("But, soft!").tolist() == original.tokenizer.encode("But, soft!").tolist()
    assert len(loaded.generate("But", max_new_tokens=5, temperature=0.0)) == 8


def test_card_says_where_the_model_comes_from(folder, tmp_path, capsys):
    nanotx_import(folder, "--run", tmp_path / "run", "--no-proof")
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "converted from the Qwen3ForCausalLM of model" in card
    assert "not known here" in card
    assert "trained with nanotx" not in card
    assert "not compared with transformers: --no-proof" in capsys.readouterr().out


def test_what_an_import_lacks_is_named(folder, tmp_path, capsys):
    nanotx_import(folder, "--run", tmp_path / "run", "--no-proof")
    for words, code, message in (
        (["eval", tmp_path / "run"], 3, "its corpus is not known here; name a text by --text FILE"),
        (["show", tmp_path / "run"], 4, "a pack without metrics.jsonl"),
        (["resume", tmp_path / "run"], 4, "cannot be trained further"),
    ):
        assert exit_code(lambda words=words: run(list(map(str, words)))) == code
        assert message in capsys.readouterr().err
    assert "mere defaults" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_model_that_transformers_reads_otherwise_is_not_written(folder, tmp_path, capsys, monkeypatch):
    import nanotx.hub.huggingface.import_run as importing

    def wrong(path, vocab_size):
        imported = real(path, vocab_size)
        with torch.no_grad():
            imported.model.norm.weight.add_(1)
        return imported

    real = importing.import_model
    monkeypatch.setattr(importing, "import_model", wrong)
    assert nanotx_import(folder, "--run", tmp_path / "run") == 4
    assert "logits differ" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_refused(folder, tmp_path, capsys):
    for words, code, message in (
        ([folder], 2, "--run: missing; expected the folder of a run"),
        (["./no/such", "--run", tmp_path / "run"], 2, "or the id of a model on the Hub such as openai-community/gpt2"),
        ([folder / "config.json", "--run", tmp_path / "run"], 2, "a file; expected the folder that it is in"),
        ([tmp_path, "--run", tmp_path / "run"], 3, "tokenizer"),
        ([folder, "--run", folder], 2, "already exists"),
    ):
        assert nanotx_import(*words) == code, words
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_code_in_a_folder_is_not_executed(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    table = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    table["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    (copy / "config.json").write_text(json.dumps(table), encoding="utf-8")
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')", encoding="utf-8")
    assert not nanotx_import(copy, "--run", tmp_path / "run")
    assert not (tmp_path / "executed").exists()


def test_gpt2_is_read_with_its_learned_positions(tmp_path):
    folder = export(run_of(GPT2), tmp_path / "model").folder
    assert not nanotx_import(folder, "--run", tmp_path / "run.zip", "--no-proof")
    assert nanotx.load(tmp_path / "run.zip").model.config.position.part == "learned"


def test_tokenizer_that_transformers_cannot_read_is_not_compared(tmp_path, capsys, monkeypatch):
    Bpe(vocab_size=332).train(LESSON).save(tmp_path / "bpe.json")
    tokenizer = Saved(path=str(tmp_path / "bpe.json"))
    folder = export(run_of(GPT2, tokenizer), tmp_path / "model").folder
    for file in folder.glob("tokenizer*"):
        file.unlink()
    small_gpt2(folder)  # encoder.json and vocab.bpe, as OpenAI named them
    assert not nanotx_import(folder, "--run", tmp_path / "run")
    assert "it cannot read the tokenizer, so no ids, logits apart by" in capsys.readouterr().out
    assert nanotx.load(tmp_path / "run").tokenizer.part == "bpe"
    monkeypatch.setattr(proof, "open_tokenizer", lambda folder: None)
    with pytest.raises(RunError, match="cannot read the tokenizer that was written"):
        export(run_of(GPT2, tokenizer), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_trained_run_goes_out_and_comes_back(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    assert run(["train", "macbook", *corpus, *tiny(), "--run", "a_run"]) == 0
    assert run(["export", "a_run", "--to", "hf"]) == 0
    assert "a_run-hf: GPT2LMHeadModel" in capsys.readouterr().out
    assert run(["import", "a_run-hf", "--run", "back"]) == 0
    assert run(["sample", "back", "--prompt", "ab", "--max-new-tokens", "4", "--temperature", "0"]) == 0
    there = capsys.readouterr().out.splitlines()[-1]
    assert run(["sample", "a_run", "--prompt", "ab", "--max-new-tokens", "4", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == there
    for words, message in (
        (["--weights", "int8"], "--weights: means nothing for --to hf"),
        (["--tokens", "5"], "--tokens: means nothing for --to hf"),
        ([], "a_run-hf: already exists; add --overwrite"),
    ):
        assert exit_code(lambda words=words: run(["export", "a_run", "--to", "hf", *words])) == 2
        assert message in capsys.readouterr().err
    assert run(["export", "a_run", "--to", "hf", "--overwrite"]) == 0
