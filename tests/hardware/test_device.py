"""What a machine is good at, found out: also where it has one core, no compiler, little memory, or says what is not."""

import ctypes
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.hardware import compiler, device
from nanotx.hardware import memory as kept_memory
from nanotx.hardware.cgroup import MemoryInfo, cpu_quota, memory_info
from nanotx.hardware.compiler import MIN_SECONDS, CompileTrial, decide_compile, explain_failure, try_compile
from nanotx.hardware.cpu import cores, default_threads
from nanotx.hardware.device import Machine, choose_machine, has_bfloat16, measured_peak, peak_flops
from nanotx.hardware.memory import keep_freed_memory, plan_allocator
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn import Ffn
from nanotx.nn.transformer import Model, Transformer
from nanotx.training.compile import compile_training_calls, plan_compile

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
posix = pytest.mark.skipif(os.name == "nt", reason="the compiler that fails is a shell script")


def on(kind: str = "cpu", dtype: torch.dtype = torch.float32) -> Machine:
    return Machine(device=torch.device(kind), dtype=dtype, threads=1)


def model(ffn: str = "mlp", context: int = 8) -> Transformer:
    return Model(dim=8, layers=1, context=context, block=PreNorm(ffn=Ffn.find(ffn)())).build(5)


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text + "\n", encoding="utf-8")


def kernel(system: Path, group: str, free: int = 8_000_000) -> Path:
    """A system's files: 16 million kB of memory, and a process in a control group; returns where groups are mounted."""
    put(system / "proc", meminfo=f"MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable: {free} kB")
    put(system / "proc/self", cgroup=group)
    return system / "sys/fs/cgroup"


# Processor time.


def test_one_core_makes_one_thread(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    monkeypatch.setattr("nanotx.hardware.cpu.cpu_quota", lambda: 3.0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    assert cores() == choose_machine("cpu", "float32", 0).threads == torch.get_num_threads() == 1
    torch.set_num_threads(before)


@pytest.mark.parametrize(("granted", "want"), [(None, 6), (64.0, 6), (2.0, 2), (2.5, 3), (0.1, 1)])
def test_no_more_threads_than_a_cgroup_grants_time_for(monkeypatch, granted, want):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr("nanotx.hardware.cpu.cpu_quota", lambda: granted)
    assert cores() == want


def test_without_affinity_all_cores_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr("nanotx.hardware.cpu.cpu_quota", lambda: None)
    assert cores() == 7


@pytest.mark.parametrize(
    ("variable", "want"), [("1", 1), ("3", 3), ("3,2", 3), ("", 2), ("0", 2), ("many", 2), ("-1", 2), (None, 2)]
)
def test_environment_chooses_the_number_of_threads(monkeypatch, variable, want):
    monkeypatch.setattr("nanotx.hardware.cpu.cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert default_threads() == want


bounds = st.lists(st.none() | st.integers(1, 64).map(lambda halves: halves / 2), min_size=3, max_size=3)


@given(bounds=bounds, version=st.sampled_from([1, 2]))
def test_tightest_of_nested_groups_holds(tmp_path_factory, bounds, version):
    system = tmp_path_factory.mktemp("system")
    mounts = kernel(system, "0::/job/step" if version == 2 else "3:memory:/\n2:cpu,cpuacct:/job/step")
    root = mounts if version == 2 else mounts / "cpu,cpuacct"
    for folder, bound in zip((root, root / "job", root / "job/step"), bounds, strict=True):
        if version == 2:
            put(folder, cpu_max=f"{'max' if bound is None else int(bound * 100_000)} 100000")
        else:
            put(folder, cpu_cfs_quota_us=str(-1 if bound is None else int(bound * 50_000)), cpu_cfs_period_us="50000")
    assert cpu_quota(system) == min((bound for bound in bounds if bound is not None), default=None)


def test_in_a_container_the_group_that_is_mounted_is_ours(tmp_path):
    mounts = kernel(tmp_path, "4:cpu:/docker/0123abcd")  # the host's path, which is not there
    put(mounts / "cpu", cpu_cfs_quota_us="150000", cpu_cfs_period_us="100000")
    assert cpu_quota(tmp_path) == 1.5
    put(tmp_path / "proc/self", cgroup="4:cpu:/../../elsewhere")
    assert cpu_quota(tmp_path) == 1.5


def test_memory_is_unbounded_without_a_group(tmp_path):
    assert cpu_quota(tmp_path) is None


# Memory.


def test_group_may_have_less_memory_than_the_machine(tmp_path):
    mounts = kernel(tmp_path, "0::/job")
    assert memory_info(tmp_path) == MemoryInfo(total=16_384_000_000, limit=16_384_000_000, available=8_192_000_000)
    stat = "anon 900000000\ninactive_file 300000000\nactive_file 5"
    put(mounts / "job", memory_max="2000000000", memory_high="max", memory_current="1200000000", memory_stat=stat)
    result = memory_info(tmp_path)
    assert result == MemoryInfo(total=16_384_000_000, limit=2_000_000_000, available=1_100_000_000)
    assert result.bounded
    put(mounts / "job", memory_high="1000000000")
    assert memory_info(tmp_path) == MemoryInfo(total=16_384_000_000, limit=1_000_000_000, available=100_000_000)


def test_unlimited_group_of_the_first_version_is_unbounded(tmp_path):
    mounts = kernel(tmp_path, "5:memory:/job", free=100)
    put(mounts / "memory", memory_limit_in_bytes="9223372036854771712", memory_usage_in_bytes="7")
    result = memory_info(tmp_path)
    assert result is not None
    assert not result.bounded
    assert result.available == 102_400  # the machine's own want, too
    put(mounts / "memory/job", memory_limit_in_bytes="1000000", memory_usage_in_bytes="1000500")
    assert memory_info(tmp_path) == MemoryInfo(total=16_384_000_000, limit=1_000_000, available=0)


def test_this_machine_has_memory():
    result = memory_info()
    assert result is None or 0 < result.available <= result.limit <= result.total


# bfloat16.


@pytest.mark.parametrize(("listed", "half", "want"), [(False, 9.0, False), (True, 9.0, True), (True, 0.5, False)])
def test_bfloat16_is_taken_where_it_is_listed_and_faster(monkeypatch, listed, half, want):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: listed)
    monkeypatch.setattr(
        device, "measured_peak", lambda value, size, tries: half if value.dtype is torch.bfloat16 else 1.0
    )
    monkeypatch.setattr(device, "has_bfloat16", has_bfloat16.__wrapped__)
    assert choose_machine("cpu", "auto", 1).dtype is (torch.bfloat16 if want else torch.float32)
    assert choose_machine("cpu", "bfloat16", 1).dtype is torch.bfloat16  # requested for, it is done all the same


def test_number_of_threads_and_other_programs_do_not_choose_the_dtype(monkeypatch):
    threads, slow = (
        [],
        iter([0.1, 0.1, 0.1, 4.0, 1.0, 1.0, 1.0, 1.0]),
    )  # bfloat16 and float32 in turns; one turn is quiet

    def peak(machine: Machine, size: int, tries: int) -> float:
        threads.append(torch.get_num_threads())
        return next(slow)

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(device, "measured_peak", peak)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert not has_bfloat16.__wrapped__("cpu")
        assert torch.get_num_threads() == 2
        slow = iter([0.1, 1.0, 0.1, 0.5, 2.0, 1.0, 0.1, 1.0])
        assert has_bfloat16.__wrapped__("cpu")
    finally:
        torch.set_num_threads(before)
    assert threads == [1] * 16


def test_bfloat16_that_pytorch_cannot_check_is_not_taken(monkeypatch):
    for check in device.BFLOAT16_CHECKS.values():
        monkeypatch.delattr(torch.cpu, check)
    assert device.bfloat16_instructions() == []
    monkeypatch.setattr(device, "has_bfloat16", has_bfloat16.__wrapped__)
    assert choose_machine("cpu", "auto", 1).dtype is torch.float32


@pytest.mark.parametrize(
    ("name", "dtype", "want"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H200", "float32", 67e12),
        ("NVIDIA A100-SXM4-80GB", "float16", 312e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA L4", "bfloat16", 121e12),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165.2e12),
        ("Tesla T4", "bfloat16", 5.0),  # it has none, so what was measured counts
        ("NVIDIA A10G", "bfloat16", 5.0),  # another GPU than the A10
    ],
)
def test_mfu_is_a_share_of_a_known_gpus_published_peak_or_of_the_measured_one(monkeypatch, name, dtype, want):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: name)
    monkeypatch.setattr(device, "measured_peak", lambda machine: 5.0)
    machine = Machine(device=torch.device("cuda"), dtype=getattr(torch, dtype), threads=1)
    assert peak_flops(machine) == want
    assert peak_flops(replace(machine, device=torch.device("cpu"))) == 5.0


def test_measuring_leaves_the_generators_of_a_run_unchanged():
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    assert measured_peak(on(), size=64, tries=2) > 0
    assert torch.equal(torch.rand(4), want)


def test_peak_of_a_busy_machine_is_that_of_a_quiet_one(monkeypatch):
    """Another program takes nine tenths of the time: the product is ten times slower on the wall, and no more work."""
    now = [0.0]

    def multiply(a, b):
        now[0] += 0.002

    monkeypatch.setattr(device.torch, "mm", multiply)
    monkeypatch.setattr(device, "onednn_is_faster", lambda: False)
    monkeypatch.setattr(device.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(device.time, "process_time", lambda: 2 * now[0])
    monkeypatch.setattr(device.time, "perf_counter", lambda: 10 * now[0])
    assert measured_peak(on(), size=8) == pytest.approx(2 * 8**3 / 0.002)
    with monkeypatch.context() as limited:
        limited.setattr(device, "is_processor_time_limited", lambda: True)
        assert measured_peak(on(), size=8) == pytest.approx(2 * 8**3 / 0.02)  # where it is counted in ticks
    monkeypatch.setattr(device.time, "get_clock_info", lambda name: SimpleNamespace(resolution=0.0156))
    assert measured_peak(on(), size=8) == pytest.approx(2 * 8**3 / 0.02)  # on the wall, where no clock is finer


@pytest.mark.parametrize(("seconds", "limited"), [(3, True), (None, False)])
def test_limit_of_processor_time_is_that_of_the_system(monkeypatch, seconds, limited):
    resource = pytest.importorskip("resource")
    soft = resource.RLIM_INFINITY if seconds is None else seconds
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: asked.append(what) or (soft, resource.RLIM_INFINITY))
    assert device.is_processor_time_limited() is limited
    assert asked == [resource.RLIMIT_CPU]


# Compiling.


@pytest.mark.parametrize(
    ("machine", "seconds", "has_compiler", "onednn", "reason"),
    [
        (on(), 1e9, True, False, ""),
        (on(dtype=torch.bfloat16), MIN_SECONDS[torch.bfloat16], True, True, ""),
        (on("cuda", torch.bfloat16), 61.0, False, False, ""),  # its compiler is another
        (on(), 12.4, False, False, "some 12 s of training do not repay it, but 300 s would"),
        (on(), 1e9, False, False, "there is no C[+][+] compiler; install g[+][+] .Debian"),
        (on(), 1e9, True, True, "in float32 on this processor oneDNN, uncompiled, is faster"),
        (on("mps"), 1e9, True, False, "not tried on Apple's GPU; --compile tries it"),
    ],
)
def test_auto_compiles_what_repays_it(machine, seconds, has_compiler, onednn, reason):
    result = decide_compile(machine, seconds, has_compiler, onednn)
    assert result.on == (not reason)
    assert re.search(reason or "repay it", result.reason)


def test_failing_compiler_is_reported_with_its_remedy(monkeypatch):
    broken = CompileTrial(fault="/usr/bin/g++ fails: no licence", remedy="mend it", seconds=1.0)
    monkeypatch.setattr("nanotx.training.compile.try_compile", lambda _: broken)
    monkeypatch.setattr("nanotx.training.compile.find_compiler", lambda: "/usr/bin/g++")
    monkeypatch.setattr("nanotx.training.compile.onednn_is_faster", lambda: False)
    with pytest.raises(ConfigError, match=r"compile: /usr/bin/g\+\+ fails: no licence; mend it; or try --no-compile"):
        plan_compile("on", model(), on(), 1, peak=1.0)
    result = plan_compile("auto", model(), on(), 10**12, peak=1e9)
    assert (result.on, result.reason.partition(";")[0]) == (False, broken.fault)
    assert not plan_compile("off", model(), on(), 10**12, peak=1e9).on
    monkeypatch.setattr("nanotx.training.compile.try_compile", lambda _: CompileTrial(fault="", remedy="", seconds=1.0))
    assert plan_compile("on", model(), on(), 1, peak=1.0).on
    assert plan_compile("auto", model(), on(), 10**12, peak=1e9).on
    assert "number of tokens per expert varies" in plan_compile("auto", model("moe"), on(), 10**12, peak=1e9).reason


def test_short_run_tries_no_compiler(monkeypatch):
    monkeypatch.setattr("nanotx.training.compile.try_compile", lambda _: pytest.fail("it was tried"))
    assert not plan_compile("auto", model(), on(), 10**3, peak=1e9).on


def test_without_a_compiler_nothing_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert try_compile(CPU).fault == "there is no C++ compiler"
    monkeypatch.setenv("CXX", "icpc")
    assert str(try_compile(CPU)) == "CXX=icpc is not there; unset CXX"
    with pytest.raises(ConfigError, match="compile: CXX=icpc is not there; unset CXX; or try --no-compile"):
        plan_compile("on", model(), on(), 1, peak=1.0)


@pytest.mark.parametrize(
    ("message", "want"),
    [
        (
            "C++ compile error\n\nOutput:\nx.cpp: note\nx.cpp:3: fatal error: omp.h: no such file\n",
            "fatal error: omp.h",
        ),
        ("InvalidCxxCompiler: No working C++ compiler found in config: (None, 'g++')", "cannot be run"),
        ("TritonMissing: Cannot find a working triton installation\n\nSet", "TritonMissing: Cannot find a working"),
        ("", "no reason given"),
    ],
)
def test_what_torch_says_becomes_one_line(message, want):
    fault, remedy = explain_failure(message)
    assert want in fault
    assert "\n" not in fault
    assert remedy


@posix
def test_compiler_is_tried_and_missing_headers_are_reported(tmp_path):
    if compiler.find_compiler():
        trial = try_compile(CPU)
        assert trial.fault == "", trial
    script = tmp_path / "compiler.sh"
    text = "x.cpp:1:10: fatal error: Python.h: No such file or directory"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo "g++ 12"\necho "{text}" >&2\nexit 1\n', encoding="utf-8"
    )
    script.chmod(0o755)
    torch._dynamo.reset()
    with pytest.MonkeyPatch.context() as patch, torch._inductor.config.patch({"cpp.cxx": (None, str(script))}):
        patch.setenv("CXX", str(script))  # torch itself has read it by now
        trial = try_compile(CPU)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert str(trial) == f"Python's headers are missing (Python.h); install them (Debian: apt install {version}-dev)"


BLOCKS = """
import copy
import torch
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.fused import Fused
from nanotx.nn.block.prenorm import PreNorm
from nanotx.generation import generate
from nanotx.training.compile import compile_blocks
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.transformer import Model
from nanotx.nn.position.learned import Learned
from torch._dynamo.utils import counters

pattern = tuple(PreNorm(attention=Sdpa(heads=2, bias=bias), ffn=Mlp()) for bias in (False, True))
plain = Model(dim=16, layers=4, context=12, position=Learned(), blocks=pattern).build(9)
quick = copy.deepcopy(plain)
names = list(quick.state_dict())
compile_blocks(quick, backend="eager")
ids = torch.randint(0, 9, (2, 12))
losses = []
for model in (plain, quick):
    loss = model(ids).square().sum()
    loss.backward()
    losses.append(loss)
torch.testing.assert_close(*losses)
for (name, one), other in zip(plain.named_parameters(), quick.parameters(), strict=True):
    torch.testing.assert_close(one.grad, other.grad, msg=name)
assert list(quick.state_dict()) == names
traced = counters["stats"]["unique_graphs"]
assert traced == 2, traced  # four blocks, two kinds
with torch.inference_mode():
    assert torch.equal(quick.eval()(ids[:1, :5]), plain.eval()(ids[:1, :5]))
assert torch.equal(generate(quick, ids[:, :3], 6), generate(plain, ids[:, :3], 6))
twin = copy.deepcopy(quick).train()
twin(ids[:1, :4]).sum().backward()
assert counters["stats"]["unique_graphs"] == traced
quick.train()(ids).sum().backward()
assert counters["stats"]["unique_graphs"] == traced
print("well")
"""


def test_equal_blocks_share_one_compiled_code_and_only_learning_is_compiled():
    """In a process of its own, because the checked annotations of the tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", BLOCKS], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.strip() == "well", done.stderr


# The allocator.


def test_memory_is_kept_by_glibc_unless_the_user_says_otherwise():
    assert plan_allocator({}, "glibc 2.36").keeps
    assert plan_allocator({"NANOTX_ALLOCATOR": "keep"}, "glibc 2.36").keeps
    assert plan_allocator({"NANOTX_ALLOCATOR": "system"}, "glibc 2.36").reason == "NANOTX_ALLOCATOR=system"
    assert "only glibc" in plan_allocator({}, "").reason
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"):
        assert plan_allocator({name: "x"}, "glibc 2.36").reason.startswith(name)
    with pytest.raises(ConfigError, match="NANOTX_ALLOCATOR: expected keep or system, got 'jemalloc'; unset it"):
        plan_allocator({"NANOTX_ALLOCATOR": "jemalloc"}, "glibc 2.36")


def test_c_library_that_is_not_glibc_is_left_alone(monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("it was told something"))
    assert not keep_freed_memory().keeps


FAULTS = """
import resource, sys
from nanotx.hardware.memory import keep_freed_memory
print(keep_freed_memory().keeps)
def touch(): b"x" * 50_000_000
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5): touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not kept_memory.libc(), reason="no glibc")
def test_memory_that_is_kept_is_not_asked_for_again():
    faults = {}
    for wish in ("keep", "system"):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "LD_PRE"))}
        command, environment = [sys.executable, "-c", FAULTS], environment | {"NANOTX_ALLOCATOR": wish}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=True)
        kept, count = done.stdout.split()
        assert kept == str(wish == "keep")
        faults[wish] = int(count)
    assert faults["keep"] < faults["system"] / 10


def test_compiler_reports_its_version(tmp_path):
    assert compiler.compiler_version(str(tmp_path / "none")).startswith("cannot be run")
    assert compiler.compiler_version(sys.executable).startswith("Python 3")


def test_block_is_compiled_only_in_training_or_by_pytorch_where_it_keeps_no_call(monkeypatch):
    calls = []

    def compile_it(self, **options):
        self._compiled_call_impl = lambda *inputs: calls.append("compiled") or self._call_impl(*inputs)

    def block():
        return PreNorm(attention=Fused(heads=2)).build(8)

    x = torch.randn(1, 3, 8)
    monkeypatch.setattr(torch.nn.Module, "compile", compile_it)
    kept = block()
    compile_training_calls(kept, dynamic=False)
    with torch.no_grad():
        want = kept(x)
    assert calls == [] and kept.eval()(x).equal(want) and calls == []
    assert kept.train()(x).equal(want) and calls == ["compiled"]

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    plain = block()
    plain.load_state_dict(kept.state_dict())
    compile_training_calls(plain, dynamic=False)
    assert plain(x).equal(want) and calls == ["compiled"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", r"device: expected Apple's GPU, and torch sees none; try --device cpu\."),
        ("cuda", r"device: expected a CUDA GPU, and torch sees none; try --device cpu, or a torch with CUDA\."),
    ],
)
def test_device_that_is_not_there_is_refused_with_one_that_is(monkeypatch, device, message):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        choose_machine(device, "auto", 1)
