"""A folder of an export: opened by transformers, refused where it cannot be exact, never half written."""

import dataclasses
import json
import re

import pytest
import torch
from helpers import ROOT

from nanotx.data.corpus.file import File
from nanotx.errors import ConfigError, RunError
from nanotx.hub.huggingface import export as exporting
from nanotx.hub.huggingface import proof
from nanotx.hub.huggingface.export import export
from nanotx.hub.huggingface.layouts import Gpt2
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position.learned import Learned
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.runs.load import LoadedRun
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

transformers = pytest.importorskip("transformers")

TEXT = "But, soft! what light through yonder window breaks?\nIt is the east, and Juliet is the sun.\n" * 3
QWEN3 = Model(dim=16, layers=2, context=12, block=PreNorm(attention=Sdpa(heads=2, qk_norm=True), ffn=Relu2()))
GPT2 = Model(
    dim=16,
    layers=2,
    context=12,
    position=Learned(),
    norm=LayerNorm(),
    block=PreNorm(attention=Sdpa(heads=2), ffn=Mlp(), norm=LayerNorm()),
)
MODELS = {"qwen3": QWEN3, "gpt2": GPT2, "untied": dataclasses.replace(QWEN3, tied=False)}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fewer texts and windows: the proof itself is asked, not its size."""
    monkeypatch.setattr(proof, "TEXTS", 60)
    monkeypatch.setattr(proof, "WINDOWS", 6)


def run_of(model=QWEN3, tokenizer=None):
    """A run without a folder, whose weights are larger than a first draw's."""
    tokenizer = tokenizer or Char()
    codec = tokenizer.train([TEXT])
    module = model.build(codec.vocab_size, seed=2).eval()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw) * 0.3)
    module.undefined_ids = codec.undefined_ids
    recipe = Recipe(corpus=File(path="plays.txt"), tokenizer=tokenizer, model=model)
    return LoadedRun(model=module, tokenizer=codec, recipe=recipe, step=7, folder="runs/mine", corpus_sha256="ab" * 32)


@pytest.mark.parametrize("tokenizer", [Char(), Byte(), Bpe(vocab_size=300)], ids=lambda part: part.part)
@pytest.mark.parametrize(
    "model", [QWEN3, GPT2, dataclasses.replace(QWEN3, tied=False)], ids=["qwen3", "gpt2", "untied"]
)
def test_folder_opens_as_a_stranger_opens_it(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = run_of(model, tokenizer)
    written = export(run, tmp_path / "model")
    assert written.class_name == {"rope": "Qwen3ForCausalLM", "learned": "GPT2LMHeadModel"}[model.position.part]
    assert max(written.proof.full, written.proof.cached, written.proof.padded) <= written.proof.allowed < 1e-4
    assert written.proof.greedy == 11
    tokenizer = transformers.AutoTokenizer.from_pretrained(written.folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(written.folder)
    inputs = tokenizer("But, soft!", return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == run.tokenizer.encode("But, soft!").tolist()
    assert torch.allclose(theirs(**inputs).logits, run.model(inputs["input_ids"]), atol=1e-4)
    assert tokenizer.model_max_length == 12


def test_python_of_the_page_opens_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    model = dataclasses.replace(QWEN3, context=120)
    export(run_of(model, Byte()), tmp_path / "my-model")
    page = (ROOT / "docs" / "huggingface.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    exec(compile(body, "docs/huggingface.md", "exec"), {})
    assert capsys.readouterr().out.startswith("ROMEO:")


def test_no_letter_ends_a_text(tmp_path):
    folder = export(run_of(), tmp_path / "model").folder
    for name in ("config.json", "generation_config.json"):
        table = json.loads((folder / name).read_text(encoding="utf-8"))
        assert [table[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")] == [None, None, None]


def test_end_of_text_of_the_tokenizer_is_named(tmp_path):
    run = run_of(tokenizer=Bpe(vocab_size=270, special_tokens=("<|endoftext|>",)))
    folder = export(run, tmp_path / "model").folder
    table = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert table["eos_token_id"] == run.tokenizer.special_tokens["<|endoftext|>"]


def test_card_tells_what_was_proven(tmp_path):
    written = export(run_of(), tmp_path / "model")
    card = (written.folder / "README.md").read_text(encoding="utf-8")
    assert "`Qwen3ForCausalLM` of transformers; no code of this folder is executed" in card
    assert f"ids of {written.proof.texts} texts" in card
    assert f"{written.proof.full:.1e}" in card
    assert "7 steps" in card and "ab" * 32 in card


def test_model_without_a_class_is_refused_with_every_reason(tmp_path):
    run = run_of(Model(dim=16, layers=2, context=12, softcap=9.0, block=TokenShift()))
    with pytest.raises(ConfigError, match=r"softcap: .*; block token_shift: .* recipes that fit: shakespeare_char"):
        export(run, tmp_path / "model")
    run = run_of(dataclasses.replace(QWEN3, block=PreNorm(attention=Sdpa(heads=2, qk_norm=True), ffn=Mlp())))
    with pytest.raises(ConfigError, match=r"\n  Qwen3ForCausalLM: its ffn has a gate\n") as refused:
        export(run, tmp_path / "model")
    assert str(refused.value).count("ForCausalLM") + str(refused.value).count("LMHeadModel") == 7
    assert not list(tmp_path.iterdir())


def test_folder_that_differs_is_never_given_its_name(tmp_path, monkeypatch):
    class Wrong(Gpt2):
        def other_config(self, shape):
            return super().other_config(shape) | {"layer_norm_epsilon": 1e-2}

    monkeypatch.setattr(exporting, "LAYOUTS", (Wrong(),))
    with pytest.raises(RunError, match=r"logits differ \(windows\)"):
        export(run_of(GPT2), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_model_may_differ_by_what_its_last_bits_do(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "TOLERANCE", 0.0)
    found = export(run_of(GPT2), tmp_path / "model").proof
    assert 0 < found.full <= found.allowed < 5e-5


def test_last_bits_move_every_weight_but_zeros():
    weights = torch.tensor([1.0, -1.0, 0.0, 3.0])
    met = []

    def compute():
        met.append(weights.clone())
        return met[-1][None, None]

    moved = proof.moved_by_last_bits(compute, [weights], scale=2.0)
    assert moved == 2**-22 / 2  # the last bit of 3
    assert weights.tolist() == [1.0, -1.0, 0.0, 3.0]
    steps = [(other - met[0]).tolist() for other in met[1:]]
    assert all(one in (2**-23, -(2**-24)) and two in (-(2**-23), 2**-24) and zero == 0 for one, two, zero, _ in steps)
    assert len({tuple(step) for step in steps}) > 4  # each is another draw
    assert len(steps) == proof.DRAWS


def test_tokenizer_that_differs_is_noticed(tmp_path, monkeypatch):
    other = exporting.described
    monkeypatch.setattr(exporting, "described", lambda codec: other(Char().train([TEXT + "XYZ"])))
    with pytest.raises(RunError, match="the tokenizer differs"):
        export(run_of(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_greedy_text_that_parts_where_the_model_is_certain_is_noticed():
    run = run_of()

    class Other:
        def generate(self, prompt, **_):
            text = proof.generate(run.model, prompt, 5, proof.Sampling(temperature=0.0))
            text[0, 3] = int(run.model(text[:, :3])[0, -1].argmin())
            return text

    with torch.no_grad():
        with pytest.raises(RunError, match="greedy text differs at token 3"):
            proof.greedy(run.model, Other(), torch.tensor([1]), near=1e-6)
        assert proof.greedy(run.model, Other(), torch.tensor([1]), near=1e6) == (2, 3)


def test_what_is_there_is_kept(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="already exists; add --overwrite"):
        export(run_of(), target)
    with pytest.raises(ConfigError, match="no folder of an export"):
        export(run_of(), target, overwrite=True)
    assert [file.name for file in target.iterdir()] == ["mine.txt"]


def test_earlier_export_is_replaced_when_told(tmp_path):
    target = export(run_of(GPT2), tmp_path / "model").folder
    export(run_of(), target, overwrite=True)
    assert json.loads((target / "config.json").read_text(encoding="utf-8"))["model_type"] == "qwen3"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
