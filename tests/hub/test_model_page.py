"""The page as a whole: what is in it, what the command refuses, and what a person does with it in a real Chromium."""

import base64
import hashlib
import json
import re

import pytest
import torch
from browser import chromium, find_chromium
from einops import rearrange
from helpers import text, tiny
from torch.nn.functional import cross_entropy

from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError
from nanotx.generation import Sampling, generate
from nanotx.hub.html.weights import Weights, decoded
from nanotx.runs.load import load

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp("page")
    corpus = ["--corpus", "file", "--corpus.path", str(text(home / "text.txt"))]
    sizes = tiny(model_layers=2, model_context=32, train_batch_size=4, train_eval_every=0, train_sample_every=0)
    assert run(["train", "macbook", *corpus, *sizes, "--run", str(home / "a_run")]) == 0
    return home / "a_run"


def export(trained, path, *words):
    assert run(["export", str(trained), "--to", "html", str(path), *words]) == 0
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(trained):
    return export(trained, trained.parent / "page.html", "--weights", "float32")


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def weights_of(page):
    data = data_of(page)
    return Weights(table=data["table"], data=base64.b64decode(data["weights"]))


def test_page_fetches_nothing_and_runs_its_own_scripts_alone(page):
    *_, engine, script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in (engine, script)]
    assert f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digests[0]}' " in page
    assert f"'sha256-{digests[1]}'" in page and page.count("<script") == 3
    assert not re.search(r"\bsrc=|href=|url\(|@import|innerHTML|insertAdjacent|document\.write|eval\(|fetch\(", page)


def test_weights_of_the_page_are_those_of_the_run(trained, page):
    original = dict(load(trained).model.named_parameters())
    loaded = decoded(weights_of(page))
    assert loaded.keys() == original.keys()
    assert all(torch.equal(tensor, original[name]) for name, tensor in loaded.items())


def test_stated_losses_are_those_of_the_weights_in_the_page(trained, tmp_path, capsys):
    page = export(trained, tmp_path / "page.html", "--weights", "int8")
    stated = re.search(r"<td>([\d.]+) nats per token over ([\d,]+) tokens .*?, ([\d.]+) with those of the run", page)
    assert stated[0].removeprefix("<td>") in capsys.readouterr().out
    loaded = load(trained)
    known = torch.from_numpy(loaded.tokenizer.encode(loaded.recipe.corpus.split()[1]).astype("int64"))
    ids = torch.cat([torch.tensor([loaded.tokenizer.start]), known])

    def loss(model):
        windows = [(ids[at : at + 32], known[at : at + 32]) for at in range(0, len(known), 32)]
        logits = [model(rearrange(window, "t -> 1 t"))[0, : len(targets)] for window, targets in windows]
        return float(cross_entropy(torch.cat(logits), known))

    with torch.inference_mode():
        assert float(stated[3]) == pytest.approx(loss(loaded.model), abs=2e-5)
        for name, tensor in decoded(weights_of(page)).items():
            loaded.model.get_parameter(name).copy_(tensor)
        assert float(stated[1]) == pytest.approx(loss(loaded.model), abs=2e-5)
    assert int(stated[2].replace(",", "")) == len(known)


def test_name_of_a_run_never_becomes_html(trained, tmp_path):
    folder = tmp_path / "a<b>c&"
    trained.rename(folder)
    try:
        page = export(folder, tmp_path / "page.html", "--tokens", "0")
    finally:
        folder.rename(trained)
    assert "<b>c" not in page and "a&lt;b&gt;c&amp;" in page


def test_text_of_the_corpus_never_becomes_html(tmp_path):
    corpus = tmp_path / "evil.txt"
    corpus.write_text(EVIL * 40, encoding="utf-8")
    flags = [*tiny(train_steps=1), "--corpus", "file", "--corpus.path", str(corpus)]
    assert run(["train", "macbook", *flags, "--run", str(tmp_path / "a_run")]) == 0
    page = export(tmp_path / "a_run", tmp_path / "page.html", "--tokens", "0")
    assert page.count("<script") == page.count("</script") == 3
    assert set(EVIL) == set(data_of(page)["tokenizer"]["alphabet"])


def test_corpus_that_is_gone_is_reported_and_the_loss_is_not_stated(trained, tmp_path, capsys):
    corpus = trained.parent / "text.txt"
    corpus.rename(tmp_path / "elsewhere.txt")
    try:
        page = export(trained, tmp_path / "page.html")
    finally:
        (tmp_path / "elsewhere.txt").rename(corpus)
    assert "loss not measured" in capsys.readouterr().err
    assert "not measured: the corpus was not at hand" in page


def test_pack_is_exported_as_its_run_is(trained, tmp_path, page):
    assert run(["pack", str(trained), str(tmp_path / "a_run.zip")]) == 0
    assert export(tmp_path / "a_run.zip", tmp_path / "page.html", "--weights", "float32") == page


def test_bad_input_of_the_command_is_refused(trained, tmp_path, page):
    command = ["export", str(trained), "--to", "html"]
    with pytest.raises(ConfigError, match=r"--to htm: no such format\. Did you mean 'html'\? Known: html \(the model"):
        run(["export", str(trained), "--to", "htm"])
    with pytest.raises(ConfigError, match=r"--to: missing"):
        run(["export", str(trained)])
    with pytest.raises(ConfigError, match=r"page\.html: already exists; add --overwrite"):
        run([*command, str(trained.parent / "page.html")])
    with pytest.raises(ConfigError, match=r"no file; choose another path"):
        run([*command, str(tmp_path), "--overwrite"])
    with pytest.raises(ConfigError, match="a file of the run"):
        run([*command, str(trained / "recipe.toml"), "--overwrite"])
    with pytest.raises(RunError, match="cannot be written"):
        run([*command, str(tmp_path / "nowhere" / "page.html"), "--tokens", "0"])
    with pytest.raises(ConfigError, match="weights: "):
        run([*command, "--weights", "int4"])
    with pytest.raises(RunError, match="no checkpoint of step 99"):
        run([*command, "--step", "99"])


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory, trained, page):
    if not find_chromium():
        pytest.skip("there is no Chromium: none on PATH, and NANOTX_CHROMIUM names none")
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.look(1280, 900)
        browser.open((trained.parent / "page.html").as_uri())
        browser.until("state.checked")
        yield browser


def settle(browser):
    """Wait until nothing is computed and all is drawn."""
    browser.until("!state.busy && !scheduled")


def type_prompt(browser, prompt, **sliders):
    """Type a prompt into the empty field, with the sliders set."""
    for name, value in {"temperature": 0, "top-k": 0, "count": 100, "seed": 0, **sliders}.items():
        move(browser, name, value)
    browser.value("by('prompt').value = ''; by('prompt').focus()")
    browser.type(prompt)
    settle(browser)


def move(browser, slider, value):
    """Move a slider as a person does."""
    browser.value(
        f"by({slider!r}).value = {value}; by({slider!r}).dispatchEvent(new Event('input', {{bubbles: true}}))"
    )


def test_page_differs_from_pytorch_by_rounding_alone(browser):
    (worst,) = re.findall(r"by at most ([\d.e+-]+),", browser.value("by('check').textContent"))
    assert float(worst) < 1e-4


def test_greedy_text_of_the_page_is_that_of_python_for_100_tokens(browser, trained):
    loaded = load(trained)
    type_prompt(browser, "abc ")
    ids = torch.tensor([loaded.tokenizer.encode("abc ").tolist()])
    expected = generate(loaded.model, ids, 100, Sampling(temperature=0.0))[0].tolist()
    assert browser.value("text.ids") == expected
    assert browser.value("by('text').innerText.replaceAll('\u21b5', '')") == loaded.tokenizer.decode(expected)


def test_sliders_act_at_once_and_a_seed_gives_the_same_text_again(browser):
    type_prompt(browser, "ab", temperature=1.5, count=60)
    texts = []
    for seed in (0, 7, 0):
        move(browser, "seed", seed)
        settle(browser)
        texts.append(browser.value("text.ids"))
    assert texts[0] == texts[2] != texts[1] and {len(ids) for ids in texts} == {62}
    move(browser, "top-k", 1)
    settle(browser)
    one = browser.value("text.ids")
    move(browser, "temperature", 0)
    settle(browser)
    assert browser.value("text.ids") == one
    assert browser.value("by('temperature-value').textContent") == "greedy"


def test_ten_likeliest_are_shown_and_a_click_puts_one_there(browser):
    type_prompt(browser, "ab", count=20)
    size = browser.value("data.model.vocab_size")
    assert browser.value("by('next').children.length") == min(10, size)
    browser.point("#next li:nth-child(3) button", "click")
    settle(browser)
    assert browser.value("by('prompt').value.length") == 23
    assert browser.value("state.promptLength") == 23


def test_pointer_on_a_token_shows_where_every_head_looks_from_it(browser):
    type_prompt(browser, "abcab", count=10)
    browser.point("#text span:nth-child(5)")
    settle(browser)
    assert browser.value("by('heads').children.length") == sum(
        browser.value("data.model.layers.map((layer) => layer.attention.heads)")
    )
    assert browser.value("by('text').className") == "looking"
    assert browser.value("by('heads-title').textContent") == "Where each head looks from b"
    total = browser.value("[...looksAt(4, -1).values()].reduce((a, b) => a + b)")
    assert total == pytest.approx(1, abs=1e-5) and browser.value("looksAt(4, -1).size") == 5
    browser.point("h1")
    settle(browser)
    assert browser.value("by('text').className") == ""
    browser.value("by('text').focus()")
    for _ in range(2):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")
    settle(browser)
    assert browser.value("state.pointed") == browser.value("text.ids.length") - 3


def test_character_that_the_model_does_not_know_is_named(browser):
    type_prompt(browser, "a\u00a3")
    assert "\u201c\u00a3\u201d is not among the" in browser.value("by('status').textContent")
    type_prompt(browser, "a")
    assert browser.value("by('status').className") == ""


def test_token_that_ends_inside_of_a_character_is_a_dot(browser):
    pieces = browser.value("['a\\nb', ''].map((piece) => tokenNode(piece).textContent)")
    assert pieces == ["a\u21b5\nb", "\u00b7"]


def test_page_fits_a_narrow_window_in_light_and_dark(browser):
    for dark in (False, True):
        browser.look(400, 800, dark)
        settle(browser)
        assert browser.value("document.documentElement.scrollWidth") <= 400
    browser.look(1280, 900)


def test_page_asks_for_nothing_and_no_script_fails(browser):
    type_prompt(browser, "abc")
    assert browser.complaints() == []
