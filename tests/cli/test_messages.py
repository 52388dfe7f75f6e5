"""Messages for wrong flags, prompts, texts and names: they state the flag or the file, what came, and what would do."""

import re

import pytest
from helpers import text, tiny

from nanotx.cli.main import run
from nanotx.data.corpus.file import File
from nanotx.errors import ConfigError, DataError, NanotxError, TextError, UnknownPart
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe
from nanotx.tokenizers import Tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete run of a step, whose alphabet is `abcde`, the space and the newline."""
    home = tmp_path_factory.mktemp("home")
    corpus = ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    flags = tiny(train_steps=1, train_eval_every=0, train_sample_every=0)
    assert run(["train", "shakespeare_char", *corpus, "--run", str(home / "run"), *flags]) == 0
    return str(home / "run")


@pytest.mark.parametrize(("flag", "value"), [("prompt", "aZ"), ("banned-tokens", "Z"), ("bias", "Z=1")])
def test_character_outside_the_alphabet_is_refused_with_the_flag_that_brought_it(trained, flag, value):
    with pytest.raises(TextError, match=rf"^--{flag}: .*'Z' \(U\+005A\).*try without it, or train with") as error:
        run(["sample", trained, "--max-new-tokens", "2", f"--{flag}", value])
    assert error.value.exit_code == 3


@pytest.mark.parametrize("value", ["all", "half", "1.5", "Auto", "", "none"])
@pytest.mark.parametrize("flag", ["eval-tokens", "micro-batch-size"])
def test_word_for_a_number_that_may_be_auto_is_refused_with_the_meaning_of_the_flag(flag, value):
    with pytest.raises(ConfigError, match=rf"--train\.{flag}: expected a whole number or auto, got '{value}'") as error:
        read_recipe(Recipe(), [f"--train.{flag}={value}"], "nanotx")
    assert re.search(r"; 0 (for all|for batch-size / grad-accum-steps)", str(error.value)) and "auto for" in str(
        error.value
    )


@pytest.mark.parametrize(("value", "read"), [("auto", "auto"), ("0", 0), ("64", 64)])
def test_number_that_may_be_auto_is_read(value, read):
    recipe, _ = read_recipe(Recipe(), ["--train.eval-tokens", value], "nanotx")
    assert recipe.train.eval_tokens == read


def test_number_below_zero_that_may_be_auto_is_refused_with_auto_and_zero_named():
    with pytest.raises(ConfigError, match=r"eval_tokens: expected .*at least 0, or 'auto', got -1; 0 reads all"):
        read_recipe(Recipe(), ["--train.eval-tokens", "-1"], "nanotx")


@pytest.mark.parametrize("word", ["all", "2.5"])
def test_word_for_an_optional_number_is_refused(trained, word):
    with pytest.raises(ConfigError, match=rf"--top-k: expected a whole number or none, got '{word}'"):
        run(["sample", trained, "--top-k", word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-new-tokens", "30", "RUN", "--max-new-tokens", "0"], "--max-new-tokens: given 2 times, with 30 and 0;"),
        (["RUN", "--seed", "1", "--seed=2", "--seed", "3"], "--seed: given 3 times, with 1 and 2 and 3;"),
        (["RUN", "--prompt", "a b", "--prompt"], "--prompt: given 2 times, with 'a b' and nothing;"),
    ],
)
def test_flag_given_twice_is_refused_with_its_own_values_alone(trained, words, message):
    with pytest.raises(ConfigError, match=re.escape(f"{message} give it once.")):
        run(["sample", *[trained if word == "RUN" else word for word in words]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\nabZ\n", r"line 2: char: 'Z' .* at offset 2 is not in the alphabet"),
        (b"", r"there is no text in it"),
        (b"\xff\xfe", r"expected UTF-8"),
        (None, r"there is no such file"),
    ],
)
def test_text_that_cannot_be_scored_is_refused_with_the_name_of_its_file(trained, tmp_path, content, message):
    file = tmp_path / "mine.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NanotxError, match=rf"^--text {re.escape(str(file))}: {message}") as error:
        run(["eval", trained, "--text", str(file)])
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a", r"1 character with .*; both need some: try a longer text"),
        ("ab", r"2 characters with .*: try --corpus\.validation 0\.5, or a longer text"),
    ],
)
def test_text_too_short_to_cut_is_refused_with_a_share_that_would_do(tmp_path, content, message):
    (tmp_path / "short.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        File(path=str(tmp_path / "short.txt"), validation=0.1).split()


@pytest.mark.parametrize("name", [None, 3, ["sdpa"], b"sdpa", 1.5, {}])
def test_part_name_that_is_no_text_is_refused_as_unknown(name):
    for look in (Attention.find, Block.find, Tokenizer.find, Tokenizer.table):
        with pytest.raises(UnknownPart, match=rf"expected the name of a part such as .*got {type(name).__name__} "):
            look(name)
