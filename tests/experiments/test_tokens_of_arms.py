"""Arms with different tokenizers: which budgets are fair, and what is said of those that are not."""

import json
import math
from dataclasses import asdict, replace

import pytest

from nanotx.data.corpus.file import File
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError
from nanotx.experiments import report
from nanotx.experiments.experiment import Design, Experiment, Outcome
from nanotx.experiments.plan import Arm, Facts, equal_steps, make_arms
from nanotx.experiments.record import facts_of, strict
from nanotx.experiments.statistics import judge
from nanotx.experiments.tokens import check_exact, reading, token_warnings
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers.byte import Byte

BASE = Recipe(
    corpus=Playhouse(size=6000), model=Model(context=8), train=Train(steps=60, batch_size=4), device="cpu", seed=5
)
BPE = 'tokenizer={part="bpe", vocab_size=270}'
CHARACTERS = Facts(tokens_per_step=32, bytes_per_token=1.0, flops_per_token=50.0, seconds_per_step=None, parameters=1)
PAIRS = replace(CHARACTERS, bytes_per_token=2.0, flops_per_token=60.0)
LOST = replace(CHARACTERS, bytes_per_token=math.nan)


def arms(*changes: str) -> list[Arm]:
    return make_arms(BASE, changes)


def outcome(*changes: str, facts: list[Facts], steps: list[int], equal: str = "bytes") -> Outcome:
    """Return an outcome of planted losses."""
    design = Design(name="tiny", arms=tuple(arms(*changes)), seeds=(5, 6, 7), looks=(3,), equal=equal)  # type: ignore[arg-type]
    losses: dict[str, list[float | None]] = {
        arm.name: [2.0, 2.1, 2.2 - 0.1 * index] for index, arm in enumerate(design.arms)
    }
    base, *others = losses.values()
    verdicts = judge(base, dict(zip([arm.name for arm in design.arms[1:]], others, strict=True)))
    return Outcome(design=design, facts=facts, steps=steps, losses=losses, nats=losses, verdicts=verdicts,
                   unit="bits per byte", diverged={}, to_baseline={})  # fmt: skip


def test_reading_of_an_arm_is_in_bytes():
    arm = arms(f"{BPE}; model.context=16")[1]
    text = reading(arm, PAIRS, 10)
    assert (text.token, text.window, text.step, text.run, text.flops) == (2.0, 32.0, 64.0, 640.0, 10 * 32 * 60.0)


@pytest.mark.parametrize("equal", ["steps", "tokens"])
def test_budget_that_is_unequal_text_is_said_to_be(equal):
    base, other = token_warnings(arms(BPE), [CHARACTERS, PAIRS], equal)
    assert base == () and "hold 2 bytes and those of the baseline 1, so at equal" in other[0]
    assert "2 times the text; --equal bytes and --equal flops are fair" in other[0]
    assert token_warnings(arms(BPE), [CHARACTERS, LOST], equal) == [(), ()]  # nothing is known, which is said elsewhere


@pytest.mark.parametrize("equal", ["bytes", "flops", "seconds"])
def test_fair_budget_brings_no_warning(equal):
    assert token_warnings(arms(BPE), [CHARACTERS, PAIRS], equal) == [(), ()]


def test_tokenizer_of_a_file_may_know_the_held_out_piece():
    base, other = token_warnings(arms("tokenizer=shakespeare_bpe_512"), [CHARACTERS, PAIRS], "bytes")
    assert (
        base == () and "the tokenizer shakespeare_bpe_512 was trained before, perhaps on the held-out piece" in other[0]
    )
    shared = make_arms(arms("tokenizer=shakespeare_bpe_512")[1].recipe, ["model.layers=1"])
    assert token_warnings(shared, [PAIRS, PAIRS], "steps") == [(), ()]  # what all know helps nobody


def test_page_of_different_tokenizers_tells_the_bytes_and_no_nats_of_other_tokens():
    page = report.page(outcome(BPE, "model.layers=1", facts=[CHARACTERS, PAIRS, CHARACTERS], steps=[60, 30, 60]))
    lines = [line.split() for line in page.splitlines()]
    assert ["bytes", "of", "a", "token", "a", "window", "a", "step", "the", "run", "FLOPs"] in lines
    assert ["baseline", "1.000", "8", "32", "1,920", "9.6e+04"] in lines
    assert ["2.000", "16", "64", "1,920", "5.76e+04"] in lines
    (row,) = [line for line in lines if line[:2] == ["2.0667", "-"]]  # the arm of pairs has bits per byte alone
    assert [line[:3] for line in lines if line[:1] == ["model.layers=1"]][1] == ["model.layers=1", "2.0333", "2.0333"]
    assert row[2] == "-0.0333" and max(map(len, page.splitlines())) <= 80


def test_page_of_one_tokenizer_has_no_such_table():
    page = report.page(outcome("model.layers=1", facts=[CHARACTERS] * 2, steps=[60, 60]))
    assert "bytes of" not in page


def test_bytes_that_are_not_known_are_no_budget():
    smaller = arms("model.layers=1")
    with pytest.raises(
        ConfigError, match=r"--equal bytes: baseline: char does not give the text back.* --equal tokens"
    ):
        equal_steps(smaller, [LOST, LOST], "bytes")
    assert equal_steps(smaller, [LOST, LOST], "tokens") == [60, 60]


def test_tokenizer_that_loses_text_is_compared_with_no_other_and_that_is_said_before_anything_is_trained(tmp_path):
    (tmp_path / "text.txt").write_text("cafe\u0301 au lait, " * 200, encoding="utf-8")
    base = replace(BASE, corpus=File(path=str(tmp_path / "text.txt")), tokenizer=Byte())
    nfc = 'tokenizer={part="bpe", vocab_size=257, nfc=true}'
    design = Design(name="tiny", arms=tuple(make_arms(base, [nfc])), seeds=(5,), looks=(1,), equal="flops", rounds=0)
    with pytest.raises(ConfigError, match=r"nfc=true}: bpe does not give the held-out text back, so there are no bits"):
        Experiment(design, tmp_path / "x").measured()
    check_exact(arms("model.layers=1"), [LOST, LOST])  # one tokenizer: nats compare


def test_facts_of_tokens_that_lose_text_come_back_from_the_record():
    entry = json.loads(json.dumps(strict(asdict(LOST)), allow_nan=False))
    assert entry["bytes_per_token"] is None and math.isnan(facts_of(entry).bytes_per_token)
    assert facts_of(strict(asdict(PAIRS))) == PAIRS


def test_warning_is_printed_before_anything_is_trained(tmp_path):
    lines = list[str]()
    base = replace(BASE, tokenizer=Byte())
    design = Design(name="tiny", arms=tuple(make_arms(base, [BPE])), seeds=(5,), looks=(1,), rounds=0)
    facts, _ = Experiment(design, tmp_path / "x", lines.append).measured()
    assert [line for line in lines if "are fair" in line] == [f"{BPE}: {facts[1].warnings[0]}"]
