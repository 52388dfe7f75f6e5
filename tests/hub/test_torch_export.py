"""`--to torch`: the program beside a state dict computes what the run does, for every model that it is written for."""

import dataclasses
import runpy
import subprocess
import sys

import pytest
import torch
from test_huggingface_export import GPT2, QWEN3, TEXT, run_of
from test_huggingface_layouts import LLAMA3, NEOX

from nanotx.cli.entry import exit_code
from nanotx.errors import ConfigError, RunError
from nanotx.hub.huggingface import proof
from nanotx.hub.plain import export as exporting
from nanotx.hub.plain.export import export
from nanotx.hub.seal import check_seal
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_gqa import SlidingGroupedQuery
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block.parallel import Parallel
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.ffn.geglu import GeGlu
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position.none import NoPosition
from nanotx.nn.position.rope_linear import RopeLinear
from nanotx.nn.position.sinusoidal import Sinusoidal
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.word import Word

WINDOW = PreNorm(attention=SlidingWindow(heads=2, window=5))
MODELS = {
    "gpt2": GPT2,
    "grouped": dataclasses.replace(
        QWEN3, position=RopeLinear(factor=2.0), block=PreNorm(attention=GroupedQuery(heads=4, kv_heads=2), ffn=SwiGlu())
    ),
    "windows": dataclasses.replace(QWEN3, block=None, blocks=(WINDOW, PreNorm(attention=Sdpa(heads=2)))),
    "parallel": dataclasses.replace(
        QWEN3, position=Sinusoidal(), norm=LayerNorm(bias=True), block=Parallel(attention=Sdpa(heads=2), ffn=GeGlu())
    ),
    "capped": dataclasses.replace(QWEN3, softcap=3.0, head_bias=True, tied=False),
    "shared": dataclasses.replace(QWEN3, layers=4, share=2, block=WINDOW),
    "biased": dataclasses.replace(
        QWEN3,
        position=NoPosition(),
        block=PreNorm(attention=Sdpa(heads=2, bias=True, out_bias=True), ffn=Mlp(activation="gelu_tanh", bias=True)),
    ),
    "llama3": dataclasses.replace(
        LLAMA3, context=16, block=PreNorm(attention=SlidingGroupedQuery(heads=4, head_dim=10, window=5), ffn=SwiGlu())
    ),
    "neox": dataclasses.replace(NEOX, context=16),
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(proof, "TEXTS", 20)
    monkeypatch.setattr(proof, "WINDOWS", 4)


@pytest.mark.parametrize("name", MODELS)
def test_program_computes_the_run(name, tmp_path):
    run = run_of(MODELS[name])
    export(run, tmp_path / "model")
    model = runpy.run_path(str(tmp_path / "model" / "model.py"))["load"]()
    ids = torch.randint(run.model.vocab_size, (3, 12), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.allclose(model(ids), run.model(ids), atol=1e-4)


@pytest.mark.parametrize("tokenizer", [Char(unknown=True), Char(nfc=True), Byte(), Bpe(vocab_size=300)], ids=str)
def test_program_reads_and_writes_text(tokenizer, tmp_path):
    run = run_of(tokenizer=tokenizer)
    exported = export(run, tmp_path / "model")
    program = runpy.run_path(str(tmp_path / "model" / "model.py"))
    ids = program["encode"]("But")
    assert exported.texts == 20
    assert ids == run.tokenizer.encode("But").tolist()
    continued = program["decode"](program["generate"](program["load"](), ids, 5, temperature=0))
    assert continued == run.generate("But", max_new_tokens=5, temperature=0.0)[: len(continued)]


def test_program_without_a_tokenizer_takes_ids(tmp_path):
    run = run_of(tokenizer=Word(vocab_size=21))
    assert "no tokenizer in it" in str(export(run, tmp_path / "model"))
    assert "encode" not in runpy.run_path(str(tmp_path / "model" / "model.py"))


@pytest.mark.slow
def test_program_runs_where_there_is_no_nanotx(tmp_path):
    export(run_of(), tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "model.py", "But"], cwd=tmp_path / "model", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("But")


def test_program_that_computes_something_else_gets_no_name(tmp_path, monkeypatch):
    source = exporting.reader_source
    for right, wrong in (("left * cos - right", "left * cos + right"), ("is_causal=True", "is_causal=False")):
        monkeypatch.setattr(
            exporting, "reader_source", lambda *a, right=right, wrong=wrong, **k: source(*a, **k).replace(right, wrong)
        )
        with pytest.raises(RunError, match=r"model.py computes other logits: they differ by"):
            export(run_of(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_program_whose_ids_differ_gets_no_name(tmp_path, monkeypatch):
    source = exporting.reader_source
    monkeypatch.setattr(exporting, "reader_source", lambda *a, **k: source(*a, **k).replace("ID[character]", "0"))
    with pytest.raises(RunError, match=r"model.py: .* has the ids \[0"):
        export(run_of(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_model_that_is_not_plain_is_refused_by_name(tmp_path):
    run = run_of(dataclasses.replace(QWEN3, block=TokenShift()))
    with pytest.raises(ConfigError, match=r"block token_shift: .* --to onnx takes any part"):
        export(run, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(weights, path):
        raise RuntimeError(
            "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file\nframes"
        )

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"cannot be written: .*failed writing file; try another path"):
        export(run_of(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_replacing_a_folder_never_deletes_a_file_of_the_user(tmp_path):
    target = tmp_path / "model"
    export(run_of(), target)
    (target / "README.md").write_text("mine", encoding="utf-8")
    assert check_seal(target).startswith("model.py: ids of 20 texts equal")
    for name in ("notes.txt", "model.py.orig"):
        (target / name).write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="already exists; add --overwrite"):
        export(run_of(), target)
    with pytest.raises(ConfigError, match=r"would delete model.py.orig, notes.txt, which no export wrote"):
        export(run_of(), target, overwrite=True)
    for name in ("notes.txt", "model.py.orig"):
        (target / name).unlink()
    export(run_of(GPT2), target, overwrite=True)
    assert "LayerNorm" in (target / "model.py").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_seal_names_what_was_changed(tmp_path):
    target = tmp_path / "model"
    export(run_of(), target)
    (target / "model.py").write_text(TEXT, encoding="utf-8")
    (target / "recipe.toml").unlink()
    (target / "more.py").touch()
    with pytest.raises(RunError, match=r"more.py was not there; recipe.toml is missing; model.py was changed"):
        check_seal(target)
    (target / "PROOF.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match=r"its PROOF.json is damaged"):
        check_seal(target)
    (target / "PROOF.json").unlink()
    assert exit_code(lambda: check_seal(target)) == 4
