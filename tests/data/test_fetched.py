"""Large corpora are fetched from a server of our own: resumed, checked, and never under their name unless whole."""

import hashlib
import io
import re
import threading
import urllib.request
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import platformdirs
import pytest

from nanotx.data import fetched, resumable
from nanotx.data.corpus import Corpus, Unavailable, fineweb_edu
from nanotx.data.corpus.enwik8 import Enwik8
from nanotx.data.corpus.fineweb_edu import FineWebEdu, at_cuts
from nanotx.data.corpus.tinystories import TinyStories
from nanotx.data.resumable import LargeFile, fetch_file, open_range
from nanotx.errors import ConfigError, DataError

DATA = bytes(range(256)) * 40


class Handler(BaseHTTPRequestHandler):
    """Serves `content`; breaks off after `limit` bytes; knows ranges where its tag is asked for."""

    content, tag, limit, seen = DATA, '"one"', 10**9, []

    def do_GET(self):
        kind = type(self)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted and self.headers.get("If-Range") == kind.tag else 0
        kind.seen.append(first)
        if first > len(kind.content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(kind.content) - first))
        self.send_header("ETag", kind.tag)
        self.end_headers()
        self.wfile.write(kind.content[first : first + kind.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    kind = type("Own", (Handler,), {"seen": []})
    served = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    kind.url = f"http://127.0.0.1:{served.server_port}/x"
    yield kind
    served.shutdown()
    served.server_close()


def plain(url, headers):
    """As `open_range`, without its demand of https."""
    return urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=5)


def fetch(server, destination, lines=None, **about):
    fetch_file(LargeFile(url=server.url, **about), destination, (lines if lines is not None else []).append, plain)


def test_size_is_shown_first_and_the_digest_of_the_first_fetch_is_recorded_and_compared(server, tmp_path):
    lines, path = [], tmp_path / "deep" / "x.txt"
    fetch(server, path, lines)
    digest = hashlib.sha256(DATA).hexdigest()
    assert path.read_bytes() == DATA and lines[0] == f"{server.url}: 0.0 MB"
    assert "its publisher states no digest" in lines[1] and digest in lines[1]
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.txt", "x.txt.sha256"]
    path.unlink()
    server.content = DATA[::-1]
    with pytest.raises(DataError, match=rf"expected SHA256 {digest} \(.*x.txt.sha256, recorded .*; it was removed"):
        fetch(server, path)
    assert not path.exists() and not path.with_name("x.txt.part").exists()


def test_download_that_broke_off_continues_where_it_stopped(server, tmp_path):
    server.limit, lines = 4000, []
    for _ in range(2):
        with pytest.raises(
            Unavailable, match=r"(of 10,240 bytes arrived|IncompleteRead.*). The same command continues"
        ):
            fetch(server, tmp_path / "x", lines)
    server.limit = 10**9
    fetch(server, tmp_path / "x", lines)
    assert (tmp_path / "x").read_bytes() == DATA and server.seen == [0, 4000, 8000]
    assert "of which 0.0 MB are here" in lines[1]


def test_file_that_was_replaced_on_the_server_is_fetched_from_its_beginning(server, tmp_path):
    server.limit = 4000
    with pytest.raises(Unavailable):
        fetch(server, tmp_path / "x")
    server.content, server.tag, server.limit = DATA[::-1], '"two"', 10**9
    fetch(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA[::-1]


def zipped(content, member="enwik8"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return stream.getvalue()


def test_archive_is_unpacked_and_its_file_has_the_digest_that_its_publisher_states(server, tmp_path):
    server.content, lines = zipped(DATA), []
    sha1 = hashlib.sha1(DATA).hexdigest()
    fetch(server, tmp_path / "x", lines, member="enwik8", sha1=sha1, where="https://page")
    assert (tmp_path / "x").read_bytes() == DATA and lines[1] == f"x: SHA-1 {sha1}, as https://page states it"
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    for content, message in [
        (zipped(b"other"), rf"expected SHA1 {sha1} \(https://page\), got"),
        (zipped(DATA, "other"), r"is no valid archive with 'enwik8'"),
        (b"no archive", r"is no valid archive with 'enwik8': File is not a zip file; it was removed"),
    ]:
        server.content = content
        with pytest.raises(DataError, match=message):
            fetch(server, tmp_path / "y", member="enwik8", sha1=sha1, where="https://page")
        assert not (tmp_path / "y").exists()


def test_server_that_is_not_there_or_not_https_is_unavailable(tmp_path, monkeypatch):
    with pytest.raises(Unavailable, match=r"expected an https address, got http://x.*The same command continues"):
        fetch_file(LargeFile(url="http://x"), tmp_path / "x", print, open_range)


def test_disk_without_room_is_refused_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 9})())
    with pytest.raises(DataError, match=r"0.0 MB are to be fetched, and 0.0 MB are free; make room, or .* NANOTX_DATA"):
        fetch(server, tmp_path / "x")
    assert not (tmp_path / "x.part").exists()


@pytest.mark.parametrize("name", ["enwik8", "tinystories", "fineweb_edu"])
def test_stand_in_is_a_text_of_the_same_form_without_a_network(name, monkeypatch):
    monkeypatch.setattr(fetched, "fetch_file", None)
    monkeypatch.setattr(fetched, "STAND_IN", 9000)
    corpus = Corpus.find(name)(stand_in=True)
    text = corpus.text()
    assert text == Corpus.find(name)(stand_in=True).text() and len(text) >= 9000 and corpus.split()[1]
    form = {
        "enwik8": r"  <page>\n    <title>[^<\n]+</title>\n    <id>1</id>\n",
        "tinystories": r"(?s).+?\n<\|endoftext\|>\n",
        "fineweb_edu": r"(?s).+?\n<\|endoftext\|>\n",
    }
    assert re.match(form[name], text)


def test_corpus_is_read_from_the_data_folder_else_the_cache_else_the_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    monkeypatch.delenv("NANOTX_DATA", raising=False)
    monkeypatch.setattr(fetched, "open_range", plain)
    monkeypatch.setattr(TinyStories, "source", LargeFile(url=server.url))
    server.content = b"Once upon a time.\n<|endoftext|>\n" * 9
    assert TinyStories().text() == server.content.decode() and len(server.seen) == 1
    assert "".join(TinyStories().pieces()) == server.content.decode() and len(server.seen) == 1
    own = tmp_path / "data" / TinyStories.place
    own.parent.mkdir(parents=True)
    own.write_text("mine", encoding="utf-8")
    monkeypatch.setenv("NANOTX_DATA", str(tmp_path / "data"))
    assert TinyStories().text() == "mine"


def test_corpus_that_cannot_be_fetched_says_what_to_try(tmp_path, monkeypatch):
    def refused(url, headers):
        raise OSError("no network")

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    monkeypatch.delenv("NANOTX_DATA", raising=False)
    monkeypatch.setattr(fetched, "open_range", refused)
    with pytest.raises(
        Unavailable, match=r"corpus enwik8: https://.*no network.* holds enwik8/enwik8, or .*--corpus.stand-in"
    ):
        Enwik8().text()
    assert Enwik8().size_hint() == 10**8 and isinstance(Enwik8.place, Path)


def shard(texts, column="text"):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pa.table({column: texts}), stream)
    return stream.getvalue()


def test_shards_are_fetched_when_they_are_wanted_pinned_and_read_in_their_order(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    monkeypatch.delenv("NANOTX_DATA", raising=False)
    monkeypatch.setattr(fetched, "open_range", plain)
    monkeypatch.setattr(fineweb_edu, "URL", server.url)
    texts = ["One page", "", "Another page."]
    server.content = shard(texts)
    expected = "".join(f"{text}\n<|endoftext|>\n" for text in texts)
    assert FineWebEdu().text() == expected and len(server.seen) == 1
    assert FineWebEdu(shards=2).text() == 2 * expected and len(server.seen) == 2
    assert FineWebEdu(shards=2).split()[1] and len(server.seen) == 2
    lines, digest = capsys.readouterr().err, hashlib.sha256(server.content).hexdigest()
    assert "corpus fineweb_edu: 1 of 2 shards are to be fetched, about 100 MB each" in lines
    assert f"shard_00001.parquet: its publisher states no digest; SHA-256 {digest} is recorded" in lines
    (tmp_path / "fineweb_edu" / "shard_00001.parquet").unlink()
    server.content = shard(["Changed."])
    with pytest.raises(DataError, match=rf"expected SHA256 {digest} .*recorded when it was fetched first"):
        FineWebEdu(shards=2).text()
    server.content = shard(["Other."], column="body")
    (tmp_path / "fineweb_edu" / "shard_00001.parquet.sha256").unlink()
    with pytest.raises(DataError, match=r"shard_00001.parquet: there is no column 'text'.*Its columns: body"):
        FineWebEdu(shards=2).text()
    with pytest.raises(ConfigError, match="shards: expected a number of at least 1, got 0"):
        FineWebEdu(shards=0)
    assert FineWebEdu(shards=3).size_hint() == 750_000_000


def test_pieces_of_documents_end_at_cuts_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(fineweb_edu, "BLOCK", 20)
    texts = ["no", "...", "a long text of some words, ", "12345678901234567890 1234567890", " end", "."]
    pieces = list(at_cuts(texts))
    assert "".join(pieces) == "".join(texts) and len(pieces) > 1
    following = "".join(texts)
    for piece in pieces[:-1]:
        following = following.removeprefix(piece)
        assert piece[-1].isalpha() and following[0] in " \n"
