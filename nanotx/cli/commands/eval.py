"""Evaluate a run on a text, in bits per byte."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.chart import spark
from nanotx.cli.console import write_json
from nanotx.cli.tokenizer.inputs import encoded
from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_max, check_min, to_table
from nanotx.data.conversations import Conversations
from nanotx.data.corpus import Corpus
from nanotx.data.corpus.file import File
from nanotx.data.corpus.playhouse import Playhouse
from nanotx.errors import ConfigError, DataError, TextError
from nanotx.evaluation.by_position import PositionSegment, losses, position_segments
from nanotx.evaluation.by_script import SegmentScore, TextScore, score_text
from nanotx.evaluation.longer_contexts import moved, read_position
from nanotx.evaluation.loss import evaluate
from nanotx.hardware.device import Machine, choose_machine
from nanotx.nn.stored_weights import store_weights
from nanotx.nn.transformer import Transformer
from nanotx.runs.folder import RunFolder
from nanotx.runs.load import LoadedRun, load
from nanotx.tokenizers.scripts import script_segments
from nanotx.tokenizers.token_corpus import decoded_text, open_split, token_files_of
from nanotx.training.dataset import check_same_corpus, load_dataset, sha256

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 21

PROG = "nanotx eval"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Evaluate a run on the whole validation text of its corpus, or on a file: every byte once, for any tokenizer.

    The text is cut into adjacent windows of the model's context, or of --context tokens. The first token of the text is
    predicted from the recorded start alone, the first token of each later window from the token before it alone, as in
    training. By script, the loss of a token counts for the script of its first byte, so that the losses of the scripts
    add up to the whole.

    Windows may be longer than in training. The position encoding stays as it was, unless --position names another, such
    as rope_yarn for rope, which then stretches by --context / the context of the run, or by --position.factor.

        nanotx eval runs/shakespeare_char-1
        nanotx eval runs/shakespeare_char-1 --text my.txt --by-script
        nanotx eval runs/shakespeare_char-1 --context 1024 --position rope_yarn --by-position
    """

    folder: str = argument("RUN")  # folder of the run
    text: str = option("PATH")  # file, or folder of files, to evaluate instead of the validation text
    by_script: bool = False  # show the loss by script as well
    by_position: bool = False  # show the loss by position in the window as well
    context: int = 0  # tokens per window; 0 for the context of the run
    position: str = option("NAME")  # position encoding to use instead; its fields follow, as in --position.factor 4
    step: int | None = None  # step of the checkpoint to load; without it, the newest
    json: str = option("FILE")  # write the figures to this file
    device: Literal["auto", "run", "cpu", "cuda", "mps"] = "auto"  # device to run on; run for the device of the run
    dtype: Literal["run", "auto", "float32", "bfloat16", "float16"] = "run"  # type of the arithmetic; run as in the run
    weights: Literal["float32", "bfloat16", "int8"] = (
        "float32"  # number format in which linear maps store their weights
    )
    threads: int = 0  # processor threads; 0 for as many as the run had
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "context", "threads", "step")
        check_max(self, 2**31, "context")
        check_max(self, 1024, "threads")


def run(argv: list[str]) -> int:
    """Evaluate the run, print the figures, and return the exit code."""
    others, of_position = split_position_flags(argv)
    flags = parse(Flags, others, PROG, stray="--text")
    for file in flags.load:
        load_file(file)
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    trained_context = loaded.recipe.model.context
    context = flags.context or trained_context
    named = [f"--position={flags.position}"] if flags.position else []
    position = read_position(loaded.recipe, context, [*named, *of_position], PROG)
    recipe = loaded.recipe
    device = recipe.device if flags.device == "run" else flags.device
    dtype = recipe.dtype if flags.dtype == "run" else flags.dtype
    machine = choose_machine(device, dtype, flags.threads or recipe.threads)
    model = moved(loaded.model, context, position).to(machine.device)
    store_weights(model, flags.weights)
    if not flags.text and recipe.corpus.packs_documents:
        return eval_documents(loaded, model, machine, flags)
    name = flags.text or f"validation text of {recipe.corpus.part}"
    text = read_text(flags.text) if flags.text else validation_text(loaded, RunFolder(Path(flags.folder)))
    try:
        scored = score_text(model, loaded.tokenizer, text, machine, context)
    except TextError:
        encoded(loaded.tokenizer, text, f"--text {flags.text}" if flags.text else name)  # raises with the line
        raise
    floor, floors = (None, {}) if flags.text else entropy_floor(recipe.corpus)
    print_line(f"{flags.folder}, step {loaded.step}: {name}, {scored.whole.size:,} bytes")
    table = to_table(model.config.position)
    if (context, model.config.position) != (trained_context, recipe.model.position):
        fields = "".join(f", {key} {value:g}" for key, value in table.items() if key != "part")
        print_line(f"windows of {context:,} tokens, {trained_context:,} in training; position {table['part']}{fields}")
    if flags.weights != "float32":
        print_line(f"weights of linear maps in {flags.weights}")
    print_results(scored, floor, floors, flags, context, trained_context)
    if flags.json:
        head = {"run": flags.folder, "step": loaded.step, "text": name, "floor_bits_per_byte": floor}
        head |= {"weights": flags.weights, "context": context, "trained_context": trained_context, "position": table}
        write_json(flags.json, head | to_json(scored, floors, context, trained_context))
    return 0


def split_position_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the flags of the position's fields (--position.factor 4): the part determines which there are."""
    others, of_position, value = list[str](), list[str](), False
    for arg in argv:
        value = value and not arg.startswith("--")
        field = arg.startswith("--position.")
        (of_position if field or value else others).append(arg)
        value = field and "=" not in arg
    return others, of_position


def print_line(line: str) -> None:
    """Print a line without folding it."""
    Console(highlight=False).print(Text(line), soft_wrap=True)


def print_results(
    scored: TextScore, floor: float | None, floors: dict[str, float], flags: Flags, context: int, trained_context: int
) -> None:
    """Print the figures, and the requested tables."""
    whole, console, terminal = scored.whole, Console(highlight=False), sys.stdout.isatty()
    known_floor = "" if floor is None else f"; floor {floor:.4f}"
    print_line(
        f"loss {whole.loss:.4f} nats per token over {whole.tokens:,} tokens, "
        f"{whole.bits_per_byte:.4f} bits per byte{known_floor}"
    )
    if flags.by_script:
        rows = script_cells(whole, scored.scripts, floors | ({} if floor is None else {ALL_SCRIPTS: floor}))
        tables.print_table(console, "", rows, terminal)
    if flags.by_position:
        print_line(
            f"loss at positions 1 to {min(context, whole.tokens):,}: {spark(losses(scored.nats, context).tolist())}"
        )
        tables.print_table(
            console,
            "",
            position_cells(position_segments(scored.nats, context, trained_context), trained_context),
            terminal,
        )


def read_text(path: str) -> str:
    """Return the text of a file, or of a folder of files.

    Raises:
        DataError: it cannot be read, or contains no text.
    """
    try:
        return File(path=path).text()
    except DataError as error:
        raise DataError(f"--text {str(error).removeprefix('corpus file: ')}") from None


def eval_documents(loaded: LoadedRun, model: Transformer, machine: Machine, flags: Flags) -> int:
    """Print the loss of a run's validation documents, packed as in training; of conversations, that of the answers.

    Raises:
        ConfigError: a flag is given that documents have no figures for.
        DataError: they cannot be read, or are no longer those that the run was trained on.
    """
    others = {"--by-script": flags.by_script, "--by-position": flags.by_position, "--context": flags.context}
    named = [flag for flag, value in (others | {"--position": flags.position}).items() if value]
    if named:
        raise ConfigError(
            f"{named[0]}: the documents of corpus {loaded.recipe.corpus.part} are scored one by one, in windows as in "
            "training; leave it out, or name a text by --text FILE."
        )
    recipe = replace(loaded.recipe, train=replace(loaded.recipe.train, eval_tokens=0))
    remedy = "bring the old one back, or name a text by --text FILE"
    dataset = load_dataset(
        recipe,
        loaded.tokenizer,
        lambda digest, size: check_same_corpus(flags.folder, loaded.corpus_sha256, digest, remedy),
    )
    score = evaluate(model, dataset.eval_texts["val"], machine)
    what = "answers" if isinstance(recipe.corpus, Conversations) else "documents"
    rate = "unknown" if score.bits_per_byte is None else f"{score.bits_per_byte:.4f}"
    print_line(f"{flags.folder}, step {loaded.step}: the {what} to validate on of {recipe.corpus.part}")
    print_line(f"loss {score.loss:.4f} nats per token over {score.tokens:,} tokens, bits per byte {rate}")
    if flags.json:
        figures = {"loss": score.loss, "bits_per_byte": score.bits_per_byte, "tokens": score.tokens}
        write_json(flags.json, {"run": flags.folder, "step": loaded.step, "text": what} | figures)
    return 0


def validation_text(loaded: LoadedRun, folder: RunFolder) -> str:
    """Return the validation text of a run's corpus; that of token files is decoded from their ids.

    Raises:
        DataError: it cannot be read, or it is no longer the text that the run was trained on.
    """
    recipe = loaded.recipe
    if not loaded.corpus_sha256:
        raise DataError(f"{folder.path}: imported, so its corpus is not known here; name a text by --text FILE.")
    if recipe.corpus.packs_documents:
        raise DataError(
            f"{folder.path}: corpus {recipe.corpus.part} has documents that are scored one by one, and no text to "
            f"validate on; nanotx eval {folder.path} scores them."
        )
    if files := token_files_of(recipe.corpus):
        split = open_split(recipe.corpus, files, recipe.tokenizer, loaded.tokenizer)
        text, digest = decoded_text(split), split.sha256
    else:
        training, text = recipe.corpus.split()
        digest = sha256(training, text)
    remedy = "bring the old one back, or name a text by --text FILE"
    check_same_corpus(folder.path, loaded.corpus_sha256, digest, remedy)
    return text


def entropy_floor(corpus: Corpus) -> tuple[float | None, dict[str, float]]:
    """Return the entropy floor of the validation text in bits per byte, of the whole and by script; None if unknown.

    Each byte counts for a script as it does in the scores by script.
    """
    if not isinstance(corpus, Playhouse):  # no other corpus knows the entropy of each character
        return corpus.floor(), {}
    training, text = corpus.split()
    bits, at = corpus.surprisal(training + text)[len(training) :], 0
    sums: dict[str, tuple[float, int]] = {}
    for script, segment in script_segments(text):
        cost, size = sums.get(script, (0.0, 0))
        here = float(bits[at : at + len(segment)].sum())
        sums[script] = cost + here, size + len(segment.encode("utf-8"))
        at += len(segment)
    floors = {script: cost / size for script, (cost, size) in sums.items()}
    return float(bits.sum()) / len(text.encode("utf-8")), floors


ALL_SCRIPTS = "all"
"""Name of the row of the whole text in the table of scripts."""


def script_cells(
    whole: SegmentScore, parts: Mapping[str, SegmentScore], floors: Mapping[str, float]
) -> list[list[str]]:
    """Return a header, a row per script, and a row for all; the last column where a floor is known."""
    cells = [["script", "bytes", "tokens", "tokens/word", "loss", "share of bits", "bits/byte", "floor"]]
    for name, score in {**parts, ALL_SCRIPTS: whole}.items():
        fertility, loss, rate, floor = (
            "-" if figure is None else f"{figure:.4f}"
            for figure in (score.fertility, score.loss, score.bits_per_byte, floors.get(name))
        )
        share = f"{score.nats / whole.nats if whole.nats else 0.0:.1%}"
        cells.append([name, f"{score.size:,}", f"{score.tokens:,}", fertility, loss, share, rate, floor])
    return cells if floors else [row[:-1] for row in cells]


def metrics(score: SegmentScore) -> dict[str, Any]:
    """Return the figures of a segment as plain values."""
    rates = {"loss": score.loss, "bits_per_byte": score.bits_per_byte, "fertility": score.fertility}
    return {"bytes": score.size, "words": score.words, "tokens": score.tokens, "nats": score.nats, **rates}


def position_cells(spans: Sequence[PositionSegment], trained_context: int) -> list[list[str]]:
    """Return a header and a row per segment; the last column marks positions beyond the training context."""
    cells = [["position", "tokens", "loss", "in training"]]
    for span in spans:
        place = f"{span.first:,}" if span.first == span.last else f"{span.first:,}-{span.last:,}"
        cells.append([place, f"{span.tokens:,}", f"{span.loss:.4f}", "yes" if span.last <= trained_context else "no"])
    return cells


def to_json(scored: TextScore, floors: Mapping[str, float], context: int, trained_context: int) -> dict[str, Any]:
    """Return all figures as plain values."""
    return metrics(scored.whole) | {
        "scripts": {
            name: metrics(part) | {"floor_bits_per_byte": floors.get(name)} for name, part in scored.scripts.items()
        },
        "positions": [dataclasses.asdict(span) for span in position_segments(scored.nats, context, trained_context)],
        "loss_by_position": losses(scored.nats, context).tolist(),
    }
