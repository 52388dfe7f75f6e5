"""Check a run's folder before it is resumed: what it holds, what is missing, and whether the recipe agrees with it.

Nothing is changed here: a resume that cannot continue is refused before a byte is written.

Not checked here: that the tokenizer and the corpus are those of the checkpoint, and that its weights fit the model.
`resume.py` does that, in `check_tokenizer`, `check_corpus` and `load_weights`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nanotx import disk
from nanotx.config.schema import to_table
from nanotx.errors import ConfigError, RunError, UnknownPart, shell_quoted
from nanotx.files import is_blank, read_regular, unused_path
from nanotx.nn.attention import Attention
from nanotx.recipe import BUDGETS, Recipe
from nanotx.runs import checkpoint, valid
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import read_saved_recipe
from nanotx.runs.loaded_files import edits, load_flags, read_record
from nanotx.runs.metrics_log import Row, read

MACHINE = {"device", "dtype", "threads", "compile", "reduce", "deterministic"}
SCHEDULED = {f"train.{name}" for name in (*BUDGETS, "eval_every", "eval_tokens", "sample_every", "sample_tokens")}
MEMORY = {
    f"train.{name}" for name in ("micro_batch_size", "grad_accum_steps", "activation_checkpointing", "loss_chunk_size")
}
"""How many windows, layers and logits are in memory at once: the same mean over the same batch, but for rounding."""
MUTABLE_ON_RESUME = MACHINE | SCHEDULED | {"train.checkpoint_every"} | MEMORY


def resolve_auto(saved: Recipe, requested: Recipe) -> Recipe:
    """Return the requested recipe, with each `auto` replaced by the value that the saved run determined, if it did.

    The digest of the weights that the run began with is such a value too.
    """
    micro = requested.train.micro_batch_size
    if micro == "auto":
        micro = saved.train.micro_batch_size or "auto"
    compiled = saved.compile if requested.compile == "auto" else requested.compile
    digest = requested.init_sha256
    if digest is None and requested.init == saved.init:
        digest = saved.init_sha256
    train = replace(requested.train, micro_batch_size=micro)
    return replace(requested, train=train, compile=compiled, init_sha256=digest)


def obey_budget(saved: Recipe, requested: Recipe, folder: RunFolder) -> Recipe:
    """Return a recipe that asks for the budget that a run began with, with the steps that it then determined.

    Another budget of tokens, bytes or FLOPs stays, because it is arithmetic; one of seconds would read the clock again.

    Raises:
        ConfigError: it is another number of seconds.
    """
    name, amount = requested.train.budget
    if name == "steps":
        return requested
    recorded = recorded_budget(folder)
    if recorded is not None and (recorded["budget"], recorded["budget_amount"]) == (name, amount):
        return replace(requested, train=requested.train.with_steps(saved.train.steps))
    if name == "seconds" and (recorded is not None or checkpoint.steps(folder.checkpoints)):
        raise ConfigError(
            f"train.seconds: the clock is read once, when a run starts, and {folder.path} takes {saved.train.steps:,} "
            "steps; leave it out to continue, or train further by --train.steps."
        )
    return requested


def recorded_budget(folder: RunFolder) -> Row | None:
    """Return the newest row of a metrics log that records a budget; None in a run without one, as older versions leave.

    Its keys `budget` and `budget_amount` are a text and a number.
    """
    rows = [row for row in read(folder.metrics) if row["event"] in ("start", "resume")]
    for row in reversed(rows):
        if row.get("budget") in BUDGETS and type(row.get("budget_amount")) in (int, float):
            return row
    return None


def check_resumable(saved: Recipe, requested: Recipe) -> None:
    """Raise ConfigError if flags or files request another run than the one in the folder.

    Mutable are a longer `train.steps`, the intervals of evaluations, samples and checkpoints, the machine, what takes
    less memory (`MEMORY`), and the implementation of an attention among equivalent ones, with its own fields.
    """
    refused = [*differences(saved, requested), *fewer_steps(saved, requested)]
    if refused:
        raise ConfigError(
            f"--resume: the run differs: {'; '.join(refused)}. "
            "Leave these out to continue it, start a new run with another --run, or use --allow-mismatch."
        )


def check_init(saved: Recipe, requested: Recipe) -> None:
    """Raise ConfigError if a run is to be resumed with the weights of another run, whatever mismatch is allowed."""
    if requested.init not in (None, saved.init):
        began = f"this run began with {saved.init}" if saved.init else "this run has weights of its own"
        raise ConfigError(
            f"--init {requested.init}: {began}, and a resumed run goes on with those that it saved; leave it out, or "
            "begin a new run with another --run."
        )


def differences(saved: Recipe, requested: Recipe) -> list[str]:
    """Return the differences of two recipes that a resumed run may not have, a phrase for each."""
    old, new = dict(leaves(to_table(saved))), dict(leaves(to_table(requested)))
    return [
        f"{key} was {was!r}, not {wish!r}"
        for key, was, wish in changes(saved, requested)
        if key not in MUTABLE_ON_RESUME and not is_other_implementation(key, old, new)
    ]


def fewer_steps(saved: Recipe, requested: Recipe) -> list[str]:
    """Return a phrase if the run is to end earlier."""
    fewer = 0 < requested.train.steps < saved.train.steps  # 0 is a budget, of which steps are made later
    return [f"train.steps was {saved.train.steps}, and {requested.train.steps} is fewer"] * fewer


def changes(saved: Recipe, requested: Recipe) -> list[tuple[str, Any, Any]]:
    """Return the fields in which two recipes differ: dotted name and both values, None for a missing one.

    A seed that only one of them names, such as `weights_seed`, is `seed` in the other.
    """
    old, new = dict(leaves(to_table(saved))), dict(leaves(to_table(requested)))
    keys = sorted(old.keys() | new.keys())
    pairs = [(key, old.get(key, seed_of(saved, key)), new.get(key, seed_of(requested, key))) for key in keys]
    return [(key, was, now) for key, was, now in pairs if was != now]


def seed_of(recipe: Recipe, key: str) -> int | None:
    """Return the value of a field such as `weights_seed` that a recipe does not name; None for another field."""
    return recipe.seeds._asdict().get(key.removesuffix("_seed"))


def is_other_implementation(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether a key that differs only selects another implementation of the same attention function."""
    place, _, field = key.rpartition(".")
    parts = [fields.get(f"{place}.part") for fields in (old, new)]
    if not place.endswith("attention") or None in parts or parts[0] == parts[1]:
        return False
    first, other = (Attention.find(str(part)).equivalent_to for part in parts)
    return first == other != "" and (field == "part" or None in (old.get(key), new.get(key)))


def leaves(table: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the plain values of a table with their dotted names."""
    if isinstance(table, dict):
        for key, item in table.items():
            yield from leaves(item, f"{at}.{key}" if at else key)
    elif isinstance(table, list) and any(isinstance(item, dict) for item in table):
        for index, item in enumerate(table):
            yield from leaves(item, f"{at}.{index}")
    else:
        yield at, table


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The contents of a run's folder."""

    steps: list[int] = field(default_factory=list)  # of all its checkpoints
    checkpoint: Path | None = None  # the newest that verifies
    skipped: list[str] = field(default_factory=list)  # why each newer one does not
    recipe: Recipe | None = None  # of the run
    before: Recipe | None = None  # of the checkpoint
    notes: list[str] = field(default_factory=list)  # messages for the user


def survey(folder: RunFolder, allow_mismatch: bool = False) -> Survey:
    """Return the contents of a folder whose run is to be resumed.

    Args:
        folder: of the run.
        allow_mismatch: accept a recipe.toml that was edited by hand, and files that were edited.

    Raises:
        RunError: checkpoints are missing, cannot be read, or are a link to another folder; says which.
        ConfigError: recipe.toml is damaged, or differs from the checkpoint's, or a file that --load imports is not the
            one that the run was trained with; says what to do.
    """
    if not folder.is_run:
        return Survey()
    steps = list(checkpoint.steps(folder.checkpoints))
    check_own(folder)
    newest, skipped = valid.newest(folder.checkpoints)
    if newest is None:
        check_explained(folder, skipped)
        recorded: Recipe | None = None if is_blank(folder.recipe) else read_saved_recipe(folder.recipe)
        return Survey(steps=steps, skipped=skipped, recipe=recorded)
    notes = check_code(folder, newest, allow_mismatch)
    recipe, more = recipe_of(folder, newest)
    notes += more
    before = read_saved_recipe(newest / "recipe.toml")
    if not allow_mismatch:
        check_edits(folder, newest, before, recipe)
    return Survey(steps=steps, checkpoint=newest, skipped=skipped, recipe=recipe, before=before, notes=notes)


def check_own(folder: RunFolder) -> None:
    """Raise RunError if the checkpoints are a link: they may belong to another run, of which this is a copy."""
    place = folder.checkpoints.resolve()
    if folder.checkpoints.exists() and place.parent != folder.path.resolve():
        here, there = shell_quoted(folder.checkpoints), shell_quoted(place)
        raise RunError(
            f"{folder.checkpoints}: a link to {place}, which may belong to another run; resuming would remove "
            f"checkpoints there. Give this run its own: rm {here} && cp -a {there} {here}; or move the whole run "
            "and link its folder. Reading it (sample, eval, verify, show) works without that."
        )


def check_code(folder: RunFolder, path: Path, allow_mismatch: bool) -> list[str]:
    """Return a message for each file that is not the one that a checkpoint's run was trained with.

    Raises:
        ConfigError: there is such a file, without `allow_mismatch`; says what to type.
    """
    edited = edits(read_record(path / "trainer.json", valid.read_json(path / "trainer.json")))
    lines = [edit.describe(folder.path) for edit in edited]
    if edited and not allow_mismatch:
        flags = load_flags([edit.recorded for edit in edited], folder.path)
        old = f"To continue with that one: {flags}; with" if flags else "No copy of it is there: bring it back; or with"
        raise ConfigError(f"--resume: {' '.join(lines)} {old} the edited file: --allow-mismatch.")
    return lines


def recipe_of(folder: RunFolder, path: Path) -> tuple[Recipe, list[str]]:
    """Return a run's recipe, from the checkpoint's copy if the file is missing or empty, and messages about it.

    Raises:
        ConfigError: the file is damaged, and may hold edits of the user; says where its copy is.
    """
    copy = path / folder.recipe.name
    if is_blank(folder.recipe):
        return read_saved_recipe(copy), [f"{folder.recipe}: missing or empty; restored from its copy {copy}."]
    try:
        return read_saved_recipe(folder.recipe), []
    except UnknownPart:  # its copy names the same part; the error says how to load it
        raise
    except ConfigError as error:
        hint = f"A copy that verifies is {copy}: put it in its place, or repair the file."
        raise type(error)(f"{error} {hint}") from None


def recipe_left(folder: RunFolder) -> Recipe | None:
    """Return the recipe of a run that starts again: its own, or the copy in its newest checkpoint; None without both.

    Raises:
        ConfigError: it is damaged, and there is no copy.
    """
    try:
        newest, _ = valid.newest(folder.checkpoints)
    except RunError:  # the old files are moved aside
        newest = None
    if newest is not None:
        return recipe_of(folder, newest)[0]
    return None if is_blank(folder.recipe) else read_saved_recipe(folder.recipe)


def check_edits(folder: RunFolder, path: Path, before: Recipe, recipe: Recipe) -> None:
    """Raise ConfigError if recipe.toml differs from the checkpoint's and nanotx did not write it."""
    edits = [*differences(before, recipe), *fewer_steps(before, recipe)]
    if not edits or is_recorded(folder):
        return
    raise ConfigError(
        f"{folder.recipe}: edited since the last checkpoint: {'; '.join(edits)}. The checkpoint's copy is "
        f"{path / folder.recipe.name}: put that back to resume the run unchanged, or continue with the edited one "
        "by --allow-mismatch."
    )


def is_recorded(folder: RunFolder) -> bool:
    """Return whether the metrics log records that nanotx itself changed the recipe to the present one."""
    digests = [row["recipe_sha256"] for row in read(folder.metrics) if row["event"] == "changed"]
    return digests[-1:] == [recipe_digest(read_regular(folder.recipe))]


def recipe_digest(text: bytes) -> str:
    """Return the SHA-256 digest of a recipe.toml."""
    return hashlib.sha256(text).hexdigest()


def check_explained(folder: RunFolder, skipped: list[str]) -> None:
    """Check that a run without a checkpoint never had one, so that starting at step 0 loses nothing.

    Raises:
        RunError: it had one; says what is missing and what to try.
    """
    rows = list(read(folder.metrics))
    last = max((row["step"] for row in rows), default=0)
    signs = [f"its newest {len(skipped)} cannot be used: {' '.join(skipped)}"] if skipped else []
    if had_checkpoint(folder, rows, last):
        signs.append(f"{folder.metrics} records {last:,} steps and a checkpoint")
    signs += [
        f"{file} is of a run that was saved"
        for file in (folder.summary, folder.samples)
        if file.exists() and not any(row["event"] in ("start", "resume") for row in rows)
    ]
    if not signs:
        return
    raise RunError(
        f"{folder.path}: no checkpoint in {folder.checkpoints} can be resumed, though the run had one: "
        f"{'; '.join(signs)}. Restore the checkpoints and resume; or start again at step 0 with --restart, which "
        "moves the old files aside and deletes none."
    )


def had_checkpoint(folder: RunFolder, rows: list[Row], last: int) -> bool:
    """Return whether the rows show that the run has saved a checkpoint."""
    if any(row["event"] == "checkpoint" or (row["event"] in ("end", "resume") and row["step"]) for row in rows):
        return True
    if not last or any(row["event"] == "warning" and checkpoint.UNWRITTEN in row["text"] for row in rows):
        return False
    try:  # a process may die before it logs its first checkpoint; a step after one was due shows that it was saved
        plan = read_saved_recipe(folder.recipe).train
    except UnknownPart:
        raise
    except ConfigError:
        return True
    return last > min(plan.checkpoint_every or plan.steps, plan.steps)


def set_aside(folder: RunFolder) -> Path | None:
    """Move a run's files into a new numbered folder in its folder; return that, or None if there were no files."""
    names = [path for path in folder.files if path.exists() or path.is_symlink()]
    if not names:
        return None
    aside = unused_path(folder.path / "aside")
    disk.make(aside)
    for path in names:  # checkpoints first: a run that is only partly moved is then refused, not continued
        disk.rename(path, aside / path.name)
    disk.sync(aside)
    disk.sync(folder.path)
    return aside
