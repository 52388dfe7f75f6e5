"""Texts of any size become token files: in blocks, in several processes, killed and gone on with."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanotx.data import text_files
from nanotx.data.text_files import REPLACE, blocks, files_of
from nanotx.errors import ConfigError, DataError, TextError, TokenizerError
from nanotx.laws.random_texts import PRIMER, texts
from nanotx.tokenizers import load, token_file, workers
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.token_file import LAYOUT, Block, Place, open_tokens, read_header
from nanotx.tokenizers.workers import WorkerPool, encode_batch

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = "<|end|>"
CODECS = {
    "bpe": Bpe(vocab_size=300, special_tokens=(SPECIAL,)).train([PRIMER]),
    "own": Bpe(vocab_size=280, pattern=r"\s?\w+|(?s:.)").train([PRIMER]),
    "byte": Byte().train([]),
    "char": Char().train([PRIMER, "é€"]),
}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK", 7)
    monkeypatch.setattr(workers, "TASK_CHARACTERS", 5)
    monkeypatch.setattr(workers, "CHARACTERS_PER_WORKER", 10)


def written(tmp_path, text, name="text.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


@reused
@given(text=texts() | st.text("ab \n.é", max_size=60), size=st.integers(1, 20))
def test_blocks_of_a_file_are_its_text_and_end_at_cuts(text, size, tmp_path):
    path, before = written(tmp_path, text), text_files.BLOCK
    text_files.BLOCK = size
    try:
        results = list(blocks(path))
        for index, (_, end) in enumerate(results):
            rest = "".join(item for item, _ in results[index + 1 :])
            assert "".join(item for item, _ in blocks(path, start=end)) == rest
    finally:
        text_files.BLOCK = before
    assert "".join(item for item, _ in results) == text.removeprefix("\ufeff")
    for (entry, end), (other, _) in pairwise(results):
        assert entry[-1].isascii() and entry[-1].isalpha() and other[0] in " \n"
        assert text.encode("utf-8")[:end].endswith(entry.encode("utf-8"))
    text = text.removeprefix("\ufeff")
    assert [item for item, _ in blocks(path, splittable=False)] == ([text] if text else [])


@given(text=texts() | st.text("ab \n.é1'", max_size=40))
def test_tokenizer_with_cuts_gives_the_ids_of_the_whole_on_both_sides_of_one(text):
    for codec in CODECS.values():
        if codec.splittable and codec.part != "char":
            parts = [
                codec.encode(match)
                for match in workers.SPLIT_POINT.sub(lambda actual: actual[0] + "\x00", text).split("\x00")
            ]
            if "\x00" not in text:
                assert np.concatenate(parts).tolist() == codec.encode(text).tolist()


def test_file_that_is_not_utf_8_is_refused_with_the_offset_or_repaired(tmp_path, small):
    path = written(tmp_path, b"to be or not \xff to be")
    with pytest.raises(DataError, match=r"text.txt: expected UTF-8, got byte 0xff at offset 13; .* --errors replace"):
        list(blocks(path, remedy=REPLACE))
    assert "".join(item for item, _ in blocks(path, errors="replace")) == "to be or not \ufffd to be"
    with pytest.raises(DataError, match=r"nowhere.txt: cannot be read: No such file"):
        list(blocks(tmp_path / "nowhere.txt"))


def test_folder_stands_for_its_files_without_hidden_ones(tmp_path):
    for name in ("b.txt", "a/z.txt", ".git/x", "a/.y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert files_of([tmp_path, tmp_path / "b.txt"]) == [
        tmp_path / "a" / "z.txt",
        tmp_path / "b.txt",
        tmp_path / "b.txt",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: this folder holds no text; hidden files"):
        files_of([tmp_path / "empty"])
    with pytest.raises(DataError, match="gone: cannot be read: there is no such file or folder"):
        files_of([tmp_path / "gone"])


@codecs
def test_worker_pool_encodes_as_a_single_process_does(codec, small):
    several = [PRIMER, "", "to be", PRIMER * 3, "é€"[: codec.part in ("bpe", "byte", "char") and 2]]
    with WorkerPool(codec, 2) as pool:
        rows = list(pool.encode(several))
        again = list(pool.encode(iter(several)))
    alone = [codec.encode(text) for text in several]
    for actual in (rows, again, encode_batch(codec, several, 2), codec.encode_batch(several, 1)):
        assert [ids.tolist() for ids in actual] == [ids.tolist() for ids in alone]
        assert all(ids.dtype == np.int32 and ids.flags.writeable for ids in actual)


def test_workers_are_no_more_than_a_cgroup_grants_time_for(small, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr("nanotx.hardware.cpu.cpu_quota", lambda: 1.0)
    monkeypatch.setattr(workers, "WorkerPool", None)  # one worker is this process, without a pool
    monkeypatch.setattr(workers, "CHARACTERS_PER_WORKER", 1)
    assert encode_batch(CODECS["byte"], ["to be"])[0].tolist() == list(b"to be")


def test_error_in_a_worker_pool_names_the_character_and_its_place(small):
    text = PRIMER * 2 + "z\u2028"
    with pytest.raises(TextError, match=rf"at offset {text.index(chr(0x2028))} is not in the alphabet"):
        encode_batch(Char().train([PRIMER + "z"]), [PRIMER, text], 2)
    with pytest.raises(TextError, match="lone surrogate"):
        encode_batch(CODECS["byte"], [PRIMER, PRIMER + "\ud800"], 2)


@codecs
@pytest.mark.parametrize("processes", [1, 2])
def test_token_file_holds_the_ids_of_the_texts(codec, processes, tmp_path, small):
    files = [written(tmp_path, PRIMER * 2, "a.txt"), written(tmp_path, "", "b.txt"), written(tmp_path, "to be\n", "c")]
    separator = SPECIAL if codec.special_tokens else ""
    done = []
    count = codec.encode_to_file(files, tmp_path / "x.bin", separator=separator, processes=processes, watch=done.append)
    ids = codec.open_tokens(tmp_path / "x.bin")
    each = [codec.encode(file.read_text(encoding="utf-8")).tolist() for file in files]
    end = [codec.special_tokens[separator]] if separator else []
    assert ids.tolist() == [item for row in each for item in [*row, *end]] and len(ids) == count
    assert ids.dtype == np.uint16 and open_tokens(tmp_path / "x.bin").vocab_size == codec.vocab_size
    assert done == sorted(done) and done[-1] == sum(file.stat().st_size for file in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "c", "x.bin"]


def test_many_ids_take_four_bytes(tmp_path):
    codec = Char().train([chr(point) for point in range(0x10000, 0x20000 + 10)])
    codec.encode_to_file([written(tmp_path, "\U00010000\U00020001")], tmp_path / "x.bin")
    ids = codec.open_tokens(tmp_path / "x.bin")
    assert ids.dtype == np.uint32 and ids.tolist() == [0, 65537]


class Killed(BaseException):
    """As a process is that is killed: nothing is tidied up."""


@pytest.mark.parametrize("blocks_before", [1, 3, 5])
def test_token_file_that_was_interrupted_continues_where_it_stopped(blocks_before, tmp_path, small, monkeypatch):
    monkeypatch.setattr(token_file, "OFTEN", 1)
    codec, out = CODECS["bpe"], tmp_path / "x.bin"
    files = [written(tmp_path, PRIMER, "a"), written(tmp_path, PRIMER[::-1], "b")]
    seen = []

    def kill(size):
        seen.append(size)
        if len(seen) > blocks_before:
            raise Killed

    with pytest.raises(Killed):
        codec.encode_to_file(files, out, separator=SPECIAL, watch=kill)
    assert not out.exists() and (tmp_path / "x.bin.part").exists()
    with (tmp_path / "x.bin.part").open("ab") as torn:
        torn.write(b"\x00\x01\x02")  # written, and never noted
    went_on = []
    codec.encode_to_file(files, out, separator=SPECIAL, watch=went_on.append)
    assert went_on[0] >= seen[-2] > 0
    codec.encode_to_file(files, tmp_path / "whole.bin", separator=SPECIAL)
    assert out.read_bytes() == (tmp_path / "whole.bin").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "whole.bin", "x.bin"]


def test_what_another_job_left_is_not_gone_on_with(tmp_path, small, monkeypatch):
    monkeypatch.setattr(token_file, "OFTEN", 1)
    codec, out, file = CODECS["bpe"], tmp_path / "x.bin", written(tmp_path, PRIMER)

    def kill(size):
        if size > 20:
            raise Killed

    with pytest.raises(Killed):
        codec.encode_to_file([file], out, watch=kill)
    written(tmp_path, PRIMER.upper())
    os.utime(file, (1, 1))
    codec.encode_to_file([file], out)
    assert codec.open_tokens(out).tolist() == codec.encode(PRIMER.upper()).tolist()
    note = tmp_path / "x.bin.part.json"
    for wrong in ("{", "[]", json.dumps({"file": 0, "offset": 3, "count": 10**9, "size": 3, "exact": True, "job": ""})):
        note.write_text(wrong, encoding="utf-8")
        codec.encode_to_file([file], out)
        assert codec.open_tokens(out).tolist() == codec.encode(PRIMER.upper()).tolist()


def test_token_file_of_another_tokenizer_or_a_torn_one_is_refused(tmp_path):
    codec, path = CODECS["bpe"], tmp_path / "x.bin"
    codec.encode_to_file([written(tmp_path, PRIMER)], path)
    with pytest.raises(TokenizerError, match=r"x.bin: made by the tokenizer of digest .* and this one is byte of"):
        CODECS["byte"].open_tokens(path)
    whole = path.read_bytes()
    for data, message in [
        (whole[:-1], "expected .* ids in .* bytes, got"),
        (whole + b"\x00\x00", "expected .* ids in"),
        (whole[:10], "this is no token file"),
        (whole[:20], "cut off in its header"),
        (b"", "this is an empty file; one is made by"),
        (whole[:100], "cut off in its header"),
        (b"x" * 100, "this is no token file"),
        (whole[:8] + b"\x07" + whole[9:], "version 7 with ids of 2 bytes; this nanotx reads 3"),
        (whole[:12] + b"\x03" + whole[13:], "version 3 with ids of 3 bytes"),
    ]:
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            codec.open_tokens(path)
    with pytest.raises(DataError, match=r"nowhere.bin: no token file can be read here: No such file"):
        codec.open_tokens(tmp_path / "nowhere.bin")


def test_invalid_token_file_is_refused_and_nothing_is_left(tmp_path):
    codec, file = CODECS["char"], written(tmp_path, PRIMER + "Ω")
    with pytest.raises(ConfigError, match=r"separator: '<\|end\|>' is no special of this tokenizer; it has: none"):
        codec.encode_to_file([file], tmp_path / "x.bin", separator=SPECIAL)
    with pytest.raises(TextError, match="'Ω'"):
        codec.encode_to_file([file], tmp_path / "x.bin")
    with pytest.raises(DataError, match="no token file can be made: No such file"):
        codec.encode_to_file([file], tmp_path / "nowhere" / "x.bin")
    assert not (tmp_path / "x.bin").exists()


def test_encode_writes_a_token_file_and_prints_ids(tmp_path):
    file, out, saved = written(tmp_path, PRIMER), tmp_path / "x.bin", tmp_path / "mine.json"
    CODECS["bpe"].save(saved)

    def encode(*words):
        command = [sys.executable, "-m", "nanotx", "tokenizer", "encode", str(saved), *map(str, words)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)

    done = encode(file, "--out", out, "--separator", SPECIAL)
    count = len(CODECS["bpe"].encode(PRIMER)) + 1
    size = len(PRIMER)
    assert done.stdout == f"{out}: {count} ids of {size} bytes in 1 document, {size / count:.2f} bytes per id\n", (
        done.stderr
    )
    assert encode(file).stdout == " ".join(map(str, CODECS["bpe"].encode(PRIMER).tolist())) + "\n"
    written(tmp_path, SPECIAL, "s.txt")
    assert encode(tmp_path / "s.txt", "--special", SPECIAL).stdout == f"{CODECS['bpe'].special_tokens[SPECIAL]}\n"
    for words, message in [
        (("--out", out), "--out takes files"),
        ((file, "--separator", SPECIAL), "are for a token file; add --out PATH"),
        ((file, "--special", "<x>"), "'<x>' is no special of this tokenizer"),
    ]:
        done = encode(*words)
        assert done.returncode in (2, 3) and message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def written_file(path, codec, ids):
    """A token file of a tokenizer, with these ids whatever they are."""
    token_file.write_tokens(codec, path, lambda place: [Block(np.array(ids), Place(count=len(ids)))])
    return path


def with_vocab_size(path, size):
    """The same file with another number in its header."""
    header, data = read_header(path), path.read_bytes()
    path.write_bytes(replace(header, vocab_size=size).pack() + data[LAYOUT.size :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        (
            {"nfc": True},
            "x.ids: the tokenizer in this token file is not the one of its header; .* encode the texts again",
        ),
        ({"merges": []}, "x.ids: the tokenizer in this token file is not the one of its header|does not fit 0 merges"),
        ({"merges": [[float("nan"), 1]]}, r"x.ids: bpe: merge 0: expected a pair of ids, got \[nan, 1\]"),
        ({"learned_from": 3}, "x.ids: learned_from: expected a table, got 3"),
        ({"version": 2}, "x.ids: format version 2; this nanotx reads"),
    ],
)
def test_changed_tokenizer_in_a_token_file_is_refused(change, message, tmp_path):
    path = written_file(tmp_path / "x.ids", CODECS["bpe"], [0, 255])
    header, data = read_header(path), path.read_bytes()
    table = json.loads(data[LAYOUT.size :][: header.tokenizer_size])
    text = json.dumps(table | change, separators=(",", ":")).encode("ascii").ljust(header.tokenizer_size)
    path.write_bytes(data[: LAYOUT.size] + text + data[LAYOUT.size + header.tokenizer_size :])
    if message is None:
        assert load(path) == CODECS["bpe"]
        return
    with pytest.raises(TokenizerError, match=message):
        load(path)


def test_token_file_with_an_id_beyond_its_vocabulary_is_refused_when_it_is_opened(tmp_path):
    codec = CODECS["byte"]
    assert codec.open_tokens(written_file(tmp_path / "x.bin", codec, [0, 255])).tolist() == [0, 255]
    with pytest.raises(DataError, match=r"x.bin: id 256 at index 2 is beyond the vocabulary of 256"):
        codec.open_tokens(written_file(tmp_path / "x.bin", codec, [7, 255, 256, 3]))
    with pytest.raises(DataError, match="id 65535 at index 0"):
        open_tokens(written_file(tmp_path / "x.bin", codec, [65535]))
    with_vocab_size(tmp_path / "x.bin", 70000)
    with pytest.raises(DataError, match="says that there are 70000 ids, and its tokenizer has 256"):
        codec.open_tokens(tmp_path / "x.bin")


def test_token_file_that_is_cut_off_or_changed_while_it_is_open_is_an_error(tmp_path):
    codec, path = CODECS["byte"], tmp_path / "x.bin"
    count = 100_000
    ids = codec.open_tokens(written_file(path, codec, [number % 256 for number in range(count)]))
    start = read_header(path).start
    assert ids[5] == 5 and ids[-1] == (count - 1) % 256
    with path.open("r+b") as file:
        file.truncate(start + 2 * 10)
    assert ids[:10].tolist() == list(range(10))
    for at in (10, -1, slice(5, 20), slice(None), np.array([[3, 4], [70_000, 70_001]])):
        with pytest.raises(DataError, match=r"x.bin: expected 100000 ids, and it ends after \d+"):
            ids[at]
    path.write_bytes(path.read_bytes()[:start] + b"\xff" * 2 * count)
    with pytest.raises(DataError, match="id 65535 at index 500 is beyond the vocabulary"):
        ids[500:600]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_ids_of_a_token_file_are_taken_as_those_of_an_array(tmp_path_factory, data):
    codec, numbers = CODECS["byte"], data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=50))
    ids = codec.open_tokens(written_file(tmp_path_factory.mktemp("x") / "x.bin", codec, numbers))
    array, place = np.array(numbers, np.uint16), st.integers(-len(numbers), len(numbers) - 1)
    assert len(ids) == len(array) and ids.shape == array.shape and np.array_equal(np.asarray(ids), array)
    edge = st.none() | st.integers(-60, 60)
    at = slice(data.draw(edge), data.draw(edge), data.draw(st.sampled_from([None, 1, 2, 7, -1, -3])))
    assert ids[at].tolist() == array[at].tolist() and ids[data.draw(place)] in numbers
    rows = np.array(data.draw(st.lists(st.tuples(place, place, place), max_size=5)), np.int64).reshape(-1, 3)
    assert np.array_equal(ids[rows], array[rows]) and np.array_equal(ids[rows[:, 0]], array[rows[:, 0]])
    assert np.array_equal(ids[array > 9], array[array > 9])
    with pytest.raises(IndexError):
        ids[len(numbers)]
    assert pickle.loads(pickle.dumps(ids)).tolist() == numbers


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", ["x.json", "x.tiktoken", "x.bin"])
def test_pipe_or_device_is_no_tokenizers_file(name, tmp_path):
    os.mkfifo(tmp_path / name)
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero" / name).symlink_to("/dev/zero")
    for path in (tmp_path / name, tmp_path / "zero" / name):
        with pytest.raises((TokenizerError, DataError), match="expected a plain file, got a pipe, a socket, a device"):
            CODECS["byte"].open_tokens(path) if name == "x.bin" else load(path)
