"""Verify a run's folder: recipe, tokenizer, checkpoints, metrics log, summary, and the recorded validation loss."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nanotx.errors import ConfigError, DataError, NanotxError, RunError, UnknownPart
from nanotx.evaluation.loss import EvalText, evaluate
from nanotx.evaluation.texts import eval_text, eval_text_of_ids
from nanotx.hardware.device import Machine, choose_machine, make_deterministic
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.loaded_files import copy_of, edits_in, read_record, with_edits
from nanotx.runs.metrics_log import Row, lines_of, read, row_of
from nanotx.runs.resume import check_tokenizer, load_model, load_weights, without_loss
from nanotx.runs.trainer_state import read_state, strict
from nanotx.runs.valid import read_json, read_tensors, verify
from nanotx.tokenizers import Codec, load
from nanotx.tokenizers.token_corpus import open_split, token_files_of
from nanotx.training.dataset import check_same_corpus, load_dataset, sha256
from nanotx.training.text_cache import encode_large, is_large, scan

Result = Literal["holds", "fails", "not made"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check: its name, its result, and the details."""

    name: str
    result: Result
    detail: str
    figures: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the check as a JSON table."""
        table = asdict(self)
        return table.pop("figures") | table


def attempt(name: str, action: Callable[[], str], edited: Sequence[str] = ()) -> Check:
    """Run a check: it holds if the action returns, with the details, and fails if it raises a NanotxError.

    Args:
        name: of the check.
        action: the check.
        edited: a sentence for each file that has been edited since the run was trained; the action depends on it, so
            where there is one an error shows nothing about the run.

    Raises:
        UnknownPart: a recipe names a part that needs --load FILE.py.
    """
    try:
        return Check(name=name, result="holds", detail=action())
    except UnknownPart:
        raise
    except NanotxError as error:
        return Check(name=name, result="not made" if edited else "fails", detail=with_edits(error, edited))


def check_copies(folder: RunFolder, path: Path) -> Check | None:
    """Check that the run's copies of the files that --load imported are unchanged; None where it was trained without.

    Args:
        folder: the run's folder.
        path: its newest valid checkpoint, which records them.
    """
    recorded = read_record(path / "trainer.json", read_json(path / "trainer.json"))
    if not recorded:
        return None

    def compare() -> str:
        for file in recorded:
            if copy_of(file, folder.path) is None:
                raise RunError(f"{folder.code / file.copy}: missing, or not the file that the run was trained with.")
        return ", ".join(f"{file.copy}, SHA-256 {file.sha256[:12]}..." for file in recorded)

    return attempt(folder.code.name, compare)


def check_recipe(folder: RunFolder, edited: Sequence[str] = ()) -> Check:
    """Check that the recipe can be read; `edited` as for `attempt`."""

    def read() -> str:
        recipe = read_saved_recipe(folder.recipe)
        return f"{recipe.corpus.part}, {recipe.tokenizer.part}, {recipe.train.steps:,} steps"

    return attempt("recipe.toml", read, edited)


def check_tokenizer_file(folder: RunFolder) -> tuple[Check, Codec | None]:
    """Check that the tokenizer can be read, and return it if so."""
    try:
        codec = load(folder.tokenizer)
    except NanotxError as error:
        return Check(name="tokenizer.json", result="fails", detail=str(error)), None
    return Check(name="tokenizer.json", result="holds", detail=named(codec)), codec


def named(codec: Codec) -> str:
    """Describe a tokenizer."""
    return f"{codec.part} of {codec.vocab_size:,} ids, digest {codec.digest[:12]}..."


def check_checkpoint(path: Path, codec: Codec | None) -> Iterator[Check]:
    """Check that a checkpoint's files are unchanged, its weights fit the model, and its tokenizer is the right one.

    If a file has changed, the other checks are skipped.

    Args:
        path: the checkpoint.
        codec: the run's tokenizer, if the checkpoint should have the same one (--allow-mismatch permits another).
    """
    files = attempt(f"{path.name} files", partial(check_digests, path))
    yield files
    if files.result == "holds":
        yield attempt(f"{path.name} weights", partial(check_weights_fit, path), edits_in(path))
        yield attempt(f"{path.name} tokenizer", partial(check_tokenizers_agree, path, codec))


def check_digests(path: Path) -> str:
    """Raise RunError unless every digest matches; return the details."""
    names = sorted(verify(path))
    return f"{sum((path / name).stat().st_size for name in names):,} bytes by SHA-256: {', '.join(names)}"


def check_weights_fit(path: Path) -> str:
    """Raise NanotxError unless the weights, and their average if there is one, load into the model."""
    model = eval_model(path, load(path / "tokenizer.json"))
    load_weights(model, without_loss(read_tensors(path / "model.safetensors")))
    return f"{model.parameter_count:,} numbers load into the model of its recipe"


def eval_model(path: Path, codec: Codec) -> Transformer:
    """Return the model of a checkpoint with the weights that the run evaluated: their average, if there is one."""
    recipe = read_saved_recipe(path / "recipe.toml")
    file = path / ("ema.safetensors" if recipe.train.ema_decay else "model.safetensors")
    return load_model(file, recipe.model, codec.vocab_size)


def check_tokenizers_agree(path: Path, codec: Codec | None) -> str:
    """Raise NanotxError unless the tokenizer of the checkpoint, and that of the run if given, is the trained one."""
    state = read_state(path)
    check_tokenizer(path / "tokenizer.json", state, load(path / "tokenizer.json"))
    if codec:
        check_tokenizer(path.parent.parent / "tokenizer.json", state, codec)
    return (
        "its own and the run's are the one it was trained with" if codec else "its own is the one it was trained with"
    )


def check_metrics_log(folder: RunFolder, newest: int) -> Check:
    """Check that the metrics log can be read, that no step is missing, and that it reaches the newest checkpoint."""

    def read() -> str:
        rows, torn = rows_of(folder.metrics)
        last = in_order(folder.metrics, rows)
        if last < newest:
            raise RunError(f"{folder.metrics}: it ends at step {last}, but there is a checkpoint of step {newest}.")
        evaluations = sum(row["event"] == "eval" for row in rows)
        counts = f"{len(rows):,} rows in order: {last:,} steps, {evaluations:,} evaluations"
        return f"{counts}; its last line is incomplete; --resume removes it" if torn else counts

    return attempt("metrics.jsonl", read)


def rows_of(path: Path) -> tuple[list[Row], bool]:
    """Return the rows of a metrics log, and whether its last line is incomplete.

    Raises:
        RunError: it cannot be read, or a line before the last is not a row.
    """
    if not path.exists():
        raise RunError(f"{path}: cannot be read: No such file or directory.")
    rows = [row_of(line) for line in lines_of(path)]
    torn = bool(rows) and rows[-1] is None
    for number, row in enumerate(rows[: len(rows) - torn], start=1):
        if row is None:
            raise RunError(
                f"{path}: line {number} of {len(rows)} is not a row; --resume removes it and keeps a copy of the file."
            )
    return [row for row in rows if row is not None], torn


def in_order(path: Path, rows: list[Row]) -> int:
    """Check the order of the rows, and return the last step.

    A checkpoint is written while steps are taken, so the row that reports it may come late.

    Raises:
        RunError: a step is missing, or a row is out of order; says where.
    """
    last = saved = 0
    for number, row in enumerate(rows, start=1):
        wanted = last + 1 if row["event"] == "step" else last
        late = reports_checkpoint(row) and saved < row["step"] < last
        saved = row["step"] if row["event"] == "checkpoint" else saved
        if row["step"] != wanted and not late:
            raise RunError(
                f"{path}: line {number}: expected {row['event']!r} of step {wanted}, got that of step {row['step']!r}."
            )
        last = wanted
    return last


def reports_checkpoint(row: Row) -> bool:
    """Return whether a row reports a checkpoint: that it is published, or that it was refused."""
    refused = row["event"] == "warning" and row["text"].startswith(f"step {row['step']}: ")
    return refused or row["event"] == "checkpoint"


def check_summary(folder: RunFolder) -> Check:
    """Check that the summary agrees with the metrics log."""

    def compare() -> str:
        summary = read_json(folder.summary)
        last = summary.get("steps")
        if not isinstance(last, int):
            raise RunError(f"{folder.summary}: steps: expected a whole number, got {last!r:.60}.")
        rows = [row for row in read(folder.metrics) if row["step"] <= last]
        steps = sum(row["event"] == "step" for row in rows)
        losses = [row["val_loss"] for row in rows if row["event"] == "eval"] or [None]
        for key, recorded in (("steps", steps), ("val_loss", losses[-1])):
            if (stated := summary.get(key)) != recorded:
                raise RunError(f"{folder.summary}: {key} is {stated!r}, and metrics.jsonl holds {recorded!r}.")
        return f"validation loss {losses[-1]!r} after {steps:,} steps, as in metrics.jsonl"

    return attempt("summary.json", compare)


NAME = "validation loss"
TOLERANCES = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 1e-2}
"""Largest difference of a loss computed in another order, in nats per token, by dtype."""


@dataclass(frozen=True, kw_only=True)
class EvalMachine:
    """Where to evaluate; "run", and 0 threads, for the settings of the run."""

    device: str
    dtype: str
    threads: int

    def machine(self, recipe: Recipe) -> Machine:
        """Return the machine.

        Raises:
            ConfigError: the device is not available.
        """
        device = recipe.device if self.device == "run" else self.device
        dtype = recipe.dtype if self.dtype == "run" else self.dtype
        return choose_machine(device, dtype, self.threads or recipe.threads)


def check_val_loss(folder: RunFolder, sound: list[Path], where: EvalMachine) -> Check:
    """Evaluate the newest checkpoint whose step was evaluated, and compare the loss with the recorded one.

    Args:
        folder: the run's folder.
        sound: its valid checkpoints, newest first.
        where: where to evaluate.
    """
    rows = {f"step-{row['step']}": row for row in read(folder.metrics) if row.get("event") == "eval"}
    losses = {name: row["val_loss"] for name, row in rows.items()}
    path = next((path for path in sound if losses.get(path.name) is not None), None)
    if path is None:
        return Check(name=NAME, result="not made", detail="no valid checkpoint is of a step that was evaluated")
    if edited := edits_in(path):
        return Check(name=NAME, result="not made", detail=" ".join(edited))
    recipe = read_saved_recipe(path / "recipe.toml")
    try:
        machine, codec = where.machine(recipe), load(path / "tokenizer.json")
        text = validation(path, recipe, codec, rows[path.name])
        if recipe.deterministic:
            make_deterministic(machine.device)
        now = evaluate(eval_model(path, codec).to(machine.device), text, machine).loss
    except (DataError, ConfigError) as error:
        return Check(name=NAME, result="not made", detail=str(error))
    return compare_losses(path.name, losses[path.name], now, machine, recipe)


def validation(path: Path, recipe: Recipe, codec: Codec, row: Row) -> EvalText:
    """Return what a checkpoint's run was evaluated on to validate it.

    Args:
        path: the checkpoint.
        recipe: its recipe.
        codec: its tokenizer.
        row: of its evaluation.

    Raises:
        DataError: the corpus cannot be read, or is another one now, or the row does not tell how much was read.
    """

    def check(digest: str, size: int) -> None:
        saved = read_state(path)["corpus_sha256"]
        check_same_corpus(path.name, saved, digest, "bring the old one back")

    if recipe.corpus.packs_documents:
        return load_dataset(recipe, codec, check).eval_texts["val"]
    if files := token_files_of(recipe.corpus):
        split = open_split(recipe.corpus, files, recipe.tokenizer, codec, check)
    elif is_large(recipe.corpus):
        text = scan(recipe.corpus)
        check(text.sha256, text.size)
        split = encode_large(text, recipe.tokenizer, codec)
    else:
        training, validation = recipe.corpus.split()
        check(sha256(training, validation), 0)
        return eval_text(codec, validation, eval_tokens_of(row, 4 * len(validation)), recipe.model.context)
    count = eval_tokens_of(row, len(split.val))
    return eval_text_of_ids(codec, split.val, split.exact, count, recipe.model.context)


def eval_tokens_of(row: Row, most: int) -> int:
    """Return how many tokens an evaluation was to read; 0 for all.

    Raises:
        DataError: the row does not hold a valid number.
    """
    count = row.get("eval_tokens", 0)
    if not isinstance(count, int) or not 0 <= count <= most:
        raise DataError(f"metrics.jsonl: eval_tokens: expected how many tokens were read, got {count!r:.60}.")
    return count


def compare_losses(name: str, recorded: float, now: float, machine: Machine, recipe: Recipe) -> Check:
    """Return the check that compares a loss with the recorded one."""
    apart, tolerance = abs(now - recorded), max(TOLERANCES[machine.dtype_name], TOLERANCES[recipe.dtype])
    here = (machine.device.type, machine.dtype_name, machine.threads)
    there = (recipe.device, recipe.dtype, recipe.threads)
    if now == recorded:
        detail = f"{now:.6f} again, equal to the last bit"
    elif apart <= tolerance:
        where = "the same device, dtype and threads, so another machine or version of torch"
        where = where if here == there else f"{setup(*here)}, and the run had {setup(*there)}"
        detail = f"{now:.6f}, {apart:.1e} from the recorded one and within {tolerance:g}: {where}"
    else:
        detail = (
            f"{now:.6f}, but {recorded:.6f} is recorded: {apart:.1e} apart, more than {tolerance:g}, on {setup(*here)}"
        )
    figures = {
        "step": int(name.removeprefix("step-")),
        "recorded": recorded,
        "now": now,
        "bit_equal": now == recorded,
        "tolerance": tolerance,
        "same_settings": here == there,
    }
    result: Result = "holds" if apart <= tolerance else "fails"
    return Check(name=NAME, result=result, detail=f"{name}: {detail}", figures=strict(figures))


def setup(device: str, dtype: str, threads: int) -> str:
    """Describe a machine."""
    return f"{device} {dtype}, {threads} thread{'s' * (threads > 1)}"
