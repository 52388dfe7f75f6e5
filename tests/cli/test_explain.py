"""`nanotx explain`: every word that a command prints has an explanation, and one source has them all."""

import re

import pytest

from nanotx.cli.chart import UNICODE
from nanotx.cli.command import builtin_commands
from nanotx.cli.commands import explain
from nanotx.cli.glossary import entries, find_entry, normalised
from nanotx.cli.main import run
from nanotx.cli.picture import evaluation_columns
from nanotx.cli.recipe_list import recipe_names
from nanotx.errors import ConfigError
from nanotx.laws.all_laws import LAWS
from nanotx.nn.norm import Norm
from nanotx.runs.history import EVAL_KEYS, OWN_KEYS, History


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every word that can be explained."""
    return {normalised(word) for word in explain.known_words()}


def explained(capsys, *words: str) -> str:
    """What is printed about some words."""
    assert run(["explain", *words]) == 0
    return capsys.readouterr().out


def test_no_two_entries_have_a_name_in_common():
    names = [normalised(name) for entry in entries() for name in entry.names]  # nor has one the same name twice
    assert len(names) == len(set(names)) > 150


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.names[0])
def test_entry_refers_only_to_words_that_are_explained(entry, known):
    assert 20 < len(entry.text) < 700
    words = re.findall(r"(?<![\w*`])\*([^*\n]+)\*(?![\w*`])", entry.text)
    for word in words:
        assert find_entry(word) or normalised(word) in known, word


def test_every_flag_that_the_glossary_names_exists():
    flags = {flag.spelled for _, flag in explain.recipe_flags()} | {
        "--print-config",
        "--load",
        "--no-compile",
        "--step",
    }
    flags |= {f"--{slot.slot}" for slot in explain.slots()}
    named = {flag for entry in entries() for flag in re.findall(r"`(--[\w.-]+)", entry.text)}
    assert len(named) > 30 and not named - flags


def test_every_figure_of_a_run_is_in_the_glossary():
    history = History()
    history.take({"event": "start", "step": 0, "title": "", "steps": 2, "tokens_per_step": 1, "floor": 1.0})
    scores = {"train_loss": 1.0, "val_loss": 1.0, "bits_per_byte": 1.0, "val_stderr": 0.1}
    history.take({"event": "eval", "step": 1, **scores})
    columns = [column[0].strip() for column in evaluation_columns(history.evals, {}, UNICODE)]
    assert "gap" in columns and "±" in columns
    for word in [*columns, *OWN_KEYS, *EVAL_KEYS]:
        known = find_entry(word) or find_entry(word.removeprefix("train_"))
        assert known or word == "event", word


SUMMARY = """
skipped_steps parameters train_loss val_loss bits_per_byte perplexity val_stderr val_tokens train_tokens eval_tokens
floor_bits_per_byte best_step best_val_loss train_seconds wall_seconds tokens_per_second mfu peak_flops device dtype
compiled threads seed vocab_size complete
"""


@pytest.mark.parametrize("key", SUMMARY.split())
def test_every_key_of_a_summary_is_in_the_glossary(key):
    assert find_entry(key)


def test_every_part_law_command_and_recipe_is_known(known):
    for slot in explain.slots():
        assert {normalised(name) for name in slot.names()} <= known
        assert find_entry(f"{slot.slot} slot") or find_entry(slot.slot), slot
    assert {normalised(name) for name in recipe_names()} <= known
    for law in (law for laws in LAWS.values() for law in laws):
        assert find_entry(law.name) or explain.law_texts(normalised(law.name), 80), law.name
    for command in builtin_commands():
        assert find_entry(command) or list(explain.named_texts(command, 80)), command


@pytest.mark.parametrize("words", ["val_loss", "val loss", "Validation-Loss", "--val-loss"])
def test_case_hyphens_and_underscores_do_not_matter(capsys, words):
    assert explained(capsys, *words.split()).startswith("validation loss, val_loss:\nThe loss on text")


def test_part_is_explained_by_its_docstrings_and_fields(capsys):
    page = explained(capsys, "rope")
    assert "a part of the slot position (--position rope)" in page and "arxiv.org/abs/2104.09864" in page
    assert "--position.theta FLOAT" in page


def test_field_is_explained_by_the_comment_beside_it(capsys):
    assert "maximum norm of the gradient; 0 for no clipping" in explained(capsys, "train.grad-clip")
    assert "--attention.kv-heads INT" in explained(capsys, "kv_heads")


def test_slot_is_explained_by_the_glossary_and_its_parts(capsys):
    page = explained(capsys, "position")
    assert "How the model learns where a token is" in page and re.search(r"^  alibi +A linear penalty", page, re.M)


OWN = '''
"""A norm of my own."""
from dataclasses import dataclass
from torch import nn
from nanotx.nn.norm import Norm


@Norm.register("own_norm")
@dataclass(frozen=True, kw_only=True)
class Own(Norm):
    """Nothing."""

    size: int = 1  # of nothing

    def build(self, dim: int) -> nn.Module:
        return nn.Identity()
'''


def test_part_of_a_users_file_is_explained(capsys, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(OWN, encoding="utf-8")
    try:
        page = explained(capsys, "own_norm", "--load", str(own))
    finally:
        Norm.registered.pop("own_norm", None)
    assert "A norm of my own." in page and "--norm.size INT" in page


def test_without_a_word_every_entry_is_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = explained(capsys)
    assert max(map(len, page.splitlines())) <= 80
    for entry in entries():
        assert entry.names[0] in " ".join(page.split()), entry.names[0]


@pytest.mark.parametrize(
    ("word", "meant"), [("gapp", "gap"), ("rop", "rope"), ("perplexty", "perplexity"), ("muonn", "muon")]
)
def test_near_miss_suggests_the_word(word, meant):
    with pytest.raises(
        ConfigError, match=rf"explain {word}: unknown word. Did you mean '{meant}'\? See nanotx explain"
    ):
        run(["explain", word])


def test_terminal_shows_no_marks_of_markdown(capsys):
    page = explained(capsys, "floor")
    assert "*" not in page and "`" not in page and "playhouse" in page
