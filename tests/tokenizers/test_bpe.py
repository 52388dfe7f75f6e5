"""Byte-pair encoding against itself written slowly, and against texts and patterns that mean harm."""

import gc
import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from signing import signed

from nanotx.errors import ConfigError, TokenizerError
from nanotx.tokenizers import load
from nanotx.tokenizers.bpe import Bpe, BpeCodec
from nanotx.tokenizers.bpe.encoding import PIECES, SHORT, PieceCache, merge_long, merge_piece, merge_short
from nanotx.tokenizers.bpe.splitting import Splitter
from nanotx.tokenizers.bpe.training import count_pieces, learn_merges
from nanotx.tokenizers.regexes import NAMED

LETTERS = str.maketrans("0123456789", "abcdefghij")
few_letters = st.text("ab c\n1é", max_size=80)


def replace(ids, pair, new):
    """The ids with each occurrence of the pair, from left to right, made one."""
    out, at = [], 0
    while at < len(ids):
        if tuple(ids[at : at + 2]) == pair:
            out.append(new)
            at += 2
        else:
            out.append(ids[at])
            at += 1
    return out


def slow_learn(pieces, wanted):
    """Count everything anew for each merge; ties go to the smallest pair."""
    rows, tokens, merges = [list(piece) for piece in pieces], [bytes([value]) for value in range(256)], []
    while len(merges) < wanted:
        counts = Counter(pair for row in rows for pair in pairwise(row))
        fresh = [pair for pair in counts if tokens[pair[0]] + tokens[pair[1]] not in tokens]
        if not fresh:
            break
        best = min(fresh, key=lambda pair: (-counts[pair], pair))
        rows = [replace(row, best, len(tokens)) for row in rows]
        tokens.append(tokens[best[0]] + tokens[best[1]])
        merges.append(best)
    return merges


def slow_encode(piece, merges):
    """Every merge in the order learned, everywhere."""
    ids = list(piece)
    for index, pair in enumerate(merges):
        ids = replace(ids, pair, 256 + index)
    return ids


def slow_pieces(source, text):
    """The matches of a pattern that matches everything."""
    return [match.group() for match in regex.finditer(source, text)]


@given(text=few_letters | st.text(max_size=80), wanted=st.integers(0, 60))
def test_training_makes_the_merges_of_a_recount(text, wanted):
    pieces = [piece.encode() for piece in slow_pieces(NAMED["gpt4"], text)]
    assert learn_merges(Counter(pieces), wanted) == slow_learn(pieces, wanted)


@given(runs=st.lists(st.sampled_from([b"a", b"b", b"ab", b"aba"]), max_size=60), wanted=st.integers(0, 30))
def test_learning_from_one_long_piece_with_repeats_is_right_too(runs, wanted):
    piece = b"".join(runs)
    assert learn_merges({piece: 3}, wanted) == slow_learn([piece] * 3, wanted)


@pytest.mark.parametrize(
    ("pieces", "merges"),
    [
        ({b"bc": 9, b"abc": 2, b"ab": 5}, [(98, 99), (97, 98), (97, 256)]),  # of abc the right half, bc, came first
        ({b"ca": 9, b"cab": 2, b"ab": 5}, [(99, 97), (97, 98), (256, 98)]),  # of cab the left half, ca
        ({b"bc": 9, b"abcabc": 2, b"ab": 5}, [(98, 99), (97, 98), (97, 256), (258, 258)]),
    ],
)
def test_pair_whose_half_was_merged_away_is_skipped(pieces, merges):
    assert learn_merges(pieces, len(merges)) == merges
    rows = [piece for piece, count in pieces.items() for _ in range(count)]
    assert slow_learn(rows, len(merges)) == merges


@given(learned=few_letters, text=few_letters | st.text(), pattern=st.sampled_from(sorted(NAMED)))
def test_encoding_is_every_merge_in_order(learned, text, pattern):
    merges = learn_merges(Counter(piece.encode() for piece in slow_pieces(NAMED[pattern], learned)), 40)
    codec = BpeCodec(tuple(merges), NAMED[pattern])
    slow = [token_id for piece in slow_pieces(NAMED[pattern], text) for token_id in slow_encode(piece.encode(), merges)]
    assert codec.encode(text).tolist() == slow == codec.encode(text).tolist()  # the second time from memory
    assert codec.decode(slow) == text


@given(learned=st.lists(st.sampled_from(b"abc"), max_size=200).map(bytes), wanted=st.integers(0, 60), data=st.data())
def test_scanning_and_the_heap_merge_alike(learned, wanted, data):
    merges = learn_merges({learned: 1}, wanted)
    ranks = {pair: 256 + index for index, pair in enumerate(merges)}
    piece = data.draw(st.binary(max_size=3 * SHORT) | st.lists(st.sampled_from(b"abc"), max_size=200).map(bytes))
    assert merge_short(piece, ranks) == merge_long(piece, ranks) == slow_encode(piece, merges)


@pytest.mark.parametrize("seed", range(8))
def test_long_pieces_of_few_letters_merge_alike_and_as_slowly(seed):
    dice = random.Random(seed)
    letters = bytes(dice.choice(b"ab" if seed % 2 else b"abcde") for _ in range(301 + seed))
    merges = learn_merges({letters: 1}, 60)
    assert merges == slow_learn([letters], 60)
    ranks = {pair: 256 + index for index, pair in enumerate(merges)}
    other = bytes(dice.choice(b"abc") for _ in range(299))
    for piece in (letters, other):
        assert merge_long(piece, ranks) == merge_short(piece, ranks) == slow_encode(piece, merges)


def test_as_many_merges_are_learned_as_are_wanted_however_many():
    dice = random.Random(0)
    text = "".join(dice.choice("abcdefgh ") for _ in range(20_000))
    assert Bpe(vocab_size=256 + 300).train([text]).vocab_size == 256 + 300


@given(st.lists(st.text("abc ", max_size=30)))
def test_learning_is_deterministic_and_blind_to_the_order_of_texts(several):
    def train(texts):
        try:
            return Bpe(vocab_size=262).train(texts)
        except TokenizerError as error:
            return str(error)

    assert train(several) == train(iter(several)) == train(several[::-1])


@given(
    text=st.text(), pattern=st.sampled_from([*NAMED.values(), "[a-z]+", "(a)|(b)", r"(?r)\w+", "a*", r"(?=.)", "a\\Kb"])
)
def test_pieces_of_any_pattern_joined_are_the_text(text, pattern):
    for item in (text, "ab" + text + "ba ab", text * 3):
        assert "".join(Splitter(pattern).pieces(item)) == item


def test_what_a_pattern_leaves_out_is_a_piece_of_its_own():
    assert Splitter("[a-z]+").pieces("ab, cd!") == ["ab", ", ", "cd", "!"]
    assert Splitter("(a)b").pieces("xabab") == ["x", "ab", "ab"]
    codec = Bpe(vocab_size=257, pattern="[a-z]+").train(["ab"])
    assert codec.encode("ab, ab").tolist() == [256, 44, 32, 256]


LOOKS_AROUND = [r"(?m)^\w|\w+|\W", r"(?<!\w)\w|\w+|\W"]
"""Patterns that split some of their own pieces further, alone: they depend on what is before a piece."""


@pytest.mark.parametrize("pattern", LOOKS_AROUND)
@given(text=st.text(st.sampled_from("ab \n"), max_size=30))
def test_piece_of_an_unnamed_pattern_is_not_split_again(pattern, text):
    codec = BpeCodec(((97, 97), (97, 98), (256, 257)), pattern)
    pieces = regex.findall(pattern, text)
    if "".join(pieces) == text:
        ranks = {pair: 256 + index for index, pair in enumerate(codec.merges)}
        wanted = [token for piece in pieces for token in merge_piece(piece.encode(), ranks)]
        assert codec.encode(text).tolist() == wanted


def test_training_counts_the_pieces_of_an_unnamed_pattern_as_they_are():
    text = "x ab\nx ab"
    assert count_pieces([text], Splitter(LOOKS_AROUND[0])) == {b"x": 2, b" ": 2, b"ab": 2, b"\n": 1}
    assert Bpe(vocab_size=257, pattern=LOOKS_AROUND[0]).train([text]).encode("x ab").tolist() == [120, 32, 256]


def test_named_patterns_cut_as_published():
    text = "Hello, I'LL  pay 12345\n\n  now"
    assert Splitter(NAMED["gpt2"]).pieces(text) == [
        "Hello", ",", " I", "'", "LL", " ", " pay", " 12345", "\n\n ", " now",
    ]  # fmt: skip
    assert Splitter(NAMED["gpt4"]).pieces(text) == [
        "Hello", ",", " I", "'LL", " ", " pay", " ", "123", "45", "\n\n", " ", " now",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "text", "message"),
    [
        (
            "[a-z]+",
            "ab, ab",
            r"leaves out ',' \(U\+002C\) at offset 2; expected one that matches every character; try '\|\(\?s:",
        ),
        ("[a-z]+", "é", r"leaves out 'é' \(U\+00E9\) at offset 0"),
        (r"\w+(?= )| ", "to be", r"leaves out 'b' \(U\+0062\) at offset 3"),
    ],
)
def test_pattern_that_drops_training_text_is_refused_with_an_example(pattern, text, message):
    with pytest.raises(TokenizerError, match=message):
        Bpe(vocab_size=256, pattern=pattern).train([text])


@pytest.mark.parametrize("letters", ["a" * 20_000, "abcde" * 4_000, " " * 20_000, "\n " * 10_000, "é" * 20_000])
def test_long_text_without_a_word_boundary_is_trained_on_and_encoded(letters):
    codec = Bpe(vocab_size=260).train([letters])
    ids = codec.encode(letters + "x" + letters)
    assert codec.decode(ids) == letters + "x" + letters and len(ids) < 20_002


def test_no_token_grows_beyond_its_limit():
    with pytest.raises(TokenizerError, match="bpe: vocab_size=300 cannot be reached: these texts allow 264;"):
        Bpe(vocab_size=300).train(["a" * 1024])
    assert max(map(len, Bpe(vocab_size=264).train(["a" * 1024])._tokens)) == 256


def test_cache_of_pieces_is_bounded(monkeypatch):
    monkeypatch.setattr("nanotx.tokenizers.bpe.encoding.PARTS", 10)
    codec = Bpe(vocab_size=257).train(["aa"])
    text = " ".join(str(n).translate(LETTERS) for n in range(1000)) + " " + "a" * (SHORT + 1)
    assert codec.decode(codec.encode(text)) == text
    memory = codec._memory
    assert 0 < len(memory) <= 10 and len(memory.old) <= 10 < PIECES and "a" * (SHORT + 1) not in memory
    assert memory.misses == 1002


def test_what_is_met_again_outlives_the_memory_it_was_in():
    memory = PieceCache(str.encode, 2)
    for text in ("a", "b", "c", "a", "d", "e", "a", "b"):
        assert memory[text] == text.encode()
    assert memory.misses == 6  # b was forgotten, and a never
    assert (set(memory), set(memory.old)) == ({"a", "b"}, {"d", "e"})


def test_vocabulary_that_cannot_be_reached_is_refused_with_the_one_that_can():
    with pytest.raises(TokenizerError, match=r"these texts allow 258; try --tokenizer.vocab-size 258, or more"):
        Bpe(vocab_size=300).train(["abc"])
    assert Bpe(vocab_size=258).train(["abc"]).vocab_size == 258
    assert Bpe(vocab_size=256).train([]).vocab_size == 256


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 255}, "vocab_size: expected a number of at least 256, got 255"),
        ({"pattern": "gtp4"}, r"pattern: no pattern named 'gtp4'. Did you mean 'gpt4'\? Known: gpt2, gpt4; or a"),
        ({"pattern": ""}, "pattern: no pattern named ''"),
        ({"pattern": "("}, r"pattern: '\(' is not a valid regex: missing \) at position 1"),
        ({"pattern": "(" * 900}, "is not a valid regex: .*recursion"),
        ({"pattern": "." * 1001}, "expected a regex of at most 1000 characters .* got 1001 characters"),
        ({"pattern": "(?:(?:a{1000}){1000}){1000}"}, "10000 repeats"),
        ({"pattern": "(?:(?:a{1000,}){1000,2000})"}, "10000 repeats"),
    ],
)
def test_invalid_bpe_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Bpe(**fields)


def test_pattern_that_takes_forever_is_stopped(monkeypatch):
    class Slow:
        groups = 0

        def findall(self, text, timeout):
            assert timeout > 10
            raise TimeoutError

    splitter = Splitter("(?:.*?,){20}x")
    monkeypatch.setattr(splitter, "_regex", Slow())
    with pytest.raises(TokenizerError, match=r"bpe: the pattern .* needs more than 10 seconds for a text of 3 char"):
        splitter.pieces("a,a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merges": [[97, 98], [256]]}, r"bpe: merge 1: expected a pair of ids, got \[256\]"),
        ({"merges": [[97, True], [256, 99]]}, r"bpe: merge 0: expected a pair of ids, got \[97, True\]"),
        ({"merges": [[97, 98], [257, 99]]}, "bpe: merge 1 is of 257 and 99; expected ids from 0 to 256"),
        ({"merges": [[97, 98], [-1, 99]]}, "bpe: merge 1 is of -1 and 99"),
        ({"merges": [[97, 98], [99, 257]]}, "bpe: merge 1 is of 99 and 257; expected ids from 0 to 256"),
        ({"merges": [[97, 98], [10**6, 99]]}, "bpe: merge 1 is of 1000000 and 99; expected ids from 0 to 256"),
        ({"merges": [[97, 98], [99, 2**70]]}, f"bpe: merge 1 is of 99 and {2**70}; expected ids from 0 to 256"),
        ({"merges": [[97, 98], [99, -(2**70)]]}, f"bpe: merge 1 is of 99 and -{2**70}; expected ids from 0 to 256"),
        ({"merges": [[97, 98], [97, 98]]}, "bpe: merge 1 makes b'ab', which is already a token"),
        ({"merges": [[97, 98]]}, "bpe: vocab_size=258 does not fit 1 merges and 0 special tokens; expected 257"),
        ({"vocab_size": 258.0}, "bpe: vocab_size: expected int, got 258.0"),
        ({"regex": "("}, r"bpe: pattern: '\(' is not a valid regex"),
        ({"regex": NAMED["gpt2"]}, "bpe: the regex is not that of the pattern 'own'; expected one of gpt2, gpt4"),
        ({"ids": [1]}, "bpe: 1 ids for 258 tokens; expected one each, or none"),
        ({"ids": [*range(257), 256]}, "bpe: id 256 is given to b'ab' and to b'abc'"),
        ({"ids": [*range(257), 1 << 24]}, r"bpe: id 16777216: expected a whole number from 0 to 16777215"),
        ({"ids": ["a"]}, r"bpe: ids: expected list\[int\], got \['a'\]"),
        ({"special_tokens": {"<x>": 5}}, "bpe: id 5 is given to b'.x05' and to b'<x>'"),
        ({"special_tokens": {"": 258}}, "bpe: special_tokens: '': expected names of 1 to 256 whole characters"),
        ({"nfc": 1}, "bpe: nfc: expected bool, got 1"),
    ],
)
def test_flawed_file_is_refused(changes, message, tmp_path):
    path = tmp_path / "mine.json"
    Bpe(vocab_size=258, pattern="[a-z]+").train(["abcabc"]).save(path)
    table = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    with pytest.raises(TokenizerError, match=message):
        load(path)


def test_file_whose_tokens_double_is_refused_before_they_fill_the_memory(tmp_path):
    path, merges = tmp_path / "bomb.json", [[97, 97], *([256 + n, 256 + n] for n in range(60))]
    codec = Bpe(vocab_size=256).train([])
    table = {"nanotx": "tokenizer", "version": 3, "part": "bpe", **codec.to_dict()}
    path.write_text(json.dumps(signed(table | {"merges": merges, "vocab_size": 256 + len(merges)})), encoding="utf-8")
    with pytest.raises(TokenizerError, match="bpe: merge 8 makes 512 bytes; expected at most 256"):
        load(path)


def test_file_trained_under_another_regex_module_is_the_same_tokenizer(tmp_path):
    codec, path = Bpe(vocab_size=257).train(["abab"]), tmp_path / "old.json"
    codec.save(path)
    table = json.loads(path.read_text(encoding="utf-8")) | {"made_with": {"regex": "2019.01"}}
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    assert load(path) == codec != Bpe(vocab_size=257, pattern="gpt2").train(["abab"])


@pytest.mark.parametrize("enabled", [True, False])
def test_loading_starts_no_search_for_garbage_and_leaves_it_as_it_was(enabled, tmp_path):
    """Thousands of pairs would start one every few hundred, and each may visit all that PyTorch's import has made."""
    (tmp_path / "damaged.json").write_text("{", encoding="utf-8")
    before, started = gc.isenabled(), []
    gc.callbacks.append(lambda phase, _: started.append(phase))
    (gc.enable if enabled else gc.disable)()
    try:
        assert load("shakespeare_bpe_4096").vocab_size == 4096
        assert started.count("start") <= 1 and gc.isenabled() == enabled  # one when it is over
        with pytest.raises(TokenizerError):
            load(tmp_path / "damaged.json")
        assert gc.isenabled() == enabled
    finally:
        gc.callbacks.pop()
        (gc.enable if before else gc.disable)()
