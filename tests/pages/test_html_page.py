"""The frame of every HTML page."""

import base64
import hashlib
import json
import re

from nanotx.pages import html_page

NASTY = "</script><script>alert(1)</script><!--"


def test_data_comes_back_whole_and_cannot_end_its_element():
    html = html_page("a title", "<p></p>", data={"text": NASTY}, scripts=("let a;",))
    (values,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert json.loads(values) == {"text": NASTY}


def test_only_the_scripts_of_the_page_may_run():
    scripts = ("let a = 1;", "let b = 2;")
    html = html_page("", "", scripts=scripts)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    for script in scripts:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none';")
    assert "script-src 'none'" in html_page("", "<p></p>")


def test_title_is_text():
    assert "<title>&lt;b&gt;</title>" in html_page("<b>", "")


def test_numbers_that_are_not_finite_become_null():
    html = html_page("", "", data={"losses": [1.5, float("nan"), (float("inf"), 2)]})
    assert '{"losses":[1.5,null,[null,2]]}' in html
