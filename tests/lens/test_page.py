"""The page of a look: nothing is fetched or run but its script, no text becomes HTML, and it stays small."""

import base64
import hashlib
import json
import re

import torch

from nanotx.lens.look import Look, look
from nanotx.lens.page import MOST_TOKENS, MOST_WEIGHTS, bounds, page
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model

MODEL = Model(dim=16, layers=2, context=160, block=PreNorm(attention=Sdpa(heads=2))).build(11, seed=1).eval()
EVIL = "</script><script>alert(1)</script>"


def built(ids, text="a"):
    result = look(MODEL, ids)
    texts = [text] * len(result.ids)
    return result, page(result, texts, dict.fromkeys(result.layers, texts), text)


def data_of(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])


def test_text_is_never_html():
    _, html = built([1, 2, 3], EVIL)
    assert EVIL not in html
    assert html.count("<script") == 2
    assert data_of(html)["tokens"] == [EVIL] * 3


def test_page_fetches_nothing_and_runs_its_own_script_alone():
    _, html = built([1, 2, 3])
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'" in html
    assert not re.search(r"https?:|\bsrc=|href=|url\(|@import|innerHTML|eval", html)


def test_page_has_the_weights_and_is_bounded():
    result, html = built([1, 2, 3] * 50)
    data = data_of(html)
    assert f"first {150 - MOST_TOKENS} tokens of the text are left out" in html
    assert len(data["tokens"]) == len(data["surprise"]) == MOST_TOKENS
    assert data["maps"]["1.1"][5][3] == round(
        100 * float(result.maps["1.1"][150 - MOST_TOKENS + 5, 150 - MOST_TOKENS + 3])
    )
    assert [layer["heads"] for layer in data["layers"]] == [[], ["0.0", "0.1"], ["1.0", "1.1"]]
    many = {f"0.{head}": torch.zeros(150, 150) for head in range(200)}
    wide = Look(ids=result.ids, left_out=0, layers=result.layers, maps=many, without={}, notes=())
    _, heads = bounds(wide)
    assert 0 < len(heads) * MOST_TOKENS * (MOST_TOKENS + 1) / 2 <= MOST_WEIGHTS
    texts = ["a"] * 150
    assert f"{200 - len(heads)} of 200 heads are left out" in page(
        wide, texts, dict.fromkeys(result.layers, texts), "a"
    )
