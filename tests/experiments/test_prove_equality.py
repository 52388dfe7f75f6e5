"""Whether two parts are one function: known equals, known others, and what each slot compares."""

import pytest
from helpers import tiny

from nanotx.experiments.prove.equality import claim
from nanotx.recipe import Recipe
from nanotx.recipe_flags import read_recipe

WORDS = [*tiny(), "--corpus", "playhouse", "--corpus.size", "6000", "--tokenizer", "byte"]
BASE, _ = read_recipe(Recipe(), WORDS, "test")


def compared(slot: str, *flags: str, against: tuple[str, ...] = (), cases: int = 4):
    """Return the claim on two recipes with these flags."""
    mine, theirs = (read_recipe(BASE, some, "test")[0] for some in (flags, against))
    trained = {}

    def codecs(recipe):
        text = recipe.corpus.split()[0]
        return trained.setdefault(recipe.tokenizer, recipe.tokenizer.train([text]))

    return claim(slot, "other", mine, theirs, range(cases), codecs)


@pytest.mark.parametrize(
    ("slot", "flags", "against"),
    [
        ("attention", ["--attention", "sdpa"], ["--attention", "per_head"]),
        ("attention", ["--attention=sliding_window", "--attention.window=8"], ["--attention=fused"]),
        ("ffn", ["--ffn=relu2"], ["--ffn=relu2"]),
        ("norm", ["--norm=rmsnorm"], ["--norm=rmsnorm"]),
        ("loss", ["--loss=label_smoothing", "--loss.smoothing=0.0"], ["--loss=cross_entropy"]),
        ("optimizer", ["--optimizer=adamw"], ["--optimizer=adamw"]),
        ("schedule", ["--schedule=cosine"], ["--schedule=cosine"]),
        ("tokenizer", ["--tokenizer=byte"], ["--tokenizer=byte"]),
    ],
)
def test_equal_parts_are_one_function(slot, flags, against):
    same = compared(slot, *flags, against=tuple(against))
    assert same.same and same.largest <= same.tolerance and not same.why


@pytest.mark.parametrize(
    ("slot", "flags", "against", "why"),
    [
        ("attention", ["--attention=sliding_window", "--attention.window=7"], ["--attention=fused"], "logits: at"),
        ("attention", ["--attention=gqa", "--attention.kv-heads=1"], ["--attention=sdpa"], "other weights: blocks.0"),
        ("ffn", ["--ffn=mlp"], ["--ffn=swiglu"], "64 x 16, and 96 x 16 there"),
        ("position", ["--position=rope"], ["--position=alibi"], "logits: at"),
        ("embedding", ["--embedding=bigram"], ["--embedding=tokens"], "it has embedding.grams.0"),
        ("loss", ["--loss=label_smoothing", "--loss.smoothing=0.1"], ["--loss=cross_entropy"], "objectives: at"),
        ("optimizer", ["--optimizer.lr=1e-3"], ["--optimizer.lr=1.1e-3"], "weights of"),
        ("schedule", ["--schedule=cosine"], ["--schedule=constant"], "factors: at"),
        ("tokenizer", ["--tokenizer=char"], ["--tokenizer=byte"], "a vocabulary of"),
    ],
)
def test_other_functions_are_named_with_what_differs(slot, flags, against, why):
    other = compared(slot, *flags, against=tuple(against))
    assert not other.same and why in other.why


def test_window_as_long_as_the_context_is_only_one_function_up_to_it():
    """The longest case has the context's length, so that a window one shorter is told apart."""
    assert not compared("attention", "--attention=sliding_window", "--attention.window=7", cases=1).same
