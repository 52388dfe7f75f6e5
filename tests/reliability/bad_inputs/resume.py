"""Runs that cannot be resumed, or not with these arguments."""

from reliability.bad_input import BadInput
from reliability.specimens import Change, exchanged, put, ran, stating, training

# Name, change of the run, arguments after `nanotx`, exit code, output.
RESUME: list[tuple[str, Change, tuple[str, ...], int, str]] = [
    ("a run begun where one lies", dict, training(), 2, r"--run run: already exists: continue the run with --resume"),
    (
        "a run resumed with other flags",
        dict,
        training("--resume", model_dim=32),
        2,
        r"--resume: the run differs: model\.dim was 16, not 32\. Leave these out",
    ),
    (
        "a run resumed for fewer steps",
        dict,
        training("--resume", train_steps=3),
        2,
        r"train\.steps was 6, and 3 is fewer\. Leave these out",
    ),
    (
        "a folder resumed that is no run",
        lambda files: {"notes.txt": b"mine"},
        training("--resume"),
        2,
        r"--run run: already exists: it is not a run; choose another",
    ),
    (
        "a run resumed with a broken recipe",
        put("recipe.toml", b"seed = "),
        training("--resume"),
        2,
        r"run/recipe\.toml: this is not TOML",
    ),
    (
        "a run resumed with another recipe",
        put("recipe.toml", b"[train]\nstepps = 1"),
        training("--resume"),
        2,
        r"run/recipe\.toml: train\.stepps: .*Did you mean 'steps'\?",
    ),
    (
        "a run resumed without its part",
        put("recipe.toml", b"optimizer = 'mine'"),
        training("--resume"),
        2,
        r"no part named 'mine'.* imported by --load FILE\.py",
    ),
    (
        "a run resumed with another tokenizer",
        exchanged,
        training("--resume"),
        3,
        r"trained with the tokenizer char .*, and this is byte .* Bring the old one back, or begin",
    ),
    (
        "a run resumed with no tokenizer",
        put("tokenizer.json", b"[]"),
        training("--resume"),
        3,
        r"tokenizer\.json: expected a tokenizer that nanotx saved",
    ),
    (
        "a run resumed on another text",
        dict,
        tuple("short.txt" if word == "text.txt" else word for word in training("--resume")),
        2,
        r"corpus\.path was 'text\.txt', not 'short\.txt'",
    ),
    (
        "a run resumed after its text has changed",
        stating("corpus_sha256", "0" * 64),
        training("--resume", train_steps=9),
        3,
        r"the run began with a corpus of .*SHA-256 0{12}\.\.\., .*bring the old one back, begin a new run",
    ),
    (
        "a run resumed of a newer nanotx",
        stating("format", 99),
        training("--resume", train_steps=9),
        4,
        r"format 99; this nanotx reads \d",
    ),
    (
        "a run resumed where nothing is left to do",
        dict,
        training("--resume"),
        0,
        r"run: the run is complete at step 6; nothing is left to do",
    ),
    (
        "a run resumed that never was",
        lambda files: {},
        training("--resume"),
        0,
        r"there is no run to resume, so this one begins at step 0",
    ),
]


def resume() -> list[BadInput]:
    """Return all of them."""
    return [
        BadInput(name=name, argv=argv, code=code, says=says, prepare=ran(change))
        for name, change, argv, code, says in RESUME
    ]
