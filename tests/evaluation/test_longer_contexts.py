"""Windows longer than in training: stretched rope is its definition, and a model moves with all that it learned."""

import importlib
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT, tiny
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nanotx.cli.main import run
from nanotx.data.corpus import Corpus
from nanotx.errors import ConfigError
from nanotx.evaluation.by_position import losses, position_segments
from nanotx.evaluation.longer_contexts import explicit_position, moved, read_position
from nanotx.evaluation.loss import EvalText, evaluate
from nanotx.hardware.device import choose_machine
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.runs.load import load

STRETCHED = ["rope_linear", "rope_ntk", "rope_yarn"]
FORMULAS = ["alibi", "none", "rope", "sinusoidal", *STRETCHED]
MACHINE = choose_machine("cpu", "float32", 1)
Rope, Linear, Ntk, Yarn = (Position.find(name) for name in ("rope", *STRETCHED))
factors = st.sampled_from([1.0, 1.5, 2.0, 4.0, 16.0])
widths = st.sampled_from([4, 8, 32])


def turned(position, q, at):
    """Queries of one head at positions."""
    return position.build(q.shape[-1], 1, 8).rotate(q, q, at)[0]


def by_rates(q, at, rates):
    """The definition of turning, in complex numbers."""
    pairs = torch.complex(*q.double().chunk(2, dim=-1))
    angles = torch.tensor([[t * rate for rate in rates] for t in at.tolist()], dtype=torch.float64)
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], dim=-1).float()


@given(width=widths, factor=factors, theta=st.sampled_from([10.0, 1e4]), seed=st.integers(0, 99))
def test_position_interpolation_turns_a_position_as_rope_turns_its_share_of_the_factor(width, factor, theta, seed):
    q, at = torch.randn(4, width, generator=torch.Generator().manual_seed(seed)), torch.tensor([0, 3, 16, 64])
    rates = [theta ** (-2 * pair / width) for pair in range(width // 2)]
    wanted = by_rates(q, at / factor, rates)
    torch.testing.assert_close(turned(Linear(theta=theta, factor=factor), q, at), wanted, atol=1e-4, rtol=0)


@given(width=widths, factor=factors, theta=st.sampled_from([10.0, 1e4]), seed=st.integers(0, 99))
def test_ntk_aware_interpolation_is_rope_with_a_base_at_which_the_slowest_pair_is_slowed_by_the_factor(
    width, factor, theta, seed
):
    q, at = torch.randn(4, width, generator=torch.Generator().manual_seed(seed)), torch.tensor([0, 3, 16, 64])
    base = theta * factor ** (width / (width - 2))
    wanted = by_rates(q, at, [base ** (-2 * pair / width) for pair in range(width // 2)])
    torch.testing.assert_close(turned(Ntk(theta=theta, factor=factor), q, at), wanted, atol=1e-4, rtol=0)
    rates, usual = (kind.build(width, 1, 8).rates for kind in (Ntk(theta=theta, factor=factor), Rope(theta=theta)))
    assert rates[0] == 1 and (usual[-1] / rates[-1]).item() == pytest.approx(factor, rel=1e-4)


@given(width=widths, factor=factors, original=st.sampled_from([4, 64, 4096]), seed=st.integers(0, 99))
def test_yarn_slows_a_pair_by_how_often_it_turned_within_the_original_length(width, factor, original, seed):
    q, at = torch.randn(4, width, generator=torch.Generator().manual_seed(seed)), torch.tensor([0, 3, 16, 64])
    rates = []
    for pair in range(width // 2):
        rate = 10_000 ** (-2 * pair / width)
        turns = original * rate / (2 * math.pi)
        kept = 0 if turns < 1 else 1 if turns > 32 else (turns - 1) / 31
        rates.append((1 - kept) * rate / factor + kept * rate)
    wanted = (0.1 * math.log(factor) + 1) * by_rates(q, at, rates)
    torch.testing.assert_close(turned(Yarn(factor=factor, original=original), q, at), wanted, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", STRETCHED)
def test_stretched_by_one_is_rope(name):
    q, at = torch.randn(3, 8), torch.tensor([0, 5, 70])
    torch.testing.assert_close(turned(Position.find(name)(factor=1.0), q, at), turned(Rope(), q, at))


def test_head_of_one_pair_has_nothing_that_ntk_could_slow():
    assert Ntk(factor=4.0).build(2, 1, 8).rates.tolist() == [1.0]


@pytest.mark.parametrize("name", STRETCHED)
def test_what_cannot_be_stretched_is_refused(name):
    with pytest.raises(ConfigError, match=r"factor: expected a number of at least 1, got 0\.5"):
        Position.find(name)(factor=0.5)
    with pytest.raises(
        ConfigError, match=rf"{name}: heads of width 3 have no pairs of channels; try heads from \[1, 2"
    ):
        Position.find(name)().build(12, 4, 8)


def test_yarn_takes_the_original_length_from_context_and_factor_unless_it_is_said():
    assert torch.equal(Yarn(factor=4.0).build(32, 1, 1024).rates, Yarn(factor=4.0, original=256).build(32, 1, 9).rates)
    with pytest.raises(ConfigError, match="original: expected a number of at least 1, got 0"):
        Yarn(original=0)


# A model that moves.


def model(position="rope", **fields):
    """Weights of ordinary size, so that positions are felt."""
    built = Model(dim=8, layers=2, context=6, position=Position.find(position)(**fields)).build(11, seed=3).eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(weight.numel()))
    return built


@pytest.mark.parametrize("name", FORMULAS)
@torch.no_grad()
def test_in_a_longer_window_what_was_read_before_is_scored_as_before(name):
    short, ids = model(name), torch.arange(15)[None] % 11
    long = moved(short, 15, explicit_position(short.config))
    assert (long.context, short.context, long.training) == (15, 6, False)
    torch.testing.assert_close(long.double()(ids)[:, :6], short.double()(ids[:, :6]), rtol=1e-6, atol=1e-6)
    with pytest.raises(ConfigError, match="16 tokens do not fit a context of 15"):
        long(torch.zeros(1, 16, dtype=torch.long))


def test_model_that_is_not_moved_is_itself():
    built = model("learned")
    assert moved(built, 6, built.config.position) is built and moved(built, 3, built.config.position) is built


def test_yarn_that_was_trained_keeps_its_original_length_in_any_window():
    config = Model(dim=8, context=64, position=Yarn(factor=4.0))
    assert explicit_position(config) == Yarn(factor=4.0, original=16)
    assert explicit_position(replace(config, position=Yarn(original=20))) == Yarn(original=20)
    assert explicit_position(Model(position=Rope())) == Rope()
    built = model("rope_yarn", factor=2.0)
    assert torch.equal(moved(built, 24, explicit_position(built.config)).position.rates, built.position.rates)


def test_learned_position_cannot_be_extended_and_names_positions_that_can():
    built = model("learned")
    those = ", ".join(sorted([*FORMULAS, "rope_llama3", "rope_partial"]))
    with pytest.raises(
        ConfigError,
        match=rf"context: position 'learned' learned a place for each of 6 tokens, and has none for the others of 7; "
        rf"try at most 6, or a run that was trained with one of {those}\.",
    ):
        moved(built, 7, built.config.position)
    with pytest.raises(
        ConfigError, match=rf"'rope' cannot stand in for 'learned', .* learns position\.table\.weight\. .*: {those}"
    ):
        moved(built, 6, Rope())


def chosen(context, *words, position=None):
    config = Model(dim=8, context=64, position=position or Rope(theta=100.0))
    return read_position(Recipe(model=config), context, list(words), "nanotx eval")


def test_what_is_named_stretches_from_the_runs_context_to_the_windows_unless_more_is_said():
    assert chosen(256) == Rope(theta=100.0)
    assert chosen(96, "--position=rope_linear") == Linear(theta=100.0, factor=1.5)
    assert chosen(256, "--position", "rope_yarn") == Yarn(theta=100.0, factor=4.0, original=64)
    assert chosen(32, "--position", "rope_yarn") == Yarn(theta=100.0, factor=1.0, original=64)
    words = ("--position", "rope_yarn", "--position.factor", "8", "--position.original", "9")
    assert chosen(256, *words) == Yarn(theta=100.0, factor=8.0, original=9)
    assert chosen(256, position=Yarn(factor=4.0)) == Yarn(factor=4.0, original=16)
    assert chosen(256, "--position.factor", "8", position=Yarn(factor=4.0)) == Yarn(factor=8.0, original=16)
    with pytest.raises(ConfigError, match=r"no part named 'rope_yam'. Did you mean 'rope_yarn'"):
        chosen(256, "--position", "rope_yam")


# Scores.


@given(ids=st.lists(st.integers(0, 10), min_size=1, max_size=40), context=st.integers(1, 20))
def test_windows_may_have_any_length_that_the_model_can_read(ids, context):
    built = moved(model(), 20, Rope())
    eval_text, text, total = EvalText(ids=np.array(ids), start=0, size=1), [0, *ids], 0.0
    for first in range(0, len(ids), context):
        piece = torch.tensor(text[first : first + context + 1])
        total += F.cross_entropy(built(piece[None, :-1])[0], piece[1:], reduction="sum").item()
    assert evaluate(built, eval_text, MACHINE, context).loss == pytest.approx(total / len(ids), rel=1e-5)


def test_logits_of_a_few_tokens_are_held_at_once_at_any_window(monkeypatch):
    built, held = moved(model(), 30, Rope()), list[int]()
    eval_text = EvalText(ids=np.arange(30) % 11, start=0, size=9)
    whole = evaluate(built, eval_text, MACHINE).loss
    monkeypatch.setattr("nanotx.evaluation.loss.HELD", 45)
    built.head.register_forward_hook(lambda head, rows, logits: held.append(logits.numel()))
    assert evaluate(built, eval_text, MACHINE).loss == pytest.approx(whole, rel=1e-6)
    assert len(held) == 8 and max(held) == 44  # four tokens of eleven logits


@given(nats=st.lists(st.floats(0, 9), min_size=1, max_size=90), context=st.integers(1, 40), learned=st.integers(1, 50))
def test_spans_double_and_part_the_window_and_their_losses_add_up_to_the_texts(nats, context, learned):
    result = position_segments(np.array(nats), context, learned)
    end = min(context, len(nats))
    assert [item.first for item in result] == [1, *(item.last + 1 for item in result[:-1])] and result[-1].last == end
    assert all(item.last - item.first + 1 <= max(1, item.first - 1) for item in result)
    assert learned >= end or learned in {item.last for item in result}
    assert sum(item.tokens for item in result) == len(nats)
    assert sum(item.tokens * item.loss for item in result) == pytest.approx(sum(nats))
    for entry in result:
        here = [cost for index, cost in enumerate(nats) if entry.first <= index % context + 1 <= entry.last]
        assert (entry.tokens, entry.loss) == (len(here), pytest.approx(sum(here) / len(here)))
    curve = losses(np.array(nats), context)
    assert len(curve) == end and curve[0] == pytest.approx(np.mean(nats[::context]))


# Of a run.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    words = tiny(run=folder, tokenizer="byte", corpus="playhouse", corpus_size="3000", position="rope")
    assert run(["train", "shakespeare_char", *words]) == 0
    return folder


def figures_of(folder, path, *words):
    assert run(["eval", str(folder), "--json", str(path / "x.json"), *words]) == 0
    return json.loads((path / "x.json").read_text(encoding="utf-8"))


def test_run_is_scored_in_windows_of_any_length_and_says_how(trained, tmp_path, capsys):
    plain = figures_of(trained, tmp_path)
    assert (plain["context"], plain["trained_context"]) == (8, 8) and "windows of" not in capsys.readouterr().out
    short = figures_of(trained, tmp_path, "--context", "4")
    assert "windows of 4 tokens, 8 in training; position rope, theta 10000" in capsys.readouterr().out
    long = figures_of(trained, tmp_path, "--context", "32", "--position", "rope_yarn")
    message = "windows of 32 tokens, 8 in training; position rope_yarn, theta 10000, factor 4, original 8"
    assert message in capsys.readouterr().out
    assert long["position"] == {"part": "rope_yarn", "theta": 10000.0, "factor": 4.0, "original": 8}
    eight = figures_of(trained, tmp_path, "--context=32", "--position.factor=8", "--position", "rope_linear")
    assert eight["position"] == {"part": "rope_linear", "theta": 10000.0, "factor": 8.0}
    results = {item["loss"] for item in (plain, short, long, eight)}
    assert len(results) == 4 and len({item["tokens"] for item in (plain, short, long, eight)}) == 1
    assert len(long["loss_by_position"]) == 32
    assert [position["last"] for position in long["positions"]] == [1, 2, 4, 8, 16, 32]
    assert sum(position["tokens"] * position["loss"] for position in long["positions"]) == pytest.approx(long["nats"])
    loaded = load(trained)
    moved_there = moved(loaded.model, 32, Linear(factor=8.0))
    text = loaded.recipe.corpus.split()[1]
    eval_text = EvalText(ids=loaded.tokenizer.encode(text), start=loaded.tokenizer.start, size=1)
    assert evaluate(moved_there, eval_text, MACHINE).loss == pytest.approx(eight["loss"], rel=1e-5)


def test_loss_by_position_is_a_curve_and_a_table(trained, capsys):
    assert run(["eval", str(trained), "--by-position", "--context", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("loss at positions 1 to 20: ") and len(lines[3].split()[-1]) == 20
    assert lines[4].split() == ["position", "tokens", "loss", "in", "training"]
    rows = [line.split() for line in lines[5:-1]]
    assert [row[0] for row in rows] == ["1", "2", "3-4", "5-8", "9-16", "17-20"]
    assert [row[-1] for row in rows] == ["yes"] * 4 + ["no"] * 2


def test_what_a_run_does_not_accept_is_refused(trained, tmp_path):
    for words, message in [
        (["--context", "-1"], "context: expected a number of at least 0, got -1"),
        (["--position", "learned"], "'learned' cannot stand in for 'rope', with which the run was trained"),
        (["--position.factor", "4"], "rope has no field 'factor'"),
        (["--positon", "rope"], "Did you mean '--position'"),
        (["--position", "rope_ntk", "--position.factor", "0"], "factor: expected a number of at least 1, got 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            run(["eval", str(trained), *words])


# The benchmark.

MINE = '''
from dataclasses import dataclass
from nanotx.data.corpus import Corpus

@Corpus.register("two_letters")
@dataclass(frozen=True, kw_only=True)
class TwoLetters(Corpus):
    """Letters by turns."""

    validation: float = 0.5

    def text(self) -> str:
        return "ab" * 150
'''


@pytest.fixture
def lengths(monkeypatch, tmp_path):
    """The benchmark's main, called in this process with words, on a text of two letters."""
    (tmp_path / "two.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(Corpus, "registered", dict(Corpus.registered))
    known = set(sys.modules)
    usual = "--device cpu --threads 1 --dim 16 --layers 1 --context 8 --batch 2 --corpus two_letters"

    def call(*words):
        given = [*usual.split(), "--load", str(tmp_path / "two.py"), *map(str, words)]
        monkeypatch.setattr(sys, "argv", ["lengths.py", *given])
        return importlib.import_module("lengths").main()

    yield call
    for name in set(sys.modules) - known:
        if "benchmarks" in str(getattr(sys.modules[name], "__file__", "")) or name.startswith("nanotx_loaded"):
            del sys.modules[name]


def test_each_position_is_trained_alike_and_scored_in_windows_of_each_length(lengths, tmp_path, capsys):
    file = tmp_path / "x.json"
    words = "--parts learned,rope --stretched rope_yarn --times 1,2,5 --steps 3"
    assert lengths(*words.split(), "--json", file) == 0
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    assert [(row["name"], row["context"]) for row in rows] == [
        (name, context) for name in ("learned", "rope", "rope_yarn") for context in (8, 16, 40)
    ]
    unknown = [row for row in rows if row["bits_per_byte"] is None]
    assert {(row["name"], row["context"]) for row in unknown} == {("learned", 16), ("learned", 40)}
    yarn = rows[-1]
    assert yarn["trained_with"] == "rope" and yarn["position"]["factor"] == 5.0 and yarn["position"]["original"] == 8
    assert rows[6]["bits_per_byte"] == pytest.approx(rows[3]["bits_per_byte"])  # stretched by one it is rope
    assert rows[5]["bits_per_byte"] != yarn["bits_per_byte"]
    _, heads, _, first, *_ = filter(str.strip, capsys.readouterr().out.splitlines())
    assert heads.split() == ["position", "1x,", "8", "2x,", "16", "5x,", "40"]
    assert first.split() == ["learned", f"{rows[0]['bits_per_byte']:.4f}", "-", "-"]


def test_invalid_length_is_refused_before_anything_is_trained(lengths):
    with pytest.raises(ConfigError, match=r"--times: expected whole numbers from 1 on, .* got '0\.5'"):
        lengths("--times", "1,0.5")
    with pytest.raises(ConfigError, match=r"no part named 'rop'\. Did you mean 'rope'"):
        lengths("--parts", "rop")
    with pytest.raises(ConfigError, match=r"--stretched rope_yarm: unknown\. Did you mean 'rope_yarn'"):
        lengths("--parts", "rope", "--stretched", "rope_yarm")
