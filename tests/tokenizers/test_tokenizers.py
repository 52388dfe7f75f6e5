"""Tokenizers: what every codec keeps, what a file may hold, and what is said when something cannot be."""

import copy
import json
import pickle
import string
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signing import signed

from nanotx.config.presets import presets
from nanotx.config.schema import from_table, to_table
from nanotx.errors import ConfigError, TextError, TokenizerError, UnknownPart
from nanotx.laws.text import streams
from nanotx.tokenizers import StreamingDecoder, Tokenizer, load
from nanotx.tokenizers.base import preset_names
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.storage import Origin
from nanotx.tokenizers.unigram import Unigram
from nanotx.tokenizers.word import Word
from nanotx.tokenizers.wordpiece import WordPiece

ALPHABET = "".join(sorted({*string.printable, *"é€\N{GRINNING FACE}\x85\u2028"}))
LINE = "the theatre then, é€\N{GRINNING FACE}é€\N{GRINNING FACE} " * 9
WORDS = ["a", "b", "the", "theatre", "then", "abc", " ", ",", "\n", "\r\n", "é\u0301", "\u2028", "\N{GRINNING FACE}"]
LEARNED = {
    "char": Char().train([ALPHABET]),
    "byte": Byte().train([]),
    "bpe": Bpe(vocab_size=300).train([LINE + string.printable]),
    "word": Word(vocab_size=len(WORDS)).train(WORDS),
    "wordpiece": WordPiece(vocab_size=180).train([LINE, *ALPHABET]),
    "unigram": Unigram(vocab_size=112).train([LINE, ALPHABET]),
}
ORIGIN = Origin(corpus="tiny", sha256="00ff", command="nanotx tokenizer train char")
parts = pytest.mark.parametrize("part", LEARNED)
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def texts(part):
    """Texts that a part accepts."""
    if part == "word":
        return st.lists(st.sampled_from(WORDS)).map(",".join)
    return st.text() if part in {"byte", "bpe"} else st.text(ALPHABET)


@parts
@given(data=st.data())
def test_any_text_comes_back_from_its_ids(part, data):
    codec, text = LEARNED[part], data.draw(texts(part))
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    assert codec.decode_bytes(ids.tolist()) == text.encode("utf-8")
    assert ids.dtype == np.int32 and ids.flags.writeable
    assert not len(ids) or (ids.min() >= 0 and ids.max() < codec.vocab_size)


@parts
@given(data=st.data())
def test_decoding_a_stream_gives_what_decoding_at_once_gives(part, data):
    codec = LEARNED[part]
    text = data.draw(texts(part))
    noise = data.draw(st.lists(st.integers(0, codec.vocab_size - 1)))
    for ids in (codec.encode(text).tolist(), noise):  # ids that break characters, too
        stream = StreamingDecoder(codec)
        for _ in range(2):  # an ended stream begins anew
            assert "".join(map(stream.push, ids)) + stream.end() == codec.decode(ids)


def test_stream_holds_back_an_incomplete_character():
    stream = StreamingDecoder(LEARNED["byte"])
    assert [stream.push(token_id) for token_id in "é!".encode()] == ["", "é", "!"]
    assert stream.push(0xE2) == "" and stream.end() == "\N{REPLACEMENT CHARACTER}"
    with pytest.raises(TextError, match="byte: id 256 at index 0 is out of range"):
        stream.push(256)


@given(head=st.binary(max_size=4), last=st.integers(0xA0, 0xBF), tail=st.binary(max_size=4))
def test_half_of_a_surrogate_pair_in_bytes_is_not_waited_for(head, last, tail):
    codec, ids = LEARNED["byte"], [*head, 0xED, last, *tail]
    streams(codec, ids)
    stream = StreamingDecoder(codec)
    assert [stream.push(number) for number in (0xED, last, 0x41)] == ["", "\N{REPLACEMENT CHARACTER}" * 2, "A"]


@parts
def test_saved_tokenizer_loads_equal_with_its_origin(part, tmp_path):
    codec, path = LEARNED[part], tmp_path / "mine.json"
    codec.with_origin(ORIGIN).save(path)
    loaded = load(path)
    assert loaded == codec and hash(loaded) == hash(codec)
    assert loaded.origin == ORIGIN and codec.origin is None  # the origin is no part of what is equal
    assert [file.name for file in tmp_path.iterdir()] == ["mine.json"]  # no draft is left
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    codec.save(path)
    assert load(path).origin is None and "learned_from" not in path.read_text(encoding="utf-8")


@parts
def test_codec_survives_pickle_and_copy(part):
    codec = LEARNED[part]
    codec.encode("the the")
    for twin in (pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert twin == codec and twin.encode("the then").tolist() == codec.encode("the then").tolist()


@parts
def test_ids_may_come_as_any_sequence_of_whole_numbers(part):
    codec = LEARNED[part]
    ids = codec.encode("abc").tolist()
    for given_ids in (ids, tuple(ids), iter(ids), np.array(ids, np.uint16), [np.int64(token_id) for token_id in ids]):
        assert codec.decode(given_ids) == "abc"
    assert codec.decode([]) == codec.decode(np.array([])) == ""
    assert codec.decode(bytes([0, 1])) == codec.decode([0, 1])


@parts
@given(data=st.data())
def test_bytes_of_ids_are_as_many_as_are_counted(part, data):
    codec = LEARNED[part]
    ids = data.draw(st.lists(st.integers(0, codec.vocab_size - 1), max_size=20))
    for given_ids in (ids, iter(ids), np.array(ids, np.uint16)):
        assert codec.count_bytes(given_ids) == len(codec.decode_bytes(ids))


@parts
@pytest.mark.parametrize("ids", [[0, -1], [0, 10**6], [0, 2**70], [0, 1.5], [True, None], "a", [[0], [0, 1]]])
def test_unknown_id_is_refused(part, ids):
    with pytest.raises(TextError, match=rf"{part}: .*expected a whole number from 0 to"):
        LEARNED[part].decode(ids)
    with pytest.raises(TextError, match=rf"{part}: .*expected a whole number from 0 to"):
        LEARNED[part].count_bytes(ids)


@parts
def test_half_a_surrogate_is_refused_with_its_offset(part):
    with pytest.raises(TextError, match=rf"{part}: lone surrogate U\+D800 at offset 1 is not a character"):
        LEARNED[part].encode("a\ud800b")


@pytest.mark.parametrize("config", [Char(), Bpe(vocab_size=257), Word(), WordPiece(), Unigram()])
def test_half_a_surrogate_is_refused_in_a_text_to_learn(config):
    with pytest.raises(TextError, match=r"lone surrogate U\+DFFF at offset 3"):
        config.train(["good", "bad\udfff"])


def test_start_is_the_newline_or_the_first_id():
    assert LEARNED["byte"].start == 10
    assert Char().train(["b\na"]).start == 0 and Char().train(["\t\n"]).start == 1
    assert Char().train(["ab"]).start == 0


@given(st.lists(st.text()))
def test_char_learns_the_sorted_characters(several):
    if not "".join(several):
        with pytest.raises(TokenizerError, match="char: an empty text has no alphabet"):
            Char().train(several)
        return
    codec = Char().train(iter(several))
    assert list(codec.alphabet) == sorted(set("".join(several))) and codec.vocab_size == len(codec.alphabet)
    assert codec.encode("".join(several)).tolist() == [
        codec.alphabet.index(character) for character in "".join(several)
    ]
    assert codec == Char().train(reversed(several))


def test_char_says_which_character_it_does_not_know():
    codec = Char().train(["abc"])
    expected = r"char: 'z' \(U\+007A\) at offset 2 is not in the alphabet of 3; try without it"
    with pytest.raises(TextError, match=expected):
        codec.encode("abzy")
    with pytest.raises(TextError, match=r"'`' \(U\+0060\) at offset 0"):
        codec.encode("`")
    with pytest.raises(TextError, match=r"U\+1F600\) at offset 200000 "):  # far beyond the first chunk
        codec.encode("abcb" * 50_000 + "\N{GRINNING FACE}a")


# Characters that nobody learned.


def test_unknown_character_becomes_unk_where_configured():
    codec = Char(unknown=True).train(["abc"])
    assert codec.special_tokens == {"<unk>": 3} and codec.vocab_size == 4
    assert codec.encode("azcé\N{GRINNING FACE}").tolist() == [0, 3, 2, 3, 3]
    assert codec.decode([0, 3, 2]) == "a<unk>c" and codec.decode_bytes([3]) == b"<unk>"
    assert codec.encode("<unk>").tolist() == [3] * 5  # five characters, none of them learned
    assert codec.encode("a<unk>b", allowed_special={"<unk>"}).tolist() == [0, 3, 1]
    assert codec.round_trips("abc") and not codec.round_trips("abz") and not codec.round_trips("z")
    assert codec != Char().train(["abc"])


def test_half_a_character_is_no_unknown_one():
    codec = Char(unknown=True).train(["abc"])
    with pytest.raises(TextError, match=r"char: lone surrogate U\+DC00 at offset 2 is not a character"):
        codec.encode("az\udc00")
    with pytest.raises(TextError, match=r"lone surrogate U\+D800 at offset 200001 "):  # far beyond the first chunk
        codec.encode("abcz" * 50_000 + "z\ud800")


@given(text=st.text())
def test_unk_replaces_each_unknown_character(text):
    codec = Char(unknown=True).train(["abc é"])
    assert codec.decode(codec.encode(text)) == "".join(
        character if character in "abc é" else "<unk>" for character in text
    )


# Unicode's normal form C.

DECOMPOSED, COMPOSED = "e\u0301", "\u00e9"


@pytest.mark.parametrize(
    "config",
    [
        Char(nfc=True),
        Bpe(vocab_size=257, nfc=True),
        Word(vocab_size=1, nfc=True),
        WordPiece(vocab_size=2, nfc=True),
        Unigram(vocab_size=1, nfc=True),
    ],
)
@pytest.mark.parametrize("taught", [DECOMPOSED, COMPOSED])
def test_nfc_composes_a_letter_and_its_accent_before_training_and_encoding(config, taught, tmp_path):
    codec = config.train([taught * 2] if config.part == "wordpiece" else [taught])
    assert codec.nfc
    assert codec.encode(DECOMPOSED).tolist() == codec.encode(COMPOSED).tolist()
    assert len(codec.encode(DECOMPOSED)) == 1
    assert codec.decode(codec.encode(DECOMPOSED)) == COMPOSED
    assert codec.round_trips(COMPOSED) and not codec.round_trips(DECOMPOSED)
    codec.save(tmp_path / "mine.json")
    assert load(tmp_path / "mine.json").encode(DECOMPOSED).tolist() == codec.encode(COMPOSED).tolist()


def test_without_nfc_the_two_forms_are_two_texts():
    codec = Char().train([DECOMPOSED + COMPOSED])
    assert codec.encode(DECOMPOSED).tolist() != codec.encode(COMPOSED).tolist()
    assert codec.round_trips(DECOMPOSED) and codec.round_trips(COMPOSED)
    assert codec.digest != Char(nfc=True).train([DECOMPOSED + COMPOSED]).digest


def test_normal_form_comes_before_special_tokens_in_training_and_encoding():
    codec = Word(vocab_size=2, special_tokens=("e",), nfc=True).train([DECOMPOSED])
    assert codec.words == (COMPOSED,)
    assert codec.encode(DECOMPOSED, allowed_special={"e"}).tolist() == [0]


# Specials.

NAMES = ("<|x|>", "<|x|>y", "<|end of text|>", ".*")
SPECIAL = {
    "bpe": Bpe(vocab_size=256 + len(NAMES), special_tokens=NAMES).train([]),
    "word": Word(vocab_size=1 + len(NAMES), special_tokens=NAMES).train(["y"]),
    "unigram": Unigram(vocab_size=1 + len(NAMES), special_tokens=NAMES).train(["y"]),
    "wordpiece": WordPiece(vocab_size=2 + len(NAMES), special_tokens=NAMES).train(["yy"]),
}
special_parts = pytest.mark.parametrize("part", SPECIAL)


@special_parts
def test_specials_have_the_ids_behind_the_tokens_in_the_order_given(part):
    codec = SPECIAL[part]
    first = codec.vocab_size - len(NAMES)
    assert codec.special_tokens == {name: first + index for index, name in enumerate(NAMES)}
    assert codec.decode([first, first + 3]) == "<|x|>.*"


@special_parts
def test_longer_of_two_names_with_the_same_beginning_wins_in_any_order(part):
    codec = SPECIAL[part]
    x, xy, end, stars = codec.special_tokens.values()
    y = int(codec.encode("y")[0])
    for allowed in (NAMES, NAMES[::-1], set(NAMES), dict.fromkeys(NAMES)):
        encoded = codec.encode("<|x|>y<|x|>.*y<|end of text|>", allowed_special=allowed)
        assert encoded.tolist() == [xy, x, stars, y, end] and encoded.dtype == np.int32
        assert codec.decode(encoded) == "<|x|>y<|x|>.*y<|end of text|>"
    assert codec.encode("<|x|>y", allowed_special=["<|x|>"]).tolist() == [x, y]
    assert codec.encode("", allowed_special=NAMES).tolist() == []


def test_special_token_that_is_not_allowed_is_ordinary_text():
    codec = SPECIAL["bpe"]
    assert codec.encode("<|x|>").tolist() == list(b"<|x|>")
    assert codec.encode("<|x|>.*", allowed_special={".*"}).tolist() == [*b"<|x|>", codec.special_tokens[".*"]]
    with pytest.raises(TextError, match="word: '<', which begins"):
        SPECIAL["word"].encode("<|x|>")


@special_parts
def test_unknown_name_is_refused_with_its_neighbour(part):
    message = (
        rf"{part}: '<\|end of txt\|>' is no special of this tokenizer\. Did you mean '<\|end of text\|>'\? It has: <"
    )
    with pytest.raises(TextError, match=message):
        SPECIAL[part].encode("", allowed_special=["<|x|>", "<|end of txt|>"])
    with pytest.raises(TextError, match=r"byte: '<\|x\|>' is no special of this tokenizer\. It has: none\."):
        LEARNED["byte"].encode("a", allowed_special={"<|x|>"})


def test_indistinguishable_names_are_refused():
    for names in [("",), ("a", "a"), ("\ud800",), ("a" * 257,)]:
        for part in (Bpe, Word, WordPiece, Unigram):
            with pytest.raises(
                ConfigError, match=r"special_tokens: .*expected names of 1 to 256 whole characters, each once"
            ):
                part(special_tokens=names)


@pytest.mark.parametrize("part", [Bpe, Word, WordPiece, Unigram])
def test_training_blocks_tear_no_special_token(part):
    assert part(special_tokens=("<|x|>", " x", "x.\n")).splittable
    for name in ("end of", "x\n"):
        assert not part(special_tokens=("<|x|>", name)).splittable


# Digests.


@parts
def test_digest_depends_on_the_content_of_the_codec_alone(part, tmp_path):
    codec, path = LEARNED[part], tmp_path / "mine.json"
    codec.with_origin(ORIGIN).save(path)
    assert codec.with_origin(ORIGIN).digest == codec.digest == load(path).digest
    assert json.loads(path.read_text(encoding="utf-8"))["sha256"] == codec.digest
    assert len({codec.digest for codec in LEARNED.values()}) == len(LEARNED)
    assert len(codec.digest) == 64 and int(codec.digest, 16)


def test_codecs_that_differ_in_anything_have_other_digests():
    configs = [
        Word(vocab_size=3),
        Word(vocab_size=3, nfc=True),
        Word(vocab_size=4, unknown=True),
        Word(vocab_size=4, special_tokens=("<|x|>",)),
        Word(vocab_size=5, special_tokens=("<|x|>", "<|y|>")),
        Word(vocab_size=5, special_tokens=("<|y|>", "<|x|>")),
    ]
    digests = [config.train(["a b"]).digest for config in configs]
    assert len(set(digests)) == len(configs)
    assert digests == [config.train(["a ", "b"]).digest for config in configs]


def test_codecs_of_different_alphabets_differ():
    assert Char().train(["ab"]) != Char().train(["abc"]) != LEARNED["byte"] != "byte"


def test_saved_is_whatever_the_file_holds(tmp_path):
    LEARNED["bpe"].save(tmp_path / "mine.json")
    config = from_table(Tokenizer, str(tmp_path / "mine.json"))
    assert config == Saved(path=str(tmp_path / "mine.json"))
    assert config.train(["any text"]) == LEARNED["bpe"]
    assert from_table(Tokenizer, to_table(config)) == config


def test_saved_needs_a_path():
    with pytest.raises(ConfigError, match=r"saved: path is empty; expected a file or the name of a preset"):
        Saved().train([])
    with pytest.raises(TokenizerError, match="saved: a file names the part that learned it"):
        Saved.from_dict({})


def test_preset_name_comes_before_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shakespeare_char").mkdir()  # a run's folder, say
    assert load("shakespeare_char").vocab_size == 65
    assert Tokenizer.table("shakespeare_char") == {"part": "saved", "path": "shakespeare_char"}
    assert Tokenizer.table("char") == {"part": "char"}


def test_unknown_tokenizer_is_answered_with_the_known_ones():
    with pytest.raises(UnknownPart, match=r"Presets: .*Did you mean 'shakespeare_char'\? A path ends in"):
        Tokenizer.table("shakespear_char")
    with pytest.raises(TokenizerError, match=r"there is no such file. Did you mean 'shakespeare_char'\? Presets: "):
        load("shakespeare_chars")


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_name_their_source(name, tmp_path):
    codec = load(name)
    assert codec.decode(codec.encode("ROMEO:\nBut, soft!")) == "ROMEO:\nBut, soft!"
    assert codec.origin is not None and codec.origin.command.startswith("nanotx tokenizer train ")
    codec.save(tmp_path / "same.json")
    written = json.loads((tmp_path / "same.json").read_text(encoding="utf-8"))
    lies = json.loads((presets("tokenizers") / f"{name}.json").read_text(encoding="utf-8"))
    assert written | {"made_with": 0} == lies | {"made_with": 0}


def test_list_is_written_one_item_a_line(tmp_path):
    Bpe(vocab_size=258).train(["abcabc"]).save(tmp_path / "mine.json")
    rows = (tmp_path / "mine.json").read_text(encoding="utf-8").split("\n")
    assert rows[-5:] == ["  [97, 98],", "  [256, 99]", " ]", "}", ""]


def header(**changes):
    table = {"nanotx": "tokenizer", "version": 3, "part": "char", "nfc": False, "special_tokens": {}, "alphabet": "ab"}
    return signed(table | changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a tokenizer in JSON"),
        (b"\xff", "not a tokenizer in JSON"),
        ("[" * 100_000, "not a tokenizer in JSON"),
        (" " * (1 << 24) + "1", "larger than 16777216 bytes"),
        ("[]", "expected a tokenizer that nanotx saved"),
        (header(nanotx="model"), "expected a tokenizer that nanotx saved"),
        (header(version=4), "format version 4; this nanotx reads 3"),
        (header(version=True), "format version True"),
        (header(version=0), "format version 0; this nanotx reads 3"),
        (header(part=7), "part: expected the name of a tokenizer, got 7"),
        (header(part="chars"), "no part named 'chars'. Did you mean 'char'?"),
        (header(part="saved"), "saved: a file names the part that learned it"),
        (header(alphabet=["a"]), r"char: alphabet: expected str, got \['a'\]"),
        (header(alphabet=""), "char: an empty text has no alphabet"),
        (header(alphabet="ba"), "expected each character once, in order of code point, got 'b' before 'a' at offset 0"),
        (header(alphabet="abb"), "got 'b' before 'b' at offset 1"),
        (header(extra=1), "char: 'extra' is no key here; expected nfc, special_tokens, alphabet"),
        (header(learned_from=1), "learned_from: expected a table, got 1"),
        (header(learned_from={"corpus": "c"}), "learned_from: the key 'sha256' is missing; expected str"),
        (
            signed({"nanotx": "tokenizer", "version": 3, "part": "char"}),
            "char: the key 'nfc' is missing; expected bool",
        ),
        (
            signed({"nanotx": "tokenizer", "version": 3, "part": "byte", "x": 1}),
            "byte: 'x' is no key here; expected special_tokens",
        ),
        (header(special_tokens={"<unk>": 1}), r"char: special_tokens: expected the ids from 2 on, got {'<unk>': 1}"),
        (header() | {"alphabet": "ac"}, "the digest does not match: the file states sha256 .* edited or damaged"),
        (json.dumps(header(alphabet="a\ud800")), "char: lone surrogate"),
    ],
)
def test_file_that_is_no_tokenizer_is_refused_by_name(content, message, tmp_path):
    path = tmp_path / "bad.json"
    text = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    with pytest.raises(TokenizerError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_unreadable_or_unwritable_path_is_named(tmp_path):
    with pytest.raises(TokenizerError, match="no tokenizer can be written here: No such file"):
        LEARNED["byte"].save(tmp_path / "nowhere" / "mine.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TokenizerError, match="no tokenizer can be written here: Is a directory"):
        LEARNED["byte"].save(tmp_path / "folder.json")
    assert [file.name for file in tmp_path.iterdir()] == ["folder.json"]  # no draft is left
    with pytest.raises(TokenizerError, match="cannot be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(TokenizerError, match="there is no such file"):
        load(tmp_path / "nothing.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@parts
@reused
@given(data=st.data())
def test_mutated_file_gives_a_tokenizer_or_a_tokenizer_error(part, data, tmp_path):
    path = tmp_path / "mutant.json"
    LEARNED[part].with_origin(ORIGIN).save(path)
    table = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        place, key = table, data.draw(st.sampled_from(sorted(table)) | st.text(max_size=5))
        if isinstance(place.get(key), list) and place[key] and data.draw(st.booleans()):
            place, key = place[key], data.draw(st.integers(0, len(place[key]) - 1))
            if isinstance(place[key], list) and place[key] and data.draw(st.booleans()):
                place, key = place[key], data.draw(st.integers(0, len(place[key]) - 1))
        if data.draw(st.booleans()):
            place[key] = data.draw(json_values)
        elif isinstance(place, list) or key in place:
            del place[key]
    path.write_text(json.dumps(signed(table)), encoding="utf-8")
    try:
        codec = load(path)
    except TokenizerError as error:
        assert len(str(error)) < len(str(path)) + 500
    else:
        assert load(path) == codec and codec.decode(codec.encode("")) == ""


@reused
@given(data=st.data())
def test_file_cut_short_or_with_other_bytes_gives_a_tokenizer_error(data, tmp_path):
    path = tmp_path / "torn.json"
    LEARNED["char"].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 3))])
    with pytest.raises(TokenizerError):
        load(path)
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=3)) + whole[at + 1 :])
    try:
        alphabet = load(path).alphabet
    except TokenizerError:
        return
    assert all(item < another for item, another in pairwise(alphabet))


def test_importing_the_tokenizers_does_not_import_torch():
    code = (
        "import sys, nanotx.tokenizers as t; [t.Tokenizer.find(n) for n in t.Tokenizer.names()]; "
        "assert 'torch' not in sys.modules and 'nanotx.nn.shapes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
