"""Numbers that sampling cannot use are refused by name, alike in Python and on the command line."""

import math
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, text, tiny

import nanotx
from nanotx.cli.main import run as command
from nanotx.errors import ConfigError
from nanotx.generation import Generation, Sampling, generate
from nanotx.generation.engine import check_ids
from nanotx.generation.sampler import Sampler
from nanotx.nn.transformer import Model
from nanotx.tokenizers.byte import Byte

NAN, INF = math.nan, math.inf
REFUSED = {
    "temperature": [-1.0, -1e-46, 1e7, 1e39, 1e308, INF, NAN],
    "repetition_penalty": [0.0, -1.0, 1e-7, 1e-40, 1e-300, 1e7, 1e39, INF, NAN],
    "frequency_penalty": [1e7, -1e7, 1e39, -1e39, INF, -INF, NAN],
    "presence_penalty": [1e7, -1e7, 1e39, -1e39, INF, -INF, NAN],
    "top_k": [0, -1, -(2**63), 2**63, 10**30],
    "top_p": [0.0, -0.1, 1.0000001, 2.0, INF, NAN],
    "min_p": [-0.1, 1.0, 1.1, INF, NAN],
    "typical": [0.0, -0.1, 1.1, INF, NAN],
    "seed": [-1, 2**63, 2**64, 10**30],
    "max_new_tokens": [-1, 10**9 + 1, 2**63, 10**30],
}
TAKEN = {
    "temperature": [0.0, -0.0, 5e-324, 1e-300, 1e-46, 1e-40, 1e-37, 1e-30, 1.0, 1e6],
    "repetition_penalty": [1e-6, 1.0, 1e6],
    "frequency_penalty": [-1e6, 0.0, 1e6],
    "presence_penalty": [-1e6, 0.0, 1e6],
    "top_k": [1, 7, 2**63 - 1],
    "top_p": [5e-324, 1e-46, 0.9999999999999999, 1.0],
    "min_p": [0.0, 5e-324, 0.9999999999999999],
    "typical": [5e-324, 0.9999999999999999, 1.0],
    "seed": [0, 2**63 - 1],
    "max_new_tokens": [0, 1, 9],
}
NEITHER = ["True", "False", "None", "'1'", "[1]", "1j"]
"""No numbers, whatever the field; None is the default of `top_k`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run."""
    place = tmp_path_factory.mktemp("ranges")
    corpus = ["--corpus", "file", "--corpus.path", str(text(place / "text.txt"))]
    assert (
        command(
            [
                "train",
                "shakespeare_char",
                *corpus,
                "--run",
                str(place / "run"),
                "--embedding",
                "tokens",
                *tiny(train_steps=2),
            ]
        )
        == 0
    )
    return place / "run"


@pytest.fixture(scope="module")
def loaded(folder):
    return nanotx.load(folder)


@pytest.mark.parametrize("name", REFUSED)
def test_number_out_of_range_is_refused_alike_in_python_and_on_the_command_line(name, loaded, folder):
    for value in REFUSED[name]:
        with pytest.raises(ConfigError) as python:
            loaded.generate("ab", **{"max_new_tokens": 3} | {name: value})
        assert str(python.value).startswith(f"{name}: expected a ") and repr(value)[:9] in str(python.value)
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(ConfigError) as typed:  # of the last of them
        command(["sample", str(folder), f"{flag}={value}"])
    assert str(typed.value).removeprefix("nanotx sample: ") == str(python.value).replace(name, flag, 1)


def test_bias_out_of_range_is_refused_with_its_token(loaded, folder):
    for value in (1e7, -1e7, 1e39, -1e39, 1e300, INF, -INF, NAN):
        with pytest.raises(ConfigError, match=r"^bias: 'e': expected a number of at .*st -?1,000,000, got ") as python:
            loaded.generate("ab", bias={"e": value})
        with pytest.raises(ConfigError, match=r"^bias: id 6: expected a number of at "):
            Sampling(bias=((6, value),))
    with pytest.raises(ConfigError) as typed:
        command(["sample", str(folder), "--bias", f"e={value}"])
    assert str(typed.value) == f"--{python.value}"


def test_what_is_no_number_is_refused_by_the_name_of_the_knob(folder):
    """In a process of its own, where no annotation is checked: what a user's Python gives is whatever it is."""
    cases = [(name, value) for name in [*REFUSED, "bias"] for value in NEITHER if (name, value) != ("top_k", "None")]
    whole = [(name, value) for name in ("top_k", "seed", "max_new_tokens") for value in ("1.0", "1.5", "inf", "nan")]
    huge = [(name, sign + "10**400") for name in REFUSED for sign in ("", "-")]
    code = f"""
import nanotx
from math import inf, nan
loaded = nanotx.load({str(folder)!r})
for name, value in {cases + whole + huge}:
    fields = {{"max_new_tokens": 3}} | {{name: {{"e": eval(value)}} if name == "bias" else eval(value)}}
    try:
        print(repr(loaded.generate("ab", **fields)))
    except nanotx.errors.ConfigError as error:
        print(error)
import numpy
texts = [loaded.generate("ab", temperature=kind(1), seed=kind(2)) for kind in (int, numpy.int64)]
assert texts[0] == texts[1] == loaded.generate("ab", temperature=numpy.float64(1), seed=2)
print(loaded.generate("ab", max_new_tokens=3, temperature=1, top_p=1, min_p=0, bias={{"e": 3}}, presence_penalty=1))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *output, last = done.stdout.splitlines()
    assert last == nanotx.load(folder).generate(
        "ab", max_new_tokens=3, bias={"e": 3.0}, temperature=1.0, presence_penalty=1.0
    )
    for (name, value), line in zip(cases + whole + huge, output, strict=True):
        assert line.startswith(f"{name}: ") and "expected a " in line and len(line) < 150, (name, value, line)


@pytest.mark.parametrize("name", TAKEN)
def test_ends_of_a_range_are_sampled_from(name, loaded):
    for value in TAKEN[name]:
        fields = {"max_new_tokens": 4} | {name: value}
        assert len(loaded.generate("ab", **fields)) == 2 + fields["max_new_tokens"]


def test_temperature_too_small_to_divide_by_takes_the_best_as_zero_does(loaded):
    best = loaded.generate("ab", temperature=0.0, max_new_tokens=8)
    for temperature in (1e-46, 1e-38, 1e-300):
        assert loaded.generate("ab", temperature=temperature, max_new_tokens=8) == best


def test_temperature_too_small_to_divide_by_works_with_drafts(loaded):
    sampling = Sampling(temperature=1e-46)
    texts = []
    for draft in (None, loaded):
        generation = loaded.generation(["ab"], 12, sampling, draft_model=draft)
        texts.append("".join(piece for _, piece in generation))
    assert texts[0] == texts[1] == loaded.generate("ab", temperature=0.0, max_new_tokens=12)[2:]


@pytest.mark.parametrize("penalty", [1e-6, 1e6])
@pytest.mark.parametrize("logit", [1e38, -1e38, 3.4e38, -3.4e38])
def test_no_penalty_makes_an_infinite_logit_of_a_finite_one(penalty, logit):
    logits = torch.tensor([[logit, logit, 0.0, -3.4e38]])
    for temperature in (0.0, 1e-30, 0.8, 1e6):
        sampling = Sampling(
            temperature=temperature, repetition_penalty=penalty, frequency_penalty=1e6, presence_penalty=-1e6,
            bias=((0, 1e6), (3, -1e6)), top_p=0.9, min_p=0.1, typical=0.9,
        )  # fmt: skip
        sampler = Sampler(sampling, [[0, 1, 2, 3]])
        for _ in range(3):
            assert int(sampler.draw(logits)) in range(4)
            assert sampler.probabilities(logits).sum() == pytest.approx(1)


def test_texts_side_by_side_have_a_seed_each_or_are_refused_before_any_is_written(loaded, folder):
    last = 2**63 - 1
    many = Sampling(seed=last - 1)
    assert len(dict(loaded.generation(["a", "b"], 1, many))) == 2
    for draft in (None, loaded):
        with pytest.raises(
            ConfigError, match=r"^seed: that of the last of 3 texts: expected .* below 2\*\*63, got 92233"
        ):
            loaded.generation(["a", "b", "c"], 1, many, draft_model=draft)
    with pytest.raises(ConfigError, match=r"^seed: that of the last of 3 texts: expected"):
        command(["sample", str(folder), "--seed", str(last), "--best-of", "3"])


@pytest.mark.parametrize("value", [-1, 10**9 + 1])
def test_every_way_to_write_refuses_a_length_that_cannot_be(value):
    model = Model(dim=8, layers=1, context=8).build(256).eval()
    with pytest.raises(ConfigError, match=r"^max_new_tokens: expected a "):
        generate(model, torch.zeros(1, 1, dtype=torch.long), value)
    with pytest.raises(ConfigError, match=r"^max_new_tokens: expected a "):
        Generation(model=model, codec=Byte().train([]), prompts=["a"], max_new_tokens=value, sampling=Sampling())


@pytest.mark.parametrize("value", [0, -1, 1001])
def test_too_many_draft_tokens_are_refused(value, loaded):
    with pytest.raises(ConfigError, match=r"^draft_tokens: expected a "):
        loaded.generation(["a"], 1, Sampling(), draft_model=loaded, draft_tokens=value)


def test_banned_token_is_banned_and_its_characters_are_not(loaded):
    texts = [loaded.generate("ab", max_new_tokens=12, banned_tokens=banned) for banned in ("e", ["e"], ("e",))]
    assert texts[0] == texts[1] == texts[2] and "e" not in texts[0]
    with pytest.raises(ConfigError, match="banned_tokens: expected the text of one token, got 'ae', which is 2"):
        loaded.generate("ab", banned_tokens="ae")


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (torch.zeros(0, 3, dtype=torch.long), r"ids: expected shape \(prompts, tokens\) .* got shape \(0, 3\)"),
        (torch.zeros(2, 0, dtype=torch.long), r"got shape \(2, 0\)"),
        (torch.zeros(3, dtype=torch.long), r"got shape \(3,\)"),
        (torch.zeros(1, 1), "ids: expected a tensor of integers .*, got torch.float32"),
        (torch.tensor([[0, 256]]), "ids: expected ids from 0 to 255, got 0 to 256"),
        (torch.tensor([[-1]]), "ids: expected ids from 0 to 255, got -1 to -1"),
    ],
)
def test_ids_that_are_no_prompts_are_refused(ids, match):
    with pytest.raises(ConfigError, match=match):
        check_ids(ids, 256)


def test_prompt_that_is_no_text_is_refused(folder):
    script = f"""
import nanotx
from nanotx.generation import Sampling
loaded = nanotx.load({str(folder)!r})
for call, message in (
    (lambda: loaded.generation("abc", 2, Sampling()), "prompts: expected a list of texts such as ['To be'], got str"),
    (lambda: loaded.generation(["a", 5], 2, Sampling()), "prompts: expected texts, got int among them"),
    (lambda: loaded.generation(None, 2, Sampling()), "prompts: expected a list of texts such as ['To be'], got None"),
    (lambda: loaded.generation(["a"], 2, Sampling(), "ab"), "stop: expected a list of texts such as ['To be'], got"),
    (lambda: loaded.generate("a", stop=5), "stop: expected a list of texts such as ['To be'], got int"),
    (lambda: loaded.generate("a", stop=["a", None]), "stop: expected texts, got NoneType among them"),
    (lambda: loaded.generate("a", banned_tokens=[5]), "banned_tokens: expected texts, got int among them"),
    (lambda: nanotx.generate(loaded.model, [[1]], 2), "ids: expected a tensor of integers such as torch.tensor("),
):
    try:
        call()
    except nanotx.errors.ConfigError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
for text in (["a", "b"], b"a", None, 5):
    try:
        loaded.generate(text, max_new_tokens=1)
    except nanotx.errors.ConfigError as error:
        assert f"text: expected a str, got {{type(text).__name__}}" in str(error)
    else:
        raise AssertionError(text)
"""  # in a process of its own, where types are not checked as in these tests
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
