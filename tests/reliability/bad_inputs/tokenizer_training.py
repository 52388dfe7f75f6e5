"""Tokenizers that cannot be trained."""

from reliability.bad_input import BadInput, having

# Name, arguments after `nanotx tokenizer train`, exit code, output.
TRAINING = [
    ("of a kind that is none", "bpee text.txt", 2, r"no part named 'bpee'\. Did you mean 'bpe'\? Known: "),
    ("of no kind", "", 2, r"nanotx tokenizer train: KIND: missing; expected one of bpe, byte, char"),
    ("from nothing", "bpe", 2, r"expected either files or --corpus NAME"),
    ("from files and a corpus", "bpe text.txt --corpus playhouse", 2, "expected either files or --corpus NAME"),
    (
        "from a file that is missing",
        "bpe nowhere.txt",
        3,
        r"nowhere\.txt: cannot be read: there is no such file or folder",
    ),
    ("from an empty file", "char empty.txt", 3, r"char: an empty text has no alphabet; try a text with at least one"),
    ("from bytes", "bpe latin.txt", 3, r"latin\.txt: expected UTF-8, got byte 0xe9 at offset 3; .* --errors replace"),
    ("of no ids", "bpe text.txt --vocab-size 0", 2, r"vocab_size: expected a number of at least 256, got 0"),
    ("of one id", "bpe text.txt --vocab-size 1", 2, r"vocab_size: expected a number of at least 256, got 1"),
    (
        "of fewer ids than none",
        "word text.txt --vocab-size -5",
        2,
        r"vocab_size: expected a number of at least 1, got -5",
    ),
    ("of a word for a number", "bpe text.txt --vocab-size many", 2, r"--vocab-size: expected a whole number"),
    (
        "of more pairs than there are",
        "bpe text.txt --vocab-size 9000",
        3,
        r"bpe: vocab_size=9000 cannot be reached: these texts allow \d+; try --vocab-size \d+, or more text",
    ),
    (
        "of more pairs than there can be",
        "bpe text.txt --vocab-size 16777216",
        3,
        r"bpe: vocab_size=16777216 cannot be reached",
    ),
    (
        "of more ids than anybody has",
        "bpe text.txt --vocab-size 1000000000000",
        2,
        r"vocab_size: expected a number of at most 16,777,216",
    ),
    (
        "of too few words",
        "word text.txt --vocab-size 3",
        3,
        r"word: vocab_size=3 is too small: these texts need at least \d+, .*; try",
    ),
    ("of too many words", "word text.txt --vocab-size 99999", 3, r"word: vocab_size=99999 cannot be reached: .*; try"),
    ("of too few letters", "unigram text.txt --vocab-size 2", 3, r"unigram: vocab_size=2 is too small: .*; try"),
    (
        "of too many substrings",
        "unigram text.txt --vocab-size 1000000",
        3,
        r"unigram: vocab_size=1000000 cannot be reached: .*; try",
    ),
    (
        "of too few parts of words",
        "wordpiece text.txt --vocab-size 3",
        3,
        r"wordpiece: vocab_size=3 is too small: .*; try",
    ),
    (
        "of too many parts of words",
        "wordpiece text.txt --vocab-size 1000000",
        3,
        r"wordpiece: vocab_size=1000000 cannot be reached",
    ),
    (
        "of pairs that never occur",
        "bpe text.txt --min-frequency 0",
        2,
        r"min_frequency: expected a number of at least 1, got 0",
    ),
    (
        "by a pattern that is none",
        "bpe text.txt --pattern gpt5",
        2,
        r"pattern: no pattern named 'gpt5'\. Did you mean 'gpt\d'\? Known: ",
    ),
    ("by half a regex", "bpe text.txt --pattern (a", 2, r"pattern: '\(a' is not a valid regex: "),
    (
        "by a regex that leaves something out",
        "bpe text.txt --pattern [a-c]",
        3,
        r"the pattern '\[a-c\]' leaves out .* at offset \d+; expected one that",
    ),
    (
        "by a regex without end",
        "bpe text.txt --pattern (?:a{1000}){1000}",
        2,
        r"pattern: expected a regex of at most 1000 characters and 10000 repeats",
    ),
    (
        "with a special twice",
        "bpe text.txt --special-tokens <a> <a>",
        2,
        r"special_tokens: '<a>': expected names of 1 to 256 whole characters, each once",
    ),
    ("into a folder", "byte text.txt --out .", 3, r"\.: no tokenizer can be written here: Is a directory"),
    (
        "into a folder that is not there",
        "byte text.txt --out no/where.json",
        3,
        r"no/where\.json: no tokenizer can be written here: No such",
    ),
]


def tokenizer_training() -> list[BadInput]:
    """Return all of them."""
    files = having({"empty.txt": b"", "latin.txt": b"caf\xe9 "})
    return [
        BadInput(
            name=f"to learn {name}", argv=("tokenizer", "train", *words.split()), code=code, says=says, prepare=files
        )
        for name, words, code, says in TRAINING
    ]
