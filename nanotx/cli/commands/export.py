"""Export the model of a run."""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

from nanotx.cli.commands.eval import validation_text
from nanotx.cli.console import check_output
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, DataError
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import eval_text, fits
from nanotx.hardware.device import choose_machine
from nanotx.hub.formats import Request, find_format
from nanotx.hub.pack import run_name
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load

USAGE = "RUN --to FORMAT [PATH]"
GROUP = "Hand a run on"
ORDER = 41


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Export the model of a run in a form that needs no nanotx.

    html is the model itself as one page, which anyone can open without a network, type into, and watch: tokens as they
    come, the ten likeliest, and where every head looks. What its weights cost in 8 bits is measured on the validation
    text, and stated in the page. A part that the page cannot compute is refused by name.

        nanotx export runs/shakespeare_char-1 --to html
        nanotx export runs/shakespeare_char-1 --to html romeo.html --weights float32
    """

    folder: str = argument("RUN")  # folder of the run, or a pack
    path: str = argument("PATH", "")  # file to write; without it, one named like the run
    to: str = option("FORMAT", dataclasses.MISSING)  # format to write: html
    weights: Literal["int8", "float32"] = "int8"  # numbers of the page: 8 bits with a scale per group, or as trained
    tokens: int = 8192  # tokens of the validation text that the loss is measured on; 0 to measure nothing
    overwrite: bool = False  # replace a file that is there already
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
    for file in flags.load:
        load_file(file)
    loaded = load(flags.folder, flags.step)
    path = Path(flags.path or f"{run_name(loaded)}{form.suffix}")
    check_output(str(path), "PATH")
    if path.exists() and not (flags.overwrite and path.is_file()):
        what = "already exists; add --overwrite to replace it, or choose" if path.is_file() else "no file; choose"
        raise ConfigError(f"{path}: {what} another path.")
    choose_machine("cpu", "float32", flags.threads or loaded.recipe.threads)
    paper = validation_paper(loaded, flags) if flags.tokens else None
    for line in form.write(Request(run=loaded, path=path, weights=flags.weights, paper=paper)):
        sys.stdout.write(f"{path}: {line}\n")
    return 0


def validation_paper(loaded: LoadedRun, flags: Flags) -> EvalText | None:
    """Return the validation text, or windows of it; where the corpus is not at hand, say so and return None."""
    try:
        text = validation_text(loaded, RunFolder(Path(flags.folder)))
    except DataError as error:
        sys.stderr.write(f"loss not measured, and not stated in the page: {error}\n")
        return None
    count = 0 if fits(loaded.tokenizer, text, flags.tokens) else flags.tokens
    return eval_text(loaded.tokenizer, text, count, loaded.model.context)
