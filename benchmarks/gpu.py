"""All that is worth measuring while a GPU is available for minutes: the most valuable first, and nothing is lost.

    python benchmarks/gpu.py --minutes 8 --out results
    python benchmarks/gpu.py --minutes 8 --out results --skip-done     # what was not started or was cut off
    python benchmarks/gpu.py --minutes 3 --out results --device cpu --quick    # only to see that it works
    python benchmarks/gpu.py --publish results/gpu-cuda-0123456789ab.json      # into benchmarks/results/*-cuda.json

Each job runs in a process of its own and has its own time limit. One file holds all results of one commit on one
device. It is replaced after every job, so it is valid JSON whenever this program or the machine is stopped.
"""

import contextlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from harness import Row
from harness.gpu_jobs import HERE, JOBS, Job, Place
from harness.gpu_results import Results, commit, publish_figures

from nanotx.cli.entry import run_and_exit
from nanotx.config.flags import parse
from nanotx.errors import ConfigError, NanotxError, RunError, did_you_mean

ROOT = HERE.parent
MIN_SECONDS = 5.0
"""Seconds without which no job starts: Python and torch need some to start."""
MAX_LOG = 4000
"""Characters of a job's output that are saved."""
NEEDED_BY = {
    "jaxtyping": ("wadler-lindig",),
    "rich": ("markdown-it-py", "mdurl", "pygments"),
    "matplotlib": ("contourpy", "cycler", "fonttools", "kiwisolver", "packaging", "pillow", "pyparsing"),
}
"""What some packages depend on, so that a list of wheels is complete."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Measures on one device, job after job, for a number of minutes."""

    minutes: float = 8.0  # after which nothing starts and what is running is cut off
    out: str = "results"  # the folder of the results
    device: str = "cuda"  # cuda, cuda:N or cpu
    only: tuple[str, ...] = ()  # names of jobs; without it all
    skip_done: bool = False  # skip jobs that this commit has done on this device
    quick: bool = False  # tiny sizes: only to see that every job works
    nanogpt: str = ""  # a checkout of nanoGPT, whose own model is compared, too
    publish: str = ""  # a file of results: write its figures into benchmarks/results, and measure nothing


def main() -> int:
    """Check, then measure; return 1 if a job failed."""
    flags = parse(Flags, sys.argv[1:], "gpu.py")
    if flags.publish:
        return publish_figures(Path(flags.publish))
    if not flags.minutes > 0:
        raise ConfigError(f"--minutes: expected a number above 0, got {flags.minutes:g}.")
    jobs = choose_jobs(flags.only)
    check_packages()
    device, environment = check_device(flags.device)
    check_data(jobs, flags.quick)
    if flags.nanogpt and not Path(flags.nanogpt, "model.py").is_file():
        raise ConfigError(f"--nanogpt {flags.nanogpt}: expected a checkout of nanoGPT, and it has no model.py.")
    code = commit()
    file = Path(flags.out, f"gpu-{device}-{code}{'-quick' if flags.quick else ''}.json")
    results = Results(file, code, [job.name for job in JOBS])
    with interruptible():
        return measure(flags, device, environment, jobs, results)


def choose_jobs(names: tuple[str, ...]) -> list[Job]:
    """Return the jobs with these names in their order; all for no name.

    Raises:
        ConfigError: an unknown name.
    """
    known = [job.name for job in JOBS]
    for name in names:
        if name not in known:
            raise ConfigError(f"--only {name}: no such job.{did_you_mean(name, known)} Known: {', '.join(known)}.")
    return [job for job in JOBS if not names or job.name in names]


# Checks, before a minute is spent.


def check_packages() -> None:
    """Raise ConfigError where packages are missing or too old, with the versions to install."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = (line.strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    pinned = dict(line.split("==") for line in pins if line and not line.startswith("#"))
    missing: list[str] = []
    for requirement in table["project"]["dependencies"]:
        match = re.match(r"([\w-]+)\s*(?:>=\s*([\d.]+))?", requirement)
        assert match is not None, requirement
        name, least = match.groups()
        have = version(name)
        if have is None or (least and numbers(have) < numbers(least)):
            missing.append(f"{name}=={pinned.get(name, least)}" + (f" (found {have})" if have else ""))
            missing += [f"{other} (needed by {name})" for other in NEEDED_BY.get(name, ()) if version(other) is None]
    if missing:
        raise ConfigError(f"gpu.py: these packages are missing; bring their wheels: {', '.join(missing)}.")


def version(name: str) -> str | None:
    """Return the installed version of a package; None where it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(number) for number in match[0].split(".")) if match else ()


def check_device(name: str) -> tuple[str, dict[str, str]]:
    """Return the device's type, and the environment in which it is the only one of that type.

    Raises:
        ConfigError: torch cannot use it.
    """
    import torch  # after the packages were checked

    kind, _, index = name.partition(":")
    if kind == "cpu" and not index:
        return kind, {}
    if kind != "cuda" or (index and not index.isdecimal()):
        raise ConfigError(f"--device: expected cuda, cuda:N or cpu, got {name!r}.")
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ConfigError(
            f"--device {name}: torch {torch.__version__} ({built}) can use no GPU here; look at nvidia-smi: a driver "
            "older than that CUDA needs another torch. Or try --device cpu --quick."
        )
    count = torch.cuda.device_count()
    if index and int(index) >= count:
        raise ConfigError(f"--device {name}: there are {count} GPUs here, cuda:0 to cuda:{count - 1}.")
    return kind, {"CUDA_VISIBLE_DEVICES": index} if index else {}


def check_data(jobs: list[Job], quick: bool) -> None:
    """Raise NanotxError where a whole run would find no Tiny Shakespeare."""
    if not quick and any(job.trains for job in jobs):
        from nanotx.data.corpus.tiny_shakespeare import TinyShakespeare  # after the packages were checked

        try:
            TinyShakespeare().text()
        except NanotxError as error:
            raise type(error)(f"gpu.py: {error} Set NANOTX_DATA to the folder that holds it.") from None


# Measuring.


class Stopped(Exception):
    """A signal asks this program to end."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM, SIGINT and SIGHUP raise Stopped, so that the running job is recorded."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    names = (getattr(signal, name, None) for name in ("SIGTERM", "SIGINT", "SIGHUP"))
    before = {number: signal.signal(number, stop) for number in names if number is not None}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def measure(flags: Flags, device: str, environment: dict[str, str], jobs: list[Job], results: Results) -> int:
    """Do the jobs until the minutes are up; return the exit code."""
    began, failed, unwritten = time.monotonic(), 0, ""
    deadline = began + 60 * flags.minutes
    print(f"{results.path}: {len(jobs)} jobs, {flags.minutes:g} minutes", flush=True)
    for index, job in enumerate(jobs):
        if flags.skip_done and results.rows.get(job.name, {}).get("status") == "done":
            print(f"{job.name:16} done before", flush=True)
            continue
        left = deadline - time.monotonic()
        if left < MIN_SECONDS:
            for later in jobs[index:]:
                if results.rows.get(later.name, {}).get("status") not in ("done", "cut off"):
                    unwritten = results.put(
                        {"name": later.name, "status": "not begun", "reason": "the minutes were up"}
                    )
            print(f"the minutes are up before {job.name}; continue with --skip-done", flush=True)
            break
        try:
            row = attempt(job, flags, device, environment, min(left, 60 * job.minutes))
        except Stopped as stop:
            results.put({"name": job.name, "status": "cut off", "reason": f"signal {stop.number} ended the program"})
            print(f"{job.name:16} cut off by signal {stop.number}; continue with --skip-done", flush=True)
            return 128 + stop.number
        unwritten = results.put(row | {"commit": results.commit, "device": device})
        failed += row["status"] == "failed"
        print(f"{job.name:16} {row['status']:8} {row['seconds']:6.1f} s  {row['reason'] or ''}", flush=True)
        if unwritten:
            print(unwritten, flush=True)
    if unwritten:
        raise RunError(f"{unwritten.partition(';')[0]}; the last results are not written.")
    return 1 if failed else 0


def attempt(job: Job, flags: Flags, device: str, environment: dict[str, str], limit: float) -> Row:
    """Run a job for at most so many seconds; return its row, however it ended."""
    with tempfile.TemporaryDirectory(prefix="nanotx-gpu-", ignore_cleanup_errors=True) as name:
        place = Place(device=device, quick=flags.quick, scratch=Path(name), nanogpt=flags.nanogpt)
        log, began = place.scratch / "log.txt", time.monotonic()
        status, reason = run(job.command(place), environment, log, limit)
        try:
            result = job.result(place)
        except (KeyError, TypeError, IndexError) as error:  # a benchmark that was cut off while it wrote its figures
            result, reason = None, f"{reason or 'its figures cannot be read'}: {type(error).__name__} {error}"
        if status == "done" and result is None:
            status, reason = "failed", "it succeeded and wrote no figures"
        return {
            "name": job.name,
            "about": job.about,
            "status": status,
            "reason": reason or None,
            "seconds": round(time.monotonic() - began, 2),
            "result": result,
            "log": log.read_text(encoding="utf-8", errors="replace")[-MAX_LOG:],
        }


def run(command: list[str], environment: dict[str, str], log: Path, limit: float) -> tuple[str, str]:
    """Run a command in a process group of its own; return its status and the reason."""
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    own = environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as out:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            code = child.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            return "cut off", f"its {limit:.0f} seconds were up"
        finally:
            end(child)
    if code == 0:
        return "done", ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return "failed", f"exit code {code}: {lines[-1].strip()[:300] if lines else 'no output'}"


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill a job with all its children."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


if __name__ == "__main__":
    run_and_exit(main)
