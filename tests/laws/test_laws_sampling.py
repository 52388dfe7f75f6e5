"""The sampler is, id by id, the plain chain of its laws; and each law catches the bugs that are planted here."""

import json
import random
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from helpers import text, tiny
from mutants.sampling import BUGS

import nanotx.cli.commands.sample
import nanotx.generation.engine
import nanotx.generation.sampler
import nanotx.generation.stop_sequences
import nanotx.generation.text
from nanotx import laws
from nanotx.cli.main import run as command
from nanotx.errors import LawBroken
from nanotx.generation import Generation, Sampling
from nanotx.nn.transformer import Model
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

SIZE, CONTEXT = 9, 6
CASES = {"chances_of": 150, "samples_of": 24, "stops_of": 300, "streams_of": 150, "texts_of": 4}
"""How many of each law are tried, and within how many a bug is caught."""


def model(seed, softcap=0.0):
    """A small model with decided opinions."""
    made = Model(dim=8, layers=1, context=CONTEXT, softcap=softcap).build(SIZE, seed=seed).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8.0 if parameter.ndim > 1 else 1.0)
    return made


def random_sampling(draw, seed=None):
    """A sampling config with some random fields, the others at their defaults."""
    fields = {
        "temperature": draw.choice([0.0, 1e-46, 0.3, 0.8, 1.0, 2.5]),
        "top_k": draw.randint(1, SIZE + 2),
        "top_p": draw.uniform(0.05, 1.0),
        "min_p": draw.uniform(0.0, 0.6),
        "typical": draw.uniform(0.05, 1.0),
        "repetition_penalty": draw.uniform(0.5, 3.0),
        "frequency_penalty": draw.uniform(-1.0, 1.5),
        "presence_penalty": draw.uniform(-1.0, 1.5),
        "banned_tokens": tuple(draw.sample(range(SIZE), draw.randint(0, 3))),
        "bias": tuple((draw.randrange(SIZE), draw.uniform(-4, 4)) for _ in range(draw.randint(0, 3))),
    }
    turned = draw.sample(sorted(fields), draw.choice([1, 2, 3, 10]))
    return Sampling(seed=draw.randrange(99) if seed is None else seed, **{name: fields[name] for name in turned})


def ids(draw, least, most):
    return [draw.randrange(SIZE) for _ in range(draw.randint(least, most))]


def chances_of(case):
    """Random logits, prompts and histories."""
    draw, rows = random.Random(f"chances {case}"), 3
    logits = [[draw.choice([draw.gauss(0, 2), float(draw.randint(-2, 2))]) for _ in range(SIZE)] for _ in range(rows)]
    message = draw.randint(0, 6)
    drawn = [[draw.randrange(SIZE) for _ in range(message)] for _ in range(rows)]
    return laws.probabilities_match_reference(
        logits, [ids(draw, 1, 8) for _ in range(rows)], drawn, random_sampling(draw)
    )


def samples_of(case):
    """Prompts up to three times the context, alone and side by side, soft-capped or not."""
    draw = random.Random(f"samples {case}")
    made = model(case, softcap=draw.choice([0.0, 1.5]))
    prompts = [ids(draw, 1, 3 * CONTEXT) for _ in range(draw.randint(1, 3))]
    how = random_sampling(draw)
    if draw.random() < 0.5:
        how = replace(how, repetition_penalty=3.0, temperature=0.0)
    return laws.samples_match_reference(made, prompts, how, new=draw.randint(1, 9))


def stops_of(case):
    """Texts of two letters, cut anywhere, with stops that overlap."""
    draw = random.Random(f"stops {case}")
    pieces = ["".join(draw.choice("ab") for _ in range(draw.randint(0, 4))) for _ in range(draw.randint(0, 8))]
    stops = ["".join(draw.choice("ab") for _ in range(draw.randint(1, 5))) for _ in range(draw.randint(0, 3))]
    laws.stops_match_reference(pieces, stops)


def streams_of(case):
    """Bytes that are text, and bytes that are none."""
    draw = random.Random(f"streams {case}")
    some = [*"aä€😀\ufffd".encode(), 0x80, 0xC3, 0xE2, 0xF0, 0xFF]
    laws.stream_matches_decode(Byte().train([]), [draw.choice(some) for _ in range(draw.randint(0, 12))])
    laws.stream_matches_decode(Char().train(["abcdefghi"]), ids(draw, 0, 12))


def texts_of(case):
    """What is written from prompts: of the length asked for, as decoded, up to the first stop, the same twice."""
    draw = random.Random(f"texts {case}")
    made, codec = model(case), Char().train(["abcdefghi"])
    prompts = ["".join(draw.choice("abcdefghi") for _ in range(draw.randint(0, 9))) for _ in range(3)]
    new, how = draw.randint(0, 12), Sampling(temperature=2.0, seed=case)

    def written(prompts, how, stops=()):
        generation = Generation(model=made, codec=codec, prompts=prompts, max_new_tokens=new, sampling=how, stops=stops)
        pieces = list(generation)
        for row, completion in enumerate(generation.completions):
            assert completion.text == "".join(piece for at, piece in pieces if at == row)
        return generation.completions

    whole = written(prompts, how)
    assert [len(completion.ids) for completion in whole] == [new] * 3
    assert [completion.text for completion in whole] == [codec.decode(completion.ids) for completion in whole]
    assert [completion.ids for completion in written(prompts, how)] == [completion.ids for completion in whole]
    for row, completion in enumerate(whole):
        alone = Sampling(temperature=2.0, seed=case + row)
        (single,) = written([prompts[row]], alone)
        assert (single.ids, single.text) == (completion.ids, completion.text)
    stops = ["".join(draw.choice("abcdefghi") for _ in range(draw.randint(1, 2))) for _ in range(3)]
    for completion, full in zip(written(prompts, how, stops), whole, strict=True):
        assert (completion.text, completion.stopped) == laws.reference_stop(full.text, stops)
        assert completion.ids == full.ids[: len(completion.ids)]
        before, ended = laws.reference_stop(codec.decode(completion.ids[:-1]), stops)
        assert not ended and before == codec.decode(completion.ids[:-1])  # no id is drawn after the stop


# The laws hold.


def test_probabilities_are_those_of_the_plain_chain():
    assert sum(chances_of(case) for case in range(CASES["chances_of"])) > 140  # few lie on a border


def test_ids_are_those_of_the_plain_chain_alone_and_side_by_side():
    assert sum(samples_of(case) for case in range(CASES["samples_of"])) > 150


def test_text_ends_where_the_whole_text_has_its_first_stop():
    for case in range(CASES["stops_of"]):
        stops_of(case)


def test_text_streamed_id_by_id_is_the_text_of_all_ids():
    for case in range(CASES["streams_of"]):
        streams_of(case)


def test_texts_are_as_long_as_asked_for_and_the_same_alone_side_by_side_and_twice():
    for case in range(CASES["texts_of"]):
        texts_of(case)


@pytest.mark.parametrize("prompt", [CONTEXT - 1, CONTEXT, CONTEXT + 1, 5 * CONTEXT])
def test_of_a_long_prompt_the_newest_tokens_are_read(prompt):
    draw = random.Random(prompt)
    text = [draw.randrange(SIZE) for _ in range(prompt)]
    others = [(token + 1) % SIZE for token in text]
    prompts = [text, others[:-CONTEXT] + text[-CONTEXT:]]
    first, second = nanotx.generation.engine.BatchEngine(model(1), prompts, Sampling(temperature=0.0), 9).run()
    assert first == second and len(first) == 9
    assert laws.reference_window(text, [], CONTEXT) == text[-CONTEXT:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run."""
    place = tmp_path_factory.mktemp("laws")
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


def best_of(folder, tmp_path):
    """Texts of several lengths are printed by the mean log-probability of their tokens."""
    words = [
        "--best-of",
        "8",
        "--stop",
        "a",
        "--temperature",
        "3",
        "--max-new-tokens",
        "9",
        "--json",
        str(tmp_path / "x"),
    ]
    assert command(["sample", str(folder), *words]) == 0
    texts = json.loads((tmp_path / "x").read_text(encoding="utf-8"))["texts"]
    assert len({len(text["ids"]) for text in texts}) > 2
    assert laws.reference_ranking([text["log_probs"] for text in texts]) == list(range(8))
    assert sorted(text["seed"] for text in texts) == list(range(8))


def test_best_of_texts_come_by_the_mean_of_their_tokens(folder, tmp_path):
    best_of(folder, tmp_path)
    assert laws.reference_ranking([[-1.0, -1.0], [-1.5], [], [-1.0], [-0.2, -0.6]]) == [2, 4, 0, 3, 1]


def test_equally_likely_texts_stay_in_order(folder):
    loaded = nanotx.load(folder)
    generation = loaded.generation(["a"] * 3, 4, Sampling(temperature=0.0))
    list(generation)
    result = nanotx.generation.text.rank(generation.completions)
    assert all(item is other for item, other in zip(result, generation.completions, strict=True))


def test_sampling_is_that_of_the_plain_chain_after_a_draft_too():
    made, draft = model(3), model(4)
    for prompt in ("a", "abcdefghi" * 2):
        texts = []
        for drafted in (None, draft):
            how = Sampling(temperature=0.0, repetition_penalty=1.3)
            codec = Char().train(["abcdefghi"])
            texts.append(
                list(
                    Generation(
                        model=made, codec=codec, prompts=[prompt], max_new_tokens=9, sampling=how, draft_model=drafted
                    )
                )
            )
        assert "".join(piece for _, piece in texts[0]) == "".join(piece for _, piece in texts[1])


# Bugs, each planted in the sampler; the law named beside it catches it within as many cases as are tried above.


@contextmanager
def planted(*changes):
    """Within, attributes are otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, value in changes:
            patch.setattr(owner, name, value)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_breaks_its_law(name):
    law, *changes = BUGS[name]
    case_of = globals()[law]
    with planted(*changes), pytest.raises((LawBroken, AssertionError)):
        for case in range(CASES[law]):
            case_of(case)


def test_best_of_ranked_by_the_sum_is_caught(folder, tmp_path):
    by_sum = lambda texts: sorted(texts, key=lambda text: text.log_prob, reverse=True)  # noqa: E731
    with planted((nanotx.cli.commands.sample, "rank", by_sum)), pytest.raises(AssertionError):
        best_of(folder, tmp_path)
