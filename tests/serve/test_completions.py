"""The completions API: the engine's own text, the model's own log-probabilities, and nothing ignored."""

import json
import re

import pytest
import torch
from served import CONTEXT, client_of, loaded, served
from torch.nn import functional as F

CHAR, BYTE = loaded(), loaded("byte")


@pytest.fixture
def api(monkeypatch):
    with client_of(served(monkeypatch, CHAR, BYTE)) as client:
        yield client


def complete(api, status=200, **fields):
    answer = api.post("/v1/completions", json={"model": "a-1", "prompt": "to be", **fields})
    assert answer.status_code == status, answer.text
    return answer.json()


def stream(api, **fields):
    """The chunks of a stream."""
    body = {"model": "a-1", "prompt": "to be", "stream": True, **fields}
    with api.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        parts = "".join(answer.iter_text()).split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


def own_log_probs(run, ids):
    """The log-probabilities after each token, by the model alone."""
    return F.log_softmax(run.model(torch.tensor([ids]))[0].detach(), dim=-1)


def test_models_are_listed_and_described(api):
    models = api.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == ["a-1", "a-2"]
    assert api.get("/v1/models/a-2").json() == models[1]
    assert api.get("/v1/models/b").json()["error"]["code"] == "model_not_found"


def test_text_is_that_of_the_engine_and_a_seed_repeats_it(api):
    answer = complete(api, seed=3, max_tokens=9, temperature=0.7, top_p=0.9, top_k=5)
    text = CHAR.generate("to be", max_new_tokens=9, temperature=0.7, top_p=0.9, top_k=5, seed=3)
    assert answer["choices"][0]["text"] == text.removeprefix("to be")
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
    assert answer["nanotx"] == {"step": 7, "seed": 3, "prompt_tokens_left_out": 0}
    drawn = complete(api, max_tokens=9)["nanotx"]["seed"]
    assert drawn != complete(api, max_tokens=9)["nanotx"]["seed"]


def test_stream_has_the_pieces_of_the_answer(api):
    fields = {"seed": 3, "max_tokens": 12, "logprobs": 2, "echo": True, "stop": ["zz", "t"]}
    whole, parts = complete(api, **fields)["choices"][0], stream(api, **fields)
    assert "".join(part["choices"][0]["text"] for part in parts) == whole["text"]
    tokens = [token for part in parts for token in part["choices"][0]["logprobs"]["tokens"]]
    assert tokens == whole["logprobs"]["tokens"]
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [
        whole["finish_reason"]
    ]
    assert not any("usage" in part for part in parts)
    last = stream(api, **fields, stream_options={"include_usage": True})[-1]
    assert last["choices"] == [] and last["usage"]["prompt_tokens"] == 5


def test_log_probabilities_are_the_models_own_before_temperature_and_filters(api):
    for settings in ({"temperature": 1.9}, {"temperature": 0, "top_k": 1}, {"logit_bias": {"3": 50}}):
        choice = complete(api, max_tokens=8, logprobs=3, echo=True, seed=1, **settings)["choices"][0]
        table, ids = choice["logprobs"], CHAR.tokenizer.encode(choice["text"]).tolist()
        assert "".join(table["tokens"]) == choice["text"]
        assert table["text_offset"] == list(range(len(choice["text"])))
        assert table["token_logprobs"][0] is table["top_logprobs"][0] is None
        own = own_log_probs(CHAR, ids)
        for place, token in enumerate(ids[1:], start=1):
            row = own[place - 1]
            assert table["token_logprobs"][place] == pytest.approx(float(row[token]), abs=1e-4)
            best = {CHAR.tokenizer.decode([other]) for other in row.topk(3).indices.tolist()}
            assert set(table["top_logprobs"][place]) == best | {table["tokens"][place]}


def test_no_logprobs_are_sent_where_none_are_asked_for(api):
    assert complete(api)["choices"][0]["logprobs"] is None
    own = complete(api, logprobs=0, max_tokens=3)["choices"][0]["logprobs"]
    assert [list(row) for row in own["top_logprobs"]] == [[token] for token in own["tokens"]]


def test_bytes_that_are_no_text_are_spelled_as_bytes(api):
    answer = complete(api, model="a-2", prompt="€ é", max_tokens=20, seed=1, echo=True, logprobs=5)["choices"][0]
    tokens = answer["logprobs"]["tokens"]
    assert tokens[:6] == ["bytes:\\xe2", "bytes:\\x82", "bytes:\\xac", " ", "bytes:\\xc3", "bytes:\\xa9"]
    spelled = b"".join(
        bytes.fromhex(token[6:].replace("\\x", "")) if token.startswith("bytes:") else token.encode()
        for token in tokens
    )
    assert spelled.decode("utf-8", "replace") == answer["text"]
    assert all(len(row) >= 5 for row in answer["logprobs"]["top_logprobs"][1:])


@pytest.mark.parametrize("model, run", [("a-1", CHAR), ("a-2", BYTE)])
def test_no_stop_text_leaks_in_part(api, model, run):
    free = complete(api, model=model, max_tokens=14, seed=1, temperature=0.9)["choices"][0]["text"]
    for start in range(0, len(free) - 3, 3):
        stop = free[start : start + 3]
        if "\ufffd" in stop:
            continue
        wanted = free[: free.index(stop)]
        fields = {
            "model": model,
            "max_tokens": 24,
            "seed": 1,
            "temperature": 0.9,
            "stop": [stop, "never"],
            "logprobs": 1,
        }
        parts = [part["choices"][0] for part in stream(api, **fields)]
        text = ""
        for part in parts:
            text += part["text"]
            assert wanted.startswith(text)
        assert text == wanted and parts[-1]["finish_reason"] == "stop"
        tokens = [token for part in parts for token in part["logprobs"]["tokens"]]
        if model == "a-1":
            assert "".join(tokens) == wanted


def test_stop_text_that_never_comes_whole_is_handed_out_at_the_end(api):
    free = complete(api, max_tokens=10, seed=1)["choices"][0]["text"]
    fields = {"max_tokens": 10, "seed": 1, "logprobs": 0, "stop": free[-2:] + "#"}
    parts = [part["choices"][0] for part in stream(api, **fields)]
    assert "".join(part["text"] for part in parts) == free
    assert "".join(token for part in parts for token in part["logprobs"]["tokens"]) == free
    assert parts[-1]["finish_reason"] == "length"


def test_prompt_longer_than_the_context_is_windowed_and_that_is_reported(api):
    answer = complete(api, prompt="to be or not to be", seed=2, max_tokens=3, echo=True, logprobs=1)
    assert answer["nanotx"]["prompt_tokens_left_out"] == 18 - CONTEXT
    table = answer["choices"][0]["logprobs"]
    assert table["token_logprobs"][:3] == [None] * 3 and None not in table["token_logprobs"][3:]
    assert answer["choices"][0]["text"] == CHAR.generate(
        "to be or not to be", max_new_tokens=3, seed=2, temperature=1.0
    )


def test_prompt_alone_is_scored(api):
    answer = complete(api, prompt=["to be"], max_tokens=0, echo=True, logprobs=1)
    assert answer["choices"][0]["text"] == "to be" and len(answer["choices"][0]["logprobs"]["tokens"]) == 5
    assert complete(api, prompt="", max_tokens=2)["usage"] == {
        "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "fields, param, message",
    [
        ({"n": 2}, "n", "only 1 is supported"),
        ({"best_of": 3}, "best_of", "only 1 is supported"),
        ({"suffix": "end"}, "suffix", "only '' is supported"),
        ({"prompt": ["a", "b"]}, "prompt", "a request for each text"),
        ({"prompt": [1, 2]}, "prompt", "token ids are not supported"),
        ({"prompt": "Zebra"}, "prompt", r"'Z' \(U\+005A\) at offset 0"),
        ({"prompt": "\ud800"}, "prompt", "lone surrogate"),
        ({"max_token": 3}, "max_token", "Did you mean 'max_tokens'"),
        ({"max_tokens": -1}, "max_tokens", "0 to 4,096"),
        ({"max_tokens": 10**40}, "max_tokens", "0 to 4,096"),
        ({"max_tokens": "3"}, "max_tokens", 'got "3"'),
        ({"temperature": True}, "temperature", "expected a number, got true"),
        ({"temperature": -1}, "temperature", "temperature"),
        ({"temperature": 1e400}, None, "not JSON|temperature"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"top_k": 0}, "top_k", "whole number from 1"),
        ({"seed": -1}, "seed", "seed"),
        ({"seed": 1.5}, "seed", "whole number"),
        ({"stop": [""]}, "stop", "empty one"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stop": "a" * 1001}, "stop", "1,000 characters"),
        ({"stop": [1]}, "stop", "at most 16"),
        ({"logprobs": True}, "logprobs", "whole number from 0 to 20"),
        ({"logprobs": 21}, "logprobs", "whole number from 0 to 20"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "expected ids"),
        ({"logit_bias": {"500": 1}}, "logit_bias", "^logit_bias: expected ids from 0 to"),
        ({"temperature": 10**400}, "temperature", "out of range"),
        ({"stream_options": {}}, "stream_options", "stream: true"),
        ({"stream": True, "stream_options": {"x": 1}}, "x", "no such field"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"messages": []}, "messages", "no such field"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(api, fields, param, message):
    body = json.dumps({"model": "a-1", "prompt": "to be", **fields})
    answer = api.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert re.search(message, error["message"])


def test_errors_have_the_status_that_clients_expect(api):
    assert complete(api, 404, model="gpt-4")["error"]["code"] == "model_not_found"
    assert complete(api, 400, model="")["error"]["message"] == "model: missing; served here: a-1, a-2."
    assert complete(api, 404, stream=True, model="gpt-4")["error"]["param"] == "model"
    assert complete(api, 400, stream=True, prompt="Z")["error"]["param"] == "prompt"
    chat = api.post("/v1/chat/completions", json={"model": "a-1", "messages": [{"role": "user", "content": "to be"}]})
    assert chat.status_code == 404 and "/v1/completions" in chat.json()["error"]["message"]
    assert api.get("/v1/nothing").json()["error"]["message"] == "GET /v1/nothing: Not Found."
    assert api.get("/v1/completions").status_code == 405
