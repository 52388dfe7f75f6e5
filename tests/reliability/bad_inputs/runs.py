"""Folders that are not a run, and broken runs: sampled, shown, raced against."""

from reliability.bad_input import BadInput
from reliability.specimens import Change, broken, put, ran, stating, without

# Name, change of the run, arguments after `nanotx`, exit code, output.
RUNS: list[tuple[str, Change, str, int, str]] = [
    ("a sample of nothing", dict, "sample nowhere", 4, r"nowhere: expected a run's folder, with a recipe\.toml in it"),
    (
        "a sample of a file",
        dict,
        "sample text.txt",
        4,
        r"text\.txt: expected a run's folder, with a recipe\.toml in it",
    ),
    ("a sample of an empty folder", dict, "sample empty", 4, r"empty: expected a run's folder, with a recipe\.toml"),
    ("a sample without a run", dict, "sample", 2, r"folder|RUN|FOLDER"),
    ("a sample of two runs", dict, "sample run other", 2, r"'other': unexpected argument"),
    ("a sample without checkpoints", without("checkpoints"), "sample run", 4, r"run: no checkpoint can be read"),
    (
        "a sample of broken checkpoints",
        broken,
        "sample run",
        4,
        r"run: no checkpoint can be read\. .*step-6.* \(size or SHA-256 differ\)",
    ),
    ("a sample of a missing step", dict, "sample run --step 3", 4, r"run: no checkpoint of step 3; it has \[4, 6\]"),
    (
        "a sample of a step below zero",
        dict,
        "sample run --step -1",
        4,
        r"run: no checkpoint of step -1; it has \[4, 6\]",
    ),
    (
        "a sample of a broken step",
        broken,
        "sample run --step 4",
        4,
        r"step-4/model\.safetensors: the file is not the one that was saved",
    ),
    ("a sample of a newer nanotx", stating("format", 99), "sample run", 4, r"format 99; this nanotx reads \d"),
    (
        "a sample of a format that is none",
        stating("format", None),
        "sample run",
        4,
        r"format None; this nanotx reads \d",
    ),
    (
        "a sample of another tokenizer",
        stating("tokenizer", {"part": "byte", "sha256": "0" * 64}),
        "sample run",
        3,
        r"trained with the tokenizer byte of digest 0{12}\.\.\., and this is char",
    ),
    ("a sample of a checkpoint without a tokenizer", stating("tokenizer", None), "sample run", 4, r"step-6.*tokenizer"),
    (
        "an older checkpoint where the newest is broken",
        stating("format", 2, fix=False),
        "sample run --max-new-tokens 1",
        0,
        r".",
    ),
    ("a show of nothing", dict, "show nowhere", 4, r"nowhere: expected a run's folder, with a metrics\.jsonl in it"),
    ("a show of a file", dict, "show text.txt", 4, r"text\.txt: expected a run's folder, with a metrics\.jsonl in it"),
    (
        "a show of a journal that is none",
        put("metrics.jsonl", b"[1]\n"),
        "show run",
        4,
        r"run: expected a run's folder",
    ),
    ("a show of a deep journal", put("metrics.jsonl", b"[" * 100_000), "show run", 4, r"run: expected a run's folder"),
    (
        "a show in the place of a folder",
        dict,
        "show run --plot empty",
        2,
        r"--plot empty: expected a file whose name ends in \.svg",
    ),
    (
        "a show in a folder that is not there",
        dict,
        "show run --plot no/where.svg",
        4,
        r"--plot no/where\.svg: cannot be written: No such",
    ),
    (
        "a show of no width",
        dict,
        "show run --plot x.svg --width 0",
        2,
        r"width: expected a number of at least 20, got 0",
    ),
    (
        "a show of any width",
        dict,
        f"show run --plot x.svg --width {10**9}",
        2,
        r"width: expected a number of at most 1,000, got",
    ),
    (
        "a race against a folder",
        dict,
        "speedrun shakespeare_char --records empty",
        3,
        r"--records empty: cannot be read: ",
    ),
    (
        "a race against no runs",
        dict,
        "speedrun shakespeare_char --records text.txt",
        3,
        r"--records text\.txt: line 1 is not a run of a speedrun",
    ),
]


def runs() -> list[BadInput]:
    """Return all of them."""
    return [
        BadInput(name=name, argv=tuple(words.split()), code=code, says=says, prepare=ran(change))
        for name, change, words, code, says in RUNS
    ]
