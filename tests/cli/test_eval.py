"""`nanotx eval`: every byte once, the scripts' bits add up to the text's, nothing lost is scored."""
# ruff: noqa: RUF001  these letters are meant

import json
import math

import numpy as np
import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nanotx.cli.main import run
from nanotx.errors import ConfigError, DataError, RunError, TextError
from nanotx.evaluation.by_script import SegmentScore, score_text
from nanotx.evaluation.loss import EvalText, cross_entropies, evaluate
from nanotx.hardware.device import choose_machine
from nanotx.nn.transformer import Model
from nanotx.runs.load import load
from nanotx.tokenizers import scripts
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

MACHINE = choose_machine("cpu", "float32", 1)
MODEL = Model(dim=8, layers=1, context=5).build(300)
BPE = Bpe(vocab_size=266).train(["aé 漢 б漢한 " * 9])
LETTERS = st.text(st.sampled_from("abé б漢한 ।\n."), min_size=1, max_size=60)


@given(ids=st.lists(st.integers(0, 299), min_size=1, max_size=30))
def test_losses_of_tokens_are_those_of_the_evaluation(ids):
    eval_text = EvalText(ids=np.array(ids), start=3, size=9)
    each = torch.cat([tensor.flatten() for tensor in cross_entropies(MODEL, eval_text, MACHINE, "none")])
    assert each.shape == (len(ids),) and each.dtype == torch.float64
    assert each.mean().item() == pytest.approx(evaluate(MODEL, eval_text, MACHINE).loss, rel=1e-5)
    text = [3, *ids]
    for first in range(0, len(ids), 5):
        piece = torch.tensor(text[first : first + 6])
        wanted = F.cross_entropy(MODEL(piece[None, :-1])[0], piece[1:], reduction="none")
        assert each[first : first + 5].tolist() == pytest.approx(wanted.tolist(), rel=1e-4)


@given(text=LETTERS, codec=st.sampled_from([Byte().train([]), BPE, Char().train(["abé б漢한 ।\n."])]))
def test_scripts_bits_add_up_to_the_texts(text, codec):
    scored = score_text(MODEL, codec, text, MACHINE)
    whole, parts = scored.whole, scored.scripts
    eval_text = EvalText(ids=codec.encode(text), start=codec.start, size=len(text.encode("utf-8")))
    score = evaluate(MODEL, eval_text, MACHINE)
    assert whole.loss == pytest.approx(score.loss, rel=1e-5)
    assert whole.bits_per_byte == pytest.approx(score.bits_per_byte, rel=1e-5)
    assert parts.keys() == {script for script, _ in scripts.script_segments(text)}
    for field in ("size", "words", "tokens", "nats"):
        assert sum(getattr(part, field) for part in parts.values()) == pytest.approx(getattr(whole, field))
    bits = sum(part.bits_per_byte * part.size for part in parts.values())
    assert bits / whole.size == pytest.approx(whole.bits_per_byte)


def test_script_in_which_no_token_begins_has_no_loss():
    codec = Bpe(vocab_size=259, pattern=r"[\s\S]+").train(["aбaбaбaбaб" * 9])
    text = "aб"
    assert len(codec.encode(text)) == 1
    parts = score_text(MODEL, codec, text, MACHINE).scripts
    assert parts["Cyrillic"].loss is None and parts["Cyrillic"].bits_per_byte == 0.0
    assert parts["Latin"].tokens == 1
    assert SegmentScore(size=3, words=0, tokens=1, nats=1.0).fertility is None


def test_what_is_lost_is_not_scored():
    with pytest.raises(TextError, match="1 of 3 characters of this text become <unk> and are lost, so its bits per"):
        score_text(MODEL, Char(unknown=True).train(["ab"]), "axb", MACHINE)
    with pytest.raises(TextError, match="the ids decode to another text, perhaps its normal form C"):
        score_text(MODEL, Char(nfc=True).train(["é"]), "e\u0301", MACHINE)


# Of a run.

CORPUS = {"corpus": "playhouse", "corpus_grammar": "voices", "corpus_size": "3000"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval") / "run"
    assert run(["train", "shakespeare_char", *tiny(run=folder, tokenizer="byte", **CORPUS)]) == 0
    return folder


def test_run_is_scored_on_its_validation_text_as_its_summary_says(trained, tmp_path, capsys):
    assert run(["eval", str(trained), "--by-script", "--json", str(tmp_path / "x.json")]) == 0
    out = capsys.readouterr().out
    summary = json.loads((trained / "summary.json").read_text(encoding="utf-8"))
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert figures["loss"] == pytest.approx(summary["val_loss"], rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(summary["bits_per_byte"], rel=1e-5)
    assert figures["floor_bits_per_byte"] == summary["floor_bits_per_byte"]
    assert figures["bytes"] == figures["tokens"] == sum(part["bytes"] for part in figures["scripts"].values())
    floor = sum(part["floor_bits_per_byte"] * part["bytes"] for part in figures["scripts"].values())
    assert floor / figures["bytes"] == pytest.approx(figures["floor_bits_per_byte"])
    assert sum(part["nats"] for part in figures["scripts"].values()) == pytest.approx(figures["nats"])
    lines = out.splitlines()
    assert lines[0] == f"{trained}, step 6: validation text of playhouse, {figures['bytes']:,} bytes"
    assert f"{figures['bits_per_byte']:.4f} bits per byte; floor {figures['floor_bits_per_byte']:.4f}" in lines[1]
    assert lines[2].startswith("script ") and lines[-1] == "" and lines[-2].startswith("all ")
    assert f"{figures['floor_bits_per_byte']:.4f}" == lines[-2].split()[-1]
    assert {line.split()[0] for line in lines[3:-2]} == figures["scripts"].keys()


def test_table_by_script_holds_the_figures_of_the_json_in_every_column(trained, tmp_path, capsys):
    assert run(["eval", str(trained), "--by-script", "--json", str(tmp_path / "x.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    header = next(line for line in lines if line.startswith("script "))
    names = ("bytes", "tokens", "tokens/word", "loss", "share of bits", "bits/byte", "floor")
    assert [header.index(name) for name in names] == sorted(header.index(name) for name in names)
    rows = {line.split()[0]: line.split()[-7:] for line in lines[lines.index(header) + 1 :] if line.strip()}
    assert len(figures["scripts"]) > 1 and rows.keys() == {*figures["scripts"], "all"}
    for name, part in {**figures["scripts"], "all": figures}.items():
        rates = [part[key] for key in ("fertility", "loss")]
        floor = part["floor_bits_per_byte"]
        assert rows[name] == [
            f"{part['bytes']:,}",
            f"{part['tokens']:,}",
            *("-" if rate is None else f"{rate:.4f}" for rate in rates),
            f"{part['nats'] / figures['nats']:.1%}",
            f"{part['bits_per_byte']:.4f}",
            f"{floor:.4f}",
        ]
    # In this text bits and bytes are shared out otherwise, so that one cannot stand for the other.
    assert any(rows[name][4] != f"{part['bytes'] / figures['bytes']:.1%}" for name, part in figures["scripts"].items())


def test_run_is_scored_on_a_file_and_by_an_earlier_checkpoint(trained, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("Bonjour, Зоя! 小明", encoding="utf-8")
    words = ["eval", str(trained), "--text", str(tmp_path / "text.txt")]
    assert run([*words, "--step", "4"]) == 0
    early = capsys.readouterr().out
    assert run(words) == 0
    late = capsys.readouterr().out
    assert "step 4" in early and "step 6" in late and "; floor" not in late and "23 bytes" in late
    loaded = load(trained)
    whole = score_text(loaded.model, loaded.tokenizer, "Bonjour, Зоя! 小明", MACHINE).whole
    assert f"{whole.bits_per_byte:.4f} bits per byte" in late
    assert whole.bits_per_byte == pytest.approx(whole.nats / math.log(2) / 23)


def test_what_cannot_be_scored_is_refused_with_the_reason(trained, tmp_path):
    (tmp_path / "empty.txt").touch()
    run_folder = str(trained)
    for words in (["--device", "abacus"], ["--dtype", "float8"]):
        with pytest.raises(ConfigError):
            run(["eval", run_folder, *words])
    for words, kind, message in [
        ([str(tmp_path)], RunError, "expected a run's folder"),
        ([run_folder, "--step", "5"], RunError, "no checkpoint of step 5"),
        ([run_folder, "--text", str(tmp_path / "none.txt")], DataError, r"there is no such file"),
        ([run_folder, "--text", str(tmp_path / "empty.txt")], DataError, "there is no text in it"),
        ([run_folder, "--by-scrip"], ConfigError, r"Did you mean '--by-script'"),
        ([run_folder, "--json", str(tmp_path / "no" / "x.json")], RunError, "--json .*cannot be written: No such"),
    ]:
        with pytest.raises(kind, match=message):
            run(["eval", *words])


def test_run_whose_corpus_has_changed_is_not_scored_on_it(trained, monkeypatch):
    from nanotx.data.corpus.playhouse import Playhouse

    monkeypatch.setattr(Playhouse, "text", lambda self: "Other words. " * 99)
    with pytest.raises(DataError, match=r"the run began with a corpus of SHA-256 .* or name a text by --text FILE"):
        run(["eval", str(trained)])
