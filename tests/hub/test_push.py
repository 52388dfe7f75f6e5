"""`nanotx push`: only what was proven and not changed since; each refusal of the Hub is one sentence."""

import types

import httpx
import pytest
from test_huggingface_export import run_of

from nanotx.cli.entry import exit_code
from nanotx.cli.main import run
from nanotx.hub import push as pushing
from nanotx.hub.huggingface import proof
from nanotx.hub.plain.export import export


class Hub:
    """A Hub that records what it is asked, and answers with an error where it is given one."""

    def __init__(self, token="secret", create=None, upload=None):
        self.calls, self.errors, self.token = [], {"create_repo": create, "upload_folder": upload}, token

    def get_token(self):
        return self.token

    def HfApi(self, token):
        return types.SimpleNamespace(
            endpoint="https://hub.test",
            create_repo=lambda *words, **options: self.answer("create_repo", *words, **options),
            upload_folder=lambda **options: self.answer("upload_folder", **options),
        )

    def answer(self, name, *words, **options):
        self.calls.append((name, words, options))
        if self.errors[name]:
            raise self.errors[name]


class Refused(Exception):
    """An error with an answer of the Hub, as its library raises it."""

    def __init__(self, status):
        super().__init__("a page of HTML")
        self.response = types.SimpleNamespace(status_code=status)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "TEXTS", 5)
        patch.setattr(proof, "WINDOWS", 2)
        target = tmp_path_factory.mktemp("exported") / "model"
        export(run_of(), target)
    return target


@pytest.fixture
def push(monkeypatch, capsys):
    """The command with a Hub; returns the exit code, the output and the messages."""

    def command(hub, *words):
        monkeypatch.setattr(pushing, "library", lambda what: hub)
        code = exit_code(lambda: run(["push", *map(str, words)]))
        return code, *capsys.readouterr()

    return command


def test_folder_is_put_there_in_private(folder, push):
    hub = Hub()
    code, out, _ = push(hub, folder, "--to", "me/model")
    assert not code
    assert out.splitlines() == [f"{folder}: {pushing.check_seal(folder)}", "https://hub.test/me/model"]
    (_, words, options), (_, _, sent) = hub.calls
    assert (words, options) == (("me/model",), {"private": True, "exist_ok": False})
    assert sent["folder_path"] == str(folder) and sent["commit_message"].startswith("Export of nanotx: model.py")
    hub = Hub()
    assert not push(hub, folder, "--to", "me/model", "--public", "--update")[0]
    assert hub.calls[0][2] == {"private": False, "exist_ok": True}


@pytest.mark.parametrize(
    ("hub", "code", "message"),
    [
        (Hub(token=None), 2, "me/model: no token of the Hub is here; try hf auth login, or set HF_TOKEN."),
        (Hub(create=Refused(409)), 2, "me/model: exists on the Hub; add --update to add a commit to it"),
        (Hub(create=Refused(401)), 4, "check the name, and the token by hf auth whoami."),
        (Hub(create=Refused(403)), 4, "the Hub does not let your token do that"),
        (Hub(create=Refused(503)), 4, "the Hub answers 503; try again later."),
        (Hub(create=httpx.ConnectError("[Errno -2]")), 4, "the Hub cannot be reached; check the network"),
        (Hub(upload=httpx.ReadTimeout("slow")), 4, "the files were not put there: the Hub cannot be reached"),
        (Hub(create=ValueError("odd\nlines")), 4, "the Hub's library fails: ValueError: odd\n"),
    ],
    ids=["token", "exists", "401", "403", "503", "network", "upload", "other"],
)
def test_refusal_is_one_sentence(folder, push, hub, code, message):
    answered, out, err = push(hub, folder, "--to", "me/model")
    assert (answered, out) == (code, "")
    assert message in err and err.count("\n") == 1


def test_what_was_not_proven_is_not_sent(folder, push, tmp_path):
    hub = Hub()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "README.md").write_text("my own card", encoding="utf-8")
    assert not push(hub, copy, "--to", "me/model")[0]
    (copy / "model.py").write_text("changed", encoding="utf-8")
    (tmp_path / "bare").mkdir()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for words, code, message in (
        ([copy], 4, "not what was proven: model.py was changed"),
        ([tmp_path / "bare"], 4, "no PROOF.json in it"),
        ([tmp_path / "absent"], 2, "no such folder; expected the folder of an export"),
        ([copy / "model.py"], 2, "a file; expected the folder of an export"),
        ([tmp_path / "run"], 2, "a run; expected the folder of an export"),
    ):
        hub = Hub()
        answered, _, err = push(hub, *words, "--to", "me/model")
        assert (answered, hub.calls) == (code, []), err
        assert message in err
    assert "expected the name of a repository on the Hub such as you/my-model" in push(hub, folder, "--to", "model")[2]
