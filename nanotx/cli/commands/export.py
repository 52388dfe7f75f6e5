"""Export the model of a run."""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

from nanotx.cli.commands.eval import validation_text
from nanotx.cli.console import check_output
from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, DataError
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import eval_text, fits
from nanotx.hardware.device import choose_machine
from nanotx.hub.formats import Format, Request, find_format
from nanotx.hub.pack_writer import run_name
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load

USAGE = "RUN [PATH] --to KIND"
GROUP = "Hand a run on"
ORDER = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Export the model of a run in a form that needs no nanotx.

    html is the model itself as one page, which anyone can open without a network, type into, and watch: tokens as they
    come, the ten likeliest, and where every head looks. What its weights cost in 8 bits is measured on the validation
    text, and stated in the page.

    hf is a folder that transformers opens with its own classes (GPT-2, Llama, Qwen3, ...), offline and without code of
    ours. It is opened, and its ids, logits and greedy text are compared with the run's, before it gets its name.

    torch is a plain state dict with one short program beside it, which is the model and needs PyTorch alone. It is run,
    and its ids and logits are compared with the run's, before the folder gets its name.

    onnx is a graph of any model, for ONNX Runtime and what is built on it. gguf is one file for llama.cpp, of a GPT-2,
    Llama, Arcee, Qwen2 or Qwen3 with a tokenizer that llama.cpp has too. Both are run before they get their name.

    peft is the adapter of a run alone (--adapt lora), as the library of that name opens it. The other formats have it
    merged into the weights.

    A part that a format cannot compute is refused by name.

        nanotx export runs/shakespeare_char-1 --to html
        nanotx export runs/shakespeare_char-1 --to html romeo.html --weights float32
        nanotx export runs/shakespeare_char-1 --to hf my-model
    """

    folder: str = argument("RUN")  # folder of the run, or a pack
    path: str = argument("PATH", "")  # file or folder to write; without it, one named like the run
    to: str = option("KIND", dataclasses.MISSING)  # format to write: html, hf, torch, onnx, gguf or peft
    weights: Literal["int8", "float32"] | None = None  # html: 8 bits with a scale per group (int8), or as trained
    tokens: int | None = None  # html: tokens of the validation text that the loss is measured on, 8192; 0 for none
    remote_code: bool | None = None  # hf: where no class of transformers computes the model, write code that does
    overwrite: bool = False  # replace an earlier export
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    threads: int = 0  # processor threads; 0 for as many as the run had
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "threads", "step", "tokens")
        check_max(self, 1024, "threads")


def run(argv: list[str]) -> int:
    """Write the file, print what it holds, and return the exit code."""
    flags = parse(Flags, argv, "nanotx export")
    form = find_format(flags.to)
    check_options(flags, form)
    for file in flags.load:
        load_file(file)
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    path = Path(flags.path or f"{run_name(loaded)}{form.suffix}")
    check_output(str(path), "PATH")
    form.check(path, flags.overwrite)
    choose_machine("cpu", "float32", flags.threads or loaded.recipe.threads)
    tokens = 8192 if flags.tokens is None else flags.tokens
    paper = validation_paper(loaded, flags.folder, tokens) if tokens and "tokens" in form.options else None
    request = Request(
        run=loaded,
        path=path,
        overwrite=flags.overwrite,
        weights=flags.weights or "int8",
        remote_code=bool(flags.remote_code),
        paper=paper,
    )
    for line in form.write(request):
        sys.stdout.write(f"{path}: {line}\n")
    return 0


def check_options(flags: Flags, form: Format) -> None:
    """Raise ConfigError if a flag was given that means nothing for a format."""
    for name in ("weights", "tokens", "remote_code"):
        if getattr(flags, name) is not None and name not in form.options:
            raise ConfigError(f"--{name.replace('_', '-')}: means nothing for --to {flags.to}; leave it out.")


def validation_paper(loaded: LoadedRun, folder: str, tokens: int) -> EvalText | None:
    """Return the validation text, or windows of it; where the corpus is not at hand, say so and return None."""
    try:
        text = validation_text(loaded, RunFolder(Path(folder)))
    except DataError as error:
        sys.stderr.write(f"loss not measured, and not stated in the page: {error}\n")
        return None
    count = 0 if fits(loaded.tokenizer, text, tokens) else tokens
    return eval_text(loaded.tokenizer, text, count, loaded.model.context)
