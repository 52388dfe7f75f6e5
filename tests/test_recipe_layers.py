"""What stands in several files and flags: all of them count, the last one wins each key, and flags win over files."""

import random
import tomllib

import pytest
import tomli_w
from helpers import text, tiny

import nanotx.cli.run
import nanotx.recipe_flags
from nanotx.cli.main import run as command
from nanotx.errors import ConfigError

# Keys that any recipe has, each with its flag and some values.
KEYS = {
    ("model", "dim"): ("--model.dim", [32, 48, 64, 96]),
    ("model", "layers"): ("--model.layers", [1, 2, 3]),
    ("model", "context"): ("--model.context", [16, 24, 32]),
    ("model", "softcap"): ("--model.softcap", [0.5, 20.0]),
    ("train", "steps"): ("--train.steps", [7, 8, 9]),
    ("train", "batch_size"): ("--train.batch-size", [1, 2, 3]),
    ("train", "eval_every"): ("--train.eval-every", [0, 5]),
    ("optimizer", "lr"): ("--optimizer.lr", [0.001, 0.02, 0.3]),
    ("corpus", "validation"): ("--corpus.validation", [0.1, 0.25]),
    ("seed",): ("--seed", [1, 2, 3]),
    ("threads",): ("--threads", [1, 2]),
}


def printed(capsys, *words):
    """What --print-config shows."""
    capsys.readouterr()
    assert command(["train", *map(str, words), "--print-config"]) == 0
    return capsys.readouterr().out


def set_in(table, key, value):
    """A table with a key of it set, at whatever depth."""
    *above, last = key
    for name in above:
        table = table.setdefault(name, {})
    table[last] = value


def found_in(table, key):
    for name in key:
        table = table[name]
    return table


def layers_of(case, capsys, folder):
    """Some files, some flags, and what each key is to be by the plain rule: whoever says it last."""
    draw = random.Random(f"layers {case}")
    base = tomllib.loads(printed(capsys, "shakespeare_char"))
    wanted = {key: found_in(base, key) for key in KEYS if key != ("model", "softcap")} | {("model", "softcap"): 0.0}
    files, flags = [], []
    for number in range(draw.randint(1, 3)):
        table = {}
        for key in draw.sample(sorted(KEYS), draw.randint(1, 5)):
            wanted[key] = draw.choice(KEYS[key][1])
            set_in(table, key, wanted[key])
        files.append(folder / f"{case}-{number}.toml")
        files[-1].write_text(tomli_w.dumps(table), encoding="utf-8")
    for key in draw.sample(sorted(KEYS), draw.randint(0, 4)):
        flag, values = KEYS[key]
        wanted[key] = draw.choice(values)
        flags += [flag, wanted[key]]
    shown = printed(capsys, "shakespeare_char", *files, *flags)
    result = tomllib.loads(shown)
    assert {key: found_in(result, key) for key in KEYS} == wanted
    return shown


def all_count(capsys, folder):
    """The case that tells the first file from the last."""
    (folder / "one.toml").write_text("seed = 3\n[model]\ndim = 32\nlayers = 1\ncontext = 24\n", encoding="utf-8")
    (folder / "two.toml").write_text("[model]\ndim = 48\n", encoding="utf-8")
    (folder / "three.toml").write_text("threads = 2\n", encoding="utf-8")
    files = [folder / f"{name}.toml" for name in ("one", "two", "three")]
    output = tomllib.loads(printed(capsys, "shakespeare_char", *files, "--model.layers", "2"))
    model = output["model"]
    assert (output["seed"], model["dim"], model["layers"], model["context"], output["threads"]) == (3, 48, 2, 24, 2)


def test_all_of_several_files_count_and_flags_win(capsys, tmp_path):
    all_count(capsys, tmp_path)


@pytest.mark.parametrize("case", range(4))
def test_last_layer_wins_a_key_and_the_printed_recipe_reads_back_as_itself(case, capsys, tmp_path):
    shown = layers_of(case, capsys, tmp_path)
    (tmp_path / "shown.toml").write_text(shown, encoding="utf-8")
    assert printed(capsys, tmp_path / "shown.toml") == shown
    assert printed(capsys, "shakespeare_bpe", tmp_path / "shown.toml") == shown  # whatever recipe lies below


def test_part_that_a_file_names_is_kept_by_a_later_file_of_its_fields(capsys, tmp_path):
    (tmp_path / "one.toml").write_text('[optimizer]\npart = "muon"\n[model]\nposition = "alibi"\n', encoding="utf-8")
    (tmp_path / "two.toml").write_text("[optimizer]\nlr = 0.02\n", encoding="utf-8")
    output = tomllib.loads(printed(capsys, "shakespeare_char", tmp_path / "one.toml", tmp_path / "two.toml"))
    assert (output["optimizer"]["part"], output["optimizer"]["lr"]) == ("muon", 0.02)
    assert output["model"]["position"]["part"] == "alibi"
    words = [tmp_path / "one.toml", tmp_path / "two.toml", "--optimizer", "adamw"]
    output = tomllib.loads(printed(capsys, "shakespeare_char", *words))
    assert (output["optimizer"]["part"], output["optimizer"]["lr"]) == ("adamw", 0.001)  # 0.02 was meant for muon


def test_config_error_names_the_file_with_the_mistake(tmp_path):
    for name, line in {"one": "seed = 3", "two": "sede = 4", "three": "seed = 5"}.items():
        (tmp_path / f"{name}.toml").write_text(line + "\n", encoding="utf-8")
    files = [str(tmp_path / f"{name}.toml") for name in ("one", "two", "three")]
    with pytest.raises(ConfigError, match=r"two\.toml: sede: Recipe has no such field\. Did you mean 'seed'"):
        command(["train", "shakespeare_char", *files, "--print-config"])


def resumed_with(tmp_path, capsys):
    """A run goes on with its files and flags as they were, with its own recipe, and with nothing but its folder."""
    (tmp_path / "one.toml").write_text("[model]\ndim = 16\n", encoding="utf-8")
    (tmp_path / "two.toml").write_text("[optimizer]\nlr = 0.02\n[train]\nsteps = 3\n", encoding="utf-8")
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt")), "--embedding", "tokens"]
    flags = [word for word in tiny() if "dim" not in word and "train.steps" not in word]
    flags = [word for word in flags if word not in ("16", "6")]
    run = str(tmp_path / "run")
    begun = [str(tmp_path / "one.toml"), str(tmp_path / "two.toml"), "--run", run, *corpus, *flags]
    assert command(["train", "shakespeare_char", *begun]) == 0
    recipe = (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8")
    result = tomllib.loads(recipe)
    assert (result["model"]["dim"], result["optimizer"]["lr"], result["train"]["steps"]) == (16, 0.02, 3)
    for again in (
        begun,
        [f"{run}/recipe.toml", "--run", run],
        [f"{run}/recipe.toml", str(tmp_path / "two.toml"), "--run", run],
    ):
        start = ["shakespeare_char"] if again is begun else []
        assert command(["train", *start, *again, "--resume"]) == 0
        assert (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8") == recipe
    assert "the run is complete at step 3" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"optimizer\.lr was 0\.02, not 0\.5"):
        command(["train", "shakespeare_char", *begun, "--optimizer.lr", "0.5", "--resume"])
    assert (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8") == recipe


def test_run_resumes_with_the_files_and_flags_it_was_started_with(tmp_path, capsys):
    resumed_with(tmp_path, capsys)


# Bugs, planted where layers are merged.

MERGE, POSITIONAL_ARGS = nanotx.recipe_flags.merge, nanotx.recipe_flags.positional_args


def last_alone(monkeypatch):
    """Only the last file is laid over the recipe."""
    first = []

    def merge(kind, base, over, where=""):
        first.append(base)
        return MERGE(kind, first[0], over, where)

    monkeypatch.setattr(nanotx.recipe_flags, "merge", merge)


def first_wins(monkeypatch):
    """What an earlier file says stays."""
    monkeypatch.setattr(
        nanotx.recipe_flags, "merge", lambda kind, base, over: MERGE(kind, MERGE(kind, base, over), base)
    )


def tables_replaced(monkeypatch):
    """A table in a file replaces the whole table below it."""
    monkeypatch.setattr(nanotx.recipe_flags, "merge", lambda kind, base, over: base | over)


def backwards(monkeypatch):
    """Files are laid one on the other from the last to the first."""
    monkeypatch.setattr(nanotx.recipe_flags, "positional_args", lambda argv: POSITIONAL_ARGS(argv)[::-1])


def flags_unheard(monkeypatch):
    """Flags are read, and files win."""
    apply_field_flags = nanotx.recipe_flags.apply_field_flags
    monkeypatch.setattr(
        nanotx.recipe_flags,
        "apply_field_flags",
        lambda recipe, kept, *rest: (apply_field_flags(recipe, kept, *rest), recipe)[1],
    )


@pytest.mark.parametrize("bug", [last_alone, first_wins, tables_replaced, backwards, flags_unheard])
def test_bug_planted_where_layers_are_merged_is_caught(bug, capsys, tmp_path, monkeypatch):
    bug(monkeypatch)
    with pytest.raises((AssertionError, KeyError, ConfigError)):
        all_count(capsys, tmp_path)
