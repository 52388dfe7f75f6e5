"""A card comes section by section, each once: what an interruption leaves is not measured again."""

from pathlib import Path

import pytest
from helpers import tiny

from nanotx.errors import ConfigError, RunError
from nanotx.experiments.plan import make_arms
from nanotx.experiments.prove import prover
from nanotx.experiments.prove.prover import Prover, Question
from nanotx.laws.all_laws import laws_on
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe

WORDS = [*tiny(), "--corpus", "playhouse", "--corpus.size", "6000", "--tokenizer", "byte", "--ffn", "mlp"]
BASE, _ = read_recipe(Recipe(), WORDS, "test")


@pytest.fixture(autouse=True)
def few_laws(monkeypatch):
    few = ("position_wise", "prefix", "pure")
    monkeypatch.setattr(prover, "laws_on", lambda name: [law for law in laws_on(name) if law.name in few])


def question(part: str = "ffn/relu2", against: str = "mlp", *changes: str, **others: object) -> Question:
    slot, _, name = part.partition("/")
    first, second = make_arms(BASE, ["; ".join([f"{slot}={name}", *changes])], allow_swaps=True)
    plain: dict[str, object] = {"seeds": 3, "examples": 2, "rounds": 0, **others}
    return Question(part=part, against=against, name="tiny", arms=(first, second), **plain)  # type: ignore[arg-type]


def test_interrupted_card_continues_where_it_was(tmp_path, monkeypatch):
    class Killed:
        def __init__(self, *_: object) -> None: ...

        def run(self, processes: int) -> None:
            raise KeyboardInterrupt

    class Whole(Killed):
        def run(self, processes: int) -> dict[str, int]:
            return {"processes": processes}

    said: list[str] = []
    monkeypatch.setattr(prover, "Experiment", Killed)
    with pytest.raises(KeyboardInterrupt):
        Prover(question(), tmp_path / "card", said.append).run(2)
    assert said[0] == "laws of ffn/relu2"
    monkeypatch.setattr(prover, "Experiment", Whole)
    monkeypatch.setattr(prover.report, "to_json", lambda outcome: outcome)
    again: list[str] = []
    card = Prover(question(), tmp_path / "card", again.append).run(2)
    assert card.learning == {"processes": 2} and again == []
    assert Prover(question(), tmp_path / "card").card == card


def test_folder_of_another_card_is_refused(tmp_path):
    Prover(question(seeds=0), tmp_path / "card").run()
    with pytest.raises(ConfigError, match=r"holds the card of ffn/relu2 against mlp that differs in flags"):
        Prover(question(seeds=0, examples=3), tmp_path / "card")
    (tmp_path / "card" / "card.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"card\.json: cannot be read"):
        Prover(question(seeds=0), tmp_path / "card")
    with pytest.raises(ConfigError, match="not empty, and no card"):
        Prover(question(), tmp_path)
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a folder"):
        Prover(question(), file)


def test_source_of_a_part_is_part_of_the_question(tmp_path):
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for file, text in zip(files, ("x = 1\n", "x = 2\n"), strict=True):
        Path(file).write_text(text, encoding="utf-8")
    keys = {question(load=(str(file),)).key for file in files}
    assert len({*keys, question().key}) == 3 and question().key == question().key


def test_part_that_does_not_fit_the_recipe_is_not_trained(tmp_path):
    card = Prover(
        question("attention/gqa", "sdpa", "attention.heads=3", "attention.kv_heads=1"), tmp_path / "card"
    ).run()
    assert "does not fit the recipe tiny: gqa: heads=3 do not divide dim=16" in card.left_out["learning"]
    assert card.claims[0].why.startswith("cannot be built: gqa: heads=3")


def test_schedule_has_no_time_and_a_reason_for_it(tmp_path):
    card = Prover(question("schedule/constant", "cosine", rounds=6, seeds=0), tmp_path / "card").run()
    assert card.speeds == [] and "one number per step" in card.left_out["speed"]
