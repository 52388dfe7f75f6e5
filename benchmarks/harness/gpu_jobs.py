"""The jobs of `gpu.py`, the most valuable first: what each runs, how long it may take, and its figures."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Row

HERE = Path(__file__).resolve().parent.parent
LAYERS = ("attention", "block", "ffn", "norm", "embedding", "position", "model")
"""What has laws that depend on the device."""
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


Command = Callable[[Place], list[str]]
Result = Callable[[Place], Row | None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to measure, in a process of its own."""

    name: str
    about: str
    minutes: float  # after which it is cut off
    command: Command
    result: Result
    trains: bool = False  # on the recipe's own corpus


def python(*words: object) -> list[str]:
    """Return a command line for this Python."""
    return [sys.executable, *map(str, words)]


def figures(place: Place) -> Row | None:
    """Return what a benchmark wrote; None where it wrote no valid JSON."""
    try:
        results: Row = json.loads(place.json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return results


def benchmark(name: str, about: str, minutes: float, program: str, full: str, quick: str) -> Job:
    """Return the job of a benchmark, with the flags of a full and of a quick measurement."""

    def command(place: Place) -> list[str]:
        words = (quick if place.quick else full).split()
        return python(HERE / program, "--device", place.device, *words, "--json", place.json)

    return Job(name=name, about=about, minutes=minutes, command=command, result=figures)


def peers(place: Place) -> list[str]:
    """Return the command that compares our step with the plain one, Hugging Face's and, with a checkout, nanoGPT's."""
    names = ["nanotx_plain", "nanotx", "transformers_compiled"]
    names += ["nanogpt", "nanogpt_compiled"] if place.nanogpt else []
    words = "--recipe baby_gpt --rounds 12 --seconds 20 --starts 0"
    if place.quick:
        names, words = ["nanotx_plain", "nanotx", *(["nanogpt"] if place.nanogpt else [])], ONE_STEP
    source = ["--nanogpt", place.nanogpt] if place.nanogpt else []
    program = python(HERE / "training.py", "--device", place.device, "--contenders", ",".join(names))
    return [*program, *words.split(), *source, "--json", str(place.json)]


ONE_STEP = "--layers 1 --batch 2 --rounds 3 --seconds 0 --steps 1 --starts 0 --dropouts 0 --compile off"


def laws(dtype: str, minutes: float) -> Job:
    """Return the job that tries the laws of every layer, few cases each."""

    def command(place: Place) -> list[str]:
        slots, examples = (("norm",), 1) if place.quick else (LAYERS, 3)
        words = ("--device", place.device, "--dtype", dtype, "--examples", examples, "--json", place.json)
        return python("-m", "nanotx", "laws", *slots, *words)

    about = f"laws of every layer on the device, in {dtype}"
    return Job(name=f"laws_{dtype}", about=about, minutes=minutes, command=command, result=verdicts)


def verdicts(place: Place) -> Row | None:
    """Return the laws that do not hold, and how many were tried."""
    results = figures(place)
    if results is None:
        return None
    tried = [row for row in results["verdicts"] if not row["skipped"]]
    broken = [{key: row[key] for key in ("part", "law", "broken", "case")} for row in tried if row["broken"]]
    cases = sum(row["cases"] for row in tried)
    return {"laws": len(tried), "cases": cases, "broken": broken, "not_asked": len(results["verdicts"]) - len(tried)}


TINY = (
    "--corpus playhouse --corpus.size 40000 --train.steps 4 --train.batch-size 2 --train.eval-every 2 "
    "--train.sample-tokens 20 --model.layers 1 --model.context 32"
)


def training(recipe: str, about: str, minutes: float) -> Job:
    """Return the job that trains a recipe to its end."""

    def command(place: Place) -> list[str]:
        quick = TINY.split() if place.quick else []
        return python("-m", "nanotx", "train", recipe, "--device", place.device, "--run", place.run, *quick)

    return Job(name=recipe, about=about, minutes=minutes, command=command, result=run_figures, trains=True)


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


def kills(place: Place) -> list[str]:
    """Return the command that kills runs on the device at random moments and resumes them, equal to the bit."""
    words = ("--only", "kill", "--kills", 1 if place.quick else 6, "--device", place.device, "--json", place.json)
    return python("-m", "nanotx", "selftest", *words)


SAMPLING = "--dim 32 --layers 1 --heads 2 --context 64 --draft-dim 16 --learn 1 --tokens 8 --rounds 1 --no-compile"
PARTS = "--rounds 7 --seconds 1 --cases 2"
STEPS = "--contenders nanotx_plain,nanotx,transformers_compiled --rounds 12 --seconds 15 --starts 0"

JOBS = (
    benchmark(
        "device", "versions, driver, peak rates of products and of memory", 1.0, "peaks.py", "", "--size 256 --tries 3"
    ),
    laws("float32", 1.5),
    laws("bfloat16", 1.0),
    benchmark(
        "attn",
        "attentions, forward and backward",
        2.0,
        "attn.py",
        f"--shapes baby,1k,4k {PARTS}",
        "--quick --parts sdpa",
    ),
    training("baby_gpt", "nanoGPT's baby GPT to its published loss, and to its end", 4.0),
    Job(
        name="peers",
        about="a training step compared with nanoGPT's and Hugging Face's on the equal model",
        minutes=2.5,
        command=peers,
        result=figures,
    ),
    training("shakespeare_char", "the default recipe", 1.5),
    training("my_gpt", "the lecture's full size", 4.0),
    training("decoder_384", "the lecture's full size at half its batch", 3.0),
    benchmark(
        "layers",
        "feed-forwards, blocks, norms, positions",
        2.0,
        "layers.py",
        f"--shapes baby,1k {PARTS}",
        "--quick --slots norm --parts rmsnorm",
    ),
    benchmark("training", "a training step of the small recipe", 2.0, "training.py", STEPS, f"--no-peers {ONE_STEP}"),
    benchmark(
        "attn_16k",
        "attentions on one long text",
        2.0,
        "attn.py",
        "--shapes 16k --rounds 5 --seconds 1 --cases 1",
        "--quick --parts fused",
    ),
    benchmark(
        "sampling", "generating one text, and 64 at once", 2.0, "sampling.py", "--batch 64 --tokens 300", SAMPLING
    ),
    Job(
        name="kills",
        about="runs killed at random moments and resumed to the bit",
        minutes=3.0,
        command=kills,
        result=figures,
    ),
    training("record", "the recipe of 1.4697", 2.0),
    training("best", "the longest recipe", 8.0),
)
