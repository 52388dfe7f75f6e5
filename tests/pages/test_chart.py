"""The script that draws curves."""

import re

from nanotx.pages import CHART, html_page, script_file

SCRIPT = script_file(CHART)


def test_chart_writes_texts_as_texts_and_asks_for_nothing():
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|fetch|XMLHttp|import\(", SCRIPT)
    assert set(re.findall(r"https?://[^\"]*", SCRIPT)) == {"http://www.w3.org/2000/svg"}  # the name of SVG


def test_chart_can_stand_on_a_page_beside_other_scripts():
    outside = re.sub(r"(?s)= \(\(\) => \{.*\}\)\(\);", "", SCRIPT)
    assert re.findall(r"(?m)^(?:const|let|function|class) .*", outside) == ["const { chart, choice } "]
    assert "</script" not in SCRIPT and SCRIPT in html_page("", "", scripts=(SCRIPT,))
