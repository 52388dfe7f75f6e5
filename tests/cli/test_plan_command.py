"""`nanotx plan` and `--depth` ask no network: sizes of vocabularies are known, read from this machine, or assumed."""

import json
import socket
from dataclasses import replace

import pytest
from helpers import text

from nanotx.cli.experiments import read_base
from nanotx.cli.main import run as nanotx_command
from nanotx.config.presets import presets
from nanotx.data.corpus.file import File
from nanotx.data.corpus.small_talk import SmallTalk
from nanotx.data.corpus.tiny_shakespeare import CHARACTERS, LAST_NEW, SOURCE, TinyShakespeare
from nanotx.data.corpus.tinystories import TinyStories
from nanotx.errors import ConfigError
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.tokenizers import load
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.huggingface import Huggingface
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.tiktoken import SIZES, Tiktoken
from nanotx.training.dataset import ASSUMED, assumed_vocab_size, load_dataset, vocab_size_of

RECIPES = sorted(path.stem for path in presets("recipes").glob("*.toml"))
SMALL = ["--model.dim", "24", "--model.layers", "1", "--model.context", "8", "--train.batch-size", "2"]
SMALL += ["--train.micro-batch-size", "0", "--attention.heads", "2"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """A machine that has fetched nothing, and whose network refuses."""

    def refuse(*_, **__):
        raise AssertionError("asks the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("NANOTX_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "tiktoken"))


@pytest.mark.parametrize("name", [*RECIPES, "shakespeare_char", "shakespeare_bpe", "shakespeare_ngrams"])
def test_vocabulary_of_every_shipped_recipe_is_known_without_a_network(name):
    recipe, _ = read_base("nanotx plan", [name], ())
    assert name != "gpt2_124m" or recipe.tokenizer == Tiktoken()
    size, assumed = assumed_vocab_size(recipe)
    assert not assumed
    assert size == vocab_size_of(recipe)


@pytest.mark.parametrize("name", ["gpt2_124m", "shakespeare_ngrams"])
def test_plan_of_learned_positions_and_of_sparse_tables_needs_no_network(name, tmp_path, capsys):
    assert nanotx_command(["plan", name, *SMALL, "--json", str(tmp_path / "x.json")]) == 0
    table = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert table["vocab_size"] == {"gpt2_124m": 50257, "shakespeare_ngrams": CHARACTERS}[name]
    assert table["vocab_size_assumed"] is None and "assumed" not in capsys.readouterr().out


def test_plan_says_what_it_assumes(capsys):
    assert nanotx_command(["plan", "tinystories", "--tokenizer", "char", *SMALL]) == 0
    out = capsys.readouterr().out
    assert f"vocabulary assumed to be {ASSUMED} tokens: tokenizer char is trained on corpus tinystories" in out
    assert "which is not on this machine; state it by --vocab-size N" in out
    assert nanotx_command(["plan", "tinystories", "--tokenizer", "char", *SMALL, "--vocab-size", "99"]) == 0
    assert "assumed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gpt2_124m", "shakespeare_char"])
def test_depth_of_a_recipe_that_names_a_text_on_a_server_needs_no_network(name, capsys):
    assert nanotx_command(["train", name, "--depth", "2", "--print-config"]) == 0
    assert "layers = 2" in capsys.readouterr().out


def test_budget_of_a_plan_may_be_in_tokens_or_flops(tmp_path):
    def planned(*words):
        assert nanotx_command(["plan", "enwik8", *SMALL, *words, "--json", str(tmp_path / "x.json")]) == 0
        return json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))

    table = planned("--train.tokens", "160000")
    assert (table["tokens"], table["steps"]) == (160_000, 10_000)
    flops = 50_000 * table["flops_per_token"]
    assert planned("--train.flops", str(flops))["tokens"] == 50_000
    with pytest.raises(ConfigError, match=r"train.bytes=1,000,000: .* depends on the text .* --tokens 10B"):
        planned("--train.bytes", "1000000")


def test_sizes_of_published_encodings_are_those_of_the_library(monkeypatch):
    public = pytest.importorskip("tiktoken_ext.openai_public")
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: {})
    monkeypatch.setattr(public, "data_gym_to_mergeable_bpe_ranks", lambda *_, **__: {})
    stated = {}
    for name, construct in public.ENCODING_CONSTRUCTORS.items():
        encoding = construct()
        stated[name] = encoding.get("explicit_n_vocab") or 1 + max(encoding["special_tokens"].values())
    assert stated == SIZES


def test_size_that_a_tokenizer_knows_is_the_size_of_its_codec(tmp_path):
    play = text(tmp_path / "text.txt", 4000).read_text(encoding="utf-8")
    for config in (Byte(), Bpe(vocab_size=300), Bpe(vocab_size=300, special_tokens=("<|end|>",))):
        assert config.known_vocab_size() == config.train([play]).vocab_size
    for config in (Char(), Char(unknown=True)):
        assert config.known_vocab_size(len(set(play))) == config.train([play]).vocab_size
    assert Char().known_vocab_size() is Char(nfc=True).known_vocab_size(65) is None
    path = tmp_path / "x.json"
    Bpe(vocab_size=280).train([play]).save(path)
    base = Recipe(corpus=File(path="text.txt"))
    assert vocab_size_of(replace(base, tokenizer=Saved(path=str(path)))) == 280
    assert Huggingface(path="x.json").known_vocab_size() is Tiktoken(path="x").known_vocab_size() is None


def test_characters_of_tiny_shakespeare_are_those_of_its_preset():
    assert load("shakespeare_char").vocab_size == CHARACTERS == TinyShakespeare().characters()
    assert TinyShakespeare(validation=1 - LAST_NEW / SOURCE.size).characters() is None  # the last is held out


@pytest.mark.parametrize("tokenizer", [Byte(), Bpe(vocab_size=400), Bpe(vocab_size=400, special_tokens=("<|end|>",))])
def test_special_tokens_of_a_chat_are_counted(tokenizer):
    recipe = Recipe(corpus=SmallTalk(count=200), tokenizer=tokenizer, model=Model(context=256))
    assert vocab_size_of(recipe) == load_dataset(recipe).codec.vocab_size


def test_text_on_this_machine_is_read_for_its_characters(tmp_path):
    recipe = Recipe(corpus=File(path=str(text(tmp_path / "text.txt"))), tokenizer=Char())
    assert assumed_vocab_size(recipe) == (load_dataset(recipe).codec.vocab_size, "")
    assert assumed_vocab_size(replace(recipe, corpus=TinyStories()))[0] == ASSUMED
    assert not assumed_vocab_size(replace(recipe, corpus=TinyStories(stand_in=True)))[1]
