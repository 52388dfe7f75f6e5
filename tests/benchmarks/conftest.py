"""The benchmarks called in this process: their modules are found as when a benchmark runs, and forgotten afterwards."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def tools(monkeypatch):
    """The benchmarks' own modules, found as when a benchmark runs; what they register is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("nanotx.hardware.device.cores", lambda: 1)
    from harness import slots, timing

    yield timing
    for compared in slots.SLOTS.values():
        for name in compared.peers:
            compared.slot.registered.pop(name)
    for name in list(sys.modules):
        if name.partition(".")[0] in {"harness", *(file.stem for file in BENCHMARKS.glob("*.py"))}:
            del sys.modules[name]


@pytest.fixture
def command(tools, monkeypatch):
    """A benchmark's main, called in this process with words."""

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        return importlib.import_module(name).main()

    return call
