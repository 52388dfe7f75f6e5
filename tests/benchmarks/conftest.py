"""The benchmarks called in this process: their modules are found as when a benchmark runs, and forgotten afterwards."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_peers():
    """The registries of the slots, and what the benchmarks add to them; their modules are imported once for a file."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(BENCHMARKS))
    from harness import slots

    peers = [(compared.slot.registered, {name: compared.slot.registered.pop(name) for name in compared.peers})
             for compared in slots.SLOTS.values()]  # fmt: skip
    yield peers
    for name in list(sys.modules):
        if name.partition(".")[0] in {"harness", *(file.stem for file in BENCHMARKS.glob("*.py"))}:
            del sys.modules[name]
    patch.undo()


@pytest.fixture
def tools(benchmark_peers, monkeypatch):
    """The benchmarks' own modules, found as when a benchmark runs; what they register is forgotten afterwards."""
    monkeypatch.setattr("nanotx.hardware.device.default_threads", lambda: 1)
    from harness import timing

    for registered, those in benchmark_peers:
        registered.update(those)
    yield timing
    for registered, those in benchmark_peers:
        for name in those:
            registered.pop(name)


@pytest.fixture
def command(tools, monkeypatch):
    """A benchmark's main, called in this process with words."""

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        return importlib.import_module(name).main()

    return call
