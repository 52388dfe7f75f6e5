"""Look inside a run: layers' guesses, heads' maps."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.commands.eval import validation_text
from nanotx.cli.console import check_output, write_json
from nanotx.cli.tokenizer.inputs import encoded
from nanotx.cli.tokenizer.page import visible
from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min
from nanotx.errors import ConfigError, DataError, RunError, printable
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import eval_text, fits
from nanotx.files import write_atomic
from nanotx.hardware.device import choose_machine
from nanotx.lens.induction import HeadScore, head_scores, repeated_tokens, repetition_losses
from nanotx.lens.look import Look, head_name, look, to_json
from nanotx.lens.page import page
from nanotx.lens.remove import removable, removal_edit, removals
from nanotx.lens.sites import find_head
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 23

PROG = "nanotx look"

SHOWN = 32
"""The most tokens in a table or a map on the terminal."""

STRONGEST = 2
"""Heads named for each token."""

TOKENS = 4096
"""Tokens of the validation text on which the previous-token score is measured."""

SORTS: dict[str, Callable[[HeadScore], float]] = {
    "induction": lambda head: head.induction,
    "previous": lambda head: head.previous,
    "loss": lambda head: head.difference,
}
"""What each value of --sort sorts the heads by."""

SHADES = " ░▒▓█"
"""Shades of a weight, from less than 1/20 to 1/2 or more."""

STEPS = (0.05, 0.15, 0.3, 0.5)
"""Weights at which the next shade begins."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Show what the model of a run makes of a prompt.

    For each layer: the guess for the next token if the model ended there (the final norm and the head on the stream
    after that layer), its probability, the entropy, and the rank of the token that comes next in the prompt. For each
    token: how surprising it was, and the heads that look most at one earlier token. All in float32 on the CPU.

        nanotx look runs/shakespeare_char-1 --prompt "ROMEO: O, she doth"
        nanotx look runs/shakespeare_char-1 --prompt "ROMEO: O, she doth" --token 4
        nanotx look runs/shakespeare_char-1 --prompt "ROMEO: O, she doth" --head 2.3
        nanotx look runs/shakespeare_char-1 --remove 2.attention.head3 --remove 2.ffn
        nanotx look runs/shakespeare_char-1 --remove each
        nanotx look runs/shakespeare_char-1 --scores --sort previous
    """

    folder: str = argument("RUN")  # folder of the run
    prompt: str = ""  # text to look at; of more tokens than the context, the last window
    token: int | None = None  # place of the token after which the layers guess; without it, the last one
    head: str = option("LAYER.HEAD")  # show the attention map of this head, such as 2.3
    remove: tuple[str, ...] = repeated("PART")  # loss of the validation text without this part; `each` for every one
    tokens: int = 8192  # tokens of the validation text that --remove reads, in windows spread evenly over it
    scores: bool = False  # score the heads: induction on repeated random tokens, and looking one token back on text
    sort: Literal["induction", "previous", "loss"] = "induction"  # column of --scores that sorts it, the highest first
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    json: str = option("FILE")  # write all of it, with every map, to this file
    html: str = option("FILE.html")  # write a page in which a pointer follows a token through layers and heads
    threads: int = 0  # processor threads; 0 for as many as the run had
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "threads", "step", "token")
        check_min(self, 1, "tokens")
        check_max(self, 1024, "threads")
        if self.sort != "induction" and not self.scores:
            raise ConfigError(f"--sort {self.sort}: sorts the table of --scores; add --scores.")


def run(argv: list[str]) -> int:
    """Look at the prompt, print what is seen, and return the exit code."""
    flags = parse(Flags, argv, PROG)
    if flags.json:
        check_output(flags.json, "--json")
    if flags.html:
        check_output(flags.html, "--html")
        if not flags.prompt:
            raise ConfigError("--html: the page is about a text; add --prompt TEXT.")
    if not (flags.prompt or flags.remove or flags.scores):
        raise ConfigError(f'--prompt: expected a text to look at, such as {PROG} {flags.folder} --prompt "To be".')
    for file in flags.load:
        load_file(file)
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    choose_machine("cpu", "float32", flags.threads or loaded.recipe.threads)
    console, result = Console(highlight=False), dict[str, Any]()
    if flags.prompt:
        result |= look_at_prompt(console, flags, loaded)
    if flags.scores:
        result["scores"] = print_scores(console, flags, loaded)
    if flags.remove:
        result |= print_removals(console, flags, loaded)
    if flags.json:
        write_json(flags.json, {"run": flags.folder, "step": loaded.step} | result)
    return 0


def look_at_prompt(console: Console, flags: Flags, loaded: LoadedRun) -> dict[str, Any]:
    """Print the tables and the map of the prompt, and return all figures."""
    site, head = find_head(loaded.model, flags.head) if flags.head else (None, 0)
    seen = look(loaded.model, encoded(loaded.tokenizer, flags.prompt, "--prompt").tolist())
    texts = [token_text(loaded, token) for token in seen.ids]
    if flags.token is not None and flags.token >= len(texts):
        raise ConfigError(f"--token: {flags.token}, and the tokens shown are 0 to {len(texts) - 1}.")
    print_notes(console, seen, flags.folder, loaded)
    print_layers(console, seen, texts, len(texts) - 1 if flags.token is None else flags.token, loaded)
    print_tokens(console, seen, texts)
    if site is not None:
        print_map(console, seen, texts, head_name(site, head), site.name)
    if flags.html:
        guesses = {name: [token_text(loaded, guess.token) for guess in row] for name, row in seen.layers.items()}
        try:
            write_atomic(Path(flags.html), page(seen, texts, guesses, f"{flags.folder}, step {loaded.step}"))
        except OSError as error:
            raise RunError(f"--html {flags.html}: cannot be written: {error.strerror}.") from None
        console.print(Text(f"\nAs a page: {flags.html}"))
    return to_json(seen, texts)


def print_scores(console: Console, flags: Flags, loaded: LoadedRun) -> list[dict[str, Any]]:
    """Print the scores of the heads, and return them."""
    text, source = scored_text(flags, loaded)
    heads = head_scores(loaded.model, text=text)
    heads.sort(key=SORTS[flags.sort], reverse=True)
    first, again = repetition_losses(loaded.model, repeated_tokens(loaded.model))
    names = {"induction": "induction", "previous": "previous token", "loss": "loss without it"}
    cells = [["head", *names.values()]]
    cells += [[head.head, f"{head.induction:.3f}", f"{head.previous:.3f}", f"{head.difference:+.3f}"] for head in heads]
    best = [f"{name} {max(heads, key=SORTS[key]).head}" for key, name in names.items()] if heads else []
    lines = [
        f"Random tokens, read twice over: loss {first:.3f} the first time, {again:.3f} the second, in nats per token.",
        "induction: mean weight from a token of the second reading to the one after its first occurrence, at most 1",
        f"previous token: mean weight from a token to the one before it, {source}",
        "loss without it: how much higher the loss of the second reading is without the head",
        f"Highest: {', '.join(best)}. Sorted by {names[flags.sort]}; --sort takes {', '.join(names)}",
    ]
    tables.print_table(console, "\n".join(lines), cells, sys.stdout.isatty())
    return [vars(head) for head in heads]


def scored_text(flags: Flags, loaded: LoadedRun) -> tuple[EvalText | None, str]:
    """Return the text on which the previous-token score is measured, and a description; None for random tokens."""
    try:
        text = validation_text(loaded, RunFolder(Path(flags.folder)))
    except DataError as error:
        return None, f"on the random tokens too, for want of the validation text ({str(error).rstrip('.')})"
    context = loaded.model.context
    paper = eval_text(loaded.tokenizer, text, 0 if fits(loaded.tokenizer, text, TOKENS) else TOKENS, context)
    return paper, f"on {paper.tokens:,} tokens of the validation text"


def print_removals(console: Console, flags: Flags, loaded: LoadedRun) -> dict[str, Any]:
    """Print the loss of the validation text without each part, the one that helps most first; return all figures."""
    names = removable(loaded.model) if "each" in flags.remove else list(dict.fromkeys(flags.remove))
    for name in names:
        removal_edit(loaded.model, name)
    text = validation_text(loaded, RunFolder(Path(flags.folder)))
    count = 0 if fits(loaded.tokenizer, text, flags.tokens) else flags.tokens
    paper = eval_text(loaded.tokenizer, text, count, loaded.model.context)
    pairs = list(removals(loaded.model, paper, names))
    loss, effects = pairs[0][0], sorted((effect for _, effect in pairs), key=lambda effect: -effect.difference)
    cells = [["without", "loss", "difference", "95% interval"]]
    for effect in effects:
        interval = "-" if effect.interval is None else f"{effect.interval[0]:+.4f} to {effect.interval[1]:+.4f}"
        cells.append([effect.name, f"{effect.loss:.4f}", f"{effect.difference:+.4f}", interval])
    title = f"Loss {loss:.4f} nats per token over {paper.tokens:,} tokens of the validation text; without a part of it:"
    tables.print_table(console, title, cells, sys.stdout.isatty())
    rows = [vars(effect) | {"interval": effect.interval} for effect in effects]
    return {"loss": loss, "validation_tokens": paper.tokens, "removals": rows}


def token_text(loaded: LoadedRun, token: int) -> str:
    """Return the text of a token, in which spaces and line ends can be seen and nothing moves the cursor."""
    names = {number: name for name, number in loaded.tokenizer.special_tokens.items()}
    return printable(names[token] if token in names else visible(loaded.tokenizer.decode_bytes([token])))


def print_notes(console: Console, seen: Look, folder: str, loaded: LoadedRun) -> None:
    """Print what is looked at, and what is not."""
    lines = [f"{folder}, step {loaded.step}: {len(seen.ids)} tokens"]
    if seen.left_out:
        lines.append(f"The prompt is longer than the context: the first {seen.left_out:,} tokens are left out.")
    if trained_compiled(folder):
        lines.append("The run was trained compiled; it is looked at eagerly, so the last bits of a number may differ.")
    for line in (*lines, *seen.notes, *seen.without.values()):
        console.print(Text(line), soft_wrap=True)


def trained_compiled(folder: str) -> bool:
    """Return whether a run's summary says that it was compiled; False where there is none to read."""
    try:
        summary: Any = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and summary.get("compiled") is True


def print_layers(console: Console, seen: Look, texts: list[str], place: int, loaded: LoadedRun) -> None:
    """Print the guess after each layer at one token, with the mean surprise of the prompt there."""
    cells = [["layer", "guess", "probability", "entropy", "rank of next", "mean surprise"]]
    for name, row in seen.layers.items():
        guess, known = row[place], [token.surprise for token in row if token.surprise is not None]
        mean = f"{sum(known) / len(known):.3f}" if known else "-"
        rank = "-" if guess.rank is None else f"{guess.rank:,}"
        word = token_text(loaded, guess.token)
        cells.append([name, word, f"{guess.probability:.3f}", f"{guess.entropy:.3f}", rank, mean])
    after = f"After token {place}, {texts[place]!r}"
    true = f"; next is {texts[place + 1]!r}" if place + 1 < len(texts) else ""
    tables.print_table(console, f"{after}{true} (entropy and surprise in nats)", cells, sys.stdout.isatty(), left=2)


def print_tokens(console: Console, seen: Look, texts: list[str]) -> None:
    """Print the surprise of each token, and the heads that look most at one token before it."""
    cells = [["token", "text", "surprise", "rank", "strongest heads"]]
    first = max(0, len(texts) - SHOWN)
    for place in range(first, len(texts)):
        before = seen.final[place - 1] if place else None
        surprise, rank = (
            (f"{before.surprise:8.3f}", f"{before.rank:4,}")
            if before is not None and before.surprise is not None
            else ("       -", "   -")
        )
        heads = [f"{name} at {key} {texts[key]} {weight:.2f}" for name, key, weight in seen.strongest(place, STRONGEST)]
        cells.append([f"{place}", texts[place], surprise, rank, ", ".join(heads)])
    title = f"The last {SHOWN} of {len(texts)} tokens (--json has all)" if first else "Tokens"
    tables.print_table(console, title, cells, sys.stdout.isatty(), left=len(cells[0]))


def print_map(console: Console, seen: Look, texts: list[str], name: str, attention: str) -> None:
    """Print the attention map of a head: a row for each token, a column for each token that it may look at."""
    if name not in seen.maps:
        raise ConfigError(f"--head {name}: {seen.without.get(attention, 'it has no map')}")
    first = max(0, len(texts) - SHOWN)
    part = f", the last {SHOWN} of {len(texts)} tokens (--json has all)" if first else ""
    steps = ", ".join(f"{shade} from {step:g}" for shade, step in zip(SHADES[1:], STEPS, strict=True))
    lines = [f"Head {name}{part}: a row for each token, a column for each that it looks at; {steps}"]
    for query in range(first, len(texts)):
        weights = seen.maps[name][query, first : query + 1].tolist()
        row = "".join(2 * SHADES[sum(weight >= step for step in STEPS)] for weight in weights)
        lines.append(f"{query:4} {texts[query][:6]:6} |{row}|")
    console.print(Text("\n".join(lines)), soft_wrap=True)
