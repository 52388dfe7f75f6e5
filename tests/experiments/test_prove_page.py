"""A card as a page, a picture and Markdown: from planted values, hostile ones among them."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from nanotx.errors import RunError
from nanotx.experiments.prove import sections
from nanotx.experiments.prove.card import Card, Claim, Laws, Speed
from nanotx.experiments.prove.page import html, markdown
from nanotx.experiments.prove.picture import round_ticks, svg

LAWS = Laws(part="attention/mine", held=16, cases=640, seed=0, seconds=6.5, not_asked={"window": "it looks back"})
OTHER = Claim(other="sdpa", same=False, cases=1, tolerance=1e-4, why="logits: at (0, 0) they differ by 0.3")
TIMED = Speed(size="12 x 64 x 128", what="forward, backward", ms=2.5, against_ms=5.0, ratio=0.5, interval=(0.45, 0.55),
              rounds=15, memory=3_000_000, against_memory=1_500_000)  # fmt: skip
COSTS = {"parameters": 800_000, "flops_per_token": 1e6, "seconds_per_step": 0.05, "steps": 200}
ARMS = [
    {"arm": "baseline", "losses": [2.5, 2.6, 2.4], "costs": COSTS},
    {"arm": "attention=mine", "losses": [2.4, 2.55, None], "costs": COSTS, "verdict": "better, by 0.05 to 0.10",
     "difference": -0.075, "interval": [-0.1, -0.05], "p": 0.002},
]  # fmt: skip
LEARNING = {"arms": ARMS, "seeds": [1, 2, 3], "equal": "steps", "held_out": 0.1, "unit": "bits per byte",
            "pairing_gain": 12.5, "notes": []}  # fmt: skip


def card(**others: object) -> Card:
    """Return a complete card, some values of it otherwise."""
    values = {"part": "attention/mine", "against": "sdpa", "config": "Mine()", "against_config": "Sdpa()",
              "recipe": "macbook", "machine": {"cpu": "A processor", "cores": 2}, "laws": [LAWS], "claims": [OTHER],
              "speeds": [TIMED], "setting": "one layer alone", "learning": LEARNING, **others}  # fmt: skip
    return Card(**values)  # type: ignore[arg-type]


BROKEN = card(
    laws=[replace(LAWS, broken=({"law": "causal", "how": "outputs <b>feel</b> | `x`", "replay": "replay('<i>')"},))],
    claims=None, speeds=None, learning=None,
)  # fmt: skip


def test_summary_says_all_of_it_in_four_sentences():
    assert sections.summary(card()) == (
        "16 laws hold on 640 random cases. A function other than that of sdpa. Training takes 0.50 times as long "
        "as with sdpa. After 200 steps of macbook on 3 seeds: better, by 0.05 to 0.10."
    )


def test_flags_of_the_recipe_are_on_the_card():
    assert "recipe: macbook --model.dim 32 --x 'a b'" in sections.text(card(flags=["--model.dim", "32", "--x", "a b"]))


def test_warnings_of_the_runs_are_on_the_card():
    arms = [{**arm, "costs": COSTS | {"warnings": ["warning: too short a text"]}} for arm in ARMS]
    shown = sections.text(card(learning=LEARNING | {"arms": arms}))
    assert "every arm: warning: too short a text" in shown and "warning" not in sections.text(card())


def test_ratio_that_may_be_one_is_no_difference():
    even = replace(TIMED, ratio=1.03, interval=(0.98, 1.1))
    assert "Training takes as long as with sdpa, as far as can be told." in sections.summary(card(speeds=[even]))
    assert "0.50 to 1.03 times" in sections.summary(card(speeds=[even, TIMED]))
    encoded = [replace(TIMED, what="encode"), replace(even, what="decode")]
    assert "Encoding takes 0.50 times as long" in sections.summary(card(speeds=encoded))


def test_card_is_read_back_from_json_equal():
    assert Card.of(card().plain()) == card() and Card.of(BROKEN.plain()) == BROKEN


@pytest.mark.parametrize("change", [{"format": 2}, {"laws": [{"part": "x"}]}, {"speeds": 3}, {"more": 1}])
def test_damaged_card_is_refused(change):
    with pytest.raises(RunError, match=r"card\.json"):
        Card.of(card().plain() | change)


def test_picture_is_well_formed_and_draws_each_measurement():
    drawn = svg(card())
    root = ElementTree.fromstring(drawn)
    kinds = [element.get("class") for element in root.iter() if element.get("class")]
    assert kinds.count("range") == 2 and kinds.count("mean") == 2 and kinds.count("seed") == 2
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "0.50" in words and "-0.0750" in words and "12 x 64 x 128, training" in words
    assert "prefers-color-scheme: dark" in drawn


def test_broken_part_has_no_plots_and_its_case_on_every_form():
    root = ElementTree.fromstring(svg(BROKEN))
    assert not [element for element in root.iter() if element.get("class") in ("range", "mean")]
    for form in (svg(BROKEN), html(BROKEN), sections.text(BROKEN)):
        assert "causal" in form and "Time and memory" not in form
    assert "replay(&#x27;&lt;i&gt;&#x27;)" in html(BROKEN)


def test_page_holds_no_markup_of_a_part():
    page = html(BROKEN)
    assert "<b>feel" not in page and "<b>feel" not in svg(BROKEN)
    assert "default-src 'none'" in page and not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_markdown_has_tables_and_escapes_what_a_part_says():
    lines = markdown(card()).splitlines()
    assert "| 12 x 64 x 128 | training | 2.50 | 5.00 | 0.50 | 0.45 to 0.55 | 3.00 | 1.50 |" in lines
    assert "outputs \\<b\\>feel\\</b\\> \\| \\`x\\`" in markdown(BROKEN)


def test_ticks_are_round_and_within_their_range():
    assert round_ticks(-0.0243, 0.0074) == [-0.02, -0.01, 0.0]
    assert round_ticks(-1.0, 3.0) == [-1.0, 0.0, 1.0, 2.0, 3.0]
