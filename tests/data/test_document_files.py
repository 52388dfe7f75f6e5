"""Documents of text, JSON lines and Parquet files, plain or compressed, become marked token files without a loss."""

import gzip
import json
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanotx.cli.main import run as nanotx_command
from nanotx.data import document_files, text_files
from nanotx.data.document_files import Reading, documents
from nanotx.data.stored_ids import JoinedIds
from nanotx.errors import ConfigError, DataError, TextError
from nanotx.tokenizers import token_file, workers
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.token_file import open_tokens, read_header

END = "<|end|>"
CODECS = {
    "bpe": Bpe(vocab_size=264, special_tokens=(END,)).train(["to be or not to be " * 9]),
    "own": Bpe(vocab_size=260, pattern=r"\s?\w+|(?s:.)").train(["to be or not to be " * 9]),
    "byte": Byte().train([]),
}
several = st.lists(st.text(st.sampled_from("ab \n.é\u2028'\ufeff"), max_size=30), max_size=12)
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK", 7)
    monkeypatch.setattr(workers, "TASK_CHARACTERS", 5)
    monkeypatch.setattr(document_files, "ROWS", 3)


def write_rows(path, texts, field="text"):
    """A file of these documents, of the format of its name."""
    if path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = arrow.table({"id": range(len(texts)), field: arrow.array(texts, arrow.string())})
        parquet.write_table(table, path, row_group_size=4)
        return path
    data = "".join(json.dumps({"id": n, field: text}) + "\n" for n, text in enumerate(texts)).encode("utf-8")
    if path.suffix == ".zst":
        arrow = pytest.importorskip("pyarrow")
        data = arrow.compress(data, codec="zstd", asbytes=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rows_of(path, **how):
    """The documents of a file, their pieces joined."""
    texts = [""]
    for piece in documents(path, Reading(**how)):
        texts[-1] += piece.text
        texts += [""] * piece.last
    return texts[:-1]


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.jsonl.gz", "x.jsonl.zst", "x.parquet"])
@reused
@given(texts=several)
def test_rows_of_a_file_are_its_documents_and_reading_continues_after_any(name, texts, tmp_path, small):
    path = write_rows(tmp_path / name, texts)
    assert rows_of(path) == texts
    pieces = list(documents(path, Reading()))
    for number, piece in enumerate(pieces):
        rest = documents(path, Reading(), piece.end)
        assert [other.text for other in rest] == texts[number + 1 :]
    assert all(0 <= one.read <= two.read <= path.stat().st_size for one, two in pairwise(pieces))


@reused
@given(text=st.text("ab \n.é", max_size=60))
def test_text_is_a_document_also_an_empty_one_and_through_gzip(text, tmp_path, small):
    for name, data in (("x.txt", text.encode()), ("x.txt.gz", gzip.compress(b"x"))):
        (tmp_path / name).write_bytes(data)
    assert rows_of(tmp_path / "x.txt") == rows_of(tmp_path / "x.txt", splittable=False) == [text]
    (tmp_path / "two.gz").write_bytes(gzip.compress(text.encode()) + gzip.compress(b" end"))  # as `cat` joins them
    assert rows_of(tmp_path / "two.gz") == [text + " end"]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@reused
@given(texts=st.lists(several, min_size=1, max_size=3), text=st.text("ab \n.", max_size=40))
def test_token_file_loses_nothing_and_marks_each_document(codec, texts, text, tmp_path, small):
    separator = END if codec.special_tokens else ""
    files = [write_rows(tmp_path / f"{number}.jsonl.gz", rows) for number, rows in enumerate(texts)]
    (tmp_path / "last.txt").write_text(text, encoding="utf-8", newline="")
    whole = [document for rows in texts for document in rows] + [text]
    end = [codec.special_tokens[separator]] if separator else []
    wanted = [[*codec.encode(document).tolist(), *end] for document in whole]
    codec.encode_to_file([*files, tmp_path / "last.txt"], tmp_path / "x.ids", separator=separator)
    file = open_tokens(tmp_path / "x.ids", codec)
    assert file.ids.tolist() == [token for row in wanted for token in row]
    assert file.header.documents == len(whole) and file.header.size == len("".join(whole).encode())
    ends = np.cumsum([len(row) for row in wanted])
    assert file.ids.document_ends(0, len(file.ids)).tolist() == sorted({int(end) for end in ends if end})


@settings(reused, max_examples=20)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=200), data=st.data())
def test_ends_of_documents_are_those_of_the_window_also_of_joined_files(lengths, data, tmp_path):
    codec = CODECS["byte"]
    files = [
        write_rows(tmp_path / f"{n}.jsonl", ["x" * length for length in some])
        for n, some in enumerate([lengths, lengths[::-1]])
    ]
    for number, file in enumerate(files):
        codec.encode_to_file([file], tmp_path / f"{number}.ids")
    opened = [open_tokens(tmp_path / f"{number}.ids").ids for number in range(2)]
    count = sum(lengths)
    low, high = sorted(data.draw(st.tuples(st.integers(0, count), st.integers(0, count))))
    joined = JoinedIds([(opened[0], low, high), (opened[1], 0, count)])
    for ids, ends in (
        (opened[0], np.cumsum(lengths)),
        (
            joined,
            np.r_[
                [end - low for end in np.cumsum(lengths) if low < end <= high],
                [high - low] * (low < high and count > 0),
                high - low + np.cumsum(lengths[::-1])[np.cumsum(lengths[::-1]) > 0],
            ],
        ),
    ):
        first, end = sorted(data.draw(st.tuples(*[st.integers(0, len(ids))] * 2)))
        wanted = sorted({int(place) - first for place in ends if first < place <= end})
        assert ids.document_ends(first, end - first).tolist() == wanted
        blocks = list(ids.blocks_of_ends(first, end - first, at_once := data.draw(st.integers(1, 9))))
        assert np.concatenate([[], *blocks]).tolist() == wanted
        assert all(len(block) <= at_once for block in blocks)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("wrong", [-1, 0, 3, 17, 21, 2**63 - 1])
def test_ends_of_documents_that_are_damaged_are_refused(number, wrong, tmp_path):
    """Read in blocks of any size, from anywhere; opening the file would compare its digest first."""
    codec, path, ends = CODECS["byte"], tmp_path / "x.ids", [4, 8, 12, 16, 20]
    codec.encode_to_file([write_rows(tmp_path / "x.jsonl", ["a" * 4] * 5)], path)
    ids = open_tokens(path).ids
    data, at = path.read_bytes(), ids.ends + 8 * number
    path.write_bytes(data[:at] + wrong.to_bytes(8, "little", signed=True) + data[at + 8 :])
    changed = [*ends[:number], wrong, *ends[number + 1 :]]
    plausible = [0, *changed, 20] == sorted([0, *changed, 20])  # other documents, as far as their order tells
    for at_once, first, end in product((1, 2, 100), range(20), range(1, 21)):
        try:
            found = np.concatenate([[], *ids.blocks_of_ends(first, end - first, at_once)]) + first
        except DataError as error:
            assert "x.ids: its ends of documents are damaged; encode the texts again" in str(error)
            assert not plausible
        else:
            wanted = [place for place in (changed if plausible else ends) if first < place <= end]
            assert found.tolist() == wanted and (plausible or (first, end) != (0, 20))


class Killed(BaseException):
    """As a process is that is killed: nothing is tidied up."""


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet", "x.txt"])
def test_encoding_that_was_killed_continues_to_the_same_file(name, tmp_path, small, monkeypatch):
    monkeypatch.setattr(token_file, "OFTEN", 1)
    texts = ["to be", "", "or not to be é", "x" * 30, "\n", "a b c"]
    path = tmp_path / name
    path.write_text(" ".join(texts), encoding="utf-8") if name == "x.txt" else write_rows(path, texts)
    files, codec = [path, write_rows(tmp_path / "b.jsonl", texts[::-1])], CODECS["bpe"]
    codec.encode_to_file(files, tmp_path / "whole.ids", separator=END)
    seen = []

    def kill(done):
        seen.append(done)
        if len(seen) > 3:
            raise Killed

    with pytest.raises(Killed):
        codec.encode_to_file(files, tmp_path / "x.ids", separator=END, watch=kill)
    for part in ("x.ids.part", "x.ids.part.ends"):
        with (tmp_path / part).open("ab") as torn:
            torn.write(b"\x01\x02\x03")  # written, and never noted
    later = []
    codec.encode_to_file(files, tmp_path / "x.ids", separator=END, watch=later.append, processes=1)
    assert later[0] >= seen[-2]
    assert (tmp_path / "x.ids").read_bytes() == (tmp_path / "whole.ids").read_bytes()
    assert not list(tmp_path.glob("x.ids.part*"))


def test_token_file_is_the_same_by_two_processes(tmp_path, small):
    files = [write_rows(tmp_path / f"{n}.jsonl", [f"to be {n} " * k for k in range(9)]) for n in range(3)]
    for processes in (1, 2):
        CODECS["bpe"].encode_to_file(files, tmp_path / f"{processes}.ids", separator=END, processes=processes)
    assert (tmp_path / "1.ids").read_bytes() == (tmp_path / "2.ids").read_bytes()


def test_ends_that_were_changed_are_noticed_when_the_file_is_opened(tmp_path):
    CODECS["byte"].encode_to_file([write_rows(tmp_path / "x.jsonl", ["abc", "de"])], tmp_path / "x.ids")
    whole, start = (tmp_path / "x.ids").read_bytes(), read_header(tmp_path / "x.ids").ends
    assert np.frombuffer(whole[start:], "<u8").tolist() == [3, 5]
    (tmp_path / "x.ids").write_bytes(whole[:start] + b"\x02" + whole[start + 1 :])
    with pytest.raises(DataError, match=r"x.ids: its ids are not those of its digest"):
        open_tokens(tmp_path / "x.ids")
    (tmp_path / "x.ids").write_bytes(whole[:-8])
    with pytest.raises(DataError, match=r"expected 5 ids in \d+ bytes, got \d+ bytes: it was cut off"):
        open_tokens(tmp_path / "x.ids")


def gzipped(data):
    """These bytes compressed, and the same ones in every second: the tests of all workers have the same names."""
    return gzip.compress(data, mtime=0)


WRONG = {
    "x.jsonl": [
        (b'{"text": ""}\n{"txt": ""}\n', r"line 2: there is no field 'text'. Did you mean 'txt'\? Its fields: txt"),
        (b'{"text": "a"}\n{"text": \n', r"line 2: expected a JSON object such as .*; Expecting value at column"),
        (b'\n["a"]\n', r"line 2: expected a JSON object, got list"),
        (b'{"text": null}', r"line 1: 'text': expected a text, got null"),
        (b'{"text": 3}', r"line 1: 'text': expected a text, got int"),
        (b'{"text": "\\ud800"}', r"line 1: 'text' has a lone surrogate U\+D800 at offset 0; .* --errors replace"),
        (b'{"text": "\xff"}', r"line 1: .*it is not UTF-8"),
        (b"[" * 100_000, r"line 1: .*nested too deeply"),
    ],
    "x.jsonl.gz": [
        (b'{"text": "a"}\n', r"x.jsonl.gz: is no valid gzip file: Not a gzipped file .*; fetch it again, or rename it"),
        (gzipped(b'{"text": "a"}\n' * 99)[:-9], r"x.jsonl.gz: its compressed data is cut off"),
        (gzipped(b"x" * 999)[:10] + b"\xff" * 20, r"x.jsonl.gz: its compressed data is damaged"),
        (gzipped(b'{"text": "a"}\n' * 9)[:-4] + b"\0" * 4, r"is no valid gzip file: Incorrect length"),
    ],
    "x.txt.gz": [(gzipped(b"a\n" * 5 + b"\xff"), r"x.txt.gz: expected UTF-8, .* 0xff at offset 10.* line 6")],
    "x.jsonl.zst": [
        (b'{"text": "a"}\n', r"x.jsonl.zst: cannot be read: ZSTD decompress failed: .*; fetch the file"),
    ],
    "x.parquet": [
        (b"no", r"x.parquet: cannot be read: it is no valid Parquet, or damaged: Parquet file size is 2 bytes"),
        (b"PAR1" + b"\0" * 40 + b"PAR1", r"x.parquet: cannot be read: it is no valid Parquet, or damaged: "),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_wrong_input_is_refused_with_its_place(name, data, message, tmp_path):
    if name.endswith((".zst", ".parquet")):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        CODECS["byte"].encode_to_file([tmp_path / name], tmp_path / "x.ids")
    assert not (tmp_path / "x.ids").exists()


def test_surrogate_is_replaced_where_that_is_allowed(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "a\\ud800b\xff"}\n')
    assert rows_of(tmp_path / "x.jsonl", errors="replace") == ["a\ufffdb\ufffd"]


def test_parquet_without_the_column_lists_its_columns(tmp_path):
    path = write_rows(tmp_path / "x.parquet", ["a"], field="content")
    with pytest.raises(DataError, match=r"x.parquet: there is no column 'text'.* Its columns: content, id; .* --field"):
        rows_of(path)
    with pytest.raises(DataError, match=r"column 'id' holds int64; expected texts. Columns of texts: content"):
        rows_of(path, field="id")
    assert rows_of(path, field="content") == ["a"]
    with pytest.raises(DataError, match=r"row 2: 'text': expected a text, got null"):
        rows_of(write_rows(tmp_path / "null.parquet", ["a", None]))


def test_library_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for name in ("x.parquet", "x.txt.zst"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ConfigError, match=r"pyarrow reads this format, .* pip install 'nanotx\[data\]'"):
            rows_of(tmp_path / name)


def test_text_without_a_place_to_split_it_is_refused_before_it_fills_the_memory(tmp_path, small, monkeypatch):
    monkeypatch.setattr(document_files, "LARGEST", 40)
    (tmp_path / "x.txt").write_text("ありがとう" * 9, encoding="utf-8")
    with pytest.raises(DataError, match=r"from offset 0 on, .* have no place where this tokenizer may split .* .jsonl"):
        rows_of(tmp_path / "x.txt")
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "a" * 50}), encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: is longer than .* split it into several documents"):
        rows_of(tmp_path / "x.jsonl")


def test_text_that_the_tokenizer_cannot_hold_is_named_with_its_file(tmp_path):
    codec = Char().train(["abc"])
    files = [write_rows(tmp_path / "a.jsonl", ["a", "b"]), write_rows(tmp_path / "b.jsonl", ["c", "abz"])]
    for processes in (1, 2):
        with pytest.raises(TextError, match=r"b.jsonl: in the text that begins with 'abz': .* at offset 2 is not in"):
            codec.encode_to_file(files, tmp_path / "x.ids", processes=processes)


def test_encode_command_counts_documents_and_takes_the_field(tmp_path, capsys):
    CODECS["bpe"].save(tmp_path / "bpe.json")
    path = write_rows(tmp_path / "x.jsonl", ["to be", "or", ""], field="content")
    words = ["tokenizer", "encode", str(tmp_path / "bpe.json"), str(path), "--field", "content"]
    assert nanotx_command([*words, "--out", str(tmp_path / "x.ids")]) == 0
    count = len(CODECS["bpe"].encode("to be")) + len(CODECS["bpe"].encode("or"))
    assert (
        capsys.readouterr().out
        == f"{tmp_path / 'x.ids'}: {count} ids of 7 bytes in 3 documents, {7 / count:.2f} bytes per id\n"
    )
    with pytest.raises(ConfigError, match=r"--field and --processes are for a token file; add --out"):
        nanotx_command(words)
