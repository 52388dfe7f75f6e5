"""The jobs of `gpu.py`, the most valuable first: what each runs, how long it may take, and what it found."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Row

HERE = Path(__file__).resolve().parent.parent
LAYERS = ("attention", "block", "ffn", "norm", "embedding", "position", "model")
"""Slots whose parts run on the device."""
TARGET = 1.4697
"""What nanoGPT publishes for its baby GPT on Tiny Shakespeare, in nats per character."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how thoroughly a job runs."""

    device: str  # cpu or cuda
    quick: bool  # tiny sizes: only to see that it works
    scratch: Path  # an empty folder of the job's own
    nanogpt: str = ""  # a checkout of nanoGPT; empty for none

    @property
    def json(self) -> Path:
        """Where a benchmark writes its figures."""
        return self.scratch / "figures.json"

    @property
    def run(self) -> Path:
        """The folder of a training run."""
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


def python(*words: object) -> list[str]:
    """A command line for this Python."""
    return [sys.executable, *map(str, words)]


def figures(place: Place) -> Row | None:
    """What a benchmark wrote; None where it wrote nothing whole."""
    try:
        found: Row = json.loads(place.json.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def benchmark(program: str, full: str, quick: str) -> Command:
    """A program of this folder, with the flags of a full or of a quick measurement."""

    def command(place: Place) -> list[str]:
        words = (quick if place.quick else full).split()
        return python(HERE / program, "--device", place.device, *words, "--json", place.json)

    return command


def peers(place: Place) -> list[str]:
    """Our step beside the plain one, Hugging Face's compiled and, where it can be had, nanoGPT's own."""
    names = ["nanotx_plain", "nanotx", "transformers_compiled"]
    names += ["nanogpt", "nanogpt_compiled"] if place.nanogpt else []
    words = "--recipe baby_gpt --rounds 12 --seconds 20 --starts 0"
    if place.quick:
        names, words = ["nanotx_plain", "nanotx", *(["nanogpt"] if place.nanogpt else [])], ONE_STEP
    source = ["--nanogpt", place.nanogpt] if place.nanogpt else []
    program = python(HERE / "training.py", "--device", place.device, "--contenders", ",".join(names))
    return [*program, *words.split(), *source, "--json", str(place.json)]


ONE_STEP = "--layers 1 --batch 2 --rounds 3 --seconds 0 --steps 1 --starts 0 --dropouts 0 --compile off"


def laws(dtype: str) -> Command:
    """The laws of every layer, few cases each."""

    def command(place: Place) -> list[str]:
        slots, examples = (("norm",), 1) if place.quick else (LAYERS, 3)
        words = ("--device", place.device, "--dtype", dtype, "--examples", examples, "--json", place.json)
        return python("-m", "nanotx", "laws", *slots, *words)

    return command


def verdicts(place: Place) -> Row | None:
    """The laws that do not hold, and how many were tried."""
    found = figures(place)
    if found is None:
        return None
    tried = [row for row in found["verdicts"] if not row["skipped"]]
    broken = [{key: row[key] for key in ("part", "law", "broken", "case")} for row in tried if row["broken"]]
    cases = sum(row["cases"] for row in tried)
    return {"laws": len(tried), "cases": cases, "broken": broken, "not_asked": len(found["verdicts"]) - len(tried)}


TINY = (
    "--corpus playhouse --corpus.size 40000 --train.steps 4 --train.batch-size 2 --train.eval-every 2 "
    "--train.sample-tokens 20 --model.layers 1 --model.context 32"
)


def training(recipe: str) -> Command:
    """A recipe trained whole."""

    def command(place: Place) -> list[str]:
        quick = TINY.split() if place.quick else []
        return python("-m", "nanotx", "train", recipe, "--device", place.device, "--run", place.run, *quick)

    return command


def course(place: Place) -> Row | None:
    """How far a run came, whole or cut off: its evaluations, its speed, when it reached nanoGPT's loss, its figures."""
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
    """A line of JSON; None where it is not whole."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def text(file: Path) -> str:
    """What a file holds; nothing where it is not there."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def kills(place: Place) -> list[str]:
    """Runs on the device, killed at random moments and resumed: equal to the bit."""
    words = ("--only", "kill", "--kills", 1 if place.quick else 6, "--device", place.device, "--json", place.json)
    return python("-m", "nanotx", "selftest", *words)


SAMPLING = "--dim 32 --layers 1 --heads 2 --context 64 --draft-dim 16 --learn 1 --tokens 8 --rounds 1 --no-compile"

JOBS = (
    Job(
        name="device",
        about="versions, driver, peak rates of products and of memory",
        minutes=1.0,
        command=benchmark("peaks.py", "", "--size 256 --tries 3"),
        result=figures,
    ),
    Job(
        name="laws_float32",
        about="laws of every layer on the device, in float32",
        minutes=1.5,
        command=laws("float32"),
        result=verdicts,
    ),
    Job(
        name="laws_bfloat16",
        about="laws of every layer on the device, in bfloat16",
        minutes=1.0,
        command=laws("bfloat16"),
        result=verdicts,
    ),
    Job(
        name="attn",
        about="attentions, forward and backward",
        minutes=2.0,
        command=benchmark("attn.py", "--shapes baby,1k,4k --rounds 7 --seconds 1 --cases 2", "--quick --parts sdpa"),
        result=figures,
    ),
    Job(
        name="baby_gpt",
        about="nanoGPT's baby GPT to its published loss, and to its end",
        minutes=4.0,
        command=training("baby_gpt"),
        result=course,
    ),
    Job(
        name="peers",
        about="a training step beside nanoGPT's and Hugging Face's on the equal model",
        minutes=2.5,
        command=peers,
        result=figures,
    ),
    Job(
        name="shakespeare_char",
        about="the default recipe as it is",
        minutes=1.5,
        command=training("shakespeare_char"),
        result=course,
    ),
    Job(name="my_gpt", about="the lecture's full size, whole", minutes=4.0, command=training("my_gpt"), result=course),
    Job(
        name="decoder_384",
        about="the lecture's full size at half its batch, whole",
        minutes=3.0,
        command=training("decoder_384"),
        result=course,
    ),
    Job(
        name="layers",
        about="feed-forwards, blocks, norms, positions",
        minutes=2.0,
        command=benchmark(
            "layers.py", "--shapes baby,1k --rounds 7 --seconds 1 --cases 2", "--quick --slots norm --parts rmsnorm"
        ),
        result=figures,
    ),
    Job(
        name="training",
        about="a training step of the small recipe",
        minutes=2.0,
        command=benchmark(
            "training.py",
            "--contenders nanotx_plain,nanotx,transformers_compiled --rounds 12 --seconds 15 --starts 0",
            f"--no-peers {ONE_STEP}",
        ),
        result=figures,
    ),
    Job(
        name="attn_16k",
        about="attentions on one long text",
        minutes=2.0,
        command=benchmark("attn.py", "--shapes 16k --rounds 5 --seconds 1 --cases 1", "--quick --parts fused"),
        result=figures,
    ),
    Job(
        name="sampling",
        about="writing one text, and 64 side by side",
        minutes=2.0,
        command=benchmark("sampling.py", "--batch 64 --tokens 300", SAMPLING),
        result=figures,
    ),
    Job(
        name="kills",
        about="runs killed at random moments and resumed to the bit",
        minutes=3.0,
        command=kills,
        result=figures,
    ),
    Job(name="record", about="the recipe of 1.4697", minutes=2.0, command=training("record"), result=course),
    Job(name="best", about="the longest recipe", minutes=8.0, command=training("best"), result=course),
)
