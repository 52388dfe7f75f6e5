"""The quick ways of byte-pair encoding give what the slow ones give: seams, the ASCII forms, the compiled loops."""

import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from nanotx.laws.random_texts import texts
from nanotx.tokenizers.bpe import Bpe, compiled, splitting
from nanotx.tokenizers.bpe.compiled import CompiledEncoder, ranks_of
from nanotx.tokenizers.bpe.encoding import merge_piece, of_parts, of_pieces
from nanotx.tokenizers.bpe.splitting import BLANKS, LETTERS, Splitter, count, count_parts
from nanotx.tokenizers.bpe.training import in_a_row, learn_merges
from nanotx.tokenizers.regexes import ASCII, NAMED

ROOT = Path(__file__).resolve().parents[2]
named = pytest.mark.parametrize("name", NAMED)
NASTY = ("a", "S", " ", "\n", "\r", "\t", ".", "'", "1", "\x1c", "\x85", "é", "\u0301")
nasty = st.text(st.sampled_from("as LlDt'.!1_\n\r\t\x0b\x1c\x1f\x00\x7f"), max_size=40)


@named
@given(text=nasty | st.text(st.characters(max_codepoint=127)))
def test_ascii_form_of_a_pattern_cuts_as_the_pattern_does(name, text):
    assert re.findall(ASCII[name], text) == regex.findall(NAMED[name], text)


@named
def test_seam_is_the_boundary_of_a_piece_in_every_short_text(name):
    splitter = Splitter(NAMED[name])
    for letters in itertools.product(NASTY, repeat=4):
        text = "".join(letters)
        whole = regex.findall(NAMED[name], text)
        parts = splitter.parts(text)
        assert "".join(parts) == text
        assert [piece for part in parts for piece in splitter.pieces(part)] == whole


@named
@given(text=texts() | nasty)
def test_seam_is_the_boundary_of_a_piece_in_any_text(name, text):
    splitter = Splitter(NAMED[name])
    whole = regex.findall(NAMED[name], text)
    for parts in (splitter.parts(text), BLANKS[name].findall(text)):
        assert [piece for part in parts for piece in regex.findall(NAMED[name], part)] == whole
    assert splitter.pieces(text) == whole


def test_text_of_words_is_cut_into_about_equal_parts():
    splitter, text = Splitter(NAMED["gpt4"]), "It is the east, and Juliet is the sun."
    assert splitter.parts(text) == ["It", " is", " the", " east", ", and", " Juliet", " is", " the", " sun", ".", ""]
    assert splitter.parts(text + "é") == ["It", " is", " the", " east,", " and", " Juliet", " is", " the", " sun.é", ""]


def test_whitespace_is_that_of_the_regex_module():
    everything = "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, sys.maxunicode + 1)))
    assert re.findall(rf"[{splitting.BLANK}\r\n]", everything) == regex.findall(r"\s", everything)


@named
@given(text=texts() | nasty)
def test_long_text_is_cut_into_blocks_that_have_its_pieces(name, text):
    splitter = Splitter(NAMED[name])
    before, splitting.BLOCK = splitting.BLOCK, 3
    try:
        blocks = list(splitter.blocks(text))
    finally:
        splitting.BLOCK = before
    assert "".join(blocks) == text
    assert [piece for block in blocks for piece in splitter.pieces(block)] == splitter.pieces(text)


def test_blocks_end_where_a_letter_does(monkeypatch):
    monkeypatch.setattr(splitting, "BLOCK", 3)
    assert list(Splitter(NAMED["gpt4"]).blocks("to be or not to be")) == ["to be", " or", " not", " to", " be"]
    assert list(Splitter(NAMED["gpt4"]).blocks("1" * 9)) == ["1" * 9]
    assert list(Splitter("[a-z]+").blocks("to be or not")) == ["to be or not"]


@given(text=nasty | st.text(st.characters(max_codepoint=127)))
def test_parts_are_counted_in_bytes_as_in_strings(text):
    result = count_parts(count, text)
    assert result == Counter(filter(None, LETTERS.findall(text)))


AGREEMENT = """
import random
from collections import Counter
from pathlib import Path
from nanotx.tokenizers.bpe.compiled import _compiled, loops
from nanotx.tokenizers.bpe.splitting import count_parts
from nanotx.tokenizers.bpe.training import count_pieces, learn_merges
from nanotx.tokenizers.regexes import NAMED
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.bpe import BpeCodec

rng = random.Random(0)
words = ["".join(rng.choices("abcd", k=rng.randint(1, 9))) for _ in range(300)]
text = " ".join(rng.choices(words, k=3000)) + " aaaaaaa aaaaa abababab"
splitter = Splitter(NAMED["gpt4"])
assert loops(False) is None
slow = count_pieces([text], splitter)
wanted = [(300, 1), (10**6, 3)]
merges = [learn_merges(slow, *limits) for limits in wanted]
codec = BpeCodec(tuple(merges[0]), NAMED["gpt2"])
odd = "".join(map(chr, (*range(0x20, 0x500), *range(0x1F60, 0x3100), *range(0xAC00, 0xAD00)))) + "a" * 999 + " 一二三"
samples = [text, odd, odd[::-1], " ".join(rng.choices(odd, k=9999)), "".join(rng.choices(" a\\n\\t1.é\\u3000", k=9999))]
ids = [codec.encode(one).tolist() for one in samples]
assert "_engines" not in vars(codec)
fast = loops(True)
assert fast is not None and loops(False) is fast
assert count_parts(fast.count, text) == Counter(filter(None, splitter.parts(text)))
assert slow == count_pieces([text], splitter)
assert merges == [learn_merges(slow, *limits) for limits in wanted]
assert ids == [codec.encode(one).tolist() for one in samples]
many = [one[at : at + 700] for one in samples for at in range(0, len(one), 500)]
assert [row.tolist() for row in codec.encode_batch(many, 2)] == [codec.encode(one).tolist() for one in many]
assert "_engines" in vars(codec) and ids == [codec.encode(one).tolist() for one in samples]
"""


@pytest.mark.slow
def test_compiled_loops_train_alike():
    pytest.importorskip("numba", reason="the extra `fast` is not installed")
    # In a process of its own: what beartype has wrapped cannot be compiled.
    done = subprocess.run(
        [sys.executable, "-c", AGREEMENT], capture_output=True, encoding="utf-8", cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


def test_pieces_stand_in_a_row_between_walls():
    ids, weights = in_a_row({b"ab": 3, b"c": 2})
    assert ids.tolist() == [-1, 97, 98, -1, 99, -1]
    assert weights.tolist() == [0, 3, 3, 3, 2, 2]
    assert in_a_row({})[0].tolist() == [-1]


def test_what_was_met_before_is_not_cut_again():
    codec = Bpe(vocab_size=257).train(["aa"])
    codec.encode("to be, to be")
    memory = codec._memory
    assert sorted(memory) == ["", " be", ", to", "to"] and memory.misses == 4
    codec.encode("to be, to be to")
    assert sorted(memory) == ["", " be", " to", ", to", "to"] and memory.misses == 5


def test_what_is_rarer_than_asked_is_not_merged():
    assert Bpe(vocab_size=257, min_frequency=2).train(["ab ab cd"]).vocab_size == 257
    assert learn_merges({b"ab": 2, b"cd": 1}, 5, 2) == [(97, 98)]


def test_no_merge_crosses_a_special_token_or_the_end_of_a_text():
    config = Bpe(vocab_size=258, special_tokens=("<|x|>",))
    codec = config.train(["ab<|x|>ab", "ba"])
    assert codec.merges == ((97, 98),) and codec.special_tokens == {"<|x|>": 257}
    assert codec.encode("ab<|x|>", allowed_special={"<|x|>"}).tolist() == [256, 257]
    assert 257 not in codec.encode("ab<|x|>").tolist()
    assert codec.decode([256, 257]) == "ab<|x|>"


# The compiled encoder, run by the interpreter.

ODD = "aZ 1.\n\r\t\x0b\x1c'é\x85\xa0\u1680\u2003\u2010\u2028\u202f\u205f\u3000\u3001一\U0001f600\u0301"


@named
@given(text=st.text(st.sampled_from(ODD), max_size=30))
def test_seam_between_bytes_is_the_boundary_of_a_piece(name, text):
    data, splitter = np.frombuffer(text.encode("utf-8"), np.uint8), Splitter(NAMED[name])
    ends = [at for at in range(1, len(data)) if compiled.seam(data, at, compiled.KINDS)]
    parts = [bytes(data[low:high]).decode("utf-8") for low, high in itertools.pairwise([0, *ends, len(data)])]
    assert [piece for part in parts for piece in splitter.pieces(part)] == splitter.pieces(text)


def test_every_blank_but_no_other_character_keeps_a_space_behind_it():
    for point in [*range(1, 0xD800), *range(0xE000, 0x11000)]:
        data = np.frombuffer(f"xx{chr(point)} y".encode(), np.uint8)
        blank = regex.fullmatch(r"\s", chr(point)) is not None
        assert bool(compiled.seam(data, len(data) - 2, compiled.KINDS)) != blank, hex(point)


MERGES = tuple(learn_merges({b"the": 5, b" then": 4, b"abab": 3, "é一".encode(): 2, b"aaaa": 2}, 12))


def engine(monkeypatch, **sizes):
    for name, size in sizes.items():
        monkeypatch.setattr(compiled, name, size)
    splitter = Splitter(NAMED["gpt4"])
    slow = of_parts(splitter, of_pieces(MERGES))
    fast = CompiledEncoder(compiled, splitter, MERGES)
    return fast, lambda text: np.frombuffer(b"".join(map(slow.__getitem__, splitter.parts(text))), np.int32).tolist()


@pytest.mark.parametrize(
    "sizes",
    [
        {"BLOCK": 64, "TEXT": 1 << 12},
        {"BLOCK": 3, "RECORDS": 9, "TEXT": 1 << 12},  # forgets again and again
        {"BLOCK": 5, "TEXT": 40},  # and here, for want of room for text
        {"BLOCK": 64, "TEXT": 1 << 12, "LONGEST": 4},  # most pieces are long
    ],
)
def test_compiled_encoder_encodes_as_the_cache_does(sizes, monkeypatch):
    fast, slow = engine(monkeypatch, **sizes)

    @given(text=texts() | nasty | st.text(st.sampled_from(ODD)) | st.text(st.sampled_from("the nab é一"), max_size=90))
    def same(text):
        for _ in range(2):
            assert fast.encode(text, text.encode("utf-8")).tolist() == slow(text)

    same()


def test_compiled_encoder_grows_and_remembers_pieces(monkeypatch):
    fast, slow = engine(monkeypatch, BLOCK=64, TEXT=1 << 14)
    text = " ".join(str(number).translate(str.maketrans("0123456789", "abcdefghij")) for number in range(700))
    room = len(fast.table.records)
    assert fast.encode(text, text.encode()).tolist() == slow(text)
    assert (fast.parts, fast.misses) == (700, 700) and len(fast.table.records) > room
    ids = fast.encode(text, text.encode())
    assert (fast.parts, fast.misses) == (1400, 700) and ids.tolist() == slow(text)
    assert ids.flags.writeable and ids.dtype == np.int32


@given(piece=st.text("ab the é一", min_size=1, max_size=30))
def test_piece_is_merged_in_rows_as_in_lists(piece):
    data = piece.encode("utf-8")
    ranks = ranks_of(MERGES, np.arange(256 + len(MERGES), dtype=np.int32))
    row, became = np.zeros(99, np.int32), np.zeros(99, np.int32)
    size = compiled.merge(np.frombuffer(data, np.uint8), 0, len(data), ranks, row, became)
    assert row[:size].tolist() == merge_piece(data, {pair: 256 + index for index, pair in enumerate(MERGES)})
