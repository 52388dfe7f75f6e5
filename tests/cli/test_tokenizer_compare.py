"""`nanotx tokenizer compare`: figures that can be counted by hand, and none that flatters."""
# ruff: noqa: RUF001  these letters are meant

import io
import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nanotx.cli import tables
from nanotx.cli.main import run
from nanotx.cli.tokenizer import plot
from nanotx.cli.tokenizer import tables as figures
from nanotx.cli.tokenizer.contestants import contestants
from nanotx.cli.tokenizer.measuring import RATES, SPEEDS, measure
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, DataError, RunError, TextError, UnknownPart
from nanotx.tokenizers import scripts
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.scripts import lost_characters, script_breakdown, token_offsets

VOICES = Playhouse(grammar="voices", size=20_000)
TRAINING, VALIDATION = VOICES.split()
LETTERS = st.text(st.sampled_from("abé б漢한 ।\n."), min_size=1, max_size=40)
CODECS = [Byte().train([]), Bpe(vocab_size=266).train(["aé 漢 б漢한 " * 9]), Char().train(["abé б漢한 ।\n."])]


def rows_of(words, training=TRAINING, validation=VALIDATION):
    return [measure(word, training, validation, 1) for word in contestants(words)]


# Which token lies where.


@given(text=LETTERS, codec=st.sampled_from(CODECS))
def test_token_counts_for_the_script_of_its_first_byte(text, codec):
    ids = codec.encode(text)
    owner = [script for script, segment in scripts.script_segments(text) for _ in segment.encode("utf-8")]
    parts = script_breakdown(codec, text, ids)
    at, wanted = 0, []
    for token_id in ids.tolist():
        wanted.append(owner[at])
        at += len(codec.decode_bytes([token_id]))
    assert [parts.names[place] for place in parts.of_tokens] == wanted
    assert parts.tokens().sum() == len(ids) and parts.sizes.sum() == len(text.encode("utf-8"))
    assert [parts.sizes[index] for index in range(len(parts.names))] == [owner.count(name) for name in parts.names]
    values = np.arange(len(ids), dtype=np.float64)
    assert parts.sums(values).sum() == values.sum()


@given(text=LETTERS)
def test_text_that_is_not_round_tripped_counts_for_no_script(text):
    codec = Char(unknown=True).train(["ab "])
    ids = codec.encode(text)
    away = sum(letter not in "ab " for letter in text)
    assert lost_characters(codec, text, ids) == away
    if away:
        with pytest.raises(TextError, match=f"{away} of {len(text)} characters of this text become <unk> and are lost"):
            script_breakdown(codec, text, ids)
    else:
        script_breakdown(codec, text, ids)


def test_text_in_another_normal_form_counts_for_no_script():
    codec = Char(nfc=True).train(["é"])
    assert lost_characters(codec, "e\u0301", codec.encode("e\u0301")) == 0
    with pytest.raises(TextError, match="the ids decode to another text, perhaps its normal form C"):
        script_breakdown(codec, "e\u0301", codec.encode("e\u0301"))
    with pytest.raises(TextError, match="decode to 2 bytes one by one and to 3 together"):
        token_offsets(codec, codec.encode("é"), 3)


# Who is compared.


def test_argument_is_a_part_and_its_fields():
    results = {
        item.name: item.config for item in contestants("char, byte,bpe:512,bpe:300:pattern=gpt2:nfc,char:unknown")
    }
    assert results == {
        "char": Char(),
        "byte": Byte(),
        "bpe:512": Bpe(vocab_size=512),
        "bpe:300:pattern=gpt2:nfc": Bpe(vocab_size=300, pattern="gpt2", nfc=True),
        "char:unknown": Char(unknown=True),
    }
    assert contestants("bpe:nfc=false:special_tokens=<a>+<b>")[0].config == Bpe(
        nfc=False, special_tokens=("<a>", "<b>")
    )
    assert contestants("shakespeare_bpe_512")[0].config == Saved(path="shakespeare_bpe_512")
    assert contestants("C:/x.json")[0].config == Saved(path="C:/x.json")
    assert len(contestants("byte,byte")) == 1


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("", ConfigError, "--tokenizers: expected a list such as char,byte,bpe:512, got nothing"),
        ("bpee", UnknownPart, r"--tokenizers bpee: .* Did you mean 'bpe'\?"),
        ("char:512", ConfigError, "--tokenizers char:512: char has no field 'vocab_size'"),
        ("bpe:patern=gpt2", ConfigError, r"bpe has no field 'patern'. Did you mean 'pattern'\? It has: "),
        ("bpe:12", ConfigError, "--tokenizers bpe:12.vocab_size: expected a number of at least 256"),
        ("bpe:nfc=perhaps", ConfigError, "nfc: expected bool .* got str 'perhaps'"),
        ("bpe:min_frequency=x", ConfigError, "min_frequency: expected int .* got str 'x'"),
    ],
)
def test_argument_that_is_no_tokenizer_is_answered_with_the_reason(words, kind, message):
    with pytest.raises(kind, match=message):
        contestants(words)


# The figures.


def test_figures_are_those_counted_by_hand():
    (row,) = rows_of("char", "abé б", "ab é б ba")
    assert (row["tokens"], row["bytes"], row["characters"], row["words"]) == (9, 11, 9, 4)
    assert row["vocabulary_used"] == 1.0 and row["bytes_per_token"] == 11 / 9 and row["fertility"] == 9 / 4
    results = {name: (part["bytes"], part["words"], part["tokens"]) for name, part in row["scripts"].items()}
    assert results == {"Latin": (8, 3, 7), "Cyrillic": (3, 1, 2)}


@pytest.mark.parametrize("words", ["char", "byte", "bpe:400"])
def test_rates_are_counts_over_the_whole_validation_text(words):
    (row,) = rows_of(words, TRAINING + VALIDATION)
    codec = contestants(words)[0].config.train([TRAINING + VALIDATION])
    ids = codec.encode(VALIDATION)
    size = len(VALIDATION.encode("utf-8"))
    assert row["error"] is None and row["digest"] == codec.digest and row["vocab_size"] == codec.vocab_size
    assert (row["tokens"], row["bytes"], row["characters"]) == (len(ids), size, len(VALIDATION))
    assert row["bytes_per_token"] == size / len(ids) and row["characters_per_token"] == len(VALIDATION) / len(ids)
    assert row["vocabulary_used"] == len(set(ids.tolist())) / codec.vocab_size
    assert row["fertility"] == len(ids) / scripts.words(VALIDATION)
    assert sum(part["tokens"] for part in row["scripts"].values()) == len(ids)
    assert sum(part["bytes"] for part in row["scripts"].values()) == size
    assert sum(part["words"] for part in row["scripts"].values()) == row["words"]
    for part in row["scripts"].values():
        assert part["bytes_per_token"] == part["bytes"] / part["tokens"]
        assert part["fertility"] == part["tokens"] / part["words"]
    assert all(row[speed] > 0 for speed in SPEEDS)


def test_it_is_learned_on_the_training_text_alone():
    (row,) = rows_of("bpe:300", "abab" * 200 + "".join(random.Random(1).choices("abcdefgh", k=500)), "zyzyzyzy" * 50)
    assert row["bytes_per_token"] == 1.0


def test_what_loses_something_shows_how_much_and_no_rates():
    (row,) = rows_of("char:unknown", "abc", "abXbYé abc")
    assert row["lost_characters"] == 0.4 and not row["round_trips"] and row["scripts"] is None
    assert all(row[rate] is None for rate in RATES)
    assert [figures.rate(row, row[rate]) for rate in RATES] == ["40.00% lost"] * 3
    kept = rows_of("byte", "abc", "abXbYé ж")
    assert figures.by_script([row, *kept], ["Latin"], "fertility") == [
        ["tokenizer", "Latin"], ["char:unknown", "lost"], ["byte", f"{8 / 1:.3f}"],
    ]  # fmt: skip
    (row,) = rows_of("char:nfc", "é", "e\u0301e\u0301")
    assert not row["round_trips"] and figures.rate(row, row["fertility"]) == "another text"


def test_failing_contender_gives_the_reason_and_the_others_continue():
    first, other = rows_of("bpe:40000,byte")
    assert first["error"].startswith("TokenizerError: bpe: vocab_size=40000 cannot be reached")
    assert first["bytes_per_token"] is None and other["bytes_per_token"] == 1.0
    (row,) = rows_of("char", "abc", "abcd")
    assert "'d' (U+0064) at offset 3 is not in the alphabet" in row["error"]
    assert first.keys() == other.keys() == row.keys()


# On the command line.

TWO = ["--tokenizers", "byte,bpe:300", "--rounds", "1"]
SMALL = ["--corpus", "playhouse", "--corpus.size", "20000", "--corpus.grammar", "voices"]


def test_comparison_prints_tables_and_writes_strict_json_and_a_picture(tmp_path, capsys):
    words = [*SMALL, *TWO, "--json", str(tmp_path / "a" / "x.json"), "--plot", str(tmp_path / "x.svg")]
    assert run(["tokenizer", "compare", *words]) == 0
    out, err = capsys.readouterr()
    assert err == "1/2  byte\n2/2  bpe:300\n"
    lines = out.splitlines()
    assert lines[0].startswith("playhouse: ") and "bytes of training" in lines[0]
    assert lines[1].split("  ")[0] == "tokenizer" and lines[2].startswith("byte") and lines[3].startswith("bpe:300")
    assert len({len(line) for line in lines[1:4]}) == 1
    assert "tokens per word, by script" in lines and "bytes per token, by script" in lines

    def no(word):
        raise AssertionError(word)

    figures = json.loads((tmp_path / "a" / "x.json").read_text(encoding="utf-8"), parse_constant=no)
    assert [row["name"] for row in figures["rows"]] == ["byte", "bpe:300"]
    assert figures["machine"]["threads"] == 1 and figures["machine"]["cpu"]
    assert figures["corpus"]["validation_bytes"] == figures["rows"][0]["tokens"] == figures["rows"][0]["bytes"]
    svg = (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert svg.startswith("<?xml") and "Devanagari" in re.sub(r"<!--\s*(.*?)\s*-->", r"\1", svg)


def test_files_are_learned_from_but_for_their_end(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("to be or not to be " * 60, encoding="utf-8")
    (tmp_path / "b.txt").write_text("zz " * 9 + "zz", encoding="utf-8")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    words = [
        *files,
        "--tokenizers",
        "byte,bpe:262",
        "--rounds",
        "1",
        "--corpus.validation",
        "0.025",
        "--json",
        str(tmp_path / "x.json"),
    ]
    assert run(["tokenizer", "compare", *words]) == 0
    figures = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert figures["corpus"]["validation_bytes"] == round(0.025 * (19 * 60 + 1 + 29 + 1))
    assert figures["rows"][1]["tokens"] > 25 > 0.5 * figures["rows"][1]["tokens"]  # of zz, nothing was learned
    assert "by script" not in capsys.readouterr().out  # there is one only


def test_what_cannot_be_compared_is_refused_with_the_reason(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    latin = str(tmp_path / "latin.txt")
    for words, kind, message in [
        (TWO, ConfigError, "expected either files or --corpus NAME"),
        ([latin, *SMALL, *TWO], ConfigError, "expected either files or --corpus NAME"),
        ([latin, *TWO], DataError, "expected UTF-8, got byte 0xe9 at offset 3"),
        (["--corpus", "playhuose", *TWO], UnknownPart, "Did you mean 'playhouse'"),
        ([*SMALL, "--corpus.path", "x", *TWO], ConfigError, "corpus.path: no such flag"),
        ([*SMALL, *TWO, "--plot", "x.bmp"], ConfigError, "expected a name that ends in .svg, .png, .pdf"),
        ([*SMALL, *TWO, "--json", latin + "/x"], RunError, "--json .*cannot be written"),
        ([*SMALL, "--rounds", "0"], ConfigError, "rounds: expected a number of at least 1"),
        ([*SMALL, "--tokenizers", "char:unknown=x"], ConfigError, "unknown: expected bool"),
    ]:
        with pytest.raises(kind, match=message):
            run(["tokenizer", "compare", *words])
    assert [path.name for path in tmp_path.iterdir()] == ["latin.txt"]


def test_where_every_tokenizer_fails_the_exit_code_says_so(capsys):
    assert run(["tokenizer", "compare", *SMALL, "--tokenizers", "bpe:40000"]) == 3
    assert "bpe:40000: TokenizerError: bpe: vocab_size=40000 cannot be reached" in capsys.readouterr().out


def test_comparison_imports_no_torch_and_matplotlib_only_for_a_picture():
    code = (
        f"import sys; from nanotx.cli.main import run; code = run(['tokenizer', 'compare', *{[*SMALL, *TWO]!r}]); "
        "assert not {'torch', 'matplotlib'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_picture_of_nothing_is_refused(tmp_path):
    rows = rows_of("char:unknown", "abc", "xyz")
    with pytest.raises(ConfigError, match="every tokenizer lost text"):
        plot.draw(rows, "x", tmp_path / "x.svg")


def test_boxes_that_overlap_are_known_to():
    boxes = [plot.Box(x, y, 10.0, 10.0) for x, y in ((0.0, 0.0), (5.0, 9.0), (11.0, 0.0), (5.0, 11.0))]
    meets = [[box.meets(other) for other in boxes] for box in boxes]
    assert meets == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [0, 1, 0, 1]]


# Columns.


@given(st.lists(st.lists(st.text("ab漢 ", max_size=5), min_size=3, max_size=3), min_size=1, max_size=5))
def test_columns_are_aligned_whatever_the_width_of_letters(cells):
    for terminal in (False, True):
        console = Console(file=io.StringIO(), width=80)
        tables.print_table(console, "", cells, terminal)
        for row in cells:
            for cell in row:
                assert cell.strip() in console.file.getvalue()
    lines = tables.plain_lines(cells)
    assert len(lines) == len(cells)
