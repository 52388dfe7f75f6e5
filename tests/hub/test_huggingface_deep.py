"""Parity in hundreds of drawn models for each layout, both ways, and ids of thousands of strings for each tokenizer.

pytest -m slow -n 0 -rP tests/hub/test_huggingface_deep.py    # prints the largest differences as well
"""

import json
import random
import sys

import pytest
from foreign import LESSON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_huggingface_layouts import (
    BIASES,
    BY_NAME,
    GPT2,
    QWEN3,
    TOLERANCE,
    BiasOfAnotherLayer,
    Interleaved,
    OtherEps,
    SquareNotTransposed,
    TanhGelu,
    difference,
    error,
    exported,
    models,
    trained,
    with_a_bias_dropped,
)

from nanotx.errors import TextError
from nanotx.hub.huggingface.importing import import_model
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.convert.tokenizer_json import as_text, config, described
from nanotx.tokenizers.hard_texts import TROUBLE
from nanotx.tokenizers.unigram import Unigram
from nanotx.tokenizers.wordpiece import WordPiece

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

DRAWN = 200
"""Models of each layout and direction."""

STRINGS = 5_000

many = settings(max_examples=DRAWN, deadline=None, suppress_health_check=list(HealthCheck))


def drawn(data, name):
    """A model that the layout of this name takes, at the scale of trained weights."""
    return trained(data.draw(models(name)), data.draw(st.integers(2, 40)), data.draw(st.integers(0, 10**6)))


def report(what, met):
    """Print the largest of the differences that were met; `-rP` shows it."""
    exact, single, rounding, _ = (max(column) for column in zip(*met, strict=True))
    over = [each for each in met if each.float32 > TOLERANCE]
    share = max((each.float32 / each.allowed for each in over), default=0.0)
    sys.stdout.write(
        f"{what}: {len(met)} models, largest difference {exact:.1e} of the spread in float64, {single:.1e} in float32 "
        f"({len(over)} over {TOLERANCE:g}, at most {share:.2f} of what is allowed there), where the class is up to "
        f"{rounding:.1e} from itself in float64\n"
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_every_drawn_model_is_computed_by_its_class(name):
    met = []

    @many
    @given(data=st.data())
    def compare(data):
        met.append(difference(drawn(data, name), BY_NAME[name]))
        met[-1].check()

    compare()
    report(f"{name}, out", met)
    assert len(met) >= DRAWN


@pytest.mark.parametrize("name", BY_NAME)
def test_every_saved_model_is_read(name, tmp_path):
    met = []

    @many
    @given(data=st.data())
    def compare(data):
        model = drawn(data, name)
        theirs, folder = exported(model, BY_NAME[name]), tmp_path / str(len(met))
        theirs.save_pretrained(folder, max_shard_size=data.draw(st.sampled_from(["1GB", "2KB"])))
        imported = import_model(folder, model.vocab_size).model
        met.append(difference(model, BY_NAME[name], saved=theirs, read=imported))
        met[-1].check()

    compare()
    report(f"{name}, in", met)
    assert len(met) >= DRAWN


@pytest.mark.parametrize(
    ("config_of", "layout"),
    [(GPT2, TanhGelu), (GPT2, SquareNotTransposed), (GPT2, OtherEps), (GPT2, BiasOfAnotherLayer), (QWEN3, Interleaved)],
)
def test_wrong_layouts_fail_at_every_seed(config_of, layout):
    for seed in range(DRAWN):
        model = trained(config_of, vocab_size=11, seed=seed)
        assert error(model, layout()) > TOLERANCE, seed


def test_bias_that_is_dropped_fails_at_every_seed():
    for seed in range(DRAWN):
        config, place = BIASES[seed % len(BIASES)]
        assert with_a_bias_dropped(config, place, seed) > TOLERANCE, (place, seed)


TOKENIZERS = {
    "char": Char(),
    "char with unknown": Char(unknown=True),
    "byte": Byte(),
    "bpe": Bpe(vocab_size=300),
    "wordpiece": WordPiece(vocab_size=130),
    "unigram": Unigram(vocab_size=200),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_of_random_strings_are_those_of_the_folder(name, tmp_path):
    codec = TOKENIZERS[name].train(LESSON)
    (tmp_path / "tokenizer.json").write_text(as_text(described(codec)), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config(codec)), encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    draw, encoded = random.Random(0), 0
    letters = sorted(set("".join(LESSON)))
    while encoded < STRINGS:
        text = "".join(draw.choice((draw.choice(letters), draw.choice(TROUBLE))) for _ in range(draw.randint(0, 24)))
        if name == "char":
            text = "".join(draw.choices(letters, k=draw.randint(0, 40)))
        try:
            ours = codec.encode(text).tolist()
        except TextError:
            continue
        encoded += 1
        got = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ours == got, repr(text)
