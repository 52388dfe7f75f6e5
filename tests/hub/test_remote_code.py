"""A folder with code of its own: written only when asked for, readable, and opened by transformers as the run is."""

import ast
import dataclasses
import json

import pytest
import torch
from test_huggingface_export import GPT2, QWEN3, run_of
from test_huggingface_layouts import NEOX, trained

from nanotx.errors import ConfigError, RunError
from nanotx.hub.huggingface import proof
from nanotx.hub.huggingface.export import export
from nanotx.hub.remote import source as remote
from nanotx.nn.attention.linear import LinearKernel
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_gqa import SlidingGroupedQuery
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block.parallel import Parallel
from nanotx.nn.block.postnorm import PostNorm
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.sandwich import Sandwich
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.embedding.bigram import Bigram
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.ffn.geglu import GeGlu
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.norm.none import NoNorm
from nanotx.nn.position.alibi import Alibi
from nanotx.nn.position.rope_yarn import RopeYarn
from nanotx.nn.position.sinusoidal import Sinusoidal

transformers = pytest.importorskip("transformers")

SHIFTED = TokenShift(shifts=2, block=PreNorm(attention=Sdpa(heads=2, qk_norm=True), ffn=Relu2()))
MODELS = {
    "ngrams": dataclasses.replace(QWEN3, embedding=Ngrams(max_n=4, buckets=300), block=SHIFTED),
    "bigram": dataclasses.replace(QWEN3, embedding=Bigram(buckets=10**4), tied=False, softcap=3.0, share=2),
    "yarn": dataclasses.replace(QWEN3, position=RopeYarn(original=5), head_bias=True),
    "alibi": dataclasses.replace(GPT2, position=Alibi(), block=Sandwich(attention=Sdpa(heads=2), ffn=GeGlu())),
    "mixed": dataclasses.replace(
        GPT2,
        position=Sinusoidal(),
        norm=NoNorm(),
        block=None,
        blocks=(
            PostNorm(attention=SlidingWindow(heads=4, window=3), ffn=Mlp(activation="relu", bias=True)),
            Parallel(attention=SlidingGroupedQuery(heads=4, head_dim=6, window=4, bias=True), norm=NoNorm()),
        ),
    ),
    "partial": dataclasses.replace(NEOX, context=12, softcap=5.0),
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(proof, "TEXTS", 20)
    monkeypatch.setattr(proof, "WINDOWS", 6)


@pytest.mark.parametrize("name", MODELS)
def test_code_computes_the_run(name, tmp_path):
    run = run_of(MODELS[name])
    run = dataclasses.replace(run, model=trained(run.model.config, run.model.vocab_size, seed=4))
    exported = export(run, tmp_path / name, remote_code=True)
    assert exported.class_name == "NanotxForCausalLM"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path / name), trust_remote_code=True)
    ids = torch.randint(run.model.vocab_size, (3, 9), generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        want = run.model(ids)
        assert float((theirs(ids).logits - want).abs().max() / want.std()) < 1e-4
        assert torch.isfinite(theirs(ids, labels=ids).loss)


def test_code_holds_what_the_model_needs_and_no_more(tmp_path):
    export(run_of(MODELS["ngrams"]), tmp_path / "model", remote_code=True)
    code = (tmp_path / "model" / "modeling_nanotx.py").read_text(encoding="utf-8")
    classes = {node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)}
    assert {"Ngrams", "Rotary", "TokenShift", "PreNorm", "NanotxForCausalLM"} <= classes
    assert not classes & {"Tokens", "Table", "Alibi", "Sandwich", "PostNorm", "Parallel", "ParallelNorms"}
    assert 'BLOCKS = {"TokenShift": TokenShift, "PreNorm": PreNorm}' in code
    assert "noqa" not in code and "type: ignore" not in code and "nanotx." not in code
    table = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert table["auto_map"]["AutoModelForCausalLM"] == "modeling_nanotx.NanotxForCausalLM"
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "trust_remote_code=True" in card and "read it first" in card


def test_export_of_code_asks_and_warns_of_nothing(tmp_path, monkeypatch, capfd):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *question: asked.append(question) or "n")
    verbosity = transformers.utils.logging.get_verbosity()
    export(run_of(MODELS["ngrams"]), tmp_path / "model", remote_code=True)
    assert not asked
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == verbosity


def test_code_is_written_only_when_asked_for_and_needed(tmp_path):
    with pytest.raises(ConfigError, match="--remote-code writes a file of code"):
        export(run_of(MODELS["yarn"]), tmp_path / "model")
    assert export(run_of(QWEN3), tmp_path / "model", remote_code=True).class_name == "Qwen3ForCausalLM"
    assert not (tmp_path / "model" / "modeling_nanotx.py").exists()


def test_parts_without_code_are_named(tmp_path):
    model = dataclasses.replace(
        QWEN3, block=None, blocks=(PreNorm(attention=LinearKernel()), PreNorm(ffn=MixtureOfExperts()))
    )
    with pytest.raises(ConfigError, match=r"--remote-code: there is no code for attention linear, ffn moe"):
        export(run_of(model), tmp_path / "model", remote_code=True)
    assert not list(tmp_path.iterdir())


def test_code_that_computes_something_else_gets_no_name(tmp_path, monkeypatch):
    wrong = remote.TEMPLATE.read_text(encoding="utf-8").replace("2 * len(rates) :]]", "2 * len(rates) :] * 2]")
    wrong = wrong.replace("left * cos - right * sin", "left * cos + right * sin")
    (tmp_path / "modeling.py").write_text(wrong, encoding="utf-8")
    monkeypatch.setattr(remote, "TEMPLATE", tmp_path / "modeling.py")
    with pytest.raises(RunError, match="logits differ"):
        export(run_of(MODELS["yarn"]), tmp_path / "model", remote_code=True)
    assert not (tmp_path / "model").exists()
