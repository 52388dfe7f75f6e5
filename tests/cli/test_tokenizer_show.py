"""`nanotx tokenizer show`: every token is seen, nothing in a text commands a terminal or a page."""

import io
import json
import sys
import unicodedata
from html.parser import HTMLParser

import pytest
from helpers import finish, start
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from nanotx.cli.commands.tokenizer import show
from nanotx.cli.main import run
from nanotx.cli.tokenizer.page import page, tokens, visible
from nanotx.errors import ConfigError, DataError, RunError, TextError
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char

BYTES = Byte().train([])
SMALL = Bpe(vocab_size=262).train(["to be or not to be " * 5])
TEXTS = st.text(max_size=60)
NASTY = "a \t\r\n\x00\x1b[31m\x7f\x85\xa0\u2028\u202e\u200d\U000e0001\u0301é漢😀<script>&\"'\\"


@pytest.fixture
def saved(tmp_path):
    SMALL.save(tmp_path / "small.json")
    return str(tmp_path / "small.json")


@given(data=st.binary(max_size=30) | TEXTS.map(str.encode))
def test_what_is_shown_of_a_token_is_one_line_and_commands_no_terminal(data):
    shown = visible(data)
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf", "Cn", "Cs", "Zs", "Zl", "Zp"}
    assert bool(shown) == bool(data)


@pytest.mark.parametrize(
    ("data", "shown"),
    {
        b" to": "·to",
        b"\t": "→",
        b":\r\n": ":␍⏎",
        b"\xe2\x82": r"\xe2\x82",
        b" \xe6": r"·\xe6",
        b"\x1b": r"\x1b",
        "\u202e".encode(): r"\u202e",
        "\u3000".encode(): r"\u3000",
        "\u0301".encode(): "\u25cc\u0301",
        "漢é😀".encode(): "漢é😀",
        b"": "",
    }.items(),
)
def test_white_space_has_signs_and_what_has_no_shape_an_escape(data, shown):
    assert visible(data) == shown


@given(text=TEXTS | st.just(NASTY))
def test_lines_hold_each_id_with_its_bytes(text):
    lines = []
    for token in tokens(SMALL, SMALL.encode(text).tolist()):
        lines.append((token.number, token.data))
    assert [number for number, _ in lines] == SMALL.encode(text).tolist()
    assert b"".join(data for _, data in lines) == text.encode()


def test_what_is_no_terminal_gets_a_token_a_line(saved, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(NASTY + " to be", encoding="utf-8")
    assert run(["tokenizer", "show", saved, str(tmp_path / "text.txt"), "--limit", "1"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.split("\n")[:-1]]
    assert [int(number) for number, _, _ in rows] == SMALL.encode(NASTY + " to be").tolist()
    assert b"".join(bytes.fromhex(data) for _, data, _ in rows).decode() == NASTY + " to be"
    assert all(shown == visible(bytes.fromhex(data)) for _, data, shown in rows)


def test_text_comes_from_the_command_line_or_standard_input(saved, capsys, monkeypatch):
    for text in ("None", "", "to be"):
        assert run(["tokenizer", "show", saved, "--text", text]) == 0
        output = capsys.readouterr().out
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert run(["tokenizer", "show", saved]) == 0
        assert capsys.readouterr().out == output
        assert output.count("\n") == len(SMALL.encode(text))


def terminal(width=60, **options):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system="truecolor", **options)


def drawn(console, codec, text, ids=True):
    facts, notes = show.about(codec, text, codec.encode(text))
    show.on_terminal(console, facts, notes, tokens(codec, codec.encode(text).tolist()), ids)
    return console.file.getvalue()


def plain(text):
    return Console(file=io.StringIO()).render_str("").from_ansi(text).plain


@given(text=TEXTS.filter(lambda text: "\x1b" not in text), width=st.integers(12, 70), ids=st.booleans())
def test_no_row_is_wider_than_the_terminal_and_no_token_is_missing(text, width, ids):
    rows = plain(drawn(terminal(width), BYTES, text, ids)).split("\n")[1:]
    assert all(cell_len(row) <= width for row in rows)
    if ids:
        rows = rows[rows.index("") + 1 :]
        numbers = [int(word) for row in rows[1::3] for word in row.split()]
        assert numbers == list(text.encode())


def test_on_a_terminal_ids_stand_below_their_tokens_in_colours_by_turns():
    out = drawn(terminal(), SMALL, "to be\nor")
    rows = plain(out).split("\n")
    assert rows[0] == "5 tokens   8 bytes   1.60 bytes per token   262 ids of bpe"
    above, below = rows[2], rows[3]
    assert above.split() == ["to", "·be", "⏎"] and rows[5].split() == ["o", "r"]
    for word, number in zip(above.split(), below.split(), strict=True):
        assert above.index(word) == below.index(number)
        assert SMALL.decode([int(number)]).replace(" ", "·").replace("\n", "⏎") == word
    assert len({colour for colour in show.COLOURS if ";".join(map(str, bytes.fromhex(colour[1:]))) in out}) == 5


def test_without_colours_a_bar_parts_the_tokens():
    assert "to|·be|" in drawn(terminal(no_color=True), SMALL, "to be", ids=False)
    assert "to·be" in plain(drawn(terminal(), SMALL, "to be", ids=False))


def test_token_wider_than_the_terminal_is_cut():
    codec = Bpe(vocab_size=260).train(["a" * 64])
    rows = plain(drawn(terminal(10), codec, "a" * 64)).split("\n")
    assert "aaaaaaaaa…" in rows


def test_unknown_characters_and_normal_forms_are_reported():
    codec = Char(unknown=True, nfc=True).train(["abc"])
    message = plain(drawn(terminal(120), codec, "aXbXc"))
    assert "<unk>" in message and "2 tokens are <unk>, and their text is lost" in message
    message = plain(drawn(terminal(120), Char(nfc=True).train(["é"]), "e\u0301"))
    assert "do not give this text back: it was normalised first" in message


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self):
        super().__init__()
        self.open, self.titles, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "br", "wbr"}:
            self.open.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]
        assert not {"src", "href"} & dict(attrs).keys()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += [data] if self.open[-1:] in (["span"], ["ruby"]) else []


@given(text=TEXTS | st.just(NASTY), ids=st.booleans())
def test_page_shows_each_token_escaped_with_its_id_and_bytes(text, ids):
    shown = list(tokens(SMALL, SMALL.encode(text).tolist()))
    written = page("<b>", [("tokens", "<5>")], ["&note"], shown, ids)
    reader = Reader()
    reader.feed(written)
    reader.close()
    assert reader.open == [] and "<b>" not in written and "url(" not in written
    assert reader.text == [token.shown for token in shown]
    assert [title.split(",")[0] for title in reader.titles] == [f"id {token.number}" for token in shown]
    assert [bytes.fromhex(title.split(": ")[1]) for title in reader.titles] == [token.data for token in shown]


def test_page_is_written_and_says_when_it_shows_only_the_beginning(saved, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert run(["tokenizer", "show", saved, "--text", "to be " * 50, "--html", str(out), "--limit", "7"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: ")
    written = out.read_text(encoding="utf-8")
    assert written.count("<ruby") == 7 and "The first 7 of " in written and "<dd>300</dd>" in written
    assert run(["tokenizer", "show", saved, "--text", "to be", "--html", str(out), "--no-ids"]) == 0
    assert "<ruby" not in out.read_text(encoding="utf-8")


def test_what_cannot_be_shown_is_refused_with_the_reason(saved, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for words, kind, message in [
        ([saved, "x.txt", "--text", "y"], ConfigError, "expected either a file or --text"),
        ([saved, "--text", "a", "--limit", "-1"], ConfigError, "limit: expected a number of at least 0"),
        ([saved, "--txet", "a"], ConfigError, "Did you mean '--text'"),
        ([saved, str(tmp_path / "none.txt")], DataError, "cannot be read: No such file"),
        ([saved, str(tmp_path / "latin.txt")], DataError, "expected UTF-8, got byte 0xe9 at offset 3"),
        ([saved, "--text", "a\udcff"], TextError, r"lone surrogate U\+DCFF at offset 1"),
        ([saved, "--text", "a", "--html", str(tmp_path / "no" / "x.html")], RunError, "cannot be written: No such"),
    ]:
        with pytest.raises(kind, match=message):
            run(["tokenizer", "show", *words])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latin.txt", "small.json"]


def test_showing_tokens_imports_no_torch_and_leaves_no_traceback(saved, tmp_path):
    code, out, err = finish(start("tokenizer", "show", saved, "--text", json.dumps(NASTY), cwd=tmp_path))
    assert (code, err) == (0, "") and out.count("\n") == len(SMALL.encode(json.dumps(NASTY)))
