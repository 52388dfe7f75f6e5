"""An induction head forms on random strings that are written twice; its score finds it, and its removal shows it."""

import json
import re

import pytest
from helpers import ROOT, tiny

import nanotx
from nanotx.cli.main import run
from nanotx.lens.induction import head_scores, repeated_tokens, repetition_losses


@pytest.mark.slow
def test_scores_find_the_induction_head_and_its_removal_raises_the_loss_of_the_repetition(tmp_path):
    flags = ["--train.steps", "600", "--train.eval-every", "0", "--train.sample-every", "0", "--dtype", "float32"]
    assert run(["train", "induction", *flags, "--device", "cpu", "--threads", "1", "--run", str(tmp_path / "run")]) == 0
    model = nanotx.load(tmp_path / "run").model
    first, again = repetition_losses(model, repeated_tokens(model))
    assert first > 4 and again < 1.5  # a reader who only guesses has ln 62 = 4.1
    scores = head_scores(model)
    best = scores[0]
    assert best.head.startswith("1.") and best.induction > 0.5
    assert best.difference > 2
    assert max(score.previous for score in scores if score.head.startswith("0.")) > 0.3
    assert all(score.induction < 0.05 for score in scores if score.head.startswith("0."))


def test_callback_on_the_page_adds_the_scores_to_each_evaluation(tmp_path):
    page = (ROOT / "docs" / "induction.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    file, folder = tmp_path / "forming.py", tmp_path / "run"
    file.write_text(body, encoding="utf-8")
    flags = tiny(train_steps=2, train_eval_every=1, corpus_size=2_000)
    own = ["--load", str(file), "--callback", "forming", "--run", str(folder)]
    assert run(["train", "induction", *flags, *own]) == 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [(row["induction"], row["previous_token"]) for row in rows if row["event"] == "eval"]
    assert len(scores) == 2 and all(0 < induction < 1 and 0 < previous < 1 for induction, previous in scores)
