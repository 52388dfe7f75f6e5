"""Invalid prompts, sampling flags and draft models, for a valid run."""

from reliability.bad_input import BadInput
from reliability.specimens import CHARACTERS, ran

# Name, arguments after `nanotx sample run`, exit code, output.
SAMPLING: list[tuple[str, tuple[str, ...], int, str]] = [
    (
        "a prompt of other letters",
        ("--prompt", "abZ"),
        3,
        r"char: 'Z' \(U\+005A\) at offset 2 is not in the alphabet of 7; try",
    ),
    (
        "a prompt of bytes that are no text",
        ("--prompt", "ab\udcff"),
        3,
        r"char: lone surrogate U\+DCFF at offset 2 is not a character; try",
    ),
    ("a prompt longer than the context", ("--prompt", CHARACTERS * 7000, "--max-new-tokens", "3"), 0, r"[a-e]"),
    ("an empty prompt", ("--prompt", "", "--max-new-tokens", "3"), 0, r""),
    ("a prompt without a value", ("--prompt",), 2, r"--prompt.*[Ee]xpected"),
    ("a prompt that begins with a dash", ("--prompt", "-abc"), 3, r"char: .-. \(U\+002D\) at offset 0"),
    (
        "prompts that are missing",
        ("--prompts", "nowhere.txt"),
        3,
        r"--prompts nowhere\.txt: cannot be read: No such file",
    ),
    ("prompts in a folder", ("--prompts", "empty"), 3, r"--prompts empty: cannot be read: Is a directory"),
    (
        "a prompt and prompts",
        ("--prompt", "a", "--prompts", "text.txt"),
        2,
        r"--prompts: expected --prompt or --prompts, got both; leave one out",
    ),
    (
        "fewer tokens than none",
        ("--max-new-tokens", "-1"),
        2,
        r"--max-new-tokens: expected a number of at least 0, got -1",
    ),
    (
        "tokens without end",
        ("--max-new-tokens", str(10**12)),
        2,
        r"--max-new-tokens: expected a number of at most 1,000,000,000",
    ),
    ("half a token", ("--max-new-tokens", "1.5"), 2, r"--max-new-tokens: expected a whole number"),
    ("cold below zero", ("--temperature", "-1"), 2, r"--temperature: expected a number of at least 0, got -1"),
    ("no temperature", ("--temperature", "nan"), 2, r"--temperature: expected a number of at least 0, got nan"),
    (
        "heat without end",
        ("--temperature", "inf"),
        2,
        r"--temperature: expected a number of at most 1,000,000, got inf",
    ),
    ("cold near zero", ("--temperature", "1e-300", "--max-new-tokens", "3"), 0, r"[a-e \n]"),
    ("a word for a temperature", ("--temperature", "warm"), 2, r"--temperature: expected a number"),
    ("a choice of none", ("--top-k", "0"), 2, r"--top-k: expected a number of at least 1, got 0"),
    ("a choice of more than there are", ("--top-k", str(10**12), "--max-new-tokens", "3"), 0, r""),
    ("top-p of 0", ("--top-p", "0"), 2, r"--top-p: expected a number above 0, at most 1, got 0"),
    ("top-p of 2", ("--top-p", "2"), 2, r"--top-p: expected a number above 0, at most 1, got 2"),
    ("top-p of NaN", ("--top-p", "nan"), 2, r"--top-p: expected a number above 0, at most 1, got nan"),
    ("a least share of all", ("--min-p", "1"), 2, r"--min-p: expected a fraction from 0 up to but not including 1"),
    ("nothing typical", ("--typical", "0"), 2, r"--typical: expected a number above 0, at most 1"),
    (
        "a penalty of nothing",
        ("--repetition-penalty", "0"),
        2,
        r"--repetition-penalty: expected a number of at least 1e-06, got 0",
    ),
    (
        "a penalty without end",
        ("--frequency-penalty", "inf"),
        2,
        r"--frequency-penalty: expected a number of at most 1,000,000",
    ),
    ("a seed below zero", ("--seed", "-1"), 2, r"--seed: expected a number of at least 0, got -1"),
    (
        "a seed without end",
        ("--seed", str(10**30)),
        2,
        r"--seed: expected a number of at least 0 and below 2\*\*63, got 10",
    ),
    ("fewer threads than none", ("--threads", "-1"), 2, r"--threads: expected a number of at least 0, got -1"),
    ("threads without end", ("--threads", str(10**9)), 2, r"--threads: expected a number of at most 1,024"),
    ("the best of none", ("--best-of", "0"), 2, r"--best-of: expected a number of at least 1, got 0"),
    ("the best of all", ("--best-of", str(10**12)), 2, r"--best-of: expected a number of at most 10,000"),
    (
        "a ban on two tokens",
        ("--banned-tokens", "ab"),
        2,
        r"--banned-tokens: expected the text of one token, got 'ab', which is 2: 'a', 'b'",
    ),
    (
        "a ban on another character",
        ("--banned-tokens", "Z"),
        3,
        r"char: 'Z' \(U\+005A\) at offset 0 is not in the alphabet of 7",
    ),
    (
        "a ban on all",
        tuple(word for item in "abcde \n" for word in ("--banned-tokens", item)),
        2,
        r"banned_tokens: expected to leave one of 7 ids at least",
    ),
    ("a ban on nothing", ("--banned-tokens",), 2, r"--banned-tokens: expected the text of a token, got nothing"),
    ("a bias without a number", ("--bias", "a=x"), 2, r"--bias a=x: expected TOKEN=NUMBER such as e=-2\.5"),
    (
        "a bias of no number",
        ("--bias", "a=nan"),
        2,
        r"--bias: 'a': expected a number of at least -1,000,000, got nan; ban a token",
    ),
    (
        "a bias without end",
        ("--bias", "a=1e300"),
        2,
        r"--bias: 'a': expected a number of at most 1,000,000, got 1e\+300",
    ),
    ("a stop before everything", ("--stop", ""), 2, r"stop: expected a text to end before, got an empty one"),
    (
        "a draft of nothing",
        ("--draft-model", "nowhere"),
        4,
        r"nowhere: expected a run's folder, with a recipe\.toml in it",
    ),
    (
        "a draft with another tokenizer",
        ("--draft-model", "other"),
        2,
        r"draft_model: other has byte of 256 ids .*, and run has char of 7 .*; a draft model needs the same tokenizer",
    ),
    (
        "a draft of no tokens",
        ("--draft-model", "run", "--draft-tokens", "0"),
        2,
        r"--draft-tokens: expected a number of at least 1, got 0",
    ),
    (
        "a draft that rolls",
        ("--draft-model", "run", "--overflow", "rolling"),
        2,
        r"overflow: a rolling cache cannot be rewound, .*; try recompute",
    ),
    (
        "a draft that is compiled",
        ("--draft-model", "run", "--compile"),
        2,
        r"compile: only single-token steps are compiled, .*; drop one",
    ),
    (
        "a lookup that rolls",
        ("--lookup", "--overflow", "rolling"),
        2,
        r"lookup: a rolling cache cannot be rewound, .*; try recompute",
    ),
    (
        "a lookup that is compiled",
        ("--lookup", "--compile"),
        2,
        r"lookup: only single-token steps are compiled, .*; drop",
    ),
    ("a lookup and a draft", ("--lookup", "--draft-model", "run"), 2, r"lookup: .* a draft model or lookup, got both"),
    ("weights of no kind", ("--weights", "int4"), 2, r"--weights: expected one of float32, bfloat16, int8, got 'int4'"),
    (
        "weights of two kinds",
        ("--weights", "int8", "--dtype", "bfloat16"),
        2,
        r"--weights: int8 is for a model in float32, got --dtype bfloat16 as well; leave one out",
    ),
    ("a cache that does what it likes", ("--overflow", "forget"), 2, r"--overflow.*recompute.*rolling"),
    ("a device that is none", ("--device", "tpu"), 2, r"--device.*auto.*cpu.*cuda.*mps"),
    ("numbers of no kind", ("--dtype", "int8"), 2, r"--dtype.*float32.*bfloat16"),
    (
        "figures into a folder that is not there",
        ("--max-new-tokens", "1", "--json", "no/where.json"),
        4,
        r"--json no/where\.json: cannot be written: No such",
    ),
    ("figures into a folder", ("--max-new-tokens", "1", "--json", "empty"), 4, r"--json empty: cannot be written: "),
    ("figures into this folder", ("--max-new-tokens", "1", "--json", "."), 4, r"--json \.: cannot be written: "),
    ("an unknown flag", ("--temprature", "1"), 2, r"--temprature: no such flag\. Did you mean '--temperature'\?"),
    ("a flag given twice", ("--seed", "1", "--seed", "2"), 2, r"--seed: given 2 times, with 1 and 2; give it once"),
]


def sampling() -> list[BadInput]:
    """Return all of them."""
    return [
        BadInput(name=f"sampling with {name}", argv=("sample", "run", *argv), code=code, says=says, prepare=ran())
        for name, argv, code, says in SAMPLING
    ]
