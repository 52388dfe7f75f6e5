"""The page: its own scripts alone may run, and whatever a run is called reaches it as data."""

import base64
import hashlib
import json
import re

import pytest
from served import client_of, loaded, served

from nanotx.serve.page import SCRIPTS, WEB, page, page_policy

NASTY = "</script><script>alert(1)</script>"


def test_page_has_the_runs_as_data_and_no_other_script(monkeypatch):
    (run,) = served(monkeypatch, loaded())
    run.name = NASTY
    with client_of([run]) as api:
        answer = api.get("/")
    (values,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', answer.text, re.DOTALL)
    about = json.loads(values)["runs"][0]
    assert about["name"] == NASTY and about["heads"][1] == ["1.attention.head0", "1.attention.head1"]
    assert "alert(1)" not in answer.text.replace(values, "").replace("&lt;script&gt;alert(1)", "")
    scripts = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert len(scripts) == len(SCRIPTS)
    for script in scripts:
        assert (
            base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            in answer.headers["content-security-policy"]
        )


def test_policy_lets_the_page_talk_to_its_server_alone():
    policy = dict(part.strip().split(" ", 1) for part in page_policy().split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in policy["script-src"] and "http" not in page_policy()


@pytest.mark.parametrize("path", sorted(WEB.iterdir()), ids=lambda path: path.name)
def test_files_of_the_page_fetch_nothing_and_write_no_html(path):
    text = path.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"):
        assert forbidden not in text
    if path.suffix == ".html":
        assert not re.search(r"\son\w+=|style=|<script|<link|src=", text)


def test_run_without_a_checkpoint_is_shown():
    assert "no checkpoint yet" in page([{"name": "a", "step": None}], watched=True)
