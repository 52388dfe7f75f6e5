"""Texts side by side: each row is what it is alone, ranked by what the model holds likely, up to its own stop."""

import json
import math

import pytest
import torch
from helpers import text, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import nanotx
from nanotx.cli.main import run as command
from nanotx.errors import ConfigError, DataError, RunError
from nanotx.generation import Generation, Sampling
from nanotx.generation.engine import BatchEngine
from nanotx.generation.text import rank
from nanotx.nn.transformer import Model
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

MODEL = Model(dim=16, layers=2, context=8).build(12, seed=1).eval()
CODEC = Char().train(["abcdefghijkl"])
HOW = [
    {"temperature": 0.0},
    {"temperature": 2.0, "top_p": 0.9},
    {"temperature": 1.5, "repetition_penalty": 1.6, "frequency_penalty": 0.3},
]


def written(prompts, new, model=MODEL, **fields):
    """The ids of each text."""
    generation = Generation(
        model=model, codec=CODEC, prompts=prompts, max_new_tokens=new, sampling=Sampling(**{"seed": 3} | fields)
    )
    for _ in generation:
        pass
    return [completion.ids for completion in generation.completions]


@given(prompts=st.lists(st.text("abcdefghijkl", max_size=14), min_size=1, max_size=4), how=st.sampled_from(HOW))
@settings(max_examples=4)
def test_row_is_what_it_is_alone_at_any_length_and_beyond_the_context(prompts, how):
    alone = [written([prompt], 12, **{"seed": 3 + row} | how)[0] for row, prompt in enumerate(prompts)]
    assert written(prompts, 12, **how) == alone


def test_every_prompt_is_read_to_its_end_before_anything_is_drawn_for_it():
    engine = BatchEngine(MODEL, [[1], [2, 3, 4, 5]], Sampling(), max_new_tokens=4)
    assert [token.row for token in engine] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_stopped_row_gets_no_more_tokens_and_the_last_ends_the_engine():
    engine, rows = BatchEngine(MODEL, [[1], [2], [3]], Sampling(), max_new_tokens=4), []
    for token in engine:
        rows.append(token.row)
        if token.row == 1 or len(rows) == 6:
            engine.stop(token.row)
    assert rows == [0, 1, 2, 0, 2, 0, 2, 2]


def test_log_probabilities_are_the_models_own_whatever_the_knobs():
    generation = Generation(
        model=MODEL,
        codec=CODEC,
        prompts=["abc", "f"],
        max_new_tokens=4,
        sampling=Sampling(temperature=3.0, top_k=5, bias=((2, 3.0),)),
    )
    pieces = list(generation)
    for row, completion in enumerate(generation.completions):
        assert completion.text == "".join(piece for at, piece in pieces if at == row) == CODEC.decode(completion.ids)
        ids = CODEC.encode(completion.prompt).tolist()
        for item, actual in zip(completion.ids, completion.log_probs, strict=True):
            with torch.no_grad():
                want = MODEL.next_logits(torch.tensor([ids])).log_softmax(-1)[0, item]
            assert actual == pytest.approx(float(want), abs=1e-4)
            ids.append(item)
        assert completion.log_prob == pytest.approx(sum(completion.log_probs))
        assert completion.mean_log_prob == completion.log_prob / 4


def test_likeliest_come_first_by_their_mean():
    generation = Generation(
        model=MODEL, codec=CODEC, prompts=["ab"] * 6, max_new_tokens=5, sampling=Sampling(temperature=2.0)
    )
    list(generation)
    order = [completion.mean_log_prob for completion in rank(generation.completions)]
    assert order == sorted(order, reverse=True)
    assert len({tuple(completion.ids) for completion in generation.completions}) > 1


def test_stopped_text_gets_no_more_and_the_others_continue():
    usual = written(["a", "bb"], 10, temperature=0.0)
    stop = CODEC.decode(usual[0][3:5])
    generation = Generation(
        model=MODEL,
        codec=CODEC,
        prompts=["a", "bb"],
        max_new_tokens=10,
        sampling=Sampling(temperature=0.0),
        stops=(stop, "zzz"),
    )
    list(generation)
    for completion, ids in zip(generation.completions, usual, strict=True):
        whole = CODEC.decode(ids)
        assert completion.text == whole.partition(stop)[0] and completion.stopped == (stop in whole)
        assert completion.ids == ids[: len(completion.ids)]
    assert generation.completions[0].stopped


def test_incomplete_character_at_the_end_is_reported():
    codec = Byte().train([])
    model = Model(dim=8, layers=1, context=8).build(256).eval()
    sampling = Sampling(temperature=0.0, bias=((0xC3, 1e6),))
    generation = Generation(model=model, codec=codec, prompts=["x"], max_new_tokens=1, sampling=sampling)
    assert list(generation) == [(0, "\ufffd")]


def test_no_prompts_and_no_tokens_are_no_text():
    assert written([], 3) == [] and written(["a", "bb"], 0) == [[], []]


# On the command line.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run."""
    place = tmp_path_factory.mktemp("sample")
    corpus = ["--corpus", "file", "--corpus.path", str(text(place / "text.txt"))]
    assert command(["train", "shakespeare_char", *corpus, "--run", str(place / "run"), *tiny(position="none")]) == 0
    return place / "run"


def sampled(folder, capsys, *words):
    """What a command prints, and what it says on the side."""
    capsys.readouterr()
    assert (
        command(["sample", str(folder), *([] if "--max-new-tokens" in words else ["--max-new-tokens", "12"]), *words])
        == 0
    )
    return capsys.readouterr()


def test_standard_output_holds_the_texts_alone(folder, capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("ab\n\ncde\n", encoding="utf-8")
    words = ["--prompts", str(tmp_path / "prompts.txt"), "--seed", "5", "--json", str(tmp_path / "x.json")]
    out, err = sampled(folder, capsys, *words)
    loaded = nanotx.load(folder)
    texts = [loaded.generate(item, max_new_tokens=12, seed=5 + row) for row, item in enumerate(["ab", "", "cde"])]
    assert out == "\n".join(texts) + "\n"
    assert [line.partition(":")[0] for line in err.splitlines()] == [f"{n} of 3, seed {4 + n}" for n in (1, 2, 3)]
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [text["prompt"] + text["text"] for text in figures["texts"]] == texts
    assert [text["seed"] for text in figures["texts"]] == [5, 6, 7] and figures["sampling"]["temperature"] == 0.8
    for entry in figures["texts"]:
        assert len(entry["ids"]) == len(entry["log_probs"]) == 12
        assert entry["log_prob"] == pytest.approx(math.fsum(entry["log_probs"]))


@pytest.fixture(scope="module")
def bytes_folder(tmp_path_factory):
    """A run whose tokenizer holds any text."""
    place = tmp_path_factory.mktemp("bytes")
    corpus = ["--corpus", "file", "--corpus.path", str(text(place / "text.txt")), "--tokenizer", "byte"]
    assert command(["train", "shakespeare_char", *corpus, "--run", str(place / "run"), *tiny(train_steps=1)]) == 0
    return place / "run"


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ("a\nb", ["a", "b"]),
        ("a\nb\n", ["a", "b"]),
        ("a\nb\n\n", ["a", "b", ""]),
        ("\n", [""]),
        ("\n\n", ["", ""]),
        ("\n\na", ["", "", "a"]),
        (" a \n\tb\n", [" a ", "\tb"]),
        *((f"a{end}b\nc\n", [f"a{end}b", "c"]) for end in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
        ("\x0c\n", ["\x0c"]),
    ],
)
def test_prompt_file_has_one_prompt_per_line_exactly_and_only_a_newline_ends_a_line(
    bytes_folder, capsys, tmp_path, content, prompts
):
    (tmp_path / "prompts.txt").write_bytes(content.encode("utf-8"))
    words = ["--prompts", str(tmp_path / "prompts.txt"), "--max-new-tokens", "1", "--json", str(tmp_path / "x.json")]
    sampled(bytes_folder, capsys, *words)
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [text["prompt"] for text in figures["texts"]] == prompts


def test_n_samples_of_each_prompt_are_ranked_and_printed_with_their_tokens(folder, capsys, tmp_path):
    words = [
        "--prompt",
        "ab",
        "--best-of",
        "3",
        "--log-probs",
        "--temperature",
        "2",
        "--json",
        str(tmp_path / "x.json"),
    ]
    out, err = sampled(folder, capsys, *words)
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["texts"]
    order = [item["mean_log_prob"] for item in figures]
    assert order == sorted(order, reverse=True) and {item["seed"] for item in figures} == {0, 1, 2}
    assert out == "".join(item["prompt"] + item["text"] + "\n" for item in figures)
    assert err.count("log-prob") == 3 and f"{figures[0]['log_probs'][0]:.4f}" in err


def test_n_samples_of_several_prompts_are_ranked_prompt_by_prompt(folder, capsys, tmp_path):
    (tmp_path / "prompts.txt").write_text("ab\ncde\n", encoding="utf-8")
    words = ["--prompts", str(tmp_path / "prompts.txt"), "--best-of", "2", "--temperature", "2"]
    sampled(folder, capsys, *words, "--json", str(tmp_path / "x.json"))
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["texts"]
    assert [item["prompt"] for item in figures] == ["ab", "ab", "cde", "cde"]
    assert [{item["seed"] for item in figures[first : first + 2]} for first in (0, 2)] == [{0, 1}, {2, 3}]
    assert all(figures[first]["mean_log_prob"] >= figures[first + 1]["mean_log_prob"] for first in (0, 2))


def test_sampling_flags_reach_the_text(folder, capsys):
    loaded = nanotx.load(folder)
    plain = sampled(folder, capsys, "--prompt", "ab")[0]
    for words, fields in [
        (
            ["--banned-tokens", "a", "--banned-tokens", " ", "--min-p", "0.5"],
            {"banned_tokens": ("a", " "), "min_p": 0.5},
        ),
        (["--bias", "e=2", "--typical", "0.3"], {"bias": {"e": 2.0}, "typical": 0.3}),
        (
            ["--repetition-penalty", "9", "--presence-penalty", "5"],
            {"repetition_penalty": 9.0, "presence_penalty": 5.0},
        ),
        (["--frequency-penalty", "9", "--top-k", "5"], {"frequency_penalty": 9.0, "top_k": 5}),
    ]:
        out = sampled(folder, capsys, "--prompt", "ab", *words)[0]
        assert out == loaded.generate("ab", max_new_tokens=12, **fields) + "\n"
        assert out != plain, words
    stops = [plain[5:7], plain[8]]
    out = sampled(folder, capsys, "--prompt", "ab", "--stop", stops[0], "--stop", stops[1])[0]
    assert out == loaded.generate("ab", max_new_tokens=12, stop=stops) + "\n" and len(out) < len(plain)


def test_single_stop_text_is_not_split_into_characters(folder):
    loaded = nanotx.load(folder)
    text = loaded.generate("ab", max_new_tokens=24)
    for at in range(2, len(text) - 1):
        stop = text[at : at + 2]
        assert loaded.generate("ab", max_new_tokens=24, stop=stop) == text[: text.index(stop, 2)]


def test_draft_model_changes_no_greedy_text_and_is_reported(folder, capsys, tmp_path):
    plain = sampled(folder, capsys, "--temperature", "0", "--best-of", "2")[0]
    words = ["--temperature", "0", "--best-of", "2", "--draft-model", str(folder), "--draft-tokens", "3"]
    out, err = sampled(folder, capsys, *words, "--json", str(tmp_path / "x.json"))
    assert out == plain and "draft tokens accepted" in err
    draft = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["draft_model"]
    assert 0 < draft["accepted"] == draft["drafted"]  # it is its own twin


def test_each_text_with_a_draft_is_the_one_that_its_own_seed_gives(folder, capsys, tmp_path):
    def texts(*words):
        words = ["--prompt", "ab", "--temperature", "2", "--draft-model", str(folder), *words]
        sampled(folder, capsys, *words, "--json", str(tmp_path / "x.json"))
        return json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["texts"]

    together = {item["seed"]: item["ids"] for item in texts("--seed", "3", "--best-of", "3")}
    assert together == {seed: texts("--seed", str(seed))[0]["ids"] for seed in (3, 4, 5)}
    assert len(set(map(tuple, together.values()))) == 3


def test_half_of_a_number_is_enough_to_write_with(folder, capsys):
    words = ["--prompt", "ab", "--max-new-tokens", "20", "--threads", "1"]
    texts = [sampled(folder, capsys, *words, "--dtype", dtype)[0] for dtype in ("bfloat16", "float16")]
    assert all(text.startswith("ab") and len(text) == 23 for text in texts)


def test_rolling_cache_continues_beyond_the_context(folder, capsys):
    assert len(sampled(folder, capsys, "--prompt", "ab", "--overflow", "rolling", "--max-new-tokens", "40")[0]) == 43


@pytest.mark.parametrize(
    ("words", "kind", "match"),
    [
        (["--max-new-tokens", "-1"], ConfigError, "--max-new-tokens: expected a number of at least 0, got -1"),
        (["--best-of", "0"], ConfigError, "--best-of: expected a number of at least 1, got 0"),
        (["--draft-tokens", "0"], ConfigError, "--draft-tokens: expected a number of at least 1, got 0"),
        (["--min-p", "1"], ConfigError, "--min-p: expected a fraction from 0 up to but not including 1, got 1.0"),
        (["--prompt", "a", "--prompts", "b"], ConfigError, "--prompts: expected --prompt or --prompts, got both"),
        (["--prompts", "nowhere"], DataError, "--prompts nowhere: cannot be read"),
        (
            ["--banned-tokens", "abc"],
            ConfigError,
            "--banned-tokens: expected the text of one token, got 'abc', which is 3: 'a', 'b', 'c'",
        ),
        (["--bias", "a"], ConfigError, "--bias a: expected TOKEN=NUMBER such as e=-2.5"),
        (["--bias", "a=x"], ConfigError, "--bias a=x: expected TOKEN=NUMBER"),
        (["--bias", "a=nan"], ConfigError, "--bias: 'a': expected a number of at least -1,000,000, got nan; ban"),
        (["--stop"], ConfigError, "--stop: expected a text, got nothing"),
        (["--stop", ""], ConfigError, "stop: expected a text to end before, got an empty one"),
        (["--json", "text.txt/x", "--max-new-tokens", "1"], RunError, "--json text.txt/x: cannot be written"),
    ],
)
def test_invalid_arguments_are_refused(folder, words, kind, match, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(kind, match=match):
        command(["sample", str(folder), *words])


def test_cache_that_cannot_roll_is_refused_before_the_prompt_is_printed(folder, tmp_path, capsys):
    corpus = ["--corpus", "file", "--corpus.path", str(folder.parent / "text.txt"), "--position", "learned"]
    assert command(["train", "shakespeare_char", *corpus, "--run", str(tmp_path / "r"), *tiny(train_steps=1)]) == 0
    capsys.readouterr()
    with pytest.raises(ConfigError, match="overflow: the cache cannot roll with position 'learned'"):
        command(["sample", str(tmp_path / "r"), "--prompt", "ab", "--overflow", "rolling"])
    assert capsys.readouterr().out == ""


def test_draft_model_with_another_tokenizer_is_refused_with_both_named(folder, tmp_path):
    other = tmp_path / "other"
    corpus = ["--corpus", "file", "--corpus.path", str(folder.parent / "text.txt"), "--tokenizer", "byte"]
    assert command(["train", "shakespeare_char", *corpus, "--run", str(other), *tiny(train_steps=2)]) == 0
    with pytest.raises(
        ConfigError, match=r"draft_model: \S+other has byte of 256 ids \(.*, and \S+run has char of 7 ids"
    ):
        command(["sample", str(folder), "--draft-model", str(other)])
    for words, match in [
        (["--draft-model", str(folder), "--overflow", "rolling"], "overflow: a rolling cache cannot be rewound"),
        (["--compile", "--overflow", "rolling"], "compile: a rolling cache moves in memory"),
        (
            ["--compile", "--draft-model", str(folder)],
            "compile: only single-token steps are compiled, and a draft model",
        ),
    ]:
        with pytest.raises(ConfigError, match=match):
            command(["sample", str(folder), *words])
