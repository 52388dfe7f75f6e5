"""The record of a run in its folder: which recipes took its steps, and where they can be taken again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from nanotx.config.schema import from_table, to_table
from nanotx.errors import ConfigError, RunError
from nanotx.files import is_blank
from nanotx.recipe import Recipe
from nanotx.runs import checkpoint, valid
from nanotx.runs.folder import RunFolder, not_a_run
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.loaded_files import RecordedFile, describe_edits, edits, read_record
from nanotx.runs.metrics_log import Row, read
from nanotx.runs.resume import tokenizer_of
from nanotx.runs.resume_check import leaves
from nanotx.runs.trainer_state import read_state
from nanotx.tokenizers import Codec, load
from nanotx.training.dataset import Dataset, check_same_corpus, load_dataset


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """The steps that one process took, with its recipe and tokenizer."""

    begin: int  # number of steps before it
    recipe: Recipe
    codec: Codec
    corpus_sha256: str  # of its corpus, from one of its checkpoints; "" if it left none
    loaded: tuple[RecordedFile, ...] = ()  # files that it imported by --load, from the same checkpoint


class RunRecord:
    """The record of a run, read from its folder."""

    def __init__(self, folder: str) -> None:
        """Read the record; a corpus is read when it is first needed.

        Raises:
            RunError: the folder is not a run.
            UnknownPart: its recipe names a part that needs --load FILE.py.
            TokenizerError: its tokenizer cannot be read, or is not the one that its newest checkpoint was trained with.
        """
        self.name, self.folder = folder, RunFolder(Path(folder))
        if not self.folder.is_run:
            raise not_a_run(folder)
        self.checkpoints, self.skipped = valid_checkpoints(self.folder)
        copies = [path / self.folder.recipe.name for path in self.checkpoints.values()]
        of_run = copies[0] if copies and is_blank(self.folder.recipe) else self.folder.recipe
        self.recipe = read_saved_recipe(of_run)
        self.codec = tokenizer_of(self.folder)
        rows = list(read(self.folder.metrics))
        self.changes: list[Row] = [row for row in rows if row["event"] == "changed"]
        self.steps: dict[int, Row] = {row["step"]: row for row in rows if row["event"] == "step"}
        self.begun: dict[int, int] = {row["step"]: row["steps"] for row in rows if row["event"] in ("start", "resume")}
        self._texts: dict[object, Dataset] = {}

    @property
    def last(self) -> int:
        """Return the last recorded step, or 0."""
        return max(self.steps, default=0)

    def check(self, step: int) -> None:
        """Raise RunError unless a step is recorded."""
        if step not in self.steps:
            known = f"{len(self.steps)} steps, the last of them {self.last}" if self.steps else "no step"
            raise RunError(f"{self.name}: step {step} is not recorded; its metrics.jsonl holds {known}.")

    def newest(self, step: int) -> int:
        """Return the step of the newest checkpoint up to a step; 0, the initial weights, if there is none."""
        return next((saved for saved in self.checkpoints if saved <= step), 0)

    @cached_property
    def segments(self) -> list[Segment]:
        """The segment of each process, as far as the folder records them.

        A resumed run may have more steps, other threads or another implementation of its attention, and with
        --allow-mismatch any other change. A checkpoint holds the recipe and the tokenizer of the process that wrote it,
        and the metrics log holds the planned number of steps. If a process left no checkpoint, its recipe is the run's,
        without the changes that later processes logged.

        Raises:
            RunError: a later process changed the tokenizer, so that an earlier one is lost.
        """
        segments = []
        for begin, end in pairwise([*sorted(self.begun or {0: self.recipe.train.steps}), math.inf]):
            # The oldest one: the last step may have been saved again by the next process.
            paths = [path for step, path in self.checkpoints.items() if begin < step <= end][-1:]
            recipe = read_saved_recipe(paths[0] / "recipe.toml") if paths else self.recipe_before(end)
            steps = self.begun.get(int(begin), recipe.train.steps)
            state = read_state(paths[0]) if paths else {"corpus_sha256": ""}
            segment = Segment(
                begin=int(begin),
                recipe=replace(recipe, train=replace(recipe.train, steps=steps)),
                codec=load(paths[0] / "tokenizer.json") if paths else self.codec,
                corpus_sha256=state["corpus_sha256"],
                loaded=read_record(self.folder.path, state),
            )
            segments.append(segment)
        return segments

    def recipe_before(self, step: int | float) -> Recipe:
        """Return the run's recipe without the changes that were made at this step or later.

        Raises:
            RunError: the tokenizer is among them, so that ids of that time cannot be had; or they cannot be undone.
        """
        undone = [row for row in self.changes if row["step"] >= step]
        if not undone:
            return self.recipe
        values = dict(leaves(to_table(self.recipe)))
        for row in reversed(undone):
            for key, (was, _) in row["changes"].items():
                values.pop(key, None)
                if was is not None:
                    values[key] = was
                if key.startswith("tokenizer."):
                    raise RunError(
                        f"{self.name}: its tokenizer was changed at step {row['step']}, and no checkpoint from before "
                        "holds the old one, so those steps cannot be repeated."
                    )
        try:
            return from_table(Recipe, nested(values))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{self.name}: the recipe before the change at step {undone[0]['step']} cannot be restored from "
                f"{self.folder.metrics}: {error}"
            ) from None

    def segment_at(self, step: int) -> Segment:
        """Return the segment that contains a step."""
        return next((segment for segment in reversed(self.segments) if segment.begin < step), self.segments[0])

    def edits_between(self, begin: int, end: int) -> tuple[str, ...]:
        """Return a sentence for each imported file that is not the one that took some of the steps after `begin`."""
        segments = [segment for segment in self.segments if segment.begin < end]
        passed = [self.segment_at(begin + 1), *(segment for segment in segments if segment.begin > begin)]
        recorded = dict.fromkeys(file for segment in passed for file in segment.loaded)
        return describe_edits(edits(recorded), self.folder.path)

    def texts(self, segment: Segment) -> Dataset:
        """Return the dataset of a segment; it is read once.

        Raises:
            DataError: the corpus cannot be read, or it has changed.
        """
        recipe, codec = segment.recipe, segment.codec
        key = (recipe.corpus, recipe.model.context, recipe.seeds.data, codec.digest)
        texts = self._texts[key] = self._texts.get(key) or load_dataset(recipe, codec)
        if segment.corpus_sha256:
            check_same_corpus(self.name, segment.corpus_sha256, texts.sha256, "bring the old one back")
        return texts


def nested(values: Mapping[str, Any]) -> Any:
    """Return the table whose plain values have these dotted names, the inverse of `resume_check.leaves`."""
    children: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        head, dot, rest = key.partition(".")
        children.setdefault(head, {})[rest if dot else ""] = value
    table = {head: inside[""] if "" in inside else nested(inside) for head, inside in children.items()}
    if table and all(key.isdecimal() for key in table):
        return [table[key] for key in sorted(table, key=int)]
    return table


def valid_checkpoints(folder: RunFolder) -> tuple[dict[int, Path], list[str]]:
    """Return the checkpoints that verify, by step, newest first, and why the others are skipped."""
    valid_paths, skipped = {}, []
    for step, path in checkpoint.numbered(folder.checkpoints):
        if reason := valid.misnamed(step, path):
            skipped.append(reason)
            continue
        try:
            valid.verify(path)
        except RunError as error:
            if not (path.exists() or path.is_symlink()):  # a process that trains the run has removed it since
                return valid_checkpoints(folder)
            skipped.append(str(error))
        else:
            valid_paths[step] = path
    return valid_paths, skipped
