"""What the page asks for: text with its likeliest tokens, maps of heads, and text without some heads."""

import json
import math

import pytest
import torch
from served import CONTEXT, client_of, loaded, served

from nanotx.lens import capture
from nanotx.lens.remove import removal_edits

FIRST, SECOND = loaded(), loaded(seed=2)


@pytest.fixture
def api(monkeypatch):
    with client_of(served(monkeypatch, FIRST, SECOND)) as client:
        yield client


def events(api, **fields):
    with api.stream("POST", "/api/generate", json={"prompt": "to be", "max_tokens": 6, "seed": 1, **fields}) as answer:
        assert answer.status_code == 200, answer.read()
        parts = "".join(answer.iter_text()).split("\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in parts if part]


def text_of(actual, run):
    return "".join(token["text"] for event in actual if event["run"] == run for token in event.get("tokens", ()))


def test_two_runs_continue_one_prompt_by_turns(api):
    result = events(api)
    assert [event["run"] for event in result[:6]] == [0, 1, 0, 1, 0, 1]
    for place, run in enumerate((FIRST, SECOND)):
        assert text_of(result, place) == run.generate("to be", max_new_tokens=6, seed=1).removeprefix("to be")
    prompt = result[0]["prompt"]
    assert [token["text"] for token in prompt] == list("to be") and prompt[0]["p"] is None
    token = result[2]["tokens"][0]
    assert len(token["top"]) == 10 and [p for _, p, _ in token["top"]] == sorted(
        (p for _, p, _ in token["top"]), reverse=True
    )
    ids = FIRST.tokenizer.encode("to be").tolist()
    own = FIRST.model(torch.tensor([ids]))[0, -1].detach().softmax(dim=-1)
    assert token["p"] == pytest.approx(float(own[token["id"]]), abs=1e-4)


def test_removed_heads_change_the_text_of_their_run_alone(api):
    whole = events(api, temperature=0)
    heads = ["0.attention.head0", "0.attention.head1", "1.attention.head1"]
    result = events(api, temperature=0, removed=[heads, []])
    assert text_of(result, 1) == text_of(whole, 1)
    ids = FIRST.tokenizer.encode("to be").tolist()
    with capture(FIRST, ids) as c:
        for name, edit in removal_edits(FIRST.model, heads).items():
            c.replace(name, edit)
        assert c["blocks.0.attention.heads"].abs().max() == 0
        best = c["logits"][0, -1].log_softmax(dim=-1)
    token = next(event for event in result if event["run"] == 0 and "tokens" in event)["tokens"][0]
    assert token["id"] == int(best.argmax())
    assert token["p"] == pytest.approx(math.exp(float(best.max())), abs=1e-4)
    assert not FIRST.model.blocks[0].attention._forward_hooks


def test_map_of_a_head_is_that_of_the_lens(api):
    ids = FIRST.tokenizer.encode("to be or not to be").tolist()
    result = api.post("/api/attention", json={"ids": ids, "head": "1.0"}).json()
    assert result["first"] == len(ids) - CONTEXT and len(result["rows"]) == CONTEXT
    with capture(FIRST, ids[-CONTEXT:]) as c:
        weights = c["blocks.1.attention.weights"][0, 0]
    for place, row in enumerate(result["rows"]):
        assert row == [round(1000 * weight) for weight in weights[place, : place + 1].tolist()]


def test_prompt_longer_than_the_context_is_reported(api):
    assert events(api, prompt="to be or not to be")[0]["left_out"] == 18 - CONTEXT


def test_error_of_one_run_ends_that_run_alone(api):
    result = events(api, removed=[["9.attention.head0"], []])
    assert "no head '9.attention.head0'" in result[0]["error"]["message"] and result[0]["run"] == 0
    assert [event["run"] for event in result[1:]] == [1] * 8 and result[-1]["end"] == "length"
    assert "'Z' (U+005A)" in events(api, prompt="Z")[1]["error"]["message"]


@pytest.mark.parametrize(
    "path, body, message",
    [
        ("generate", {"removed": [[]]}, "a list for each of 2 runs"),
        ("generate", {"removed": [[1], []]}, "removed: expected a text"),
        ("generate", {"max_tokens": 5000}, "max_tokens: expected a whole number from 1 to 4,096"),
        ("generate", {"stop": "x"}, "stop: no such field"),
        ("attention", {"ids": [1], "head": "7.0"}, "no head '7.0'"),
        ("attention", {"ids": [], "head": "0.0"}, "ids: expected a list"),
        ("attention", {"ids": [True], "head": "0.0"}, "ids: expected a list"),
        ("attention", {"ids": [400], "head": "0.0"}, "the model has 0 to"),
        ("attention", {"ids": [1], "head": "0.0", "run": 2}, "run: expected a whole number from 0 to 1"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(api, path, body, message):
    answer = api.post(f"/api/{path}", json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]
