"""Chats of the server: the ids that were taught, the ends of the template, and refusals by name."""

import dataclasses
import json
import re

import pytest
from served import client_of, loaded, served

from nanotx.data.conversations import Message
from nanotx.generation import Sampling
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.tokenizers.chat_template import with_chat

END, CONTEXT = "<|end|>", 64
USER = {"role": "user", "content": "to be:"}


def taught(tokenizer="char", template="", **fields):
    """A run that chats, with an untrained model of a longer context."""
    run = loaded(tokenizer, **fields)
    codec = with_chat(run.tokenizer).with_chat_template(template) if template else with_chat(run.tokenizer)
    config = Model(dim=16, layers=1, context=CONTEXT, block=PreNorm(attention=Sdpa(heads=2)))
    return dataclasses.replace(run, tokenizer=codec, model=config.build(codec.vocab_size, seed=3).eval())


BASE, CHAT, BYTE = loaded(), taught(), taught("byte")
STRICT = taught(template="{% if messages|length > 1 %}{{ raise_exception('one message') }}{% endif %}hi" + END)


@pytest.fixture
def api(monkeypatch):
    with client_of(served(monkeypatch, CHAT, BYTE, STRICT, BASE)) as client:
        yield client


def chat(api, status=200, **fields):
    body = {"model": "a-1", "messages": [USER], **fields}
    answer = api.post("/v1/chat/completions", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    return answer.json()


def stream(api, path="/v1/chat/completions", **fields):
    body = {"model": "a-1", "messages": [USER], "stream": True, **fields}
    with api.stream("POST", path, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.read()
        parts = "".join(answer.iter_text()).split("\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in parts if part not in ("", "data: [DONE]")]


def ends_after(monkeypatch, run, text):
    """Let a model answer with a text, and then end."""
    ids = [*run.tokenizer.encode(text).tolist(), run.tokenizer.special_tokens[END]]
    real, given = run.model.next_logits, []

    def next_logits(read, cache=None):
        logits = real(read, cache) * 0
        logits[:, ids[len(given)]] = 99.0
        given.append(1)
        return logits

    monkeypatch.setattr(run.model, "next_logits", next_logits)


def test_answer_is_that_of_nanotx_chat(api):
    talk = CHAT.chat(Sampling(temperature=0.7, top_p=0.9, seed=3), max_new_tokens=9, system="be")
    first = "".join(talk.ask("to be:"))
    messages = [{"role": "system", "content": "be"}, USER]
    fields = {"seed": 3, "max_tokens": 9, "temperature": 0.7, "top_p": 0.9}
    answer = chat(api, messages=messages, **fields)
    assert answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": first} and choice["logprobs"] is None
    prompt = len(talk.template.encode(talk.messages[:2], generation_prompt=True).ids)
    assert answer["usage"]["prompt_tokens"] == prompt and answer["nanotx"]["seed"] == 3
    second = "".join(talk.ask("or not:"))
    messages += [
        choice["message"],
        {"role": "user", "content": [{"type": "text", "text": "or "}, {"type": "text", "text": "not:"}]},
    ]
    assert chat(api, messages=messages, **fields | {"seed": 4})["choices"][0]["message"]["content"] == second


@pytest.mark.parametrize("log_probs", [{}, {"logprobs": True, "top_logprobs": 2}])
def test_answer_ends_at_the_end_of_a_turn_and_a_stream_has_its_pieces(api, monkeypatch, log_probs):
    ends_after(monkeypatch, CHAT, "or not")
    whole = chat(api, **log_probs)
    (choice,) = whole["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("or not", "stop")
    assert whole["usage"]["completion_tokens"] == 7
    if log_probs:
        rows = choice["logprobs"]["content"]
        assert "".join(row["token"] for row in rows) == "or not"
        assert all(len(row["top_logprobs"]) >= 2 and row["bytes"] == [ord(row["token"])] for row in rows)
        assert rows[0]["logprob"] == pytest.approx(0.0, abs=1e-4) == rows[0]["top_logprobs"][0]["logprob"]


def test_stream_begins_with_the_role_and_ends_with_the_reason(api, monkeypatch):
    ends_after(monkeypatch, CHAT, "or not")
    parts = stream(api, stream_options={"include_usage": True})
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts[:-1]) == "or not"
    assert [part["choices"][0]["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 2) + ["stop"]
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["completion_tokens"] == 7


def test_answer_stops_at_a_text_at_the_most_tokens_and_where_the_context_ends(api, monkeypatch):
    ends_after(monkeypatch, CHAT, "or not to be")
    choice = chat(api, stop=" to")["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("or not", "stop")
    monkeypatch.undo()
    endless = {"model": "a-2", "logit_bias": {str(number): -100 for number in BYTE.tokenizer.special_tokens.values()}}
    short = chat(api, **endless, max_completion_tokens=2)
    assert short["choices"][0]["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 2
    long = chat(api, **endless)
    assert long["usage"]["total_tokens"] == CONTEXT and long["choices"][0]["finish_reason"] == "length"


def test_typed_special_token_is_text(api):
    count = chat(api, model="a-2", messages=[USER | {"content": END}], max_tokens=1)["usage"]["prompt_tokens"]
    assert count == 3 + len(END)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"messages": []}, "messages", r'at least one, such as \[\{"role": "user"'),
        ({"messages": None}, "messages", "at least one"),
        ({"messages": "to be"}, "messages", "expected a list such as"),
        ({"messages": ["to be"]}, "messages", "message 1: has no role; expected one of system, user, assistant"),
        ({"messages": [{"content": "to be"}]}, "messages", "message 1: has no role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "role: expected one of .*, got 'tool'"),
        ({"messages": [{"role": "user"}]}, "messages", "message 1: content: expected a text, got NoneType"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "message 1: an empty message"),
        ({"messages": [USER, USER]}, "messages", "message 2: a message of the user, and here comes one of the assist"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "messages", "the last is of the assistant"),
        ({"messages": [USER | {"name": "me"}]}, "messages", "'name' is not supported in a message"),
        ({"messages": [USER | {"content": [{"type": "image_url"}]}]}, "messages", "of the type 'text', got 'image"),
        ({"messages": [USER | {"content": "\ud800"}]}, "messages", "lone surrogate"),
        ({"messages": [USER | {"content": "Zebra"}]}, "messages", r"'Z' \(U\+005A\)"),
        ({"messages": [USER | {"content": "to be " * 20}]}, "messages", "they make 123 tokens, .* context of 64 has"),
        ({"messages": [USER] * 1001}, "messages", "at most 1,000, got 1,001"),
        ({"model": "a-3", "messages": [{"role": "system", "content": "x"}, USER]}, "messages", "line 1: refuses"),
        ({"n": 2}, "n", "only 1 is supported"),
        ({"max_tokens": 0}, "max_tokens", "1 to 4,096"),
        ({"max_tokens": 2, "max_completion_tokens": 2}, "max_tokens", "send one of them"),
        ({"top_logprobs": 2}, "top_logprobs", "only with logprobs: true"),
        ({"logprobs": 2}, "logprobs", "true or false"),
        ({"tools": []}, "tools", "no such field is supported"),
        ({"temperature": -1}, "temperature", "temperature"),
        ({"logit_bias": {"500": 1}}, "logit_bias", "^logit_bias: expected ids from 0 to"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(api, fields, param, message):
    error = chat(api, 400, **fields)["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert re.search(message, error["message"]), error["message"]


def test_errors_have_the_status_that_clients_expect(api):
    assert chat(api, 400, messages=[USER | {"content": "to be " * 20}])["error"]["code"] == "context_length_exceeded"
    assert chat(api, 400, stream=True, messages=[USER | {"content": "Z"}])["error"]["param"] == "messages"
    assert chat(api, 404, model="gpt-4")["error"]["code"] == "model_not_found"
    error = chat(api, 404, model="a-4")["error"]
    assert error["code"] == "unsupported_endpoint" and "a-4 has learned no chat" in error["message"]
    assert api.post("/v1/chat/completions", json={}).json()["error"]["message"].startswith("model: missing")


def test_null_keys_and_an_empty_answer_of_before_are_taken(api):
    messages = [USER, {"role": "assistant", "content": "", "refusal": None, "tool_calls": None}, USER]
    assert chat(api, messages=messages, max_tokens=1, user="me")["usage"]["completion_tokens"] == 1


# The page.


def page_events(api, *chats, **fields):
    with api.stream(
        "POST", "/api/chat", json={"messages": list(chats), "max_tokens": 5, "seed": 1, **fields}
    ) as answer:
        assert answer.status_code == 200, answer.read()
        parts = "".join(answer.iter_text()).split("\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in parts if part]


def test_page_shows_what_the_model_reads_and_each_run_answers_its_own_conversation(monkeypatch):
    with client_of(served(monkeypatch, CHAT, BYTE)) as api:
        second = [USER, {"role": "assistant", "content": "or"}, USER]
        events = page_events(api, [USER], second)
    for place, (run, chat) in enumerate(((CHAT, [USER]), (BYTE, second))):
        own = [event for event in events if event["run"] == place]
        messages = [Message(**table) for table in chat]
        ids = run.chat().template.encode(messages, generation_prompt=True).ids.tolist()
        assert [token["id"] for token in own[0]["prompt"]] == ids and own[0]["dropped"] == 0
        assert own[0]["prompt"][0]["text"] == "<|user|>" and own[0]["prompt"][1]["p"] is not None
        written = [token["id"] for event in own for token in event.get("tokens", ())]
        assert "".join(event.get("text", "") for event in own) == run.tokenizer.decode(written) and len(written) == 5
        assert own[-1]["end"] == "length"


def test_page_drops_the_oldest_turns_and_shows_the_token_that_ends(monkeypatch):
    ends_after(monkeypatch, CHAT, "or")
    with client_of(served(monkeypatch, CHAT)) as api:
        turn = [USER, {"role": "assistant", "content": "or not to be"}]
        events = page_events(api, [*turn, *turn, *turn, *turn, USER])
        assert events[0]["dropped"] == 2 and len(events[0]["prompt"]) + 5 <= CONTEXT
        assert [event.get("text") for event in events[1:3]] == ["o", "r"]
        assert [token["text"] for token in events[3]["tokens"]] == [END] and events[4]["end"] == "stop"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": [USER]}, "messages: expected a list of them for each of 1 runs"),
        ({"messages": [[]]}, "messages: expected at least one"),
        ({"messages": [[USER]], "prompt": "x"}, "prompt: no such field"),
        ({}, "messages: expected a list of them for each of 1 runs"),
    ],
)
def test_page_that_asks_otherwise_is_refused(monkeypatch, body, message):
    with client_of(served(monkeypatch, CHAT)) as api:
        answer = api.post("/api/chat", json=body)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_page_offers_the_chat_where_runs_have_a_template(monkeypatch):
    with client_of(served(monkeypatch, CHAT, BASE)) as api:
        (values,) = re.findall(r'id="data">(.*?)</script>', api.get("/").text, re.DOTALL)
    assert [run["chats"] for run in json.loads(values)["runs"]] == [True, False]
