"""Ids that stand for nothing, as in a vocabulary with gaps, are never drawn: not in training, not in any sampling."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import text, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.cli.main import run
from nanotx.errors import ConfigError
from nanotx.generation import Sampling, generate
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.runs.load import LoadedRun, load
from nanotx.tokenizers import load as load_tokenizer
from nanotx.tokenizers.byte_level import to_printable

BYTES = [bytes([value]) for value in range(256)]
MERGES = [(b"a", b"b"), (b"ab", b"c"), (b"d", b"e")]
KINDS = ["bpe", "tiktoken", "huggingface"]


GAPS = range(1, 500, 3)


def ids_with_gaps(gaps=GAPS):
    """An id for each of the 256 bytes and the tokens that three merges make, but for none of these."""
    free = (number for number in range(10**6) if number not in gaps)
    return {token: next(free) for token in [*BYTES, *(left + right for left, right in MERGES)]}


def ranks_file(path, ids):
    lines = (f"{base64.b64encode(token).decode('ascii')} {token_id}\n" for token, token_id in ids.items())
    path.write_text("".join(lines), encoding="utf-8")
    return path


def json_file(path, ids, special):
    """A tokenizer.json of these tokens, and of a special with the id `special`."""
    words = {to_printable(token): token_id for token, token_id in ids.items()} | {"<|end|>": special}
    added = {"id": special, "content": "<|end|>", "special": True, "normalized": False}
    added |= {"single_word": False, "lstrip": False, "rstrip": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    merges = [[to_printable(left), to_printable(right)] for left, right in MERGES]
    model = {"type": "BPE", "vocab": words, "merges": merges}
    around = {"normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level}
    table = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added], **around, "model": model}
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def tokenizer_flags(kind, folder, ids):
    """The flags that choose a tokenizer with these ids, of one of the three kinds that can have gaps."""
    if kind == "tiktoken":
        pytest.importorskip("tiktoken")
        ranks = ranks_file(folder / "x.tiktoken", ids)
        return ["--tokenizer", str(ranks), "--tokenizer.pattern", "gpt2"]
    pytest.importorskip("tokenizers")
    file = json_file(folder / "x.json", ids, max(ids.values()) + 3)
    if kind == "bpe":
        assert run(["tokenizer", "import", str(file), "--out", str(folder / "own.json")]) == 0
        return ["--tokenizer", str(folder / "own.json")]
    return ["--tokenizer", str(file)]


@pytest.fixture(scope="module", params=KINDS)
def gapped(request, tmp_path_factory):
    """A run that was stopped and resumed, with a tokenizer that has gaps."""
    folder = tmp_path_factory.mktemp(request.param)
    flags = tokenizer_flags(request.param, folder, ids_with_gaps())
    words = ["--corpus", "file", "--corpus.path", str(text(folder / "corpus.txt", 3000)), *flags]
    words += ["--run", str(folder / "run")]
    often = {"train_sample_every": 1, "train_sample_tokens": 20, "train_checkpoint_every": 1}
    assert run(["train", "shakespeare_char", *words, *tiny(train_steps=2, **often)]) == 0
    assert run(["train", "shakespeare_char", *words, *tiny(train_steps=4, **often), "--resume"]) == 0
    return folder / "run"


def test_run_whose_vocabulary_has_gaps_samples_finishes_and_resumes(gapped):
    rows = [json.loads(line) for line in (gapped / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["event"] for row in rows].count("sample") == 4 and rows[-1]["complete"]
    assert not [row for row in rows if row["event"] == "warning"]
    assert json.loads((gapped / "summary.json").read_text(encoding="utf-8"))["steps"] == 4


def undefined(folder):
    """The ids of a run's tokenizer that cannot be decoded."""
    tokenizer = load(folder).tokenizer
    results = []
    for number in range(tokenizer.vocab_size):
        try:
            tokenizer.decode([number])
        except Exception:  # whatever it says: it has no text
            results.append(number)
    return results


@pytest.mark.parametrize(
    "flags",
    [
        ("--temperature", "1000"),
        ("--temperature", "0"),
        ("--best-of", "3", "--prompt", "abc de"),
        ("--draft-model", "RUN", "--temperature", "100"),
        ("--top-k", "350", "--temperature", "100"),
        ("--banned-tokens", "a", "--bias", "b=-3", "--repetition-penalty", "2", "--temperature", "100"),
        ("--typical", "0.9", "--min-p", "0.001", "--top-p", "0.99", "--temperature", "100"),
    ],
)
def test_sample_holds_no_id_without_bytes(gapped, flags, tmp_path):
    words = [str(gapped) if word == "RUN" else word for word in flags]
    wanted = [
        "--max-new-tokens",
        "20",
        "--threads",
        "1",
        "--log-probs",
        "--json",
        str(tmp_path / "x.json"),
        "--device",
        "cpu",
    ]
    assert run(["sample", str(gapped), *words, *wanted]) == 0
    texts = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["texts"]
    drawn = {token_id for each in texts for token_id in each["ids"]}
    gaps = undefined(gapped)
    assert len(gaps) >= 100 and not drawn & set(gaps)


def test_prompts_of_several_lengths_are_continued_without_ids_that_stand_for_nothing(gapped):
    loaded = load(gapped)
    generation = loaded.generation(["a", "abcde " * 4, ""], 20, Sampling(temperature=100.0))
    for _ in generation:
        pass
    drawn = {token_id for completion in generation.completions for token_id in completion.ids}
    assert len(drawn) > 20 and not drawn & set(undefined(gapped))


def test_generate_draws_no_id_without_a_token(gapped):
    loaded = load(gapped)
    loaded.generate("ab", max_new_tokens=20, temperature=100.0)
    grown = generate(loaded.model, torch.tensor([[0], [2]]), 20, Sampling(temperature=100.0))
    assert not set(grown.reshape(-1).tolist()) & set(undefined(gapped))
    loaded.tokenizer.decode(grown[0])


def test_ban_on_all_that_the_tokenizer_has_is_refused(gapped):
    loaded = load(gapped)
    every = tuple(set(range(loaded.tokenizer.vocab_size)) - set(undefined(gapped)))
    with pytest.raises(ConfigError, match="banned_tokens: expected to leave one of"):
        list(loaded.generation(["a"], 3, Sampling(banned_tokens=every)))
    generation = loaded.generation(["a"], 3, Sampling(banned_tokens=every[1:]))
    assert "".join(piece for _, piece in generation) == loaded.tokenizer.decode([every[0]]) * 3


@pytest.mark.slow
def test_compiled_sampling_draws_no_undefined_id(gapped, tmp_path):
    if gapped.parent.name != "bpe0":
        pytest.skip("one tokenizer is enough: the reader knows none")
    words = ["--compile", "--temperature", "100", "--max-new-tokens", "30", "--json", str(tmp_path / "x.json")]
    child = subprocess.run(
        [sys.executable, "-m", "nanotx", "sample", str(gapped), *words], capture_output=True, text=True, check=False
    )
    if "compile:" in child.stderr and child.returncode == 2:
        pytest.skip("nothing can be compiled here")
    assert child.returncode == 0, child.stderr
    texts = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["texts"]
    assert not set(texts[0]["ids"]) & set(undefined(gapped))


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_sampling_draws_no_undefined_id_of_a_vocabulary_with_gaps(tmp_path_factory, data):
    gaps = data.draw(st.sets(st.integers(0, 400), min_size=50, max_size=150))
    ids, folder = ids_with_gaps(gaps), tmp_path_factory.mktemp("gaps")
    path = json_file(folder / "x.json", ids, max(ids.values()) + data.draw(st.integers(1, 20)))
    if data.draw(st.booleans()):
        pytest.importorskip("tokenizers")
    else:
        assert run(["tokenizer", "import", str(path), "--out", str(folder / "own.json")]) == 0
        path = folder / "own.json"
    codec = load_tokenizer(path)
    taken = {*ids.values(), *codec.special_tokens.values()}
    assert set(codec.undefined_ids) == set(range(codec.vocab_size)) - taken
    model = Model(dim=16, layers=1, context=8).build(codec.vocab_size).eval()
    loaded = LoadedRun(model=model, tokenizer=codec, recipe=Recipe(), step=0, folder="")
    seed = data.draw(st.integers(0, 1000))
    loaded.generate(max_new_tokens=20, temperature=data.draw(st.sampled_from([0.0, 1.0, 1e5])), seed=seed)
    generation = loaded.generation(["a", "abcd"], 20, Sampling(temperature=1e5, seed=seed))
    for _ in generation:
        pass
    assert {token_id for completion in generation.completions for token_id in completion.ids} <= taken


def test_tokenizer_without_gaps_is_sampled_from_as_before(tmp_path):
    codec = load_tokenizer(ranks_codec(tmp_path, ids_with_gaps(())))
    assert codec.undefined_ids == ()


def ranks_codec(folder: Path, ids):
    """Our own tokenizer, imported from a file of ranks."""
    path = ranks_file(folder / "y.tiktoken", ids)
    assert run(["tokenizer", "import", str(path), "--pattern", "gpt2", "--out", str(folder / "y.json")]) == 0
    return folder / "y.json"
