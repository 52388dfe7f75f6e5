"""Subcommands of `nanotx tokenizer` with invalid arguments, and runs with a tokenizer that does not fit."""

from reliability.bad_input import BadInput, having
from reliability.bad_inputs.tokenizer_files import BYTE, saved
from reliability.specimens import training

# Name, arguments after `nanotx tokenizer`, exit code, output; mine.json has four characters, byte.json every byte.
CASES = [
    (
        "an export to nowhere",
        "export mine.json x --to tikton",
        2,
        r"--to tikton: no such format\. Did you mean 'tiktoken'\?",
    ),
    (
        "an export of letters as ranks",
        "export mine.json x --to tiktoken",
        3,
        r"char: a file of ranks holds byte-level tokens alone; .* Try --to",
    ),
    ("an import of nothing", "import nowhere.json", 3, r"nowhere\.json: cannot be read: No such file"),
    ("an import of ours", "import mine.json", 3, r"mine\.json: this is a tokenizer of nanotx already"),
    ("ids into a folder", "encode byte.json text.txt --out .", 2, r"--out \.: expected a file to write, got a folder"),
    (
        "processes without end",
        "encode byte.json text.txt --out x --processes 1000000",
        2,
        r"--out takes files, from 1 to 1024 processes",
    ),
    (
        "a separator that is none",
        "encode byte.json text.txt --out x --separator <a>",
        2,
        r"'<a>' is no special of this tokenizer; it has: none",
    ),
    (
        "a special that is none",
        "encode byte.json text.txt --special <a>",
        3,
        r"byte: '<a>' is no special of this tokenizer\. It has: none",
    ),
    (
        "ways to cut that there are not",
        "encode byte.json text.txt --alpha 1",
        2,
        r"--alpha draws a segmentation of a unigram .* Leave --alpha out",
    ),
    (
        "letters that were not learned",
        "encode mine.json text.txt",
        3,
        r"char: .* at offset \d+ is not in the alphabet of 4; try without it, or train with the tokenizer bpe or byte",
    ),
    ("a text that is missing", "encode byte.json nowhere.txt", 3, r"nowhere\.txt: cannot be read: No such file"),
    ("a text that is a folder", "encode byte.json .", 3, r"\.: cannot be read: Is a directory"),
    (
        "an unknown preset tokenizer",
        "encode shakespeare_chr text.txt",
        3,
        r"there is no such file\. Did you mean 'shakespeare_char'\? Presets",
    ),
    (
        "a picture of no kind",
        "compare text.txt --tokenizers byte --plot x.gif",
        2,
        r"--plot x\.gif: expected a name that ends in \.svg",
    ),
    (
        "figures into a file",
        "compare text.txt --tokenizers byte --json text.txt/x",
        4,
        r"--json text\.txt/x: cannot be written: ",
    ),
    (
        "a comparison of what there is not",
        "compare text.txt --tokenizers bpe:x",
        2,
        r"--tokenizers bpe:x: bpe has no field 'x'.* It has: vocab_size",
    ),
    (
        "a comparison of nothing",
        "compare text.txt --tokenizers ,",
        2,
        r"--tokenizers: expected a list such as char,byte,bpe:512, got nothing",
    ),
    (
        "a comparison without rounds",
        "compare text.txt --rounds 0",
        2,
        r"rounds: expected a number of at least 1, got 0",
    ),
    (
        "fewer tokens to show than none",
        "show byte.json text.txt --limit -1",
        2,
        r"limit: expected a number of at least 0, got -1",
    ),
    (
        "a page into a folder that is not there",
        "show byte.json text.txt --html no/where.html",
        4,
        r"--html no/where\.html: cannot be written",
    ),
]

# Name, value of --tokenizer and more flags of a run of a second, exit code, output.
RUNS = [
    (
        "a huge vocabulary",
        f"bpe --tokenizer.vocab-size {10**12}",
        2,
        r"tokenizer\.vocab_size: expected a number of at most 16,777,216",
    ),
    (
        "a large vocabulary",
        "bpe --tokenizer.vocab-size 5000",
        3,
        r"bpe: vocab_size=5000 cannot be reached: .*; try --tokenizer\.vocab-size \d+",
    ),
    ("a tokenizer saved nowhere", "saved", 2, r"saved: path is empty; expected a file or the name of a preset"),
    ("a tokenizer that is missing", "nowhere.json", 3, r"nowhere\.json: there is no such file\..* Presets: "),
    (
        "a tokenizer that is none",
        "shakespear_char",
        2,
        r"Did you mean 'shakespeare_char'\? A path ends in \.json or \.tiktoken",
    ),
    (
        "a tokenizer of other letters",
        "mine.json",
        3,
        r"char: '.*' \(U\+[0-9A-F]{4}\) at offset \d+ is not in the alphabet of 4; try",
    ),
    (
        "an encoding that is none",
        "tiktoken --tokenizer.encoding gpt9",
        3,
        r"tiktoken: (no encoding named 'gpt9'|the library is not installed)",
    ),
]


def tokenizer_commands() -> list[BadInput]:
    """Return all of them."""
    files = having({"mine.json": saved(), "byte.json": BYTE})
    rows = [(name, ("tokenizer", *words.split()), code, says) for name, words, code, says in CASES]
    rows += [
        (f"a run with {name}", training("--tokenizer", *words.split()), code, says) for name, words, code, says in RUNS
    ]
    return [BadInput(name=name, argv=argv, code=code, says=says, prepare=files) for name, argv, code, says in rows]
