"""Recipes in TOML that are invalid; and some that only look odd: tabs, a byte-order mark, other line endings."""

from dataclasses import replace

from reliability.bad_input import BadInput, Prepare, a_socket, having, pipe, posix, unprivileged, unreadable

DEEP = "model." + "block." * 40 + "part = 'shift'\n"
NESTED = "\n".join(f"[model.block{'.block' * depth}]\npart = 'shift'" for depth in range(40))

# Name, text of mine.toml, output.
TABLES = [
    (
        "a key that is none",
        "[train]\nstepps = 3",
        r"mine\.toml: train\.stepps: Train has no such field\. Did you mean 'steps'\?",
    ),
    (
        "a table that is none",
        "[trian]\nsteps = 3",
        r"mine\.toml: trian: Recipe has no such field\. Did you mean 'train'\? It has:",
    ),
    ("a key twice", "seed = 1\nseed = 2\n", r"mine\.toml: this is not TOML: Cannot overwrite a value \(at line 2"),
    ("a table twice", "[train]\nsteps = 1\n[train]\nbatch = 2", r"mine\.toml: this is not TOML: .*at line 3"),
    (
        "a table in the place of a number",
        "[train.steps]\nx = 1",
        r"train\.steps: expected int such as 2000, got dict \{'x': 1\}",
    ),
    ("a number in the place of a table", "train = 3", r"mine\.toml: train: expected a table, got int 3"),
    (
        "a list of tables in the place of one",
        "[[train]]\nsteps = 1",
        r"train: expected a table, got list \[\{'steps': 1\}\]",
    ),
    (
        "a number in the place of a slot",
        "optimizer = 3",
        r'optimizer: expected the name of a part such as "adamw", or a table with `part`, got int 3',
    ),
    ("a part without a name", "[optimizer]\npart = 3", r"optimizer: expected the name of a part such as .*, got dict"),
    ("a part that is none", "tokenizer = 'bpee'", r"tokenizer: .*no part named 'bpee'\. Did you mean 'bpe'\?"),
    (
        "a field that is another part's",
        "optimizer = 'adamw'\n[schedule]\npart = 'constant'\nwarmup = 3",
        r"schedule\.warmup: Constant has no such field.*It has none",
    ),
    (
        "a block and blocks",
        "[model]\nblock = 'prenorm'\nblocks = ['prenorm']",
        r"blocks: expected either block or blocks, got both; leave one out",
    ),
    ("blocks that are no list", "[model]\nblocks = 'prenorm'", r"model\.blocks: expected a list, got str 'prenorm'"),
    ("blocks of numbers", "[model]\nblocks = [3]", r"model\.blocks\[0\]: expected the name of a part such as"),
    (
        "a word in the place of a number",
        "[train]\nsteps = '10k'",
        r"train\.steps: expected int such as \d+, got str '10k'",
    ),
    (
        "a fraction in the place of a number",
        "[train]\nsteps = 1.5",
        r"train\.steps: expected int such as \d+, got float 1\.5",
    ),
    ("truth in the place of a number", "seed = true", r"seed: expected int such as 1337, got bool True"),
    ("a number in the place of truth", "[model]\ntied = 1", r"model\.tied: expected bool such as True, got int 1"),
    ("a day in the place of a number", "seed = 1979-05-27", r"seed: expected int such as 1337, got date"),
    ("a device that is none", "device = 'tpu'", r"device: expected one of 'auto', 'cpu', 'cuda', 'mps', got 'tpu'"),
    ("a device that is a table", "device = {x = 1}", r"device: expected one of 'auto', .* got \{'x': 1\}"),
    (
        "betas that are too few",
        "[optimizer]\nbetas = [0.9]",
        r"optimizer\.betas: expected 2 values such as \(0\.9, 0\.99\), got \[0\.9\]",
    ),
    ("no number", "[optimizer]\nlr = nan", r"optimizer\.lr: expected a finite number, got nan"),
    ("no end of a number", "[optimizer]\nlr = inf", r"optimizer\.lr: expected a finite number, got inf"),
    (
        "a number of many digits",
        f"seed = {10**40}",
        r"mine\.toml: seed: expected a whole number of 64 bits, got one of 13\d",
    ),
    ("a number of too many digits", f"seed = 1{'0' * 5000}", r"mine\.toml: .*(digits|64 bits)"),
    (
        "a number of too many digits in hexadecimal",
        f"device = 0x{'f' * 9999}",
        r"mine\.toml: device: expected a whole number of 64 bits, got one of 39997",
    ),
    (
        "a dotted key of many parts",
        DEEP,
        r"mine\.toml: model\.block\..*: expected at most 32 tables in one another, got more",
    ),
    (
        "blocks in blocks in blocks",
        NESTED,
        r"mine\.toml: model\.block\..*: expected at most 32 tables in one another, got more",
    ),
    ("lists in lists in lists", f"seed = {'[' * 20000}", r"mine\.toml: this is not TOML: .*recursion"),
    (
        "a key of parts without end",
        f"{'a.' * 30000}a = 1",
        r"mine\.toml: expected at most 131,072 bytes, and 256 dots in a line; this is not a recipe",
    ),
    ("a recipe without end", "#\n" * 100_000, r"mine\.toml: expected at most 131,072 bytes, .*; this is not a recipe"),
    ("another language", '{"train": {"steps": 3}}', r"mine\.toml: this is not TOML: .*at line 1"),
    ("a text that breaks off", "[train\nsteps = 3", r"mine\.toml: this is not TOML: .*at line 1"),
]

# Name, bytes of mine.toml, exit code, output.
BYTES = [
    ("bytes that are no UTF-8", b"seed = 1 # caf\xe9", 2, r"mine\.toml: expected UTF-8, got byte 0xe9 at offset 14"),
    ("bytes of two a letter", "seed = 1".encode("utf-16"), 2, r"mine\.toml: expected UTF-8, got byte 0xff at offset 0"),
    ("a NUL", b"seed = 1\x00\n", 2, r"mine\.toml: this is not TOML: .*line 1, column"),
    (
        "an end in the middle of a letter",
        b"seed = 1 # \xc3",
        2,
        r"mine\.toml: expected UTF-8, got byte 0xc3 at offset 11",
    ),
    ("tabs", b"seed\t=\t7\n[train]\n\tsteps\t=\t4\n", 0, r"seed = 7.*steps = 4"),
    ("a byte-order mark", b"\xef\xbb\xbfseed = 7\n", 0, r"seed = 7"),
    ("the line ends of Windows", b"seed = 7\r\n[train]\r\nsteps = 4\r\n", 0, r"seed = 7.*steps = 4"),
    ("the line ends of an old Macintosh", b"seed = 7\r[train]\rsteps = 4\r", 0, r"seed = 7.*steps = 4"),
    ("nothing", b"", 0, r"seed = 1337"),
]

ODD = [("pipe", pipe("mine.toml")), ("socket", a_socket("mine.toml"))]


def recipe_files() -> list[BadInput]:
    """Return all of them."""
    files = [(name, text.encode("utf-8"), 2, says) for name, text, says in TABLES] + BYTES
    inputs = [shown(name, having({"mine.toml": data}), code, says) for name, data, code, says in files]
    inputs += [
        shown("nothing, because it is missing", having(), 2, r"mine\.toml: there is no such file"),
        shown("nothing, because it is a folder", having({"mine.toml/x": b""}), 2, r"mine\.toml: cannot be read: "),
    ]
    odd = r"mine\.toml: cannot be read: expected a plain file, got a pipe, a socket, a device"
    inputs += [replace(shown(f"nothing, because it is a {name}", write, 2, odd), possible=posix) for name, write in ODD]
    denied = shown(
        "nothing, because nobody may read it", unreadable("mine.toml"), 2, r"mine\.toml: cannot be read: Perm"
    )
    return [*inputs, replace(denied, possible=unprivileged)]


def shown(name: str, prepare: Prepare, code: int, says: str) -> BadInput:
    """Return the input `--print-config` for mine.toml."""
    argv = ("train", "mine.toml", "--print-config")
    return BadInput(name=f"TOML with {name}", argv=argv, code=code, says=says, prepare=prepare)
