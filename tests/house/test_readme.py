"""What the README says is so: its first lines, its attention in one file, its commands."""

import re
from dataclasses import replace

import pytest
from helpers import ROOT, tiny

import nanotx
from nanotx.cli.main import run as nanotx_command
from nanotx.config.registry import load_file
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError
from nanotx.laws.all_laws import laws_on
from nanotx.laws.runner import attempt
from nanotx.nn.attention import Attention
from nanotx.recipe import Train
from nanotx.recipes import shakespeare_char

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory):
    """The README's attention, in a file of its own, known to the registry."""
    (code,) = [code for kind, code in BLOCKS if kind == "python" and "Attention.register" in code]
    file = tmp_path_factory.mktemp("mine") / "sigmoid.py"
    file.write_text(code, encoding="utf-8")
    load_file(file)
    yield file
    del Attention.registered["sigmoid"]


def test_first_two_code_blocks_are_one_line_each():
    first, second = BLOCKS[0][1], BLOCKS[1][1]
    assert first == "python -m pip install -c constraints.txt -e . && python -m nanotx.recipes.shakespeare_char\n"
    assert second == 'python -m pip install -c constraints.txt -e ".[dev]" && python -m pytest\n'


def test_readmes_attention_obeys_every_law(sigmoid):
    for law in laws_on("attention/sigmoid"):
        verdict = attempt(law, Attention.find("sigmoid"), examples=20)
        assert verdict.passed, f"{law.name}: {verdict.broken}"


def test_readmes_attention_trains_by_a_flag_and_the_last_line_samples_from_it(sigmoid, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--load", str(sigmoid), "--attention", "sigmoid", "--corpus", "playhouse", "--corpus.size", "20000"]
    assert nanotx_command(["train", "shakespeare_char", "--run", "run", *tiny(), *words]) == 0
    output = capsys.readouterr().out.splitlines()[-1]
    assert output == f"nanotx sample run --load {sigmoid}"
    assert nanotx_command([*output.split()[1:], "--max-new-tokens", "5"]) == 0
    monkeypatch.delitem(Attention.registered, "sigmoid")
    place = r"run/recipe\.toml: model\.block\.attention"
    with pytest.raises(
        ConfigError, match=rf"{place}: .* imported by --load FILE\.py\. run was .* --load run/code/sigmoid\.py$"
    ):
        nanotx_command(["train", "shakespeare_char", "--run", "run", "--resume"])
    with pytest.raises(Exception, match=r"no part named 'sigmoyd'.* imported by --load FILE\.py"):
        nanotx_command(["train", "shakespeare_char", "--attention", "sigmoyd"])


def test_every_recipe_command_of_the_readme_is_understood(monkeypatch, sigmoid, capsys):
    monkeypatch.chdir(ROOT)
    commands = re.findall(r"^python -m nanotx\.recipes\.(\w+) (.+)$", README, flags=re.MULTILINE)
    assert len(commands) >= 4
    for name, words in commands:
        asked = [str(sigmoid) if word == "sigmoid.py" else word for word in words.split()]
        assert nanotx_command(["train", name, *asked, "--print-config"]) == 0
        assert 'part = "tiny_shakespeare"' in capsys.readouterr().out


@pytest.fixture
def small(monkeypatch):
    """Put a recipe that trains at once in the place of shakespeare_char."""
    whole = shakespeare_char.recipe
    model = replace(whole.model, dim=16, context=32)
    train = Train(steps=2, batch_size=2, sample_tokens=2)
    recipe = replace(whole, corpus=Playhouse(size=20_000), model=model, train=train, device="cpu", threads=1)
    monkeypatch.setattr(shakespeare_char, "recipe", recipe)
    return recipe


@pytest.mark.parametrize("page", ["README.md", "docs/looking.md"])
def test_python_about_a_run_that_the_reader_has_runs(page, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for folder in set(re.findall(r"load\(\"([^\"]+)\"\)", "\n".join(programs))):
        nanotx.train(small, run=folder, quiet=True)
    names: dict[str, object] = {}
    assert programs
    for code in programs:
        if ".register(" not in code:
            exec(compile(code, page, "exec"), names)
