"""`nanotx push` with the real client of the Hub, and a small Hub of this process: what is sent, what is refused."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_huggingface_export import run_of

from nanotx.cli.entry import exit_code
from nanotx.cli.main import run as nanotx_command
from nanotx.hub.huggingface import proof
from nanotx.hub.plain.export import export

huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs the extra push")
TOKEN = "hf_stub"


class Hub(ThreadingHTTPServer):
    """A Hub that holds the repositories of one owner: their files by path, and the messages of their commits."""

    daemon_threads = True

    def __init__(self, large=(), refuses=None):
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.large, self.refuses = large, refuses or {}  # names of large files; statuses by the end of a path
        self.repositories, self.visibility, self.messages, self.stored = {}, {}, [], {}


class Answers(BaseHTTPRequestHandler):
    """What a Hub answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        """Print nothing."""

    def answer(self, table, status=200):
        data = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_PUT(self):
        self.server.stored[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self):
        data, path, hub = self.body(), self.path.partition("?")[0], self.server
        status = next((status for end, status in hub.refuses.items() if path.endswith(end)), None)
        if status is not None:
            self.answer({"error": "no"}, status)
        elif not path.startswith("/storage/") and self.headers.get("authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            self.create(json.loads(data))
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == "/api/models/me/model/preupload/main":
            files = [table["path"] for table in json.loads(data)["files"]]
            modes = {name: "lfs" if name in hub.large else "regular" for name in files}
            self.answer({"files": [{"path": k, "uploadMode": v, "shouldIgnore": False} for k, v in modes.items()]})
        elif path == "/me/model.git/info/lfs/objects/batch":
            objects = [table | {"actions": self.upload_of(table)} for table in json.loads(data)["objects"]]
            self.answer({"transfer": "basic", "objects": objects})
        elif path == "/api/models/me/model/commit/main":
            self.commit([json.loads(line) for line in data.splitlines()])
        else:
            self.answer({"error": f"the stub has no {path}"}, 500)

    def upload_of(self, table):
        return {"upload": {"href": f"{self.server.url}/storage/{table['oid']}"}}

    def create(self, table):
        name, hub = f"{table['organization']}/{table['name']}", self.server
        if name in hub.repositories:
            self.answer({"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, 409)
            return
        hub.repositories[name], hub.visibility[name] = {}, table.get("visibility") or table.get("private")
        self.answer({"url": f"{hub.url}/{name}"})

    def commit(self, rows):
        hub, files = self.server, self.server.repositories["me/model"]
        for row in rows:
            value = row["value"]
            if row["key"] == "header":
                hub.messages.append(value["summary"])
            elif row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = hub.stored[value["oid"]]
        self.answer({"commitUrl": f"{hub.url}/me/model/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True})


@contextmanager
def serving(monkeypatch, **settings):
    """A Hub to which the client of this process speaks, and the command that pushes."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub(**settings) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "TEXTS", 5)
        patch.setattr(proof, "WINDOWS", 2)
        target = tmp_path_factory.mktemp("exported") / "model"
        export(run_of(), target)
    (target / ".DS_Store").write_bytes(b"of a desktop")
    return target


def push(capsys, *words):
    code = exit_code(lambda: nanotx_command(["push", *map(str, words)]))
    return code, *capsys.readouterr()


@pytest.mark.filterwarnings("ignore:Use .content")  # of the library that the client sends by
@pytest.mark.parametrize("large", [(), ("model.pt",)], ids=["small files", "a large file"])
def test_client_sends_every_file_as_it_is(folder, monkeypatch, capsys, large):
    if large:  # their newer storage is a program of its own, which needs the real one
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with serving(monkeypatch, large=large) as hub:
        code, out, err = push(capsys, folder, "--to", "me/model")
        assert not code, err
        assert out.splitlines()[-1] == f"{hub.url}/me/model"
        files = hub.repositories["me/model"]
        assert files == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".DS_Store"}
        assert hub.messages[0].startswith("Export of nanotx: model.py") and len(hub.messages) == 1
        assert hub.visibility["me/model"] in ("private", True)
        assert set(hub.stored) == {hashlib.sha256(files[name]).hexdigest() for name in large}


def test_repository_that_exists_is_kept_unless_update_adds_a_commit(folder, monkeypatch, capsys):
    with serving(monkeypatch) as hub:
        assert not push(capsys, folder, "--to", "me/model", "--public")[0]
        assert hub.visibility["me/model"] in ("public", False)
        hub.repositories["me/model"]["mine.txt"] = b"mine"
        code, out, err = push(capsys, folder, "--to", "me/model")
        assert (code, out, len(hub.messages)) == (2, "", 1)
        assert "me/model: exists on the Hub; add --update to add a commit to it" in err
        assert not push(capsys, folder, "--to", "me/model", "--update")[0]
        assert len(hub.messages) == 2 and hub.repositories["me/model"]["mine.txt"] == b"mine"


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ({"/create": 401}, "check the name, and the token by hf auth whoami."),
        ({"/create": 403}, "the Hub does not let your token do that"),
        ({"/create": 500}, "the Hub answers 500; try again later."),
        ({"/preupload/main": 403}, "the files were not put there: the Hub does not let your token do that"),
        ({"/commit/main": 401}, "the files were not put there: the Hub has no such repository, or not for you"),
        ({"/commit/main": 422}, "the files were not put there: the Hub answers 422"),
    ],
    ids=str,
)
def test_refusal_of_the_hub_is_one_sentence(folder, monkeypatch, capsys, refuses, message):
    with serving(monkeypatch, refuses=refuses):
        code, out, err = push(capsys, folder, "--to", "me/model")
    assert (code, out) == (4, "") and message in err and err.count("\n") == 1, err


def test_hub_that_is_not_there_is_named(folder, monkeypatch, capsys):
    with serving(monkeypatch):
        pass
    code, out, err = push(capsys, folder, "--to", "me/model")
    assert (code, out) == (4, "") and "the Hub cannot be reached; check the network" in err
