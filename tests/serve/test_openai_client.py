"""OpenAI's own client, where it is installed, against a server on a real port; the example of docs/serving.md too."""

import re
from pathlib import Path

import pytest
from served import loaded
from test_server import running

openai = pytest.importorskip("openai")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
RUN = loaded()


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


def test_example_of_the_page_runs(client, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    code = code.replace("http://127.0.0.1:8000/v1", str(client.base_url)).replace('"shakespeare_char-1"', '"a"')
    exec(compile(code.replace("ROMEO:", "to be"), str(PAGE), "exec"), {})
    assert capsys.readouterr().out
