"""Whom the server answers, and how much it reads: foreign pages, large bodies and unknown paths are refused."""

import asyncio
import json

import pytest
from served import client_of, loaded, served
from starlette.requests import Request

from nanotx.serve import requests
from nanotx.serve.errors import ApiError

RUN = loaded()
JSON = {"content-type": "application/json"}


@pytest.fixture
def api(monkeypatch):
    with client_of(served(monkeypatch, RUN)) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/completions", "/api/generate", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "localhost:8000:1", ""]
)
def test_foreign_host_is_refused(api, path, host):
    answer = api.get(path, headers={"host": host})
    assert answer.status_code == 403 and "its own machine" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8000", "http://127.0.0.1:3000", ""]
)
def test_foreign_origin_is_refused(api, origin):
    answer = api.post("/api/generate", json={}, headers={"origin": origin})
    assert answer.status_code == 403 and answer.json()["error"]["message"].startswith("Origin:")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9123", "LOCALHOST", "[::1]:80"])
def test_own_page_is_answered_also_through_a_tunnel(api, host):
    assert api.get("/v1/models", headers={"host": host, "origin": f"http://{host}"}).status_code == 200
    assert api.get("/v1/models", headers={"host": host}).status_code == 200


def test_every_response_forbids_what_it_does_not_need(api):
    for answer in (api.get("/"), api.get("/v1/models"), api.get("/nothing"), api.get("/", headers={"host": "x"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy


def test_large_body_is_refused_whether_its_length_is_named_or_not(api):
    body = json.dumps({"model": "a", "prompt": "a" * 10_000_000}).encode()
    named = api.post("/v1/completions", content=body, headers=JSON)
    streamed = api.post("/v1/completions", content=iter([body[:600_000], body[600_000:]]), headers=JSON)
    for answer in (named, streamed):
        assert answer.status_code == 413
        assert answer.json()["error"]["message"] == "The body: expected at most 1,048,576 bytes."


def test_slow_body_is_refused(monkeypatch):
    async def receive():
        await asyncio.sleep(10)

    monkeypatch.setattr(requests, "BODY_SECONDS", 0.01)
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
    with pytest.raises(ApiError, match="did not arrive") as refused:
        asyncio.run(requests.read_table(Request(scope, receive)))
    assert refused.value.status == 408 and refused.value.headers == {"connection": "close"}


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"temperature": NaN}', "NaN is not a number"),
        (b"[]", "expected an object, got list"),
        (b"9" * 10_000, "not JSON"),
    ],
)
def test_body_that_is_no_table_is_refused(api, body, message):
    answer = api.post("/v1/completions", content=body, headers=JSON)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_form_of_a_foreign_page_is_no_request(api):
    answer = api.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 415 and "application/json" in answer.json()["error"]["message"]
