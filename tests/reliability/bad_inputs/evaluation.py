"""Arguments of `nanotx eval` that are invalid, and runs that cannot be evaluated."""

from reliability.bad_input import BadInput
from reliability.specimens import Change, put, ran, without

# Name, change of the run, arguments after `nanotx`, exit code, output.
EVALUATION: list[tuple[str, Change, str, int, str]] = [
    ("an eval of nothing", dict, "eval nowhere", 4, r"nowhere: expected a run's folder, with a recipe\.toml in it"),
    ("an eval of a file", dict, "eval text.txt", 4, r"text\.txt: expected a run's folder"),
    ("an eval without checkpoints", without("checkpoints"), "eval run", 4, r"run: no checkpoint can be read"),
    (
        "an eval without its text",
        put("recipe.toml", b""),
        "eval run --text nowhere.txt",
        3,
        r"--text nowhere\.txt: there is no such",
    ),
    ("an eval of an empty folder", dict, "eval run --text empty", 3, r"--text empty: this folder holds no text"),
    (
        "an eval of other letters",
        dict,
        "eval run --text run/recipe.toml",
        3,
        r"char: .* at offset \d+ is not in the alphabet of 7",
    ),
    (
        "an eval in windows of less than none",
        dict,
        "eval run --context -1",
        2,
        r"context: expected a number of at least 0, got -1",
    ),
    (
        "an eval in windows without end",
        dict,
        f"eval run --context {10**12}",
        2,
        r"context: expected a number of at most 2,147,483,648",
    ),
    (
        "an eval on fewer threads than none",
        dict,
        "eval run --threads -1",
        2,
        r"threads: expected a number of at least 0, got -1",
    ),
    (
        "an eval with a position that is none",
        dict,
        "eval run --position ropee",
        2,
        r"no part named 'ropee'\. Did you mean 'rope'\?",
    ),
    (
        "an eval with a position that learned",
        dict,
        "eval run --position learned",
        2,
        r"position: 'learned' cannot stand in for 'rope'",
    ),
    (
        "an eval with a factor that is none",
        dict,
        "eval run --position rope_yarn --position.factor nan",
        2,
        r"position\.factor: expected a finite number, got nan",
    ),
    (
        "an eval into a folder that is not there",
        dict,
        "eval run --json no/where.json",
        4,
        r"--json no/where\.json: cannot be written: ",
    ),
    ("an eval into a folder", dict, "eval run --json empty", 4, r"--json empty: cannot be written: Is a directory"),
]


def evaluation() -> list[BadInput]:
    """Return all of them."""
    return [
        BadInput(name=name, argv=tuple(words.split()), code=code, says=says, prepare=ran(change))
        for name, change, words, code, says in EVALUATION
    ]
