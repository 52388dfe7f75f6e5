"""Commands, recipes, flags and parts that do not exist; values that are missing or given twice."""

from reliability.bad_input import BadInput, Prepare, having
from reliability.specimens import training

LOADED = {
    "broken": b"def half(:\n",
    "raising": b"import math\n\n\nsize = 1 / 0\n",
    "leaving": b"import sys\n\nsys.exit(3)\n",
    "binary": b"\x00\xff\xfe",
    "taking": b"from nanotx.nn.norm import Norm\n\n\n@Norm.register('rmsnorm')\nclass Mine(Norm):\n    pass\n",
}
"""Python files that --load refuses."""

# Name, arguments after `nanotx`, output.
WORDS = [
    ("no command", "", r"train NAME\|FILE\.toml"),
    ("an unknown command", "trian", r"nanotx trian: no such command\. Did you mean 'train'\? Known: .*sample"),
    ("a flag for a command", "--train", r"nanotx --train: no such command.*Known: "),
    (
        "no recipe",
        "train",
        r"nanotx train: NAME\|FILE\.toml: missing; expected one of .*, or a file such as mine\.toml",
    ),
    ("a recipe that is none", "train shakespeare_chr", r"no such recipe\. Did you mean 'shakespeare_char'\? Known: "),
    ("a recipe that is no TOML by name", "train text.txt", r"try nanotx train shakespeare_char --corpus text\.txt"),
    ("a path for a recipe", "train ../../etc/passwd", r"no such recipe\..*Known: .* name of a file ends in \.toml"),
    ("an unknown subcommand", "tokenizer trian", r"nanotx tokenizer trian: no such command\. Did you mean 'train'\?"),
    (
        "laws of a slot that is none",
        "laws atention",
        r"atention: no laws for a slot 'atention'\. Did you mean 'attention'",
    ),
    ("laws of a part that is none", "laws attention/sdpaa", r"no part named 'sdpaa'\. Did you mean 'sdpa'\?"),
    ("laws without examples", "laws norm/rmsnorm --examples 0", r"--examples: expected a number of at least 1, got 0"),
    ("laws by fewer jobs than none", "laws norm --jobs -1", r"--jobs: expected a number of at least 0, got -1"),
    ("doctor without threads", "doctor --threads -1", r"--threads: expected a number of at least 0, got -1"),
    ("doctor of many threads", "doctor --threads 1000000", r"threads: expected a number of at most 1,024, got 1000000"),
    ("a race to nowhere", "speedrun --target nan", r"--target: expected a loss above 0 such as 1\.\d+, got nan"),
    ("a race without seeds", "speedrun --seeds 0", r"--seeds: expected a number of at least 1, got 0"),
    ("a race with a seed that is none", "speedrun --seeds 2 --seed x", r"--seed: expected a whole number .* got 'x'"),
]

# Name, flags of a run of a second, output.
FLAGS = [
    ("an unknown flag", "--atention fused", r"--atention: no such flag\. Did you mean '--attention'\? .* --help"),
    (
        "an unknown field",
        "--attention.haeds 3",
        r"blockwise has no field 'haeds'\. Did you mean '--attention\.heads'\? It has:",
    ),
    (
        "a field of nothing",
        "--atention.heads 3",
        r"--atention\.heads: no such flag\. Did you mean '--attention\.heads'\?",
    ),
    ("a flag given twice", "--seed 1", r"--seed: given 2 times, with 5 and 1; give it once"),
    ("a flag given twice, once with =", "--seed=1", r"--seed: given 2 times, with 5 and 1; give it once"),
    ("a flag given twice, once with _", "--train.eval_every 1", r"--train\.eval-every: given 2 times, with 3 and 1"),
    ("a flag without a value", "--optimizer.lr", r"--optimizer\.lr.*[Ee]xpected"),
    ("a flag with an empty value", "--optimizer.lr=", r"--optimizer\.lr: expected a number"),
    (
        "a slot without a name",
        "--attention",
        r"--attention: expected one name of blockwise, .* sliding_window, got nothing",
    ),
    (
        "a slot with two names",
        "--attention sdpa fused",
        r"--attention: expected one name of blockwise, .* got sdpa fused",
    ),
    (
        "a part that is none",
        "--attention fussed",
        r"--attention: .*no part named 'fussed'\. Did you mean 'fused'\? Known:",
    ),
    (
        "a part that hides",
        "--attention _kernel",
        r"--attention: .*no part named '_kernel'.*Known: .*imported by --load",
    ),
    (
        "a part by a path",
        "--norm ../rmsnorm",
        r"--norm: .*no part named '\.\./rmsnorm'.* Known: layernorm, none, rmsnorm",
    ),
    ("a stray word", "stray", r"'stray': unexpected argument; .* --help"),
    ("a dash alone", "-x", r"-x: no such flag"),
    ("a flag without a name", "--=3", r"--: no such flag.* --help"),
    ("load of nothing", "--load", r"--load: expected a path such as mine\.py, got nothing"),
    ("load of a missing file", "--load nowhere.py", r"--load nowhere\.py: expected a Python file such as mine\.py"),
    ("load of a folder", "--load .", r"--load \.: expected a Python file such as mine\.py"),
    ("load of a text", "--load text.txt", r"--load text\.txt: expected a Python file such as mine\.py"),
    ("load of a broken file", "--load broken.py", r"--load broken\.py: cannot be imported: .*line 1"),
    (
        "load of a raising file",
        "--load raising.py",
        r"--load raising\.py: line 4 raises ZeroDivisionError: .*; correct the file",
    ),
    (
        "load of a file that ends",
        "--load leaving.py",
        r"--load leaving\.py: line 3 raises SystemExit: 3; correct the file",
    ),
    ("load of a file that is none", "--load binary.py", r"--load binary\.py: .*(cannot be imported|raises)"),
    (
        "load of a part that is there",
        "--load taking.py",
        r"registers 'rmsnorm', but nanotx\.nn\.norm\.rmsnorm\.RmsNorm already has that name; choose another",
    ),
    (
        "rope where it does not fit",
        "--position rope_ntk --position.factor 1e300",
        r"position\.factor: expected a number of at most 1,000,000",
    ),
    (
        "a position without scores to add to",
        "--attention linear --position alibi",
        r"linear: has no scores for position 'alibi' .*; try --position rope or --position none",
    ),
    (
        "dropout where there is none",
        "--attention linear --attention.dropout 0.1",
        r"attention\.dropout: linear never computes its weights.*; try 0\.0",
    ),
    (
        "more experts for a token than there are",
        "--ffn moe --ffn.top_k 9",
        r"ffn\.top_k: expected at most experts=4, got 9; try --ffn\.top-k 4, or --ffn\.experts 9",
    ),
    ("a world of experts", "--ffn moe --ffn.experts 1000000000", r"ffn\.experts: expected a number of at most 4,096"),
    (
        "heads that kv_heads does not divide",
        "--attention gqa --attention.kv_heads 3",
        r"attention: gqa: heads=2 cannot share kv_heads=3; try kv_heads from \[1, 2\]",
    ),
    (
        "two sizes of a micro-batch",
        "--train.grad-accum-steps 2 --train.micro-batch-size 1",
        r"micro_batch_size: expected it or grad_accum_steps, got both \(2\); leave one out",
    ),
]

# Name, flags that look odd and are valid, what --print-config shows.
VALID = [
    (
        "kv_heads that divides other heads",
        "--attention gqa --attention.kv_heads 1",
        r'part = "gqa" heads = 2 .*kv_heads = 1',
    ),
    ("no resuming", "--no-resume", r"seed = 5"),
    ("numbers with underlines", "--schedule.warmup 1_0", r"warmup = 10"),
    ("compiling without a word", "--compile", r"compile = true"),
    ("no compiling without a word", "--no-compile", r"compile = false"),
]

# Name, value of --run, exit code, output.
FOLDERS = [
    ("a run without a name", "", 2, r"--run: expected a path such as runs/mine, got nothing"),
    ("a run in the folder above", "..", 2, r"--run \.\.: already exists: it is not a run; choose another folder"),
    ("a run in this folder", ".", 2, r"--run \.: already exists: it is not a run; choose another folder"),
    ("a run in the place of a file", "text.txt", 2, r"--run text\.txt: already exists: .* choose another"),
    ("a run in a file", "text.txt/run", 4, r"text\.txt/run: cannot be written: .*try another --run"),
    ("a run of a name too long", "x" * 300, 4, r"x: cannot be written: .*File name too long.*try another --run"),
    ("a run some folders below", "a/b/../c", 0, r"nanotx sample a/b/\.\./c|nanotx sample a/"),
]


def flags() -> list[BadInput]:
    """Return all of them."""
    files: Prepare = having({f"{name}.py": text for name, text in LOADED.items()})
    inputs = [
        BadInput(name=name, argv=tuple(words.split()), code=2, says=says, prepare=files) for name, words, says in WORDS
    ]
    inputs += [
        BadInput(name=name, argv=training(*words.split()), code=2, says=says, prepare=files)
        for name, words, says in FLAGS
    ]
    for name, words, says in VALID:
        argv = training(*words.split(), "--print-config")
        inputs.append(BadInput(name=name, argv=argv, code=0, says=says, prepare=files))
    for name, folder, code, says in FOLDERS:
        argv = tuple(folder if word == "run" else word for word in training())
        inputs.append(BadInput(name=name, argv=argv, code=code, says=says, prepare=files))
    return inputs
