"""Gather what a report shows of a run: from its folder, and from its texts and its model where they can be had."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanotx.errors import NanotxError, RunError, UnknownPart
from nanotx.report.curves import Log, read_log
from nanotx.report.passage import Passage, Subject, try_passage
from nanotx.report.recipe_rows import Field, recipe_fields
from nanotx.runs import load
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.loaded_files import files_wanted
from nanotx.runs.run_table import RunRow, read_run
from nanotx.runs.valid import read_json
from nanotx.tokenizers import load as load_tokenizer
from nanotx.training.dataset import Dataset, load_dataset
from nanotx.training.text_cache import is_large


@dataclass(kw_only=True)
class RunReport:
    """What a report shows of one run."""

    name: str  # the folder, as it was given
    row: RunRow
    log: Log
    summary: dict[str, Any] = field(default_factory=dict)
    recipe: list[Field] = field(default_factory=list)
    references: dict[str, float] = field(default_factory=dict)  # nats per token, by name
    passage: Passage = field(default_factory=dict)
    passage_step: int = 0  # the step of the weights that read the passage
    notes: list[str] = field(default_factory=list)  # what is left out, and why


def gather(folder: str) -> RunReport:
    """Return what the files of a run say, without its model."""
    files = RunFolder(Path(folder))
    run = RunReport(name=folder, row=read_run(folder), log=read_log(files.metrics))
    run.recipe, reason = recipe_fields(files.recipe, run.log.recipe_differs if run.log.recipe else None)
    run.notes = list(dict.fromkeys([*run.row.notes, *([reason] if reason else [])]))
    if files.summary.exists():
        with suppress(OSError, RunError):  # `read_run` has noted it
            run.summary = read_json(files.summary)
    if run.summary and run.summary.get("steps") != run.log.last:
        run.notes.append(
            f"summary.json is of step {run.summary.get('steps')!r:.20}, and the run has come to step {run.log.last:,}."
        )
    if not run.summary and run.log.last:
        run.notes.append("There is no summary.json yet: the run is not over, or was killed.")
    if (files.path / ".owner").exists():
        run.notes.append("A process was training this run when the page was written, or was killed while it did.")
    return run


def dataset_of(run: RunReport) -> Dataset | None:
    """Return the texts of a run; None where they cannot be had, which is noted."""
    folder = RunFolder(Path(run.name))
    try:
        recipe = read_saved_recipe(folder.recipe)
        if is_large(recipe.corpus):
            run.notes.append("The corpus is large: there are no reference lines and no passage, to read none of it.")
            return None
        dataset = load_dataset(recipe, load_tokenizer(folder.tokenizer))
        if run.row.corpus_sha256 and dataset.sha256 != run.row.corpus_sha256:
            run.notes.append("The corpus is another text now: there are no reference lines and no passage.")
            return None
    except UnknownPart:
        wanted = files_wanted(folder.path)
        run.notes.append(
            f"A part is not loaded (--load FILE.py): reference lines, passage and attention are left out.{wanted}"
        )
    except (NanotxError, OSError) as error:
        run.notes.append(f"Reference lines, passage and attention are left out: {error}")
    else:
        return dataset
    return None


def look_from_disk(run: RunReport, dataset: Dataset) -> None:
    """Add the passage, read by the model of the newest checkpoint."""
    try:
        loaded = load.read_run(run.name)
    except (NanotxError, OSError) as error:
        run.notes.append(f"The passage and the attention maps are left out: {error}")
        return
    subject = Subject(model=loaded.model, codec=loaded.tokenizer, held_out=dataset.eval_texts["val"])
    run.passage, notes = try_passage(subject)
    run.passage_step = loaded.step
    run.notes += [*loaded.remarks, *notes]
