"""`nanotx prove`: one small card from the command line, a part that breaks a law, and what it refuses."""

import json
from pathlib import Path

import pytest
from helpers import tiny

from nanotx.cli.main import run
from nanotx.errors import ConfigError, UnknownPart
from nanotx.experiments.prove import prover, sections, timing
from nanotx.experiments.prove.benches import Size
from nanotx.experiments.prove.card import Card
from nanotx.laws.all_laws import laws_on

RECIPE = [*tiny(train_steps=2, train_eval_every=None, train_sample_every=None, train_checkpoint_every=None),
          "--corpus", "playhouse", "--corpus.size", "6000", "--tokenizer", "byte"]  # fmt: skip
FAST = ["--recipe", "shakespeare_char", "--processes", "1", "--seeds", "2", "--examples", "2"]
WORDS = [*FAST, "--rounds", "6", *RECIPE]
PEEKING = str(Path(__file__).parents[1] / "experiments" / "peeking_part.py")


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """Few laws, small sizes, short turns, no profiler, and a folder to write into."""
    few = ("causal", "prefix", "equivalent", "window")
    monkeypatch.setattr(prover, "laws_on", lambda name: [law for law in laws_on(name) if law.name in few])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nanotx.runs.shared.peak_flops", lambda machine: 1e11)
    sizes = (Size(batch=1, time=4, dim=8, heads=2), Size(batch=2, time=3, dim=9, heads=2))
    monkeypatch.setattr("nanotx.experiments.prove.benches.SIZES", sizes)
    monkeypatch.setattr(prover, "CASES_OF_EQUALITY", 2)
    monkeypatch.setattr(timing, "TURN", 0.0)
    monkeypatch.setattr(prover, "peak_bytes", lambda build, device, warm: 2_000_000)


@pytest.mark.slow
def test_card_of_a_part_has_laws_equals_times_and_a_verdict(tmp_path, capsys):
    words = ["prove", "attention/gqa", "--against", "sdpa", "--change", "attention.kv_heads=1", *WORDS]
    assert run([*words, "--json", "card.json"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("attention/gqa against attention/sdpa\n\n")
    assert max(map(len, out.splitlines())) <= 80
    assert "2 seeds (5 to 6)" in out and "4 of 4 runs" in err
    assert out.replace("\n  ", " ").count("Not measured at 2 x 3 x 9: gqa: heads=2 do not divide dim=9") == 1
    plain = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    card = Card.of(plain)
    assert not card.broken and card.laws[0].cases > 2 and not card.claims[0].same
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("prove-attention-gqa-")
    assert run(words) == 0
    again = capsys.readouterr()
    assert again.out == out and "of 4 runs" not in again.err and "laws of" not in again.err


def test_part_that_equals_the_other_is_timed_and_not_trained(tmp_path, capsys, monkeypatch):
    attempt, starts = prover.attempt_all, []
    monkeypatch.setattr(
        prover, "attempt_all", lambda *args, start: (starts.append(start), attempt(*args, start=start))[1]
    )
    files = {flag: str(tmp_path / f"card.{flag}") for flag in ("html", "svg", "markdown", "json")}
    flags = [word for flag, file in files.items() for word in (f"--{flag}", file)]
    assert run(["prove", "attention/fused", "--against", "attention/sdpa", "--cases-seed", "7", *WORDS, *flags]) == 0
    assert starts == [7]
    out = capsys.readouterr().out
    card = Card.of(json.loads(Path(files["json"]).read_text(encoding="utf-8")))
    assert sections.text(card) == out.removesuffix("\n")
    joined = out.replace("\n  ", " ")
    assert joined.count("Not measured at 2 x 3 x 9: fused: heads=2 do not divide dim=9") == 1
    assert "random cases from seed 7" in joined
    assert "One function with sdpa" in joined and "per_head: one function." in joined
    assert "Not compared: as one function with sdpa, its runs would differ by rounding alone." in joined
    assert [speed.what for speed in card.speeds if speed.ratio] == ["forward", "forward, backward"]
    written = [Path(file).read_text(encoding="utf-8")[:5] for file in files.values()]
    assert written == ["<!doc", "<svg ", "### a", '{\n "f']
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_part_that_breaks_a_law_is_neither_timed_nor_trained(tmp_path, capsys):
    assert run(["prove", "attention/peeks_ahead", "--load", PEEKING, *WORDS]) == 1
    out = capsys.readouterr().out
    joined = out.replace("\n  ", " ").replace("\n", " ")
    assert "attention/peeks_ahead breaks causal: causal: outputs up to 0 feel position 1" in joined
    assert "replay('attention/peeks_ahead', 'causal'" in out and "TIME" not in out
    assert "Nothing was timed and nothing was trained" in joined
    assert not list(tmp_path.rglob("metrics.jsonl"))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["attention"], ConfigError, r"expected SLOT/PART such as attention/blockwise"),
        (["gqa"], ConfigError, "Did you mean 'attention/gqa'"),
        (["attention/gpa"], UnknownPart, "Did you mean 'gqa'"),
        (["attention/gqa", "ffn/mlp"], ConfigError, "expected one SLOT/PART"),
        (["corpus/file"], ConfigError, "compare corpora with nanotx eval"),
        (["model"], ConfigError, "no part of a slot"),
        (["attention/gqa", "--against", "gqa"], ConfigError, "against itself there is nothing to prove"),
        (["attention/blockwise"], ConfigError, "against itself there is nothing to prove"),
        (["attention/gqa", "--against", "ffn/mlp"], ConfigError, "a part of the slot attention, got one of ffn"),
        (["attention/gqa", "--against", "mlp"], ConfigError, "a part of the slot ffn, and attention was expected"),
        (["attention/gqa", "--against", "sdpo"], UnknownPart, "--against sdpo.*Did you mean 'sdpa'"),
        (["attention/gqa", "--load", "nowhere.py"], ConfigError, r"--load nowhere\.py: expected a Python file"),
        (["attention/gqa", "--recipe", "makbook"], ConfigError, "makbook"),
        (["attention/gqa", "--change", "attention.kv_haeds=1"], ConfigError, "kv"),
        (["attention/gqa", "--examples", "0"], ConfigError, "--examples: expected a number of at least 1"),
        (["attention/gqa", "--sed", "3"], ConfigError, "--sed: no such flag"),
    ],
)
def test_command_refuses_what_has_no_card(tmp_path, words, error, message):
    with pytest.raises(error, match=message):
        run(["prove", *words[:1], *words[1:], *FAST[2 if "--recipe" in words else 0 :][:2]])
    assert not list(tmp_path.rglob("*.json"))
