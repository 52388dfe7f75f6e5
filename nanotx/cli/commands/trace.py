"""Trace a text through a model: every einops call."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from nanotx.cli.commands.look import token_text, trained_compiled
from nanotx.cli.console import check_output, write_json
from nanotx.cli.tokenizer.inputs import encoded
from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.help import wrap
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, RunError, printable
from nanotx.files import write_atomic
from nanotx.hardware.device import choose_machine
from nanotx.lens.lesson import Line, Section, by_statement, last_values, lesson, number, sizes_text
from nanotx.lens.look import finite
from nanotx.lens.source import Statement
from nanotx.lens.trace import PASSES, Trace, trace
from nanotx.lens.trace_page import trace_page
from nanotx.runs.load import LoadedRun, load

USAGE = "RUN TEXT"
GROUP = "Use a run"
ORDER = 28

PROG = "nanotx trace"

WIDTH = 80
"""Columns of the terminal that are used."""

VALUES = 3
"""Numbers of each result on the terminal."""

VALUES_IN_FILE = 16
"""Numbers of each result in the JSON file."""

LIKELIEST = 5
"""Next tokens that are shown."""

STYLES = {"einops": "bold cyan", "linear": "bold", "torch": ""}
"""Styles of the names of steps by their kind."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Show the way of a text through the model of a run, from ids to the likeliest next token.

    For each step: the statement in the source, the einops pattern (or the axes) with the real size of each axis, a few
    numbers of the result (along its last axis, at the last token), and milliseconds. Shown are the calls of einops,
    linear maps, and the operations of PyTorch between them, also those of parts of your own.

    Layers and heads that repeat the steps of an earlier one are shown once. The pass is eager, in float32 on the CPU.

        nanotx trace runs/shakespeare_char-1 "To be"
        nanotx trace runs/shakespeare_char-1 "To be" --layer 2
        nanotx trace runs/shakespeare_char-1 "To be" --all --html trace.html
    """

    folder: str = argument("RUN")  # folder of the run
    text: str = argument("TEXT")  # text to trace; of more tokens than the context, the last window
    layer: int | None = None  # show this layer, and no other
    all: bool = False  # show every layer and every head
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    json: str = option("FILE")  # write all steps to this file
    html: str = option("FILE.html")  # write a page with a picture of each result
    threads: int = 1  # processor threads; 0 for as many as the run had
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "threads", "step", "layer")
        check_max(self, 1024, "threads")
        if self.all and self.layer is not None:
            raise ConfigError("--layer: shows one layer, and --all every one; leave one out.")
        if not self.text:
            raise ConfigError("TEXT: expected a text of one token at least.")


def run(argv: list[str]) -> int:
    """Trace the text, print the steps, and return the exit code."""
    flags = parse(Flags, argv, PROG)
    for file, flag in ((flags.json, "--json"), (flags.html, "--html")):
        if file:
            check_output(file, flag)
    for file in flags.load:
        load_file(file)
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    choose_machine("cpu", "float32", flags.threads or loaded.recipe.threads)
    ids: list[int] = encoded(loaded.tokenizer, flags.text, "TEXT").tolist()
    traced = trace(loaded, ids[-loaded.model.context :])
    sections = lesson(traced, loaded.model, flags.layer, flags.all)
    notes = about(flags, loaded, traced, len(ids))
    texts, likeliest = [token_text(loaded, token) for token in traced.ids], next_tokens(loaded, traced)
    print_lesson(Console(highlight=False), notes, texts, traced, sections, likeliest)
    if flags.json:
        write_json(flags.json, to_json(flags, loaded, traced, texts, likeliest, notes))
    if flags.html:
        title = f"{flags.folder}, step {loaded.step}: {printable(flags.text[:60])}"
        html = trace_page(traced, sections, texts, likeliest, title, notes)
        try:
            write_atomic(Path(flags.html), html)
        except OSError as error:
            raise RunError(f"--html {flags.html}: cannot be written: {error.strerror}.") from None
        sys.stdout.write(f"\nAs a page: {flags.html}\n")
    return 0


def about(flags: Flags, loaded: LoadedRun, traced: Trace, tokens: int) -> list[str]:
    """Return sentences about what is traced and how, and what is not seen."""
    lines = [
        f"{flags.folder}, step {loaded.step}: {len(traced.ids)} token{'s' * (len(traced.ids) > 1)}, "
        f"{len(traced.steps):,} steps, {len(traced.einops):,} of them einops.",
        f"A pass takes {traced.pass_ms:.3g} ms. The milliseconds of a step are the median of {PASSES} traced passes; "
        "watching adds a few microseconds to each.",
    ]
    if tokens > len(traced.ids):
        lines.append(
            f"The text is longer than the context: the first {tokens - len(traced.ids):,} tokens are left out."
        )
    if trained_compiled(flags.folder) and not traced.notes:
        lines.append("The run was trained compiled; it is traced eagerly, so the last bits of a number may differ.")
    return [*lines, *traced.notes]


def next_tokens(loaded: LoadedRun, traced: Trace) -> list[tuple[str, float]]:
    """Return the likeliest next tokens with their probabilities."""
    logits = traced.logits[-1].clone()
    logits[list(loaded.model.undefined_ids)] = -torch.inf
    best = logits.softmax(dim=-1).topk(min(LIKELIEST, len(logits)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(token_text(loaded, token), probability) for token, probability in pairs]


def print_lesson(
    console: Console,
    notes: list[str],
    texts: list[str],
    traced: Trace,
    sections: list[Section],
    likeliest: list[tuple[str, float]],
) -> None:
    """Print the way of the text."""
    text = Text()
    for note in notes:
        text.append(f"{wrap(note, WIDTH)}\n")
    text.append("\ntext to ids\n", "bold")
    text.append(f"{wrap('  '.join(f'{word}={token}' for word, token in zip(texts, traced.ids, strict=True)), WIDTH)}\n")
    add_legend(text, traced)
    for section in sections:
        add_section(text, section)
    text.append("\nlogits to the likeliest next token\n", "bold")
    text.append("  ".join(f"{word} {probability:.3f}" for word, probability in likeliest))
    console.print(text, soft_wrap=True)


def add_legend(text: Text, traced: Trace) -> None:
    """Add how the lines of a step are read, and what the axes of this pass mean."""
    text.append("\nhow to read it\n", "bold")
    text.append("module  its class\n  file:line\n    the statement in the source\n", "dim")
    steps, numbers = "      step         axes before -> after, or of the result, and sizes", "values  ms"
    text.append(f"{steps}{numbers:>{WIDTH - len(steps)}}\n", "dim")
    text.append("\naxes\n", "bold")
    for axis, about in traced.axes().items():
        text.append(f"  {axis:6} {about}\n")


def add_section(text: Text, section: Section) -> None:
    """Add the steps of a module."""
    if section.kind:
        text.append(f"\n{section.module or 'model'}", "bold")
        text.append(f"  {section.kind}\n")
    else:
        text.append("\n")
    for first, lines in by_statement(section.lines):
        statement = first.last.statement
        text.append(f"  {short_place(statement)}\n", "dim")
        for row in statement.code.splitlines():
            for part in folded(row, WIDTH - 4):
                text.append(f"    {printable(part)}\n", "green")
        for line in lines:
            add_line(text, line, section.module)
    if section.note:
        text.append(f"{wrap(section.note, WIDTH)}\n", "italic")


def short_place(statement: Statement) -> str:
    """Return the file and the line of a statement; of a long path, its end."""
    place = printable(f"{statement.file}:{statement.line}")
    return place if cell_len(place) <= WIDTH - 2 else f"...{place[5 - WIDTH :]}"


def add_line(text: Text, line: Line, place: str) -> None:
    """Add a step: its name, pattern and sizes on the left, numbers and milliseconds on the right."""
    step = line.last
    name = line.name(place)
    left = f"      {name:12} {step.shown}"
    sizes = f"  {sizes_text(step)}" if step.sizes else ""
    values = last_values(step.result, VALUES + 1)
    shown = " ".join(map(number, values[:VALUES])) + (" ..." if len(values) > VALUES else "")
    right = f"{shown} {line.ms:7.3f}"
    rows = [left + sizes] if cell_len(left + sizes) <= WIDTH else [*folded(left, WIDTH), f"{'':19}{sizes.strip()}"]
    if cell_len(rows[-1]) + cell_len(right) + 2 <= WIDTH:
        rows[-1] += " " * (WIDTH - cell_len(rows[-1]) - cell_len(right)) + right
    else:
        rows.append(f"{right:>{WIDTH}}")
    start = len(text)
    text.append("\n".join(rows) + "\n")
    text.stylize(STYLES[step.kind], start + 6, start + 6 + len(name))


def folded(row: str, width: int) -> list[str]:
    """Return a line in pieces of at most some width; those after the first are indented."""
    pieces = []
    while cell_len(row) > width:
        cut = row.rfind(" ", len(row) - len(row.lstrip()) + 1, width + 1)
        cut = cut if cut > width // 2 else width
        pieces.append(row[:cut].rstrip())
        row = "    " + row[cut:].lstrip()
    return [*pieces, row]


def to_json(
    flags: Flags,
    loaded: LoadedRun,
    traced: Trace,
    texts: list[str],
    likeliest: list[tuple[str, float]],
    notes: list[str],
) -> dict[str, Any]:
    """Return the trace as plain values; numbers that are not finite become None."""
    return {
        "run": flags.folder,
        "step": loaded.step,
        "tokens": [{"id": token, "text": text} for token, text in zip(traced.ids, texts, strict=True)],
        "pass_ms": traced.pass_ms,
        "steps": [
            {
                "kind": step.kind,
                "name": step.name,
                "module": step.module,
                "layer": step.layer,
                "file": step.statement.file,
                "line": step.statement.line,
                "code": step.statement.code,
                "pattern": step.pattern,
                "axes": step.axes_out,
                "sizes": step.sizes,
                "inputs": step.inputs,
                "shape": step.shape,
                "values": list(map(finite, last_values(step.result, VALUES_IN_FILE))),
                "ms": step.ms,
            }
            for step in traced.steps
        ],
        "next": [{"text": word, "probability": probability} for word, probability in likeliest],
        "notes": notes,
    }
