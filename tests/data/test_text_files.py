"""Which files a text is read from, and what of them: folders, links, globs, runs, byte-order marks, permissions."""

import glob
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import tiny

from nanotx.cli.main import run
from nanotx.data.corpus.file import File
from nanotx.errors import DataError, TextError

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
LINES = "to be or not to be\nthat is the question\n"


def put(folder: Path, **texts: str) -> Path:
    """Files in a folder; `a__b_txt` is a/b.txt."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def a_run(folder: Path) -> Path:
    """A folder that looks like that of a run."""
    return put(folder, **{"recipe.toml": "seed = 1\n", "metrics.jsonl": "{}\n", "samples_txt": "O, O\n"})


def train(*words: str, **flags: object) -> int:
    """A tiny run of the byte tokenizer, which refuses no text."""
    return run(["train", "nanogpt_64", *tiny(**flags), "--tokenizer", "byte", "--corpus", "file", *words])


# A folder that is a run is never corpus.


@pytest.mark.parametrize("place", [None, "mine", "deep/er/mine"])
def test_run_in_its_corpus_folder_is_resumed_and_verifies(tmp_path: Path, monkeypatch, place: str | None) -> None:
    monkeypatch.chdir(put(tmp_path, a_txt=LINES * 20, b__c_txt=LINES * 9))
    where = ["--run", place] if place else []
    folder = tmp_path / (place or "runs/nanogpt_64-1")
    assert train("--corpus.path", ".", *where) == 0
    digest = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["corpus_sha256"]
    assert train("--corpus.path", ".", "--run", str(folder), "--resume", train_steps=8) == 0
    again = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert again["steps"] == 8 and again["corpus_sha256"] == digest
    assert run(["verify", str(folder)]) == 0


def test_folder_of_a_run_is_left_out_of_folders_and_globs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(put(tmp_path, a_txt="a\n", b__c_txt="c\n"))
    a_run(tmp_path / "runs" / "x-1")
    a_run(tmp_path / "b" / "y")
    killed = put(tmp_path / "z", **{"recipe.toml": "seed = 1\n", ".lock": ""})
    for path in (".", str(tmp_path), "**/*", "**", "**/*.txt", str(tmp_path / "**" / "*.txt"), "*/*.txt"):
        assert File(path=path).text() == ("c\n" if path == "*/*.txt" else "a\nc\n"), path
    for path in (killed, "runs/x-1", "runs/*/*.txt", "runs"):
        with pytest.raises(DataError, match=r"is a run|of a run|of runs"):
            File(path=str(path)).text()
    assert File(path="runs/x-1/samples.txt").text() == "O, O\n"  # a file that is named is meant


def test_recipe_among_texts_makes_no_run_of_their_folder(tmp_path: Path) -> None:
    put(tmp_path, a_txt="a\n", **{"recipe.toml": "seed = 1\n"})
    assert File(path=str(tmp_path)).text() == "a\nseed = 1\n"


def test_tokenizer_is_not_trained_on_a_run(tmp_path: Path, capsys) -> None:
    put(tmp_path, a_txt="abc\n")
    a_run(tmp_path / "runs" / "x-1")
    assert run(["tokenizer", "train", "char", str(tmp_path), "--out", str(tmp_path / "t.json")]) == 0
    assert "char, 4 ids" in capsys.readouterr().out


# A glob means what it always meant.


def test_glob_gives_the_files_that_pythons_own_gives(tmp_path: Path, monkeypatch) -> None:
    draw = random.Random(5)
    for _ in range(60):
        parts = [draw.choice(["a", "b", ".h", "c.d", "[x]"]) for _ in range(draw.randint(0, 3))]
        put(tmp_path.joinpath(*parts), **{draw.choice(["x_txt", "y.md", ".z", "w"]): f"{draw.random()}\n"})
    monkeypatch.chdir(tmp_path)
    patterns = [
        "*",
        "**",
        "**/*",
        "*/*",
        "a/*",
        "a/**",
        "**/x.txt",
        "**/a/*.txt",
        "?/*.md",
        "[ab]/**/x.*",
        ".h/*",
        "**/.z",
    ]
    patterns += [
        "*/a/w",
        "[!a]/*",
        "a/../*/x.txt",
        "./**/*.txt",
        "nothing/*",
        "[[]x]/*",
        "**/**/w",
        str(tmp_path / "*/w"),
    ]
    for pattern in patterns:
        names = glob.glob(pattern, recursive=True)  # noqa: PTH207
        theirs = sorted({Path(name) for name in names if Path(name).is_file()})
        texts = "".join(path.read_text(encoding="utf-8") for path in theirs)
        if theirs:
            assert File(path=pattern).text() == texts, pattern
        else:
            with pytest.raises(DataError, match="no file matches"):
                File(path=pattern).text()


# What cannot be read is refused by name.


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder that all may enter, and this process with the rights of somebody else, where it has all."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    try:
        put(folder, a_txt="a\n", b__c_txt="c\n", d__e_txt="e\n")
        words = ["tokenizer", "train", "char", f"{folder}/a.txt", "--out", f"{folder}/.t"]
        assert run(words) == 0  # what it imports may be out of reach of somebody else
        if root:
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            path.chmod(0o700)
        shutil.rmtree(folder)


@posix
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_folder_without_permission_is_refused_by_name(mode: int) -> None:
    with nobody() as folder:
        root = os.geteuid() != os.getuid()
        if root:
            os.seteuid(0)
        (folder / "b").chmod(mode)
        if root:
            os.seteuid(65534)
        for path in (str(folder), f"{folder}/**/*.txt", f"{folder}/**", f"{folder}/*/*.txt"):
            with pytest.raises(DataError, match=r"corpus file: .*b(/c\.txt)?: .*cannot be read: Permission denied"):
                File(path=path).text()
        with pytest.raises(DataError, match=r"b(/c\.txt)?: .*cannot be read: Permission denied"):
            run(["tokenizer", "train", "char", str(folder), "--out", f"{folder}/t.json"])
        assert File(path=f"{folder}/d/*.txt").text() == "e\n"


@posix
def test_linked_folder_is_read(tmp_path: Path) -> None:
    put(tmp_path, here__a_txt="a\n", there__b_txt="b\n", there__c_txt="c\n")
    (tmp_path / "here" / "more").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "z.txt").symlink_to(tmp_path / "there" / "c.txt")
    for path in (tmp_path / "here", tmp_path / "here" / "**"):
        assert File(path=str(path)).text() == "a\nb\nc\nc\n"


@posix
@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("gone", "nowhere", "a dangling link"),
        ("up", "..", "leads to a folder that contains it"),
        ("self", ".", "leads to a folder that contains it"),
        ("root", "/", "leads to a folder that contains it"),
        ("b/round", "../../texts/d", None),
        ("circle", "circle", "a dangling link|Too many levels"),
    ],
)
def test_link_is_followed_or_refused_by_name(tmp_path: Path, link: str, target: str, message: str | None) -> None:
    texts = put(tmp_path / "texts", a_txt="a\n", b__c_txt="c\n", d__e_txt="e\n")
    (texts / link).symlink_to(target)
    if message is None:
        assert File(path=str(texts)).text() == "a\nc\ne\ne\n"
        return
    with pytest.raises(DataError, match=rf"{link}: .*({message})"):
        File(path=str(texts)).text()
    assert File(path=f"{texts}/*.txt").text() == "a\n"


@posix
def test_pipe_among_texts_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(put(tmp_path, a_txt="a\n") / "pipe")
    with pytest.raises(DataError, match=r"pipe: expected a file or a folder, got a pipe"):
        File(path=str(tmp_path)).text()


# A byte-order mark is dropped wherever a text comes from.

MARK = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def reached(tmp_path_factory) -> Path:
    """A run of characters, and the files around it."""
    folder = put(tmp_path_factory.mktemp("marks"), t_txt="abcde \n" * 200)
    words = ["train", "nanogpt_64", *tiny(train_steps=1), "--corpus", "file", "--corpus.path", str(folder / "t.txt")]
    assert run([*words, "--tokenizer", "char", "--run", str(folder / "r")]) == 0
    return folder


def test_byte_order_mark_of_prompts_is_dropped(reached: Path, capsys) -> None:
    (reached / "p.txt").write_bytes(MARK + b"abc\nbad\n")
    assert run(["sample", str(reached / "r"), "--prompts", str(reached / "p.txt"), "--max-new-tokens", "2"]) == 0
    assert "\nabc" in "\n" + capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"abc\nazb\n",
            r"p\.txt: line 2: char: 'z' \(U\+007A\) at offset 1 is not in the alphabet of 7; try without it",
        ),
        (MARK + b"abc\nde\ncaf\xe9\n", r"p\.txt: expected UTF-8, got byte 0xe9 at offset 13; .*line 3"),
        (b"ab\n" + MARK + b"c\n", r"line 2: char: .*U\+FEFF"),
        ("abc\n".encode("utf-16"), r"line 1, and the file looks like UTF-16"),
    ],
)
def test_prompt_that_cannot_be_read_is_named_with_file_and_line(reached: Path, data: bytes, message: str) -> None:
    (reached / "p.txt").write_bytes(data)
    with pytest.raises((TextError, DataError), match=message) as caught:
        run(["sample", str(reached / "r"), "--prompts", str(reached / "p.txt")])
    assert "--tokenizer.unknown" not in str(caught.value) and "--errors" not in str(caught.value)


def test_byte_order_mark_is_no_character_of_a_trained_tokenizer(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.txt").write_bytes(MARK + b"abc")
    (tmp_path / "b.txt").write_bytes(MARK + b"abd")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert run(["tokenizer", "train", "char", *files, "--out", str(tmp_path / "t.json")]) == 0
    assert "char, 4 ids" in capsys.readouterr().out
    assert run(["tokenizer", "encode", str(tmp_path / "t.json"), *files]) == 0
    assert capsys.readouterr().out == "0 1 2\n0 1 3\n"
    assert run(["tokenizer", "encode", str(tmp_path / "t.json"), *files, "--out", str(tmp_path / "ids")]) == 0
    assert "6 ids" in capsys.readouterr().out


def test_byte_order_mark_of_standard_input_is_dropped(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc")
    assert run(["tokenizer", "train", "char", str(tmp_path / "a.txt"), "--out", str(tmp_path / "t.json")]) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MARK + b"cab"), encoding="utf-8"))
    capsys.readouterr()
    assert run(["tokenizer", "encode", str(tmp_path / "t.json")]) == 0
    assert capsys.readouterr().out == "2 0 1\n"


def test_character_that_a_tokenizer_lacks_is_named_with_file_and_line(tmp_path: Path) -> None:
    put(tmp_path, a_txt="abc\n", b_txt="abc\nabz\n")
    assert run(["tokenizer", "train", "char", str(tmp_path / "a.txt"), "--out", str(tmp_path / "t.json")]) == 0
    with pytest.raises(TextError, match=r"b\.txt: line 2: char: 'z' \(U\+007A\) at offset 2"):
        run(["tokenizer", "encode", str(tmp_path / "t.json"), str(tmp_path / "b.txt")])


def test_corpus_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthr\xff\n")
    with pytest.raises(DataError, match=r"a\.txt: expected UTF-8, got byte 0xff at offset 11; .* in line 3"):
        File(path=str(tmp_path)).text()
    with pytest.raises(DataError, match=r"a\.txt: expected UTF-8, got byte 0xff at offset 11; .* in line 3"):
        run(["tokenizer", "train", "char", str(tmp_path / "a.txt"), "--out", str(tmp_path / "t.json")])
