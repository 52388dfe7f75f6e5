"""`nanotx serve`: what it needs, and what it refuses."""

import pytest

from nanotx.cli.commands import serve
from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(ConfigError, match=r"uvicorn is not installed; try pip install starlette uvicorn$"):
        run(["serve", "runs/a"])


def test_flags_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="port"):
        run(["serve", "runs/a", "--port", "70000"])
    with pytest.raises(ConfigError, match="leave --step or --watch out"):
        run(["serve", "runs/a", "--watch", "--step", "3"])


def test_folder_that_is_no_run_is_refused(tmp_path):
    for package in serve.PACKAGES:
        pytest.importorskip(package)
    with pytest.raises(RunError, match="expected a run's folder"):
        run(["serve", str(tmp_path), "--port", "0"])
    with pytest.raises(RunError, match="expected a run's folder"):
        run(["serve", str(tmp_path), "--port", "0", "--watch"])
