"""The page of a trace: no text becomes HTML, nothing is fetched, and it is bounded."""

import json
import math
import re

import torch

from nanotx.lens import trace_page as module
from nanotx.lens.lesson import lesson
from nanotx.lens.trace import trace
from nanotx.lens.trace_page import panels_of, trace_page
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.shapes import AXES
from nanotx.nn.transformer import Model

MODEL = Model(dim=16, layers=2, context=8, block=PreNorm(attention=Fused(heads=2))).build(11, seed=1).eval()
FOUND = trace(MODEL, [1, 2, 3], passes=1)
EVIL = "</script><script>alert(1)</script>"


def built(text="a"):
    return trace_page(FOUND, lesson(FOUND, MODEL), [text] * 3, [(text, 0.5)], text, [text])


def pictures(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])["pictures"]


def test_text_is_never_html():
    html = built(EVIL)
    assert EVIL not in html and html.count("<script") == 2
    assert html.count("&lt;script&gt;alert(1)") >= 6


def test_page_fetches_nothing():
    assert not re.search(r"https?:|\bsrc=|href=|url\(|@import|innerHTML|eval\(", built())


def test_pictures_are_the_results_in_hundredths_of_the_largest():
    html, softmax = built(), next(step for step in FOUND.steps if step.name == "softmax")
    drawn = [picture for picture in pictures(html) if picture["names"] == ["h", "t", "s"]]
    weights = softmax.result[0]
    wanted = [[[round(100 * float(value) / float(weights.max())) for value in row] for row in head] for head in weights]
    assert wanted in [picture["panels"] for picture in drawn]
    masked = next(picture for picture in drawn if picture["panels"][0][0][1] is None)
    assert masked["scale"] < math.inf
    assert html.count('class="picture"') == len(pictures(html))


def test_pictures_are_bounded_and_what_is_left_out_is_written(monkeypatch):
    assert panels_of(torch.zeros(2, 20, 30, 40)).shape == (8, 16, 32)
    assert panels_of(torch.zeros(3)).shape == (1, 1, 3)
    monkeypatch.setattr(module, "MOST_NUMBERS", 100)
    html = built()
    kept = len(pictures(html))
    assert 0 < kept < 10
    assert re.search(r"Without a picture, because the page would grow too large: \d+ results", html)


def test_page_explains_the_axes_of_the_pass_and_heads_its_columns():
    html = built()
    legend = html[html.index('<section class="legend">') : html.index("text to ids")]
    assert "<h2>How to read it</h2>" in legend and ">step</span>" in legend
    assert all(f'data-axis="{axis}"' in legend and AXES[axis] in legend for axis in "btsdhkf")
    assert 'data-axis="e"' not in legend
