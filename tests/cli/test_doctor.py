"""nanotx doctor: what was found, what a run takes, and why."""

import json
import os
import re

import pytest
import torch

from nanotx.cli import main
from nanotx.cli.commands import doctor
from nanotx.cli.commands.doctor import Flags
from nanotx.errors import ConfigError, RunError
from nanotx.hardware.cgroup import MemoryInfo
from nanotx.hardware.compiler import CompileTrial
from nanotx.hardware.device import Machine
from nanotx.hardware.report import GIB, choose_settings, format_memory


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small measurements, and no other process."""
    monkeypatch.setattr(doctor, "microbenchmarks", lambda machine: {"float32": 2e9, "bfloat16": 1e9, "copy": 3e9})
    monkeypatch.setattr("nanotx.hardware.report.onednn_instructions", lambda: "AVX2")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def choice(
    name: str, trial: CompileTrial | None = None, flags: Flags | None = None, dtype: torch.dtype = torch.float32
):
    machine = Machine(device=torch.device("cpu"), dtype=dtype, threads=1)
    (results,) = (item for item in choose_settings(flags or Flags(), machine, trial) if item.name == name)
    return results


def test_doctor_prints_what_a_run_chooses_and_how_to_override_it(capsys, tmp_path):
    out = tmp_path / "doctor.json"
    assert main.run(["doctor", "--no-compile", "--threads", "1", "--device", "cpu", "--json", str(out)]) == 0
    printed, report = capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))
    assert re.search("float32 products +2.0 GFLOP/s", printed)
    for setting in report["choices"]:
        assert setting["override"] in printed
        assert setting["reason"] in printed
    names = [setting["name"] for setting in report["choices"]]
    assert names == ["device", "dtype", "threads", "compile", "allocator"]
    assert report["threads"] == 1
    assert report["compile"] is None
    assert max(map(len, printed.splitlines())) > 80  # piped, no line is folded
    assert "\x1b" not in printed


def test_wrong_flags_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--thread: no such flag\. Did you mean '--threads'"):
        main.run(["doctor", "--thread", "1"])
    with pytest.raises(ConfigError, match="--threads: expected a number of at least 0, got -1"):
        main.run(["doctor", "--threads", "-1"])
    with pytest.raises(RunError, match=r"--json .*none/x.json: cannot be written"):
        main.run(["doctor", "--no-compile", "--threads", "1", "--json", str(tmp_path / "none/x.json")])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="expected a CUDA GPU"):
        main.run(["doctor", "--device", "cuda"])


def test_doctor_reports_one_core_and_a_small_cgroup(monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr("nanotx.hardware.report.cpu_quota", lambda: 0.5)
    monkeypatch.setattr(
        "nanotx.hardware.report.memory_info", lambda: MemoryInfo(total=8 * GIB, limit=2 * GIB, available=GIB)
    )
    assert main.run(["doctor", "--no-compile"]) == 0
    output = capsys.readouterr().out
    assert "1 for this process" in output
    assert "2.0 GiB of 8.0 (cgroup), 1.0 available" in output
    assert "limited by its cgroup to the time of 0.5" in output
    assert format_memory(MemoryInfo(total=GIB, limit=GIB, available=GIB)) == "1.0 GiB, 1.0 available"


def test_doctor_reports_a_compiler_that_fails_and_does_not_fail(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "try_compile", lambda _: CompileTrial(fault="g++ fails: boom", remedy="mend it", seconds=1.0)
    )
    assert main.run(["doctor", "--threads", "1"]) == 0
    assert re.search(r"no +g\+\+ fails: boom; mend it", capsys.readouterr().out)


def test_reasons_follow_what_was_found(monkeypatch):
    monkeypatch.setattr("nanotx.hardware.report.find_compiler", lambda: "/usr/bin/g++")
    monkeypatch.setattr("nanotx.hardware.report.onednn_is_faster", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    worked = CompileTrial(fault="", remedy="", seconds=4.2)
    assert choice("compile", worked).choice == "long runs"
    assert "a trial took 4.2 s" in choice("compile", worked).reason
    assert "not tried" in choice("compile").reason
    assert "the processor has bfloat16, and multiplies no faster" in choice("dtype").reason
    assert "the hardware multiplies faster in bfloat16" in choice("dtype", dtype=torch.bfloat16).reason
    assert choice("dtype", flags=Flags(dtype="float32")).reason == "as requested"
    assert choice("threads", flags=Flags(threads=1)).reason == "as requested"
    monkeypatch.setattr("nanotx.hardware.report.find_compiler", lambda: None)
    assert (choice("compile").choice, choice("compile").reason.partition(";")[0]) == ("no", "there is no C++ compiler")
