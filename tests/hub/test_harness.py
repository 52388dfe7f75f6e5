"""A run as a model of lm-evaluation-harness: its figures are those of the exported folder in transformers."""

import dataclasses
import math
import subprocess
import sys
import types
import typing

import pytest
import torch
from helpers import ROOT
from test_huggingface_export import QWEN3, TEXT, run_of

from nanotx.errors import ConfigError
from nanotx.hub.huggingface import proof
from nanotx.hub.huggingface.export import export
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.tokenizers.bpe import Bpe

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
pytest.importorskip("transformers")
from nanotx.hub.harness.model import Nanotx, batch_size_of

NGRAMS = dataclasses.replace(QWEN3, embedding=Ngrams(buckets=64), block=TokenShift())
WORDS = Bpe(vocab_size=280, special_tokens=("<|endoftext|>",))


def requests(*rows):
    return [types.SimpleNamespace(args=row) for row in rows]


def slow_rolling(run, model, text):
    """The log-likelihood of a text by its definition, one token after another."""
    end = run.tokenizer.special_tokens.get("<|endoftext|>", run.tokenizer.start)
    ids, context, total = run.tokenizer.encode(text).tolist(), run.model.context, 0.0
    for place, token in enumerate(ids):
        last = (place // context + 1) * context
        first = place // context * context if last <= len(ids) else max(0, len(ids) - context)
        seen = ([end, *ids])[first : place + 1]
        total += float(model(torch.tensor([seen]))[0, -1].log_softmax(dim=0)[token])
    return total


@pytest.mark.parametrize("model", [QWEN3, NGRAMS], ids=["qwen3", "ngrams"])
def test_rolling_is_the_sum_over_all_tokens(model):
    run = run_of(model)
    texts = [TEXT[:40], "But", TEXT[5:17], ""]
    with torch.no_grad():
        results = Nanotx(run, batch_size=3).loglikelihood_rolling(requests(*[(text,) for text in texts]))
        for text, result in zip(texts, results, strict=True):
            assert math.isclose(result, slow_rolling(run, run.model, text), rel_tol=1e-4, abs_tol=1e-4)


def test_bits_per_byte_are_those_of_transformers(tmp_path, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    monkeypatch.setattr(proof, "TEXTS", 5)
    monkeypatch.setattr(proof, "WINDOWS", 2)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = run_of(QWEN3, WORDS)
    folder = export(run, tmp_path / "model").folder
    ours, theirs = Nanotx(run), HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    rolling = requests((TEXT,), ("O Romeo",))
    pairs = requests(("But, soft!", " what light"), ("", "It is"), ("the sun ", "is"), (TEXT[:60], "east"))
    for one, other in zip(ours.loglikelihood_rolling(rolling), theirs.loglikelihood_rolling(rolling), strict=True):
        assert math.isclose(one, other, rel_tol=1e-5)
    for one, other in zip(ours.loglikelihood(pairs), theirs.loglikelihood(pairs), strict=True):
        assert math.isclose(one[0], other[0], rel_tol=1e-5, abs_tol=1e-5) and one[1] == other[1]
    until = requests(("But", {"until": ["\n"], "max_gen_toks": 6}), ("sun", {"until": ["e"], "max_gen_toks": 6}))
    assert ours.generate_until(until) == theirs.generate_until(until)


def test_stop_sequences_end_a_text():
    run = run_of()
    (text,) = Nanotx(run).generate_until(requests(("But", {"until": [], "max_gen_toks": 8})))
    assert len(text) == 8 and text == run.generate("But", max_new_tokens=8, temperature=0.0)[3:]
    (cut,) = Nanotx(run).generate_until(requests(("But", {"until": text[3], "max_gen_toks": 8})))
    assert cut == text[: text.index(text[3])]


def test_bad_numbers_are_named():
    assert batch_size_of("auto:4") == 16
    with pytest.raises(ConfigError, match="batch_size: expected a whole number of at least 1, or auto, got 'many'"):
        batch_size_of("many")
    with pytest.raises(ConfigError, match="a continuation of 20 tokens does not fit a context of 12"):
        Nanotx(run_of()).loglikelihood(requests(("But", TEXT[:20])))


@pytest.mark.slow
def test_program_of_the_page_measures_a_run(tmp_path, monkeypatch):
    import datasets

    page = (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8")
    (body,) = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    run = run_of(QWEN3, WORDS)
    export(run, tmp_path / "runs" / "shakespeare_char-1")
    monkeypatch.chdir(tmp_path)
    texts = ["But, soft! what light", "It is the east"]
    test = datasets.DatasetDict(test=datasets.Dataset.from_dict({"text": texts}))
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, **options: test)  # the texts are on a server
    names: dict[str, typing.Any] = {}
    exec(compile(body, "docs/exporting.md", "exec"), names)
    result = names["results"]["results"]["lambada_openai"]
    scored = Nanotx(run).loglikelihood(requests(("But, soft! what", " light"), ("It is the", " east")))
    assert math.isclose(result["perplexity,none"], math.exp(-sum(score for score, _ in scored) / 2), rel_tol=1e-4)


@pytest.mark.slow
def test_command_of_the_harness_takes_the_name(tmp_path):
    words = ["run", "--model", "nanotx", "--model_args", "run=absent", "--tasks", "wikitext"]
    done = subprocess.run(
        [sys.executable, "-m", "nanotx.hub.harness", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode and "Unknown model" not in done.stderr
