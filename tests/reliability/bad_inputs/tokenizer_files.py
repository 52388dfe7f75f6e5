"""Invalid files of tokenizers, or of ids."""

import json
from typing import Any

from reliability.bad_input import BadInput, a_socket, having, pipe, posix, unprivileged, unreadable
from reliability.specimens import training
from signing import signed

# Name, bytes of mine.json, output of opening it.
OPENED: list[tuple[str, bytes, str]] = [
    ("empty", b"", r"mine\.json: not a tokenizer in JSON"),
    ("binary", bytes(range(256)), r"mine\.json: not a tokenizer in JSON: .*utf-8"),
    ("a list", b"[1, 2]", r'mine\.json: expected a tokenizer that nanotx saved \("nanotx": "tokenizer"\)'),
    ("of another kind", b'{"model": 3}', r"mine\.json: expected a tokenizer that nanotx saved"),
    ("of another library", b'{"model": {}}', r"mine\.json: huggingface: the library cannot read this tokenizer"),
    ("deep", b"[" * 100_000, r"mine\.json: not a tokenizer in JSON: .*recursion"),
    ("full of digits", b'{"version": 1' + b"0" * 5000 + b"}", r"mine\.json: not a tokenizer in JSON: .*digits"),
    ("larger than any", b" " * (1 << 24) + b"{}", r"mine\.json: larger than 16777216 bytes; nanotx never"),
]


def saved(**others: Any) -> bytes:
    """Return a tokenizer's file with some values changed and a digest that fits."""
    table = {
        "nanotx": "tokenizer",
        "version": 3,
        "part": "char",
        "nfc": False,
        "special_tokens": {},
        "alphabet": " abc",
    }
    return json.dumps(signed(table | others) | others).encode("ascii")


BYTE = json.dumps(signed({"nanotx": "tokenizer", "version": 3, "part": "byte"})).encode("ascii")


OPENED += [
    ("of a newer nanotx", saved(version=4), r"mine\.json: format version 4; this nanotx reads 3"),
    ("of a version beyond numbers", saved(version=1e999), r"mine\.json: format version inf; this nanotx reads 3"),
    ("of a part that is none", saved(part="chars"), r"mine\.json: .*no part named 'chars'\. Did you mean 'char'\?"),
    ("of a part that is a path", saved(part="../char"), r"mine\.json: .*no part named '\.\./char'.*Known: "),
    ("of no part", saved(part=3), r"mine\.json: part: expected the name of a tokenizer, got 3"),
    (
        "edited",
        saved(sha256="0" * 64),
        r"mine\.json: the digest does not match: .* Try an earlier copy, or train it again",
    ),
    ("without letters", saved(alphabet=""), r"mine\.json: char: an empty text has no alphabet"),
    (
        "of letters out of order",
        saved(alphabet="ba"),
        r"mine\.json: char: alphabet: expected each character once, in order",
    ),
    ("of half a letter", saved(alphabet="\ud800"), r"mine\.json: char: lone surrogate U\+D800 at offset 0"),
    ("of a number for letters", saved(alphabet=3), r"mine\.json: char: alphabet: expected str, got 3"),
    (
        "with a key too many",
        saved(size=3),
        r"mine\.json: char: 'size' is no key here; expected nfc, special_tokens, alphabet",
    ),
    (
        "of huge special tokens",
        saved(special_tokens={"<a>": 10**30}),
        r"mine\.json: char: special_tokens: expected the ids from 4 on, got",
    ),
    ("that was learned nowhere", saved(learned_from=3), r"mine\.json: learned_from: expected a table, got 3"),
]

IDS = [
    ("no numbers", "1 x 3", r"nanotx tokenizer decode: expected ids as decimal numbers, got 'x'"),
    ("numbers below zero", "1 -2", r"expected ids as decimal numbers, got '-2'"),
    (
        "numbers beyond the vocabulary",
        "1 256",
        r"byte: id 256 at index 1 is out of range; expected a whole number from 0 to 255",
    ),
    (
        "numbers beyond all",
        f"1 {10**30}",
        r"byte: id 10+ at index 1 is out of range; expected a whole number from 0 to 255",
    ),
    ("numbers of too many digits", "9" * 5000, r"decode: expected ids as decimal numbers, got '9+\.\.\.9+'"),
]


# Name of what is in the place of a file, its preparation, whether it is possible here, output.
ODD = "cannot be read: expected a plain file, got a pipe, a socket, a device"
PLACES = [
    ("a pipe", pipe("mine.json"), posix, ODD),
    ("a socket", a_socket("mine.json"), posix, ODD),
    ("a folder", having({"mine.json/x": b""}), lambda: True, "cannot be read: Is a directory"),
    ("missing", having(), lambda: True, r"there is no such file\. .*Presets: "),
    ("a secret", unreadable("mine.json"), unprivileged, "cannot be read: Permission denied"),
]


def tokenizer_files() -> list[BadInput]:
    """Return all of them."""
    opening, inputs = ("tokenizer", "encode", "mine.json", "text.txt"), list[BadInput]()
    for name, data, says in OPENED:
        prepare = having({"mine.json": data})
        inputs.append(BadInput(name=f"a tokenizer's file {name}", argv=opening, code=3, says=says, prepare=prepare))
    for name, ids, says in IDS:
        argv, prepare = ("tokenizer", "decode", "byte.json", "ids.txt"), having({"byte.json": BYTE}, ids=ids)
        inputs.append(BadInput(name=f"ids that are {name}", argv=argv, code=3, says=says, prepare=prepare))
    for name, prepare, possible, says in PLACES:
        title, says = f"a tokenizer's file that is {name}", rf"mine\.json: {says}"
        inputs.append(BadInput(name=title, argv=opening, code=3, says=says, prepare=prepare, possible=possible))
    ranks = r"mine\.tiktoken: no file of ranks can be read here: expected a plain"
    named = ("--tokenizer", "mine.tiktoken")
    prepare = pipe("mine.tiktoken")
    last = BadInput(name="a pipe for ranks", argv=training(*named), code=3, says=ranks, prepare=prepare, possible=posix)
    return [*inputs, last]
