"""Completion offers the flags that commands take, the parts of slots, recipes and runs; and bash asks for them."""

import importlib
import shutil
import subprocess
import sys
from functools import cache

import pytest
from helpers import ROOT

from nanotx.cli.command import builtin_commands
from nanotx.cli.commands import completion
from nanotx.cli.completion import candidates, config_groups, recipe_names
from nanotx.cli.main import run
from nanotx.cli.recipe_list import recipe_summaries
from nanotx.config.flags import flags_of
from nanotx.config.registry import Slot
from nanotx.config.source import find_class
from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.init import Init
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe, Train
from nanotx.recipe_flags import Options, recipe_page
from nanotx.recipes.shakespeare_char import recipe as shakespeare_char
from nanotx.tokenizers import Tokenizer

NO_SLOT = {"model": Model, "train": Train, "init": Init}


@cache
def slots():
    kinds = dict(config_groups(find_class("nanotx.recipe", "Recipe")))
    results = [slot for slot in Slot.__subclasses__() if slot.slot in kinds and slot.package.startswith("nanotx.")]
    assert {slot.slot for slot in results} | NO_SLOT.keys() == kinds.keys()
    return results


def typed(flags):
    """The flags as they are typed; of booleans in a group the negative forms as well."""
    flags = list(flags)
    named = {flag.spelled for flag in flags}
    heads = {flag.spelled.rpartition(".") for flag in flags if flag.kind is bool}
    return named | {f"{head}.no-{last}" for head, dot, last in heads if dot}


def test_flags_of_a_recipe_are_those_of_its_fields_and_slots():
    groups = [slot.slot for slot in slots()] + [*NO_SLOT]
    expected = typed([*flags_of(Options()), *flags_of(Recipe())]) | {f"--{slot.slot}" for slot in slots()}
    assert set(candidates(["train", "x", "--"])) == expected | {"--help"} | {f"--{group}." for group in groups}


@pytest.mark.parametrize("group", NO_SLOT)
def test_flags_of_a_group_are_those_of_its_fields(group):
    assert set(candidates(["train", "x", f"--{group}."])) == typed(flags_of(NO_SLOT[group](), group))


@pytest.mark.parametrize("slot", slots(), ids=lambda slot: slot.slot)
def test_flags_of_a_slot_are_those_of_the_part_that_is_named_or_of_every_part(slot):
    flags = {name: flags_of(slot.find(name)(), slot.slot) for name in sorted(slot.shipped())}
    for name in flags:
        words = ["train", "x", f"--{slot.slot}", name, f"--{slot.slot}."]
        assert set(candidates(words)) == typed(flags[name])
    together = [flag for part in flags.values() for flag in part]
    assert set(candidates(["train", "x", f"--{slot.slot}."])) == typed(together)


def test_every_flag_of_a_recipe_is_offered():
    flags = recipe_page(shakespeare_char, "nanotx train x").flags.values()
    groups = {flag.spelled.rpartition(".")[0] for flag in flags if "." in flag.spelled}
    offered = {text for word in ("--", *(f"{group}." for group in groups)) for text in candidates(["train", "x", word])}
    assert {flag.spelled for flag in flags} <= offered


@pytest.mark.parametrize(
    "name", [name for name, command in builtin_commands().items() if find_class(command.module, "Flags")]
)
def test_flags_of_a_command_are_those_of_its_fields(name):
    fields = flags_of(importlib.import_module(f"nanotx.cli.commands.{name}").Flags)
    expected = typed(flag for flag in fields if not flag.is_argument) | {"--help"}
    offered = set(candidates([name, "--"]))
    assert expected <= offered
    if name != "speedrun":  # which takes those of a recipe, too
        assert {flag for flag in offered if not flag.startswith("--position")} <= expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["trace", "train"]),
        (["help", "sh"], ["show"]),
        (["--v"], ["--version"]),
        (["tokenizer", "en"], ["encode"]),
        (["train", "shakespeare_c"], ["shakespeare_char"]),
        (["train", "mic"], ["micropgpt"]),
        (["train", "x", "--device", ""], ["auto", "cpu", "cuda", "mps"]),
        (["train", "x", "--device=c"], ["--device=cpu", "--device=cuda"]),
        (["train", "x", "--device", "=", "c"], ["cpu", "cuda"]),  # as bash splits it
        (["train", "x", "--device", "="], ["auto", "cpu", "cuda", "mps"]),
        (["train", "x", "--compile", "t"], ["true"]),
        (["train", "x", "--train.on-nonfinite", ""], ["raise", "skip"]),
        (["train", "x", "--train.steps", ""], []),
        (["train", "x", "--resume", ""], []),
        (["train", "x", "--tokenizer", "shakespeare_bpe_1"], ["shakespeare_bpe_1024"]),
        (["train", "x", "--callback", ""], ["csv", "gradient_norms", "tensorboard", "trackio", "wandb"]),
        (["tokenizer", "encode", "shakespeare_bpe_1"], ["shakespeare_bpe_1024"]),
        (["tokenizer", "train", "b"], ["bpe", "byte"]),
        (["tokenizer", "train", "bpe", "--v"], ["--vocab-size"]),
        (["tokenizer", "train", "bpe", "--corpus.g"], ["--corpus.grammar"]),
        (["eval", "run", "--position", "rope_y"], ["rope_yarn"]),
        (["eval", "run", "--position", "rope_yarn", "--position.t"], ["--position.theta"]),
        (["laws", "attention/sd"], ["attention/sdpa"]),
        (["explain", "perplex"], ["perplexity"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["no_such_command", ""], []),
        (["train", "x", "--no-such-flag", ""], []),
        (["train", "x", "--nothing."], []),
    ],
    ids=" ".join,
)
def test_word_is_completed(words, expected):
    assert candidates(words) == expected


def test_names_are_those_that_commands_know():
    assert sorted(recipe_names()) == sorted(recipe_summaries())
    assert {*candidates(["train", "x", "--attention", ""])} == {*Attention.names()}
    presets = {path.stem for path in (ROOT / "tokenizers").glob("*.json")}
    assert {*candidates(["train", "x", "--tokenizer", ""])} == {*Tokenizer.names()} | presets
    assert {*candidates([""])} == {*builtin_commands(), "help", "--help", "--version"}


def test_runs_are_those_in_runs_and_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert candidates(["sample", ""]) == []
    for folder in ("runs/a-1", "runs/b 2", "mine", "runs/no run"):
        (tmp_path / folder).mkdir(parents=True)
        if folder != "runs/no run":
            (tmp_path / folder / "recipe.toml").touch()
    assert candidates(["sample", ""]) == ["mine", "runs/a-1", "runs/b 2"]
    assert candidates(["diff", "mine", "runs/a"]) == ["runs/a-1"]
    assert candidates(["resume", "m"]) == candidates(["train", "x", "--run", "m"]) == ["mine"]
    assert candidates(["sample", "mine", "m"]) == []


def test_command_prints_the_script_of_a_shell_and_candidates(capsys):
    for shell, script in completion.SCRIPTS.items():
        assert run(["completion", shell]) == 0
        assert capsys.readouterr().out == script
    assert run(["completion", "--candidates", "train", "shakespeare_c"]) == 0
    assert capsys.readouterr().out == "shakespeare_char\n"
    with pytest.raises(
        ConfigError, match=r"completion: expected one of bash, zsh, fish, got 'basch'\. Did you mean 'bash'\?"
    ):
        run(["completion", "basch"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_by_the_script(tmp_path):
    program = tmp_path / "nanotx"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from nanotx.cli.main import main; main()"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    lines = [
        completion.BASH,
        'nanotx_asked() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nanotx; printf "%s|" "${COMPREPLY[@]}"; echo; }',
        "complete -p nanotx",
        f'nanotx_asked "{program}" train x --attention.kv',
        f'nanotx_asked "{program}" train x --device = c',
        f'nanotx_asked "{tmp_path}/missing" tr',
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.splitlines() == [
        "complete -o default -F _nanotx nanotx", "--attention.kv-heads|", "cpu|cuda|", "|",
    ]  # fmt: skip
    assert done.stderr == ""
