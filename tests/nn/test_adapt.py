"""Adapters: LoRA begins as the model that it wraps, can be merged, and is all that is trained, saved and resumed."""

import json
from dataclasses import replace

import pytest
import torch
from helpers import text, tiny
from planted import planted
from safetensors.torch import load_file

import nanotx
from nanotx.cli.main import run
from nanotx.cli.run import with_source
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, LawBroken
from nanotx.hub.huggingface import adapter
from nanotx.hub.huggingface.adapter import export_adapter
from nanotx.hub.huggingface.export import fitting
from nanotx.hub.huggingface.layouts import BY_HEAD, SAME, TRANSPOSED, Entry, their_weight
from nanotx.laws.all_laws import laws_on, part_of
from nanotx.laws.runner import attempt
from nanotx.nn.adapt import added_names, merged_weights
from nanotx.nn.adapt.lora import Lora
from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.nn.init import Init, InitRule
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.recipe import Recipe, Train
from nanotx.recipe_flags import read_recipe
from nanotx.runs.initial_weights import read_source, take_weights
from nanotx.runs.load import load
from nanotx.runs.merge import merged
from nanotx.runs.record import RunRecord
from nanotx.runs.replay import Replay

MODEL = Model(dim=8, layers=2, context=8, block=PreNorm(attention=Attention.find("sdpa")(heads=2)))
LORA = replace(MODEL, adapt=Lora(rank=2))
RECIPE = Recipe(
    corpus=Playhouse(size=20_000),
    model=MODEL,
    optimizer=AdamW(lr=0.01),
    train=Train(steps=2, batch_size=2, eval_every=0, sample_every=0, sample_tokens=1, checkpoint_every=1),
    **{"device": "cpu", "dtype": "float32", "threads": 1, "compile": False},
)
IDS = torch.arange(8).reshape(1, 8) % 5


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a run, `base`, and one that adapts it, `lora`."""
    home = tmp_path_factory.mktemp("home")
    nanotx.train(RECIPE, run=home / "base", quiet=True)
    nanotx.train(replace(RECIPE, model=LORA, init=str(home / "base")), run=home / "lora", quiet=True)
    return home


@pytest.mark.parametrize("law", laws_on("adapt/lora"), ids=lambda law: law.name)
def test_lora_obeys_the_laws_of_adapters(law):
    assert not (verdict := attempt(law, part_of("adapt/lora"), 4)).broken, verdict.broken


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_zero", "starts_equal: outputs differ"),
        ("both_zero", "starts_equal: what is added to blocks.0.attention.to_qkv gets no gradient"),
        ("no_scale", "merges: merged, outputs differ"),
        ("moves_base", "frozen_stays: blocks.0.* is frozen, and training moved it"),
    ],
)
def test_wrong_adapter_breaks_its_law(name, message):
    with planted("adapters"):
        law = next(law for law in laws_on(f"adapt/mutant_{name}") if message.startswith(law.name))
        case = law.case.of(part_of(f"adapt/mutant_{name}"), {})
        with pytest.raises(LawBroken, match=message):
            law.check(case)


def test_weights_of_a_seed_are_those_of_the_model_without_it_whatever_its_rules():
    init = Init(rules=(InitRule(match="*lora_b", distribution="constant", value=1.0),))
    plain, model = MODEL.build(5, 3), replace(LORA, init=init).build(5, 3)
    state = plain.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items() if name in state)
    assert torch.equal(plain(IDS), model(IDS))


def test_definition_of_lora():
    layer = torch.nn.Linear(3, 4)
    lora = Lora(rank=2, alpha=6.0).wrap(layer, "mine")
    with torch.no_grad():
        lora.lora_b.normal_()
    x = torch.randn(5, 3)
    want = torch.stack([layer(row) + 3.0 * lora.lora_b @ (lora.lora_a @ row) for row in x])
    torch.testing.assert_close(lora(x), want)


def test_size_counts_an_adapter_of_some_layers_alone():
    model = replace(MODEL, adapt=Lora(rank=2, targets=("blocks.1.*.to_out", "blocks.0.ffn.*")))
    built = model.build(5)
    assert model.size(5).parameters == built.parameter_count == sum(param.numel() for param in built.parameters())
    assert {name.partition(".lora")[0] for name in added_names(built)} == {
        *("blocks.0.ffn.to_hidden", "blocks.0.ffn.to_out", "blocks.1.attention.to_out", "blocks.1.ffn.to_out")
    }
    assert built.flops_per_token > MODEL.build(5).flops_per_token


@pytest.mark.parametrize("part", ["per_head", "fused"])
def test_adapter_goes_through_the_canonical_layout_as_it_is(part):
    block = PreNorm(attention=Attention.find(part)(heads=2))
    model = replace(LORA, block=block).build(5)
    own = dict(model.named_parameters())
    back = from_canonical(model, to_canonical(model, own))
    assert back.keys() == own.keys() and all(torch.equal(back[name], own[name]) for name in own)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "rank: expected a number of at least 1, got 0"),
        ({"rank": 9}, "lora: rank=9 is more than blocks.0.attention.to_qkv of 24 x 8 can have; try at most 8"),
        ({"alpha": 0.0}, "alpha: expected a number above 0"),
        ({"targets": ()}, "targets: expected patterns"),
        ({"targets": ("blocks.0.atention.*",)}, "matches no linear map. There are blocks.0.attention"),
        ({"targets": ("head",)}, "'head' matches only head, whose weight is used elsewhere too"),
        ({"targets": ("",)}, "'' matches no linear map"),
    ],
)
def test_adapter_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.").replace("*", r"\*")):
        replace(MODEL, adapt=Lora(**fields)).build(5)


def test_run_trains_the_adapter_alone_and_keeps_every_bit_of_its_source(home):
    base, lora = load(home / "base").model.state_dict(), load(home / "lora").model.state_dict()
    assert all(torch.equal(tensor, lora[name]) for name, tensor in base.items())
    assert {name.rpartition(".")[2] for name in lora.keys() - base.keys()} == {"lora_a", "lora_b"}
    assert all(lora[name].any() for name in lora if name.endswith("lora_b"))
    replay = Replay(RunRecord(str(home / "lora")), 0)
    replay.go_to(2, lambda step: None)
    assert replay.first_mismatch is None
    held = {id(param) for group in replay.trainer.optimizer.param_groups for param in group["params"]}
    assert held == {id(replay.trainer.model.get_parameter(name)) for name in added_names(replay.trainer.model)}


def test_run_with_an_adapter_is_resumed_to_the_bit(home, tmp_path):
    recipe = load(home / "lora").recipe
    short = replace(recipe, train=replace(recipe.train, steps=1))
    nanotx.train(short, run=tmp_path / "cut", quiet=True)
    again = nanotx.train(recipe, run=tmp_path / "cut", quiet=True, resume=True).model.state_dict()
    whole = load(home / "lora").model.state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_merged_run_computes_the_same_and_is_a_run_like_any_other(home, capsys):
    assert run(["merge", str(home / "lora"), "--run", str(home / "merged")]) == 0
    assert "nanotx sample" in capsys.readouterr().out
    one, two = load(home / "lora"), load(home / "merged")
    assert two.recipe.model == MODEL and two.model.parameter_count == load(home / "base").model.parameter_count
    torch.testing.assert_close(two.model(IDS), one.model(IDS), rtol=1e-5, atol=1e-5)
    assert not torch.equal(two.model(IDS), load(home / "base").model(IDS))
    with pytest.raises(ConfigError, match="has no adapter to merge"):
        run(["merge", str(home / "base"), "--run", str(home / "other")])
    with pytest.raises(ConfigError, match="merged: already exists"):
        run(["merge", str(home / "lora"), "--run", str(home / "merged")])
    assert merged(two) is two


def test_source_with_an_adapter_is_taken_with_it_and_not_without(home):
    source = read_source(str(home / "lora"))
    model = LORA.build(source.tokenizer.vocab_size)
    assert not take_weights(model, source, source.tokenizer).notes()
    assert all(torch.equal(tensor, source.weights[name]) for name, tensor in model.named_parameters())
    for config in (MODEL, replace(MODEL, adapt=Lora(rank=1))):
        with pytest.raises(ConfigError, match=r"init: .*its adapter .*rank=2.*nanotx merge"):
            take_weights(config.build(source.tokenizer.vocab_size), source, source.tokenizer)


def test_new_adapter_is_nothing_that_does_not_fit(home):
    source = read_source(str(home / "base"))
    assert not take_weights(LORA.build(source.tokenizer.vocab_size), source, source.tokenizer).notes()


def test_flags_choose_an_adapter(home):
    words = [
        "--init",
        str(home / "base"),
        "--adapt",
        "lora",
        "--adapt.rank",
        "2",
        "--adapt.targets",
        "blocks.0.*",
        "*.ffn.*",
    ]
    base, rest, _ = with_source(Recipe(), words)
    recipe, _ = read_recipe(base, rest, "nanotx train")
    assert recipe.model == replace(MODEL, adapt=Lora(rank=2, targets=("blocks.0.*", "*.ffn.*")))


def test_exports_have_the_adapter_merged(home):
    whole = merged(load(home / "lora"))
    state = merged_weights(load(home / "lora").model)
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.model.state_dict().items())
    with pytest.raises(ConfigError, match="adapter"):
        fitting(load(home / "lora"))


@pytest.mark.slow  # transformers and peft take seconds to import
def test_adapter_is_opened_by_peft_and_computes_the_same(home):
    pytest.importorskip("peft")
    exported = export_adapter(load(home / "lora"), home / "adapter")
    assert exported.apart is not None and exported.apart < 1e-5


def test_adapter_is_written_as_peft_names_it(home, monkeypatch):
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda name: None)
    assert run(["export", str(home / "lora"), str(home / "written"), "--to", "peft"]) == 0
    config = json.loads((home / "written/adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 16.0)
    tensors, own = load_file(home / "written/adapter_model.safetensors"), load(home / "lora").model
    assert {name.rpartition(".lora_")[0].removeprefix("base_model.model.") for name in tensors} == {
        *config["target_modules"]
    }
    b = own.blocks[0].attention.to_qkv.lora_b
    rows = [tensors[f"base_model.model.model.layers.0.self_attn.{name}_proj.lora_B.weight"] for name in "qkv"]
    assert torch.equal(torch.cat(rows), b)
    with pytest.raises(ConfigError, match="already exists"):
        export_adapter(load(home / "lora"), home / "written")
    with pytest.raises(ConfigError, match="expected a run with --adapt lora, got none; try --to hf"):
        export_adapter(load(home / "base"), home / "none")
    with pytest.raises(ConfigError, match="no folder of an adapter"):
        export_adapter(load(home / "lora"), home / "base", overwrite=True)


def test_rows_of_an_adapter_are_those_of_its_weight_in_every_form():
    """What is added to a weight of a class is the product of the matrices that the class is given."""
    for form, axes in ((SAME, ()), (TRANSPOSED, ()), (BY_HEAD, (("three", 3), ("h", 2)))):
        entry = Entry(theirs="y.weight", ours="x.weight", form=form, axes=axes)
        a, b = torch.randn(2, 5), torch.randn(12, 2)
        product = adapter.their_rows(entry, b) @ a
        wanted = their_weight(entry, {"x.weight": b @ a})
        torch.testing.assert_close(product.T if form == TRANSPOSED else product, wanted)


def test_adapter_of_weights_that_nobody_trained_is_warned_of_and_lists_what_is_frozen(tmp_path, capsys):
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    words = [*tiny(train_steps=1, train_eval_every=0, train_sample_every=0), "--adapt", "lora", "--adapt.rank", "2"]
    assert run(["train", "macbook", *corpus, *words, "--run", str(tmp_path / "run")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "warning: adapt lora: the weights that stay as they are were drawn from the seed" in out
    assert "frozen: " in out and "embedding.weight" in out
    with pytest.raises(ConfigError, match="--freeze: expected a pattern of names, got nothing"):
        run(["train", "macbook", "--freeze"])
