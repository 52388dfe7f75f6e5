"""Runs that exist already, compared: folders with the three files that are read of them, nothing is trained."""

import json
from pathlib import Path

import pytest

from nanotx.errors import ConfigError, RunError
from nanotx.experiments import existing
from nanotx.experiments.existing import compare_runs
from nanotx.experiments.statistics import judge

BASE, ARM = [1.0, 1.1, 1.2, 1.15], [0.9, 1.01, 1.09, 1.06]


def written(folder: Path, ffn: str, seed: int, loss: float | None, **summary: object) -> str:
    """Write a run and return its path."""
    folder.mkdir(parents=True)
    recipe = (
        f'seed = {seed}\ntokenizer = {{ part = "byte" }}\n[model.block]\npart = "prenorm"\nffn = {{ part = "{ffn}" }}\n'
    )
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    row = {"event": "step", "step": 5, "loss": 1.0, "grad_norm": 1.0, "lr": 0.1, "tokens_per_second": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    seeds = dict.fromkeys(existing.SEEDS, seed)
    figures = {
        "complete": True,
        "steps": 5,
        "tokens": 50,
        "corpus_sha256": "a",
        "tokenizer_sha256": "t",
        "eval_tokens": 0,
    }
    figures |= {"val_loss": loss, "bits_per_byte": loss, **seeds, **summary}
    (folder / "summary.json").write_text(json.dumps(figures), encoding="utf-8")
    return str(folder)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    base = [written(tmp_path / f"base-{seed}", "mlp", seed, loss) for seed, loss in enumerate(BASE)]
    return [*base, *(written(tmp_path / f"arm-{seed}", "relu2", seed, loss) for seed, loss in enumerate(ARM))]


def test_runs_are_grouped_by_recipe_and_judged_in_pairs_of_one_seed(runs):
    mixed = [runs[0], *reversed(runs[1:])]
    result = compare_runs(mixed, 0.01)
    assert list(result.losses) == ["baseline", "ffn=relu2"] and len(result.seeds) == 4
    by_hand = judge(BASE, {"ffn=relu2": ARM})["ffn=relu2"]
    assert result.verdicts["ffn=relu2"].difference == pytest.approx(by_hand.difference)
    assert result.verdicts["ffn=relu2"].outcome == by_hand.outcome == "better"


def test_page_says_that_the_validation_text_judged(runs):
    page = existing.page(compare_runs(runs, 0.01))
    assert "Judged on the validation text" in page and max(map(len, page.splitlines())) <= 80
    plain = json.loads(json.dumps(existing.to_json(compare_runs(runs, 0.01)), allow_nan=False))
    assert plain["arms"][1]["verdict"].startswith("better") and plain["arms"][0]["losses"] == BASE


def test_seed_that_an_arm_lacks_is_left_out_and_that_is_said(runs):
    result = compare_runs(runs[:-1], 0.01)
    assert len(result.seeds) == 3 and "1 of 7 runs have a seed that not every recipe has" in result.notes[1]


def test_unequal_budgets_are_said(runs, tmp_path):
    longer = [written(tmp_path / f"long-{seed}", "swiglu", seed, 1.0 + seed / 9, tokens=99) for seed in range(4)]
    assert "Budgets differ" in compare_runs([*runs, *longer], 0.01).notes[-1]


@pytest.mark.parametrize(
    ("read", "note"),
    [
        (1000, None),
        (1009, None),
        (1990, "learned from 1,000 to 1,990 bytes of text"),
        (None, "from unknown numbers of"),
    ],
)
def test_runs_with_different_tokenizers_are_compared_by_bytes(tmp_path, read, note):
    chars = [written(tmp_path / f"c-{seed}", "mlp", seed, loss, bytes=1000) for seed, loss in enumerate(BASE)]
    others = {"tokenizer_sha256": "other", "tokens": 25, "bytes": read}
    pieces = [written(tmp_path / f"p-{seed}", "relu2", seed, loss, **others) for seed, loss in enumerate(ARM)]
    result = compare_runs([*chars, *pieces], 0.01)
    assert result.nats == {"baseline": BASE, "ffn=relu2": []}
    assert "nats of unlike tokens are left out" in result.notes[1]
    assert len(result.notes) == 2 if note is None else note in result.notes[2]
    row = next(line for line in existing.page(result).splitlines() if "+" in line or "-0.0" in line)
    assert row.split()[:3] == ["ffn=relu2", "1.0150", "-"]


def test_run_whose_loss_is_not_finite_diverged(runs, tmp_path):
    lost = [written(tmp_path / f"lost-{seed}", "geglu", seed, None if seed else 0.5) for seed in range(4)]
    assert compare_runs([*runs[:4], *lost], 0.01).verdicts["ffn=geglu"].outcome == "diverged"


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="differ in their seeds alone"):
        compare_runs(runs[:4], 0.01)
    with pytest.raises(ConfigError, match="no seed has a run of every recipe"):
        compare_runs([runs[0], runs[5]], 0.01)
    other = written(tmp_path / "other", "relu2", 0, 1.0, corpus_sha256="b")
    with pytest.raises(ConfigError, match="different texts"):
        compare_runs([runs[0], other], 0.01)
    twice = written(tmp_path / "twice", "mlp", 0, 1.0)
    with pytest.raises(ConfigError, match="one recipe and one seed"):
        compare_runs([runs[0], twice], 0.01)
    half = written(tmp_path / "half", "relu2", 0, 1.0, complete=False)
    with pytest.raises(RunError, match=r"unfinished; only complete runs"):
        compare_runs([runs[0], half], 0.01)
    with pytest.raises(RunError, match="no such folder"):
        compare_runs([str(tmp_path / "nowhere")], 0.01)
