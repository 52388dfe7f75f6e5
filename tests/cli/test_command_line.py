"""What every command has: a sentence for each flag, help, the same default for the device, texts that begin with -."""

import hashlib
import json
import pkgutil
import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import python, tiny

import nanotx
import nanotx.cli.commands
from nanotx.cli.command import builtin_commands
from nanotx.cli.entry import exit_code
from nanotx.cli.main import main, run
from nanotx.errors import ConfigError, DataError, NanotxError, RunError, TokenizerError, UnknownPart
from nanotx.optim.schedules.cosine import Cosine
from nanotx.optim.schedules.wsd import Wsd
from nanotx.recipe import Recipe
from nanotx.runs.start_warnings import warmup_warning
from nanotx.tokenizers import Tokenizer

COMMANDS = [name.name for name in pkgutil.iter_modules(nanotx.cli.commands.__path__)]
SUBCOMMANDS = [f"tokenizer {name}" for name in ("encode", "decode", "show", "compare", "export", "import")]
KINDS = [f"tokenizer train {name}" for name in Tokenizer.names() if name != "saved"]


def helped(words: str, capsys, monkeypatch) -> str:
    """The page that a command prints of itself."""
    monkeypatch.setenv("COLUMNS", "80")
    try:
        assert run([*shlex.split(words), "--help"]) == 0
    except SystemExit as end:
        assert end.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [*sorted({*COMMANDS} - {"train", "tokenizer"}), *SUBCOMMANDS, *KINDS])
def test_every_command_has_a_page_of_one_look(command: str, capsys, monkeypatch) -> None:
    page = helped(command, capsys, monkeypatch)
    assert re.match(rf"Usage: nanotx {command}[^\n]* \[options\]\n\n[A-Z].*?[.:]\n", page, re.DOTALL)
    assert re.search(r"^Options:\n(  .*\n)*  -h, --help +show this page and exit$", page, re.MULTILINE)
    assert re.search(rf"^Examples:\n  nanotx {command.split()[0]}", page, re.MULTILINE)
    assert all(len(line) < 100 for line in page.splitlines())


@pytest.mark.parametrize("command", [*sorted({*COMMANDS} - {"train", "tokenizer", "speedrun"}), *SUBCOMMANDS])
def test_arguments_of_a_command_are_those_that_the_list_of_commands_shows(command, capsys, monkeypatch) -> None:
    words = command.split()
    commands = builtin_commands("nanotx.cli.commands" if len(words) == 1 else "nanotx.cli.commands.tokenizer")
    usage = f"Usage: nanotx {command} {commands[words[-1]].usage}".rstrip()
    assert helped(command, capsys, monkeypatch).startswith(f"{usage} [options]\n")


@pytest.mark.parametrize("words", ["train --help", "train -h", "tokenizer --help", "tokenizer train --help"])
def test_command_that_expects_a_name_explains_itself_without_one(words: str, capsys) -> None:
    assert run(shlex.split(words)) == 0
    text = capsys.readouterr().out
    assert (
        ("macbook" in text and "shakespeare_char" in text)
        if "tokenizer" not in words
        else "TOKENIZER" in text or "unigram" in text
    )


@pytest.mark.parametrize("command", ["train nanogpt_64", "sample", "eval"])
def test_device_is_chosen_alike_by_every_command(command: str, capsys, monkeypatch) -> None:
    text = re.sub(r"\s+", " ", helped(command, capsys, monkeypatch))
    assert re.search(r"--device [a-z|]+ +device to run on; (auto|run) for [^(]*\(default: auto\)", text)


@pytest.fixture(scope="module")
def reached(tmp_path_factory) -> Path:
    """A run of characters."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "t.txt").write_text("- abc1 --x \n" * 100, encoding="utf-8")
    words = ["train", "nanogpt_64", *tiny(train_steps=2), "--corpus", "file", "--corpus.path", str(folder / "t.txt")]
    assert run([*words, "--tokenizer", "char", "--run", str(folder / "r")]) == 0
    return folder


@pytest.mark.parametrize("prompt", ["-x", "--x", "- a", "-", "--", "-1", "--xa-b"])
@pytest.mark.parametrize("joint", [" ", "="])
def test_prompt_may_begin_with_a_hyphen(reached: Path, prompt: str, joint: str, capsys) -> None:
    words = ["--prompt", prompt] if joint == " " else [f"--prompt={prompt}"]
    assert run(["sample", str(reached / "r"), *words, "--max-new-tokens", "0"]) == 0
    assert capsys.readouterr().out == f"{prompt}\n"


def test_prompt_spelled_like_a_flag_is_the_flag(reached: Path) -> None:
    with pytest.raises((SystemExit, NanotxError)):
        run(["sample", str(reached / "r"), "--prompt", "--seed", "3"])


def test_path_and_a_text_may_begin_with_a_hyphen(reached: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(reached)
    (reached / "-t.txt").write_text("- abc1 --x \n" * 100, encoding="utf-8")
    assert (
        run(["train", "nanogpt_64", *tiny(train_steps=1), "--corpus", "file", "--corpus.path", "-t.txt", "--run", "-r"])
        == 0
    )
    assert run(["tokenizer", "show", "r/tokenizer.json", "--text", "-x"]) == 0
    assert json.loads((reached / "-r" / "summary.json").read_text(encoding="utf-8"))["steps"] == 1


def test_message_of_sample_names_no_flag_of_training(reached: Path) -> None:
    for words in (["--prompt", "aZ"], ["--stop", "Z", "--prompt", "Z"]):
        with pytest.raises(NanotxError, match=r"'Z' \(U\+005A\) at offset \d") as caught:
            run(["sample", str(reached / "r"), *words])
        assert "--tokenizer" not in str(caught.value)


def test_message_of_tokenizer_train_names_the_flags_that_it_has(reached: Path) -> None:
    for kind in ("bpe", "word", "wordpiece", "unigram"):
        with pytest.raises(TokenizerError, match=r"try .*--(vocab-size|unknown)") as caught:
            run(
                [
                    "tokenizer",
                    "train",
                    kind,
                    str(reached / "t.txt"),
                    "--vocab-size",
                    "4000",
                    "--out",
                    str(reached / "x"),
                ]
            )
        assert "--tokenizer." not in str(caught.value)


@pytest.mark.parametrize(
    ("message", "advice"),
    [(2, "older nanotx wrote it: continue with that version"), (99, "upgrade"), (None, "--step N")],
)
def test_checkpoint_of_another_format_is_refused_with_what_to_do(
    reached: Path, tmp_path: Path, message: object, advice: str
) -> None:
    shutil.copytree(reached / "r", tmp_path / "r")
    for folder in (tmp_path / "r" / "checkpoints").iterdir():
        state = json.loads((folder / "trainer.json").read_text(encoding="utf-8")) | {"format": message}
        data = json.dumps(state).encode()
        (folder / "trainer.json").write_bytes(data)
        manifest = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
        manifest["trainer.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(RunError, match=re.escape(f"format {message!r}")) as caught:
        run(["sample", str(tmp_path / "r")])
    assert advice in str(caught.value) and ("upgrade" in str(caught.value)) == (message == 99)


@pytest.mark.parametrize("words", [["sample"], ["resume"], ["verify"], ["replay", "--step", "1"], ["eval"]])
def test_run_folder_of_an_older_format_is_refused(reached: Path, tmp_path: Path, words: list[str], capsys) -> None:
    shutil.copytree(reached / "r", tmp_path / "r")
    for file in (tmp_path / "r").rglob("recipe.toml"):
        text = file.read_text(encoding="utf-8")
        assert "batch_size = " in text
        file.write_text(text.replace("batch_size = ", "batch = "), encoding="utf-8")
        data = file.read_bytes()
        if (manifest := file.parent / "MANIFEST.json").exists():
            entry = {"recipe.toml": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
            listed = json.loads(manifest.read_text(encoding="utf-8")) | entry
            manifest.write_text(json.dumps(listed), encoding="utf-8")
    try:
        assert run([words[0], str(tmp_path / "r"), *words[1:]]) == 4
        output = capsys.readouterr().out
    except RunError as error:
        output = str(error)
    assert "recipe.toml: format 2; this nanotx reads 4. An older nanotx wrote it" in output


# A terminal's size from the environment.


@pytest.mark.parametrize("columns", ["0", "00", "²", "-1", "wide", "99999999999999", "80"])
def test_terminal_of_zero_columns_is_printed_to(reached: Path, columns: str) -> None:
    for words in (["show", "r"], ["eval", "r"]):
        done = python("-m", "nanotx", *words, cwd=reached, COLUMNS=columns, LINES=columns)
        assert done.returncode == 0 and "loss" in done.stdout, done.stderr


# A warm-up longer than the run.


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ("--schedule cosine", True),
        ("--schedule cosine --schedule.warmup 6", True),
        ("--schedule cosine --schedule.warmup 3", False),
        ("--schedule cosine --schedule.warmup 0", False),
        ("--schedule wsd --schedule.warmup 50", True),
        ("--schedule wsd --schedule.warmup 2", False),
        ("--schedule constant", False),
    ],
)
def test_warm_up_longer_than_the_run_is_a_warning(
    reached: Path, tmp_path: Path, words: str, warned: bool, capsys
) -> None:
    corpus = ["--corpus", "file", "--corpus.path", str(reached / "t.txt"), "--run", str(tmp_path / "r")]
    assert run(["train", "nanogpt_64", *tiny(), *corpus, *words.split()]) == 0
    assert ("its warm-up is too long" in capsys.readouterr().out) == warned


@pytest.mark.parametrize("steps", [1, 7, 60, 250])
def test_warm_up_that_a_warning_proposes_is_short_enough(steps):
    for schedule in (Wsd(warmup=200), Cosine(warmup=400)):
        warning = warmup_warning(schedule, steps)
        (proposed,) = re.findall(r"try --schedule.warmup (\d+)", warning)
        assert warmup_warning(replace(schedule, warmup=int(proposed)), steps) == ""


# A text of one's own is named by its path; what was probably meant is named in full.


@pytest.mark.parametrize("name", ["diary.txt", "texts", "texts/*.txt", "./texts"])
def test_corpus_is_named_by_a_path_or_a_part(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "diary.txt", tmp_path / "texts" / "a.txt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("Today it rained, and tomorrow it will rain again.\n" * 40, encoding="utf-8")
    words = ["--corpus", name, "--print-config"]
    assert run(["train", "macbook", *words]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert printed["corpus"] == {"part": "file", "path": name, "validation": 0.1, "documents": "join"}
    assert run(["train", "macbook", *tiny(), "--corpus", name, "--run", "r"]) == 0
    assert "swapped: corpus" not in capsys.readouterr().out


def test_unknown_corpus_is_refused_with_what_it_could_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diary.txt").touch()
    with pytest.raises(UnknownPart, match=r"'tiny_shakespear'.*Did you mean 'tiny_shakespeare'.*named by its path"):
        run(["train", "macbook", "--corpus", "tiny_shakespear"])
    with pytest.raises(DataError, match=r"diry\.txt: there is no such file or folder\. Did you mean 'diary\.txt'"):
        run(["train", "macbook", "--corpus", "diry.txt"])
    (tmp_path / "mine.toml").touch()
    with pytest.raises(ConfigError, match=r"mime\.toml: there is no such file\. Did you mean 'mine\.toml'"):
        run(["train", "mime.toml"])
    with pytest.raises(ConfigError, match=r"none/of/it\.toml: there is no such file\.$"):
        run(["train", "macbook", "none/of/it.toml"])


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--heads", "'--attention.heads'"),
        ("--dim", "'--model.dim'"),
        ("--steps", "'--train.steps'"),
        ("--lr", "'--optimizer.lr'"),
        ("--dropout", "'--attention.dropout' or '--block.dropout' or '--model.dropout'"),
        ("--train.dim", "'--model.dim'"),
        ("--ofset", "'--seed'|See nanotx train"),
    ],
)
def test_flag_without_its_slot_is_answered_with_the_flag_in_full(flag, meant):
    with pytest.raises(ConfigError, match=rf"{flag}: .*({meant})"):
        run(["train", "nanogpt_64", flag, "4"])


@pytest.mark.parametrize("size", ["2", "16"])
def test_several_processes_without_a_launcher_are_refused_by_name(monkeypatch, size):
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError, match=r"^RANK=: expected a number, as torchrun sets it .* or unset WORLD_SIZE"):
        run(["train", "macbook"])
    with pytest.raises(ConfigError, match=rf"WORLD_SIZE={size}: nanotx.train trains in one process.* --ranks N"):
        nanotx.train(Recipe())


def test_one_process_under_a_launcher_is_a_run_as_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run(["train", "macbook", *tiny(), "--corpus", "playhouse", "--run", str(tmp_path / "r")]) == 0


# Words in the wrong place, or none.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train", r"^nanotx train: NAME\|FILE\.toml: missing; expected one of .*flash.*, or a file such as mine\.toml"),
        ("train --steps 5 flash", r"^nanotx train: .*before the flags; try: nanotx train flash --steps 5$"),
        ("train --seed 1 my.toml --resume", r"before the flags; try: nanotx train my\.toml --seed 1 --resume$"),
        ("train shakespear_char", r"^nanotx train shakespear_char: no such recipe\. Did you mean 'shakespeare_char'\?"),
        ("train flash --train.steps 5 my.toml", r"'my\.toml': unexpected argument; .*flash \[FILE\.toml \.\.\.\]"),
        ("train flash --run=", r"^--run: expected a path such as runs/mine, got nothing"),
        ("train flash --load", r"^--load: expected a path such as mine\.py, got nothing"),
        ("train my.toml --steps 5", r"^my\.toml: there is no such file"),
        ("sample", r"^nanotx sample: RUN: missing \(folder of the run\)\. See nanotx sample --help\."),
        ("sample r extra", r"^nanotx sample: 'extra': unexpected argument; usage: nanotx sample RUN \[options\]"),
        ("sample r --seed -1", r"--seed: .*-1"),
        ("sample r --top-k=", r"^nanotx sample: --top-k: expected a whole number or none, got ''"),
        ("sample r --json ", r"^nanotx sample: --json: expected a file, got nothing"),
        ("resume", r"^nanotx resume: RUN: missing; it comes before the options"),
        ("resume r s", r"^nanotx resume: RUN: expected one, got r s"),
        ("diff r", r"^nanotx diff: RUN RUN: missing \(folders of the two runs\)"),
        ("replay r", r"^nanotx replay: --step: missing; expected a whole number"),
        ("laws --jobs=-1", r"^nanotx laws: --jobs: expected a number of at least 0, got -1"),
        ("doctor now", r"^nanotx doctor: 'now': unexpected argument; usage: nanotx doctor \[options\]"),
        ("tokenizer train", r"^nanotx tokenizer train: KIND: missing; expected one of bpe, byte, char"),
        ("tokenizer encode", r"^nanotx tokenizer encode: TOKENIZER: missing \(path of a tokenizer"),
        ("tokenizer export t p", r"^nanotx tokenizer export: --to: missing; expected FORMAT \(format to write"),
    ],
)
def test_missing_or_misplaced_argument_is_answered_with_the_one_that_belongs_there(words, message):
    with pytest.raises(NanotxError, match=message) as error:
        run(words.split(" ") if words.endswith(" ") else words.split())
    assert error.value.exit_code == 2


def test_page_of_train_lists_recipes_and_the_flags_used_most(capsys, monkeypatch):
    page = helped("train", capsys, monkeypatch)
    assert page.startswith("Usage: nanotx train NAME|FILE.toml [FILE.toml ...] [options]\n")
    assert re.search(r"^  shakespeare_char +A character-level transformer", page, re.MULTILINE)
    assert re.search(r"^  flash +A model of some seconds", page, re.MULTILINE)
    assert re.search(r"^Most used:\n  --run DIR", page, re.MULTILINE) and "nanotx train NAME --help shows every" in page
    assert "--attention NAME" in page and "default: " not in page, "defaults differ from recipe to recipe"


def test_help_comes_before_or_after_the_command(capsys, monkeypatch):
    page = helped("show", capsys, monkeypatch)
    with pytest.raises(SystemExit):
        run(["help", "show"])
    assert capsys.readouterr().out == page


def test_recipe_run_as_a_module_names_itself_in_its_errors_and_its_help(tmp_path):
    for words, code in (["--help"], 0), (["--steps", "3"], 2):
        done = python("-m", "nanotx.recipes.shakespeare_char", *words)
        text = done.stdout + done.stderr
        assert done.returncode == code and "python -m nanotx.recipes.shakespeare_char" in text.splitlines()[0]
    assert "Did you mean '--train.steps'? See python -m nanotx.recipes.shakespeare_char --help." in text


def test_error_is_broken_between_words_on_a_terminal_and_is_one_line_elsewhere(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert exit_code(lambda: run(["trian"])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith("ConfigError: nanotx trian: no such command.")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert exit_code(lambda: run(["trian"])) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 3 and all(len(line) <= 40 for line in lines) and " ".join(lines) == line.strip()


@pytest.mark.parametrize("words", [["--version"], ["--", "--version"]])
def test_dashes_before_the_command_are_those_of_torchrun(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nanotx", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert capsys.readouterr().out == f"nanotx {nanotx.__version__}\n"
