"""From what was measured to rows."""

import dataclasses
import statistics
from collections.abc import Mapping

from harness.jobs import Job
from harness.kernels import Kernels
from harness.lawful import Judgement
from harness.passes import BOTH
from harness.reporting import Row
from harness.subjects import SUBJECTS
from harness.timing import Times, ratio, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What became of compiling a part."""

    laws: str  # "pass" where it computes what the part computes
    seconds: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One pass of the parts, by their labels."""

    times: Times
    kernels: Mapping[str, Kernels]
    lame: Mapping[str, str]  # why some cannot be done
    peaks: Mapping[str, float | None]  # millions of bytes
    compiler: Mapping[str, Compiled]  # by name


def label(name: str, compiled: bool = False) -> str:
    """What tells a part from itself compiled."""
    return f"{name} compiled" if compiled else name


def rows_of(job: Job, way: str, judged: Mapping[str, Judgement], found: Measured) -> list[Row]:
    """A row for each part, and one for each that was to be compiled."""
    rows = []
    for name, said in judged.items():
        rows.append(row_of(job, way, name, said, found))
        if name in found.compiler:
            compiled = dataclasses.replace(said, laws=found.compiler[name].laws)
            rows.append(row_of(job, way, name, compiled, found, compiled=True))
    return rows


def row_of(job: Job, way: str, name: str, said: Judgement, found: Measured, compiled: bool = False) -> Row:
    """The figures of one part; what was not measured is None."""
    key = label(name, compiled)
    forth, back = found.kernels.get(key, (None, None))
    compiler = found.compiler.get(name) if compiled else None
    return {
        "slot": job.slot,
        "name": name,
        "device": job.machine.device.type,
        "dtype": job.machine.dtype_name,
        "shape": job.label,
        **vars(job.shape),
        "pass": way,
        "compiled": compiled,
        "compile_seconds": compiler and compiler.seconds,
        **speeds(job, way, found.times.get(key, [])),
        **ratios(job, key, compiled, found.times),
        "kernel": forth,
        "kernel_backward": back,
        "memory_mb": found.peaks.get(key),
        "laws": found.lame.get(key, said.laws),
        "laws_tried": said.tried,
        "laws_passed": said.passed,
        "cases": said.cases,
    }


def speeds(job: Job, way: str, seconds: list[float]) -> Row:
    """Times, and what they mean in tokens and in operations, of which backward takes twice as many as forward."""
    middle = statistics.median(seconds) if seconds else None
    forward = SUBJECTS[job.slot].operations
    operations = forward and forward(job.shape) * (3 if way == BOTH else 1)
    speed = operations / middle if operations and middle else None
    return {
        "median_ms": middle and 1e3 * middle,
        "iqr_ms": 1e3 * spread(seconds) if seconds else None,
        "rounds": len(seconds),
        "tokens_per_second": middle and job.shape.tokens / middle,
        "flops_per_second": speed,
        "peak_share": None,  # the peak is known when all is done
    }


def ratios(job: Job, key: str, compiled: bool, times: Times) -> Row:
    """How long it takes in times of each reference, which is compiled where this is."""
    first, *others = SUBJECTS[job.slot].references
    mine = {"reference": first, "ratio": ratio(times, key, label(first, compiled))}
    return mine | {f"ratio_to_{other}": ratio(times, key, label(other, compiled)) for other in others}


def with_share(row: Row, peaks: Mapping[str, float]) -> Row:
    """The row, with its share of the operations a second that a matrix product reached, by device and dtype."""
    speed = row["flops_per_second"]
    return row | {"peak_share": speed and speed / peaks[f"{row['device']} {row['dtype']}"]}
