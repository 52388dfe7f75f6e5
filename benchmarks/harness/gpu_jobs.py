"""The jobs of `gpu.py`, the most valuable first: what each runs, how long it may take, and its figures."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Row

HERE = Path(__file__).resolve().parent.parent
TARGET = 1.4697
"""The loss that nanoGPT publishes for its baby GPT on Tiny Shakespeare, in nats per character."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how thoroughly a job runs."""

    device: str  # cpu or cuda
    quick: bool  # tiny sizes, only to see that it works
    scratch: Path  # an empty folder of the job's own
    nanogpt: str = ""  # a checkout of nanoGPT; empty without one

    @property
    def json(self) -> Path:
        """Return where a benchmark writes its figures."""
        return self.scratch / "figures.json"

    @property
    def run(self) -> Path:
        """Return the folder of a training run."""
        return self.scratch / "run"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to measure, in a process of its own."""

    name: str
    about: str
    minutes: float  # after which it is cut off
    command: Callable[[Place], list[str]]
    result: Callable[[Place], Row | None]  # None where there are no figures
    trains: bool = False  # on the recipe's own corpus


# What jobs leave.


def figures(place: Place) -> Row | None:
    """Return what a benchmark wrote; None where it wrote no valid JSON."""
    try:
        results: Row = json.loads(place.json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return results


def verdicts(place: Place) -> Row | None:
    """Return the laws that do not hold, and how many were tried."""
    results = figures(place)
    if results is None:
        return None
    tried = [row for row in results["verdicts"] if not row["skipped"]]
    broken = [{key: row[key] for key in ("part", "law", "broken", "case")} for row in tried if row["broken"]]
    cases = sum(row["cases"] for row in tried)
    return {"laws": len(tried), "cases": cases, "broken": broken, "not_asked": len(results["verdicts"]) - len(tried)}


def run_figures(place: Place) -> Row | None:
    """Return how far a run came, complete or cut off: its evaluations and speed, and when it reached nanoGPT's loss."""
    try:
        lines = (place.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    rows = [row for row in map(parsed, lines) if row]
    steps = [row for row in rows if row["event"] == "step"]
    if not steps:
        return None
    evals = [row for row in rows if row["event"] == "eval"]
    reached = next((row for row in evals if row["val_loss"] is not None and row["val_loss"] <= TARGET), None)
    later = sorted(row["tokens_per_second"] for row in steps[len(steps) // 10 :])
    return {
        "steps": steps[-1]["step"],
        "of_steps": next((row["steps"] for row in rows if row["event"] == "start"), None),
        "tokens_per_second": later[len(later) // 2],
        "evals": [{key: row.get(key) for key in EVAL} for row in evals],
        "target": TARGET,
        "target_step": reached["step"] if reached else None,
        "target_wall_seconds": reached["wall_seconds"] if reached else None,
        "summary": parsed(text(place.run / "summary.json")),
    }


EVAL = ("step", "train_loss", "val_loss", "bits_per_byte", "wall_seconds")


def parsed(line: str) -> Any:
    """Return the value of a line of JSON; None where it is cut off."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def text(file: Path) -> str:
    """Return the text of a file; nothing where there is no file."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


# The jobs.


def job(name: str, minutes: float, about: str, full: str, quick: str) -> Job:
    """Return a job that runs a benchmark, or a command of nanotx.

    Args:
        name, minutes, about: as in `Job`.
        full: the program and its flags, but for the device and where its results go.
        quick: the same, of tiny sizes.
    """

    def command(place: Place) -> list[str]:
        nanogpt = f",nanogpt,nanogpt_compiled --nanogpt {shlex.quote(place.nanogpt)}" if place.nanogpt else ""
        program, *words = shlex.split((quick if place.quick else full).format(nanogpt=nanogpt))
        head = [HERE / program] if program.endswith(".py") else ["-m", "nanotx", program]
        results = ["--run", place.run] if program == "train" else ["--json", place.json]
        return [sys.executable, *map(str, (*head, *words, "--device", place.device, *results))]

    kind = full.split()[0]
    result = {"laws": verdicts, "train": run_figures}.get(kind, figures)
    return Job(name=name, about=about, minutes=minutes, command=command, result=result, trains=kind == "train")


def training(recipe: str, minutes: float, about: str) -> Job:
    """Return the job that trains a recipe to its end."""
    return job(recipe, minutes, about, f"train {recipe}", f"train {recipe} {TINY}")


TINY = (
    "--corpus playhouse --corpus.size 40000 --train.steps 4 --train.batch-size 2 --train.eval-every 2 "
    "--train.sample-tokens 20 --model.layers 1 --model.context 32"
)
ONE_STEP = "--layers 1 --batch 2 --rounds 3 --seconds 0 --steps 1 --starts 0 --dropouts 0 --compile off"
LAYERS = "attention block ffn norm embedding position model"
"""What has laws that depend on the device."""
PARTS = "--rounds 7 --seconds 1 --cases 2"
CONTENDERS = "nanotx_plain,nanotx,transformers_compiled"
TEXT = "--dim 32 --layers 1 --heads 2 --context 64 --draft-dim 16 --learn 1 --tokens 8 --rounds 1 --no-compile"

JOBS = (
    job(
        "device", 1.0, "versions, driver, peak rates of products and of memory",
        "peaks.py", "peaks.py --size 256 --tries 3",
    ),
    *(
        job(
            f"laws_{dtype}", minutes, f"laws of every layer on the device, in {dtype}",
            f"laws {LAYERS} --dtype {dtype} --examples 3", f"laws norm --dtype {dtype} --examples 1",
        )
        for dtype, minutes in {"float32": 1.5, "bfloat16": 1.0}.items()
    ),
    job(
        "attn", 2.0, "attentions, forward and backward",
        f"attn.py --shapes baby,1k,4k {PARTS}", "attn.py --quick --parts sdpa",
    ),
    training("baby_gpt", 4.0, "nanoGPT's baby GPT to its published loss, and to its end"),
    job(
        "peers", 2.5, "a training step compared with nanoGPT's and Hugging Face's on the equal model",
        f"training.py --recipe baby_gpt --rounds 12 --seconds 20 --starts 0 --contenders {CONTENDERS}{{nanogpt}}",
        f"training.py --contenders nanotx_plain,nanotx{{nanogpt}} {ONE_STEP}",
    ),
    training("shakespeare_char", 1.5, "the default recipe"),
    training("my_gpt", 4.0, "the lecture's full size"),
    training("decoder_384", 3.0, "the lecture's full size at half its batch"),
    job(
        "layers", 2.0, "feed-forwards, blocks, norms, positions",
        f"layers.py --shapes baby,1k {PARTS}", "layers.py --quick --slots norm --parts rmsnorm",
    ),
    job(
        "training", 2.0, "a training step of the small recipe",
        f"training.py --contenders {CONTENDERS} --rounds 12 --seconds 15 --starts 0",
        f"training.py --no-peers {ONE_STEP}",
    ),
    job(
        "attn_16k", 2.0, "attentions on one long text",
        "attn.py --shapes 16k --rounds 5 --seconds 1 --cases 1", "attn.py --quick --parts fused",
    ),
    job(
        "sampling", 2.0, "generating one text, and 64 at once",
        "sampling.py --batch 64 --tokens 300", f"sampling.py {TEXT}",
    ),
    job(
        "kills", 3.0, "runs killed at random moments and resumed to the bit",
        "selftest --only kill --kills 6", "selftest --only kill --kills 1",
    ),
    training("record", 2.0, "the recipe of 1.4697"),
    training("best", 8.0, "the longest recipe"),
)  # fmt: skip
