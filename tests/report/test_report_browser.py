"""The report in a real Chromium: what a person points at and types."""

import pytest
from browser import chromium, find_chromium
from helpers import text, tiny

from nanotx.cli.main import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed; NANOTX_CHROMIUM may name one"),
]


def press(browser, selector, key):
    """Press a key on an element."""
    browser.value(f"document.querySelector({selector!r}).focus()")
    event = f"new KeyboardEvent('keydown', {{key: {key!r}, bubbles: true}})"
    browser.value(f"document.querySelector({selector!r}).dispatchEvent({event})")


def written(browser, selector):
    return browser.value(f"document.querySelector({selector!r}).textContent")


def test_report_works_without_a_word_of_complaint_at_every_width(tmp_path):
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    assert run(["train", "shakespeare_char", *corpus, "--run", str(tmp_path / "run"), *tiny()]) == 0
    with chromium(tmp_path / "profile") as browser:
        browser.open((tmp_path / "run/report.html").as_uri())
        for width in (1280, 400):
            browser.look(width, 900, dark=width == 400)
            browser.until(f"Math.abs(document.querySelector('.chart-frame svg').clientWidth - {width}) < 100")
            assert browser.value("document.documentElement.scrollWidth <= innerWidth"), width
        assert browser.value("document.querySelectorAll('.chart-frame > svg').length") == 4
        spoken = "#main-chart .unseen"
        press(browser, "#main-chart .chart-frame", "Home")
        assert written(browser, spoken).startswith("step 1: training batches")
        press(browser, "#main-chart .chart-frame", "ArrowRight")
        assert written(browser, spoken).startswith("step 2: ")
        browser.point("#controls button[value=tokens]", "click")
        press(browser, "#main-chart .chart-frame", "End")
        assert written(browser, spoken).startswith("tokens 96: ")
        browser.point("#controls button[value=bits]", "click")
        assert written(browser, "#main-chart .chart-unit") == "bits per byte"
        browser.point("#tokens span:nth-child(5)")
        assert "surprise" in written(browser, "#token")
        browser.point("#heads button", "click")
        assert written(browser, "#looks").startswith("Head 0.0: ")
        assert browser.complaints() == []
