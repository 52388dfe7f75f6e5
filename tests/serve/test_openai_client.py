"""OpenAI's own client, where it is installed, against a server on a real port; the example of docs/serving.md too."""

import re
from pathlib import Path

import pytest
from served import loaded
from test_chat_completions import taught
from test_server import running

from nanotx.generation import Sampling

openai = pytest.importorskip("openai")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
RUN, CHAT = loaded(), taught()


@pytest.fixture
def client(monkeypatch):
    with (
        running(monkeypatch, RUN) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_client_completes_streams_and_lists(client):
    assert [model.id for model in client.models.list()] == ["a"]
    assert client.models.retrieve("a").owned_by == "nanotx"
    fields = {"model": "a", "prompt": "to be", "max_tokens": 9, "seed": 4, "logprobs": 3, "temperature": 0.8}
    answer = client.completions.create(**fields)
    text = RUN.generate("to be", max_new_tokens=9, seed=4).removeprefix("to be")
    assert answer.choices[0].text == text and answer.usage.completion_tokens == 9
    assert answer.choices[0].finish_reason == "length" and len(answer.choices[0].logprobs.top_logprobs[0]) >= 3
    parts = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].text for part in parts if part.choices) == text
    assert parts[-1].usage.total_tokens == 14
    greedy = client.completions.create(model="a", prompt="to be", max_tokens=5, extra_body={"top_k": 1, "min_p": 0.1})
    assert "to be" + greedy.choices[0].text == RUN.generate("to be", max_new_tokens=5, temperature=0.0)


def test_client_chats_and_streams(monkeypatch):
    with (
        running(monkeypatch, CHAT) as port,
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
    ):
        fields = {"model": "a", "messages": [{"role": "user", "content": "to be:"}], "max_tokens": 9, "seed": 4}
        answer = client.chat.completions.create(**fields, logprobs=True, top_logprobs=2)
        message = answer.choices[0].message
        assert message.content == "".join(CHAT.chat(Sampling(temperature=1.0, seed=4), max_new_tokens=9).ask("to be:"))
        assert len(answer.choices[0].logprobs.content[0].top_logprobs) >= 2
        parts = list(client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == message.content
        assert parts[-1].usage == answer.usage
        more = [*fields["messages"], message, {"role": "user", "content": "or not:"}]
        assert client.chat.completions.create(**fields | {"messages": more}).choices[0].message.role == "assistant"
        with pytest.raises(openai.BadRequestError, match="message 1: has no role"):
            client.chat.completions.create(model="a", messages=[{"content": "x"}])


def test_client_raises_its_own_errors(client):
    with pytest.raises(openai.BadRequestError, match="only 1 is supported") as refused:
        client.completions.create(model="a", prompt="to be", n=2)
    assert refused.value.param == "n"
    with pytest.raises(openai.NotFoundError, match="not served here") as refused:
        client.completions.create(model="gpt-4", prompt="to be")
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="U\\+005A"):
        list(client.completions.create(model="a", prompt="Z", stream=True))
    with pytest.raises(openai.NotFoundError, match="/v1/completions"):
        client.chat.completions.create(model="a", messages=[{"role": "user", "content": "x"}])


def test_examples_of_the_page_run(monkeypatch, capsys):
    parts = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(parts) == 2
    code = re.sub('"(shakespeare_char|talk)-1"', '"a"', "\n".join(parts))
    code = code.replace("ROMEO:", "to be").replace("Hello.", "to be:")
    with running(monkeypatch, CHAT) as port:
        exec(compile(code.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), str(PAGE), "exec"), {})
    assert len(capsys.readouterr().out.split("\n")) > 2
