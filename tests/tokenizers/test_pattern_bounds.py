"""A regex of one's own has bounds, in memory and time, and loses nothing of a text: or it is refused by its name."""

import base64
import json

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import signed

from nanotx.cli.main import run
from nanotx.errors import ConfigError, TextError, TokenizerError
from nanotx.tokenizers import Tokenizer, load

ENDLESS = [
    "(?R)?a|(?s:.)",
    "(?0)?a|.",
    "(a)(?1)?|.",
    r"(?P<x>a)(?&x)|.",
    r"(?P<x>a)(?P>x)|.",
    r"(?(1)a|b)(c)",
    "(?+1)(a)",
]
EMPTY = [
    "(?=a)",
    "a*",
    "|a",
    r"\b",
    "a{0,3}",
    "(?:a|b*)",
    "(a?)(b?)",
    "^|$",
    r"(a?)\1",
    "()",
    "(?<!a)",
    "[ab]{0}",
    "(?i)",
]
LARGE = ["(?:" + "(?:[a-z]|x)" * 80 + "){10000}", "(?:" + "ab|cd|" * 50 + "e){900}", "(?i:" + r"\p{L}" * 99 + "){9999}"]
LARGE += ["(?:" * 150 + "a" + ")+" * 150, "(?:" * 30 + "a" + "){2,}" * 14 + ")" * 16, "(" * 40 + "a" + "){1,2}" * 40]
UNKNOWN = [r"a\Kb|.", "(?:abc){e<=3}", "(?x) a * ", "(?|a|b)", "(*FAIL)|a", "a(*SKIP)b|.", "(?V1)[a&&b]", "(?ix:a )b"]
SOUND = [
    r"\s?\w+|(?s:.)",
    "[]a]+|[^]]",
    "(?i)ab|(?-i:c)",
    "(?P<n>a)(?P=n)?",
    "(?#x)a",
    r"\{a\}",
    "(?>ab)++|c{1,3}?",
    "(?<=a)b|.",
]


@pytest.fixture
def ranks(tmp_path):
    """A file of ranks in which each byte has one."""
    path = tmp_path / "bytes.tiktoken"
    lines = (f"{base64.b64encode(bytes([value])).decode('ascii')} {value}\n" for value in range(256))
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("pattern", [*ENDLESS, *EMPTY, *LARGE, *UNKNOWN])
def test_unbounded_or_empty_pattern_is_refused_everywhere(pattern, ranks, tmp_path):
    for part in ("bpe", "tiktoken", "huggingface"):
        with pytest.raises(ConfigError, match=r"^pattern: ") as caught:
            Tokenizer.find(part)(pattern=pattern)
        assert "expected" in str(caught.value) or "Try" in str(caught.value)
    with pytest.raises(ConfigError, match=r"^pattern: "):
        run(["tokenizer", "import", str(ranks), "--pattern", pattern, "--out", str(tmp_path / "x.json")])
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("pattern", SOUND)
def test_sound_pattern_is_accepted(pattern):
    assert Tokenizer.find("bpe")(pattern=pattern).pattern == pattern


def resaved(path, **changes):
    """A tokenizer's file in which something was changed, and which was signed again."""
    table = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    return path


@pytest.mark.parametrize("pattern", ["(?R)?a|(?s:.)", "(?P<x>a)(?&x)|.", "a" * 2000])
def test_unbounded_pattern_in_a_tokenizers_file_is_refused(pattern, ranks, tmp_path):
    Tokenizer.find("bpe")(vocab_size=256).train([]).save(tmp_path / "bpe.json")
    Tokenizer.find("tiktoken")(path=str(ranks), pattern="gpt2").train([]).save(tmp_path / "tiktoken.json")
    resaved(tmp_path / "bpe.json", pattern="own", regex=pattern)
    with pytest.raises(TokenizerError, match=r"bpe.json: bpe: pattern: "):
        load(tmp_path / "bpe.json")
    if len(pattern) < 100:
        with pytest.raises(TokenizerError, match=r"tiktoken.json: tiktoken: pattern: "):
            load(resaved(tmp_path / "tiktoken.json", regex=pattern))


def test_pattern_that_drops_text_loses_nothing_silently(ranks, tmp_path):
    pytest.importorskip("tiktoken")
    Tokenizer.find("tiktoken")(path=str(ranks), pattern="gpt2").train([]).save(tmp_path / "x.json")
    codec = load(resaved(tmp_path / "x.json", regex="a+"))
    assert codec.decode(codec.encode("aaa")) == "aaa"
    with pytest.raises(TextError, match=r"tiktoken: the pattern 'a\+' leaves a part of this text of 3 characters"):
        codec.encode("aba")


ATOMS = ["a", "b", ".", r"\w", "[ab]", "[^a]", r"\b", "^", "(?=a)", r"\p{L}", "\\."]


@st.composite
def patterns(draw, depth=3):
    if not depth or draw(st.booleans()):
        return draw(st.sampled_from(ATOMS)) + draw(st.sampled_from(["", "", "*", "+", "?", "{2}", "{0,2}", "*?", "++"]))
    left, right = draw(patterns(depth - 1)), draw(patterns(depth - 1))
    return draw(st.sampled_from(["{}{}", "{}|{}", "(?:{})?{}", "({}|{})+", "(?>{}){}", "(?!{}){}"])).format(left, right)


@given(pattern=patterns(), text=st.text("ab .\n", max_size=12))
@settings(max_examples=300, deadline=None)
def test_accepted_pattern_matches_no_empty_text(pattern, text):
    try:
        Tokenizer.find("bpe")(pattern=pattern)
    except ConfigError:
        return
    assert all(match.end() > match.start() for match in regex.finditer(pattern, text))


@pytest.mark.slow
def test_pattern_that_needs_too_much_memory_is_an_error_of_ours():
    codec = Tokenizer.find("bpe")(vocab_size=256, pattern="(?:(a)|(b))+|(?s:.)").train([])
    with pytest.raises(TokenizerError, match="needs too much memory for a text of 4000000 characters"):
        codec.encode("ab" * 2_000_000)
