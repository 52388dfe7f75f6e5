"""A package that is missing and a PyTorch that is too old are one sentence, with the command that installs them."""

import sys
import tomllib

import pytest
import torch
from helpers import ROOT

from nanotx.cli.entry import exit_code
from nanotx.errors import ConfigError
from nanotx.hardware import installed
from nanotx.hardware.device import choose_machine


def raising(error):
    def main():
        raise error

    return main


def test_packages_and_the_oldest_torch_are_those_that_pip_installs():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {line.partition(">=")[0].replace("-", "_") for line in wanted} == set(installed.PACKAGES)
    assert f"torch>={'.'.join(map(str, installed.TORCH))}" in wanted


def test_missing_package_is_named_with_the_command_that_installs_it(capsys):
    assert exit_code(raising(ModuleNotFoundError("No module named 'tomli_w'", name="tomli_w"))) == 2
    assert capsys.readouterr().err == (
        f"ConfigError: tomli-w is not installed for {sys.executable}; "
        f"try: {sys.executable} -m pip install --upgrade -e {ROOT}\n"
    )


def test_away_from_a_checkout_the_command_installs_one_package(monkeypatch, tmp_path):
    monkeypatch.setattr(installed, "__file__", str(tmp_path / "nanotx" / "hardware" / "installed.py"))
    assert installed.install_command("rich") == f"{sys.executable} -m pip install rich"
    assert installed.install_command("torch") == f"{sys.executable} -m pip install 'torch>=2.10'"


@pytest.mark.parametrize(
    ("version", "old"), [("2.9.1+cpu", True), ("2.10.0", False), ("3.0", False), ("1.13", True), ("git", False)]
)
def test_torch_that_is_too_old_is_named(monkeypatch, version, old):
    monkeypatch.setattr(torch, "__version__", version)
    assert bool(installed.torch_problem()) == old
    if old:
        with pytest.raises(ConfigError, match=rf"nanotx needs torch 2\.10 or later, and .* has {version[:3]}"):
            choose_machine("cpu", "float32", 1)


def test_only_what_an_old_torch_breaks_is_attributed_to_it(monkeypatch, capsys):
    error = ImportError("cannot import name 'Tensor' from 'torch'")
    with pytest.raises(ImportError, match="Tensor"):
        exit_code(raising(error))
    monkeypatch.setattr(torch, "__version__", "2.4.1")
    assert exit_code(raising(error)) == 2
    assert "has 2.4.1; try: " in capsys.readouterr().err
    with pytest.raises(KeyError):
        exit_code(raising(KeyError("a bug of ours")))


def test_recipe_started_by_python_m_ends_with_that_sentence_and_an_import_does_not(monkeypatch, capsys):
    monkeypatch.setattr(installed, "PACKAGES", ("numpy", "no_such_package"))
    installed.end_where_incomplete()
    monkeypatch.setattr(sys, "argv", ["-m"])
    with pytest.raises(SystemExit) as end:
        installed.end_where_incomplete()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("ConfigError: no-such-package is not installed for ")
    monkeypatch.setattr(installed, "PACKAGES", ("numpy",))
    installed.end_where_incomplete()
