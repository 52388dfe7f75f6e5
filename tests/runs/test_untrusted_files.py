"""Files that anyone may have written: whatever they hold, a command answers or refuses soon, and in little memory."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from helpers import text, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from nanotx.cli.main import run
from nanotx.errors import ConfigError, NanotxError, RunError
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.sandwich import Sandwich
from nanotx.nn.embedding import Embedding
from nanotx.nn.ffn import Ffn
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.runs.load import load

POSIX = hasattr(os, "mkfifo") and hasattr(signal, "setitimer")
pytestmark = pytest.mark.skipif(not POSIX, reason="this system has no pipes with names, or no timer to end a wait")


@contextmanager
def within(seconds):
    """Within, what takes longer fails in place of waiting for ever."""

    def late(number, frame):
        raise AssertionError(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run that nobody touched."""
    folder = tmp_path_factory.mktemp("untrusted")
    path = str(text(folder / "text.txt"))
    words = ["--corpus", "file", "--corpus.path", path]
    assert run(["train", "shakespeare_char", "--run", str(folder / "run"), *tiny(), *words]) == 0
    return folder / "run"


@pytest.fixture
def folder(sound, tmp_path):
    """A copy that may be harmed."""
    return shutil.copytree(sound, tmp_path / "run")


def seal(checkpoint):
    """Make the manifest true again, as if what was changed had been saved so."""
    names = json.loads((checkpoint / "MANIFEST.json").read_text(encoding="utf-8"))
    data = {name: (checkpoint / name).read_bytes() for name in names}
    manifest = {name: {"bytes": len(item), "sha256": hashlib.sha256(item).hexdigest()} for name, item in data.items()}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")


def newest(folder):
    return folder / "checkpoints" / "step-6"


def code(words, seconds=30):
    """The exit code of a command, an error's among them."""
    with within(seconds):
        try:
            return run([str(word) for word in words])
        except NanotxError as error:
            return error.exit_code


COMMANDS = {
    "sample": lambda folder, other: ["sample", folder, "--max-new-tokens", 1],
    "eval": lambda folder, other: ["eval", folder],
    "verify": lambda folder, other: ["verify", folder],
    "replay": lambda folder, other: ["replay", folder, "--step", 6],
    "diff": lambda folder, other: ["diff", folder, other],
    "show": lambda folder, other: ["show", folder],
    "resume": lambda folder, other: ["resume", folder, "--train.steps", 8],
}
JOURNAL = {"verify", "replay", "diff", "show", "resume"}
"""Commands that read metrics.jsonl."""


def endless(path, how):
    path.unlink(missing_ok=True)
    if how == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(how)


@pytest.mark.parametrize("command", sorted(JOURNAL))
def test_metrics_log_that_is_a_pipe_makes_no_command_wait(folder, sound, command):
    endless(folder / "metrics.jsonl", "pipe")
    assert code(COMMANDS[command](folder, sound), 10) == 4


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/tty"])
def test_metrics_log_that_is_a_link_to_a_device_is_refused(folder, device):
    endless(folder / "metrics.jsonl", device)
    with within(10), pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read: .*a plain file"):
        run(["show", str(folder)])


def test_metrics_log_that_is_a_link_to_a_plain_file_is_read(folder, tmp_path, capsys):
    (folder / "metrics.jsonl").rename(tmp_path / "elsewhere.jsonl")
    (folder / "metrics.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    assert code(["show", folder]) == 0


@pytest.mark.parametrize("name", ["summary.json", "samples.txt", "recipe.toml", "tokenizer.json"])
@pytest.mark.parametrize("how", ["pipe", "/dev/zero"])
def test_endless_file_in_a_run_does_not_block_a_resumed_run(folder, name, how):
    endless(folder / name, how)
    assert code(["resume", folder, "--train.steps", 7], 20) in (0, 2, 3, 4)
    assert code(["resume", folder], 20) in (0, 2, 3, 4)
    assert code(["verify", folder], 20) in (0, 4)


@pytest.mark.parametrize("how", ["pipe", "/dev/zero"])
def test_prompts_and_records_without_an_end_are_refused(folder, tmp_path, how):
    endless(tmp_path / "endless", how)
    assert code(["sample", folder, "--prompts", tmp_path / "endless"], 10) == 3
    assert code(["speedrun", "flash", "--target", "2", "--records", tmp_path / "endless"], 10) == 3


def test_name_with_a_nul_is_refused(folder):
    assert code(["sample", folder, "--prompts", "a\0b"]) == 3


GREEDY = {
    "experts in every layer": "layers = 10000\n[model.block]\npart = 'prenorm'\nffn = {part = 'moe', experts = 4096}\n",
    "layers": "layers = 10000\ndim = 4096\n",
    "positions": "context = 2147483648\nposition = 'learned'\n",
    "waves": "context = 2147483648\nposition = 'sinusoidal'\n",
    "n-grams": "embedding = {part = 'ngrams', max_n = 8, buckets = 2147483648}\n",
    "a wide layer": "dim = 1048576\n[model.block]\npart = 'prenorm'\nffn = {part = 'mlp', hidden_dim = 16777216}\n",
    "a long pattern": "layers = 10000\nblocks = ["
    + ", ".join(f"{{part='prenorm', ffn={{part='moe', experts={4096 - n}, top_k=1}}}}" for n in range(500))
    + "]\n",
}
SMALL = {"layers": "layers = 1\n", "context": "context = 8\n", "dim": "dim = 16\n"}


def greedy(folder, model):
    """Put a model into the recipe of a run and of its checkpoints, and sign it."""
    keys = {line.split(" = ")[0] for line in model.splitlines()}
    head = "".join(line for key, line in SMALL.items() if key not in keys)
    for file in [folder / "recipe.toml", *folder.glob("checkpoints/*/recipe.toml")]:
        lines = file.read_text(encoding="utf-8").split("\n[")
        kept = [part for part in lines if not part.startswith("model")]
        file.write_text("\n[".join(kept) + "\n[model]\n" + head + model, encoding="utf-8")
    for checkpoint in folder.glob("checkpoints/*"):
        seal(checkpoint)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"show"}))
def test_model_of_more_modules_than_any_has_is_refused_before_it_is_built(folder, sound, command):
    greedy(folder, GREEDY["experts in every layer"])
    assert code(COMMANDS[command](folder, sound), 25) in (2, 4)


@pytest.mark.parametrize("kind", sorted(GREEDY))
def test_oversized_model_in_a_signed_recipe_is_refused_by_name(folder, kind):
    greedy(folder, GREEDY[kind])
    with within(90), pytest.raises((ConfigError, RunError), match=r"modules|numbers|GiB"):
        load(folder)


@pytest.mark.parametrize("kind", sorted(GREEDY))
def test_oversized_model_in_a_recipe_is_refused_by_name_before_a_run_begins(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "text.txt")
    keys = {line.split(" = ")[0] for line in GREEDY[kind].splitlines()}
    head = "".join(line for key, line in SMALL.items() if key not in keys)
    corpus = "tokenizer = 'byte'\ncorpus = {part = 'file', path = 'text.txt'}\n"
    (tmp_path / "greedy.toml").write_text(f"{corpus}[model]\n{head}{GREEDY[kind]}", encoding="utf-8")
    with within(90), pytest.raises((ConfigError, RunError), match=r"modules|GiB"):
        run(["train", "greedy.toml", "--run", "run", "--device", "cpu"])
    assert not (tmp_path / "run").exists()


BLOCKS = (PreNorm(), Sandwich(), PreNorm(ffn=Ffn.find("moe")(experts=3, top_k=1)), PreNorm(ffn=Ffn.find("geglu")()))


@settings(max_examples=20, deadline=None)
@given(
    layers=st.integers(1, 7),
    blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    position=st.sampled_from(["rope", "learned", "sinusoidal", "alibi"]),
    embedding=st.sampled_from(["tokens", "bigram", "ngrams"]),
    tied=st.booleans(),
)
def test_size_of_a_model_is_that_of_the_built_one(layers, blocks, position, embedding, tied):
    parts = {"position": Position.find(position)(), "embedding": Embedding.find(embedding)()}
    model = Model(dim=24, layers=layers, context=8, blocks=tuple(blocks), tied=tied, **parts)
    size, built = model.size(5), model.build(5)
    assert size.parameters == sum(tensor.numel() for tensor in built.parameters())
    assert size.modules == len(list(built.modules()))


def test_ten_thousand_layers_of_the_usual_kind_may_be_asked_for():
    assert Model(dim=16, layers=10_000).size(5).modules > 100_000


HOSTILE = {
    "a huge number of steps": ("progress", "step", 10**40),
    "steps below zero": ("progress", "step", -1),
    "steps that are true": ("progress", "step", True),
    "skipped without end": ("progress", "skipped_in_row", 2**63),
    "seconds that are none": ("progress", "train_seconds", float("nan")),
    "endless seconds": ("progress", "earlier_seconds", float("inf")),
    "a best that is none": ("progress", "best", {"step": 3, "val_loss": None}),
    "a best of half a step": ("progress", "best", {"step": 2.5, "val_loss": 1.0}),
    "scores without a rate": ("progress", "scores", {"val_loss": 1.0}),
    "a table in the scores": ("progress", "scores", {"val_loss": {}, "bits_per_byte": 1.0}),
    "an optimizer's step below zero": ("optimizer", "step", -1.0),
    "an optimizer's step that is true": ("optimizer", "step", True),
    "half a scaler": ("scaler", "scale", 1.0),
    "a table where a number is": ("optimizer", "step", {}),
}


def change(folder, name, key, value):
    file = newest(folder) / "trainer.json"
    state = json.loads(file.read_text(encoding="utf-8"))
    state[name][key] = value
    file.write_text(json.dumps(state), encoding="utf-8")
    seal(newest(folder))


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_hostile_number_in_a_signed_trainer_json_is_refused(folder, what):
    change(folder, *HOSTILE[what])
    with within(20), pytest.raises(RunError, match=r"trainer\.json"):
        run(["resume", str(folder), "--train.steps", "8"])
    assert code(["sample", folder, "--max-new-tokens", 1]) == 4


@pytest.mark.parametrize(
    "name, key", [("progress", "train_seconds"), ("progress", "usual_norm"), ("optimizer", "step")]
)
def test_number_that_is_huge_and_finite_ends_in_no_traceback(folder, name, key):
    change(folder, name, key, 1e308)
    assert code(["resume", folder, "--train.steps", 7]) in (0, 4, 5)


@pytest.mark.parametrize("key", ["scale", "growth_interval", "backoff_factor"])
@pytest.mark.parametrize("value", [0, -1, 1e308, True, None])
def test_invalid_state_of_a_scaler_is_refused(folder, key, value):
    state = {
        "scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 0,
    }  # fmt: skip
    for name, number in (state | {key: value}).items():
        change(folder, "scaler", name, number)
    assert code(["sample", folder, "--max-new-tokens", 1]) == 4


def test_nan_in_the_state_of_an_optimizer_is_refused_by_name(folder):
    file = newest(folder) / "optimizer.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, file)
    seal(newest(folder))
    with pytest.raises(RunError, match=r"optimizer\.safetensors: .* is not a number in 1 of "):
        run(["resume", str(folder), "--train.steps", "8"])


@pytest.mark.parametrize("name", ["../recipe.toml", "/etc/hostname", "..", "a\0b", "a/b", "a\\b", ""])
def test_manifest_that_names_a_file_elsewhere_is_refused(folder, name):
    manifest = newest(folder) / "MANIFEST.json"
    table = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(table | {name: {"bytes": 1, "sha256": "0" * 64}}), encoding="utf-8")
    assert code(["sample", folder, "--step", 6, "--max-new-tokens", 1]) == 4


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 10_000, '{"a": ' * 9_000, "\0" * 999, "[1e999]", "\ufeff{}"])
@pytest.mark.parametrize("name", ["MANIFEST.json", "trainer.json"])
def test_invalid_table_is_refused(folder, name, content):
    (newest(folder) / name).write_text(content, encoding="utf-8")
    if name != "MANIFEST.json":
        seal(newest(folder))
    assert code(["sample", folder, "--step", 6, "--max-new-tokens", 1], 10) == 4


def test_file_that_no_memory_holds_is_refused_before_it_is_read(folder):
    for name, message in (("model.safetensors", "memory"), ("MANIFEST.json", "nanotx never writes more")):
        os.truncate(newest(folder) / name, 2**42)  # takes no room on the disk
        if name != "MANIFEST.json":
            manifest = newest(folder) / "MANIFEST.json"
            table = json.loads(manifest.read_text(encoding="utf-8"))
            table[name]["bytes"] = 2**42
            manifest.write_text(json.dumps(table), encoding="utf-8")
        with within(20), pytest.raises(RunError, match=message):
            load(folder, step=6)


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.txt", "summary.json", "recipe.toml", "tokenizer.json"])
def test_huge_file_of_a_run_is_refused_before_it_is_read(folder, name):
    (folder / name).touch()
    os.truncate(folder / name, 2**42)
    assert code(["resume", folder, "--train.steps", 7], 20) in ({0} if name == "summary.json" else {2, 3, 4})
    assert code(["verify", folder], 20) in (0, 4)


def test_prompts_that_no_memory_holds_are_refused(folder, tmp_path):
    (tmp_path / "huge.txt").touch()
    os.truncate(tmp_path / "huge.txt", 2**42)
    assert code(["sample", folder, "--prompts", tmp_path / "huge.txt"], 10) == 3


START = {"event": "start", "step": 0, "steps": 1, "tokens_per_step": 1, "title": "", "floor": None}
STEP = {"event": "step", "step": 7, "loss": 1, "grad_norm": 1, "lr": 1, "tokens_per_second": 1}
ROWS = {
    "a step below zero": {"event": "end", "step": -1},
    "a step of many digits": {"event": "end", "step": 10**4000},
    "a step that is true": {"event": "end", "step": True},
    "steps of many digits": START | {"steps": 10**400},
    "a loss that is none": STEP | {"loss": float("nan")},
    "an endless loss": STEP | {"loss": float("inf")},
}
LINES = {name: json.dumps(row).encode("ascii") + b"\n" for name, row in ROWS.items()} | {
    "tables without end": b'{"event": ' * 50_000 + b"\n",
    "a number of many digits": b'{"event": "end", "step": ' + b"1" * 5_000 + b"}\n",
    "NUL bytes": b"\0" * 5_000 + b"\n",
    "no text": b"\xff\xfe\n",
    "a number beyond all": b'{"event": "eval", "step": 7, "train_loss": 1e999, "val_loss": 1, "bits_per_byte": 1}\n',
}


@pytest.mark.parametrize("what", sorted(LINES))
def test_hostile_line_of_metrics_jsonl_is_reported_by_verify_and_dropped_by_a_resumed_run(folder, what, capsys):
    *rows, last = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_bytes(b"".join([*rows, LINES[what], last]))
    assert code(["show", folder]) == 0
    assert code(["verify", folder]) == 4
    assert "is not a row" in " ".join(capsys.readouterr().out.split())
    assert code(["resume", folder, "--train.steps", 7]) == 0
    rows = list(map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()))
    assert [row["step"] for row in rows if row["event"] == "step"] == list(range(1, 8))


def test_line_longer_than_any_row_is_left_out(folder):
    file = folder / "metrics.jsonl"
    rows = file.read_bytes()
    with file.open("r+b") as journal:
        journal.seek(2**27)  # zeros, which take no room on the disk
        journal.write(b"\n" + rows.splitlines(keepends=True)[-1])
        journal.seek(0)
        journal.write(rows)
    assert code(["verify", folder]) == 4
    assert code(["show", folder]) == 0


@pytest.mark.parametrize("command", [["sample", "run"], ["show", "run"], ["verify", "run"], ["--version"]])
@pytest.mark.parametrize("stream", [">&-", ">/dev/full"])
def test_what_cannot_be_printed_is_an_error_and_no_traceback(sound, command, stream):
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m nanotx {' '.join(command)} {stream}"],
        cwd=sound.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert "the standard output cannot be written" in done.stderr
