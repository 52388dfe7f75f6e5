"""Corpora that nothing can be trained on, and some that only look so."""

from dataclasses import replace

from reliability.bad_input import BadInput, Prepare, a_socket, having, pipe, posix, unprivileged, unreadable
from reliability.specimens import CHARACTERS, Files, training

LINE = "to be or not to be, to be or not to be"
SHORT = r"data: a text of \d+ tokens has no window of model\.context=\d+ .*; try --model\.context \d+ or a longer text"

FULL = (
    r"train: 16,777,216 windows of 8 tokens a step take at least .* are free; "
    r"try a smaller --train\.micro-batch-size than"
)

# Name, files beside the usual text, path of the corpus, exit code, output.
FILES: list[tuple[str, Files, str, int, str]] = [
    ("no text", {}, "nowhere.txt", 3, r"corpus file: nowhere\.txt: there is no such file or folder"),
    ("a text of another name", {}, "txet.txt", 3, r"there is no such file or folder\. Did you mean 'text\.txt'\?"),
    ("an empty text", {"x.txt": b""}, "x.txt", 3, r"corpus file: x\.txt: there is no text in it"),
    ("a byte-order mark alone", {"x.txt": b"\xef\xbb\xbf"}, "x.txt", 3, r"corpus file: x\.txt: there is no text in it"),
    ("a text of one letter", {"x.txt": b"a"}, "x.txt", 3, r"corpus file: 1 character .* leave 1 to train on and 0 to"),
    ("a text shorter than a window", {"x.txt": b"abc abc"}, "x.txt", 3, SHORT),
    (
        "a text in Latin-1",
        {"x.txt": b"caf\xe9 " * 99},
        "x.txt",
        3,
        r"x\.txt: expected UTF-8, got byte 0xe9 at offset 3; save",
    ),
    (
        "a text in UTF-16",
        {"x.txt": "To be".encode("utf-16")},
        "x.txt",
        3,
        r"x\.txt: expected UTF-8, got byte 0xff at offset 0",
    ),
    (
        "half a surrogate",
        {"x.txt": b"abc \xed\xa0\x80"},
        "x.txt",
        3,
        r"x\.txt: expected UTF-8, got byte 0xed at offset 4",
    ),
    ("an empty folder", {"x/.unreadable": b"abc"}, "x", 3, r"corpus file: x: this folder holds no text; hidden files"),
    ("a pattern without files", {}, "*.md", 3, r"corpus file: \*\.md: no file matches; try a shorter pattern"),
    ("a name that is too long", {}, "x" * 300, 3, r"cannot be read: File name too long|there is no such file"),
    (
        "a letter that comes last alone",
        {"x.txt": f"{CHARACTERS * 100}é".encode()},
        "x.txt",
        3,
        r"validation text, .* 'é' \(U\+00E9\) .*; try",
    ),
    ("one letter again and again", {"x.txt": b"a" * 400}, "x.txt", 0, r"nanotx sample run"),
    ("NULs and escapes", {"x.txt": bytes(range(32)) * 30}, "x.txt", 0, r"nanotx sample run"),
]


def texts() -> list[BadInput]:
    """Return all of them."""
    inputs = [
        BadInput(name=f"a corpus of {name}", argv=on(path), code=code, says=says, prepare=having(files))
        for name, files, path, code, says in FILES
    ]
    play = ("train", "shakespeare_char", "--corpus", "playhouse", "--corpus.size", str(10**12), "--run", "run")
    inputs += [
        BadInput(name="a corpus without a path", argv=on(""), code=3, says="path is empty; give --corpus.path my.txt"),
        BadInput(
            name="a play without end", argv=play, code=2, says=r"corpus\.size: expected a number of at most 1,000,000,"
        ),
        sized("a context longer than the corpus", 3, SHORT, model_context=1000),
        sized("a context much longer than the corpus", 3, SHORT, model_context=2**31),
        sized(
            "no validation text",
            3,
            r"validation=0 leave 900 to train on and 0 .* try --corpus\.valid",
            corpus_validation=0,
        ),
        sized(
            "all a validation text",
            3,
            r"validation=0\.9999 leave 0 to train on .* a longer text",
            corpus_validation=0.9999,
        ),
        sized("steps larger than the memory", 2, FULL, train_batch_size=2**24, model_dim=1024, model_layers=64),
        sized("a batch larger than the data", 0, "nanotx sample run", train_batch_size=300),
        replace(sized("one line", 3, SHORT, model_context=64), prepare=having({"text.txt": LINE.encode()})),
    ]
    odd: list[tuple[str, Prepare]] = [("pipe", pipe("x.txt")), ("socket", a_socket("x.txt"))]
    plain = r"corpus file: 'x\.txt': expected a file or a folder, got a pipe or a device"
    inputs += [
        BadInput(name=f"a corpus in a {name}", argv=on("x.txt"), code=3, says=plain, prepare=prepare, possible=posix)
        for name, prepare in odd
    ]
    says = r"corpus file: x\.txt: cannot be read: Permission denied"
    return [
        *inputs,
        BadInput(
            name="a secret", argv=on("x.txt"), code=3, says=says, prepare=unreadable("x.txt"), possible=unprivileged
        ),
    ]


def on(path: str) -> tuple[str, ...]:
    """Return the arguments of a run of a second on the text at a path."""
    return tuple(path if word == "text.txt" else word for word in training())


def sized(name: str, code: int, says: str, **others: object) -> BadInput:
    """Return such a run on the usual text, with some flags changed."""
    return BadInput(name=name, argv=training(**others), code=code, says=says, prepare=having())
