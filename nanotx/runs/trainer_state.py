"""The state of a trainer in a checkpoint: saving it, and checking it before use."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nanotx.config.schema import INT_LIMIT
from nanotx.config.toml import write_toml
from nanotx.errors import ConfigError, Diverged, RunError
from nanotx.optim.state import Table
from nanotx.optim.state import check_table as check_optimizer
from nanotx.runs import checkpoint, valid
from nanotx.runs.checkpoint import Content
from nanotx.runs.folder import RunFolder
from nanotx.runs.formats import FORMAT, check_format
from nanotx.runs.loaded_files import KEY, RecordedFile, read_record, to_record
from nanotx.runs.valid import Proven
from nanotx.training.dataset import Dataset
from nanotx.training.trainer import Progress, Row, Trainer

KEEP = 2


def save(
    trainer: Trainer,
    folder: RunFolder,
    texts: Dataset,
    proven: Proven | None = None,
    check_place: Callable[[], None] = lambda: None,
    loaded: Sequence[RecordedFile] = (),
) -> list[Path]:
    """Publish a checkpoint of this step, and remove those that are no longer needed, as `publish` does.

    Args:
        trainer: whose state is saved.
        folder: of the run.
        texts: its data.
        proven: as in `publish`.
        check_place: likewise.
        loaded: the files that this process imported by --load.

    Returns:
        The checkpoints that are kept only because they contain more than was saved.
    """
    return publish(contents(trainer, texts, loaded), folder, proven or Proven(), check_place)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a checkpoint."""

    step: int
    best: int  # the step of the best checkpoint so far
    files: dict[str, Content]
    live: frozenset[int]  # the memory that a step changes, by `checkpoint.address`

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors."""
        named = [content for content in self.files.values() if not isinstance(content, str)]
        return [tensor for tensors in named for tensor in tensors.values()]

    @property
    def nbytes(self) -> int:
        """The size of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def copy_nbytes(self) -> int:
        """The size of the tensors that `copied` copies."""
        return sum(tensor.nbytes for tensor in self.tensors if checkpoint.must_copy(tensor, self.live))

    def copied(self) -> "Contents":
        """Return these contents in memory of the CPU that no step changes; what is in such memory is not copied."""
        return replace(self, files=checkpoint.copied(self.files, self.live), live=frozenset())


def contents(trainer: Trainer, texts: Dataset, loaded: Sequence[RecordedFile] = ()) -> Contents:
    """Return the contents of a checkpoint of this step; among the tensors are the trainer's own, which a step changes.

    All comes from memory, nothing from the run's folder.

    Raises:
        Diverged: a weight is not finite, or a number of the optimizer's is NaN.
        ConfigError: the state of the optimizer cannot be saved.
    """
    weights, tensors, table, averages = trainer.saved_state()
    progress = trainer.progress
    for name, weight in weights.items():
        if not valid.all_finite(weight):
            raise Diverged(not_saved(trainer, f"the weights of {name} are not finite, and are not saved"))
    for name, tensor in tensors.items():
        if valid.has_nan(tensor):
            raise Diverged(not_saved(trainer, f"the optimizer's {name} has NaN, and is not saved"))
    state = {
        "format": FORMAT,
        "progress": asdict(progress) | {"earlier_seconds": progress.wall_seconds, "scores": strict(progress.scores)},
        "optimizer": table,
        "scaler": trainer.scaler.state_dict(),
        "corpus_sha256": texts.sha256,
        "corpus_size": texts.size,
        "tokenizer": {"part": texts.codec.part, "sha256": texts.codec.digest},
        **({KEY: to_record(loaded)} if loaded else {}),
    }
    others = {"ema.safetensors": averages} if trainer.ema else {}
    if buffers := trainer.buffers.saved():
        others[valid.BUFFERS] = buffers
    files: dict[str, Content] = {
        "model.safetensors": weights,
        "optimizer.safetensors": tensors,
        **others,
        "trainer.json": in_json(state, table),
        "recipe.toml": write_toml(trainer.recipe),
        "tokenizer.json": texts.codec.to_json(),
    }
    best = best_step(trainer, progress.step)
    return Contents(step=progress.step, best=best, files=files, live=live_memory(trainer))


def live_memory(trainer: Trainer) -> frozenset[int]:
    """Return the memory that a trainer's steps change, by `checkpoint.address`.

    Tensors of a checkpoint that are in no such memory are new: rank 0 has collected them, or they are in another layout
    than the trainer's.
    """
    parameters = trainer.model.parameters() if trainer.slices is None else trainer.slices.own.values()
    state, _ = trainer.state_codec.read().encode()
    averages = trainer.ema.averages.values() if trainer.ema else ()
    tensors = (*parameters, *trainer.model.buffers(), *state.values(), *averages)
    return frozenset(checkpoint.address(tensor) for tensor in tensors)


def publish(
    contents: Contents,
    folder: RunFolder,
    proven: Proven,
    check_place: Callable[[], None] = lambda: None,
    publishing: AbstractContextManager[object] | None = None,
) -> list[Path]:
    """Publish a checkpoint, and remove those that are no longer needed.

    Another thread may take steps meanwhile, if it does not change the contents.

    Args:
        contents: of the checkpoint.
        folder: of the run.
        proven: remembers which checkpoints verify; of the older ones, only those are counted.
        check_place: raises if the folder is another run's by now; called before any checkpoint is removed.
        publishing: a context in which the checkpoint gets its name.

    Returns:
        The checkpoints that are kept only because they contain more than was saved.
    """
    path = folder.checkpoints / f"step-{contents.step}"
    checkpoint.write_atomic(path, contents.files, publishing)
    check_place()
    proven.add(path)
    return checkpoint.prune(folder.checkpoints, keep=KEEP, best=contents.best, newest=contents.step, sound=proven)


def best_step(trainer: Trainer, newest: int) -> int:
    """Return the step of the best evaluation so far; `newest`, where there was none."""
    return int(trainer.progress.best.get("step", newest))


def not_saved(trainer: Trainer, reason: str) -> str:
    """Return the message for a step after which no checkpoint is written."""
    return (
        f"step {trainer.progress.step}: {reason}; what was saved before is. Try a lower --optimizer.lr than "
        f"{trainer.recipe.optimizer.lr:g}."
    )


def in_json(state: dict[str, Any], table: Table) -> str:
    """Return the text of trainer.json.

    Raises:
        ConfigError: the optimizer has too many plain values for it; the message names the parameter with most of them.
    """
    text = json.dumps(state, indent=1, allow_nan=False) + "\n"
    if len(text) > valid.TEXT:
        sizes = {name: len(json.dumps(item)) for name, item in {"groups": table["groups"], **table["state"]}.items()}
        most = max(sizes, key=lambda name: sizes[name])
        raise ConfigError(
            f"optimizer: its plain values take {len(text):,} bytes of trainer.json, which may have {valid.TEXT:,}; "
            f"most of them are of {most}: keep them in a tensor."
        )
    return text


def prune(trainer: Trainer, folder: RunFolder, newest: int, proven: Proven | None = None) -> list[Path]:
    """Keep the newest checkpoints and the one of the best evaluation so far; `newest` is the step of the last one.

    Returns:
        The checkpoints that are kept only because they contain more than was saved.
    """
    best = best_step(trainer, newest)
    return checkpoint.prune(folder.checkpoints, keep=KEEP, best=best, newest=newest, sound=proven or Proven())


def strict(row: Row) -> Row:
    """Return a row for strict JSON: numbers that are not finite become null."""
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in row.items()}


Kinds = dict[str, type]

TABLES: Kinds = {"progress": dict, "optimizer": dict, "scaler": dict, "corpus_sha256": str, "tokenizer": dict}
TOKENIZER: Kinds = {"part": str, "sha256": str}
SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
"""Keys of PyTorch's GradScaler, which scales losses in float16; the state of a run in another dtype is empty."""

WHOLE_IN_SCALER = {"growth_interval", "_growth_tracker"}

SCORES = {"val_loss", "bits_per_byte"}
"""Keys of every evaluation."""

BEST: Kinds = {"step": int, "val_loss": float}
"""Keys of the best evaluation, and their types."""

LARGEST_SCALE = 2.0**64
"""Beyond it no gradient in float16 is finite."""

PROGRESS: Kinds = {name: type(value) for name, value in vars(Progress()).items()}


def read_state(path: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's trainer.json.

    Raises:
        RunError: another version of nanotx wrote it, or it is not of nanotx at all.
    """
    file = path / "trainer.json"
    state = valid.read_json(file)
    check_format(path, state.get("format"))
    for name, kind in TABLES.items():
        if not isinstance(state.get(name), kind):
            raise RunError(f"{file}: {name}: expected {kind.__name__}, got {state.get(name)!r:.60}.")
    check_table(file, "progress", state["progress"], PROGRESS)
    check_table(file, "tokenizer", state["tokenizer"], TOKENIZER)
    try:
        check_optimizer(state["optimizer"])
    except ValueError as error:
        raise RunError(f"{file}: optimizer/{error}") from None
    check_scaler(file, state["scaler"])
    if (scores := state["progress"].get("scores")) and (lacks := SCORES - scores.keys()):
        raise RunError(f"{file}: progress.scores.{min(lacks)} is missing.")
    best = state["progress"].get("best") or dict.fromkeys(BEST, 0)
    if wrong := [name for name, kind in BEST.items() if not fits(best.get(name), kind)]:
        raise RunError(f"{file}: progress.best.{wrong[0]}: expected a number, got {best.get(wrong[0])!r:.60}.")
    for name in TOKENIZER.keys() - state["tokenizer"].keys():
        raise RunError(f"{file}: tokenizer.{name} is missing.")
    read_record(file, state)
    if f"step-{state['progress'].get('step')}" != path.name:
        raise RunError(f"{file}: it is of step {state['progress'].get('step')}, in a folder called {path.name}.")
    return state


def check_scaler(file: Path, scaler: dict[str, Any]) -> None:
    """Raise RunError unless a table is empty or a valid state of PyTorch's GradScaler."""
    check_table(file, "scaler", scaler, dict.fromkeys(SCALER, float) | dict.fromkeys(WHOLE_IN_SCALER, int))
    if not scaler:
        return
    if lacks := SCALER - scaler.keys():
        raise RunError(f"{file}: scaler.{min(lacks)} is missing.")
    for name in ("scale", "growth_factor", "backoff_factor", "growth_interval"):
        if not 0 < scaler[name] <= LARGEST_SCALE:
            raise RunError(f"{file}: scaler.{name}: expected a number above 0 and up to 2**64, got {scaler[name]!r}.")


def check_table(file: Path, name: str, table: dict[str, Any], kinds: Kinds) -> None:
    """Raise RunError unless a table has only known keys, each with a value of its type."""
    for key, item in table.items():
        if key not in kinds or not fits(item, kinds[key]):
            raise RunError(f"{file}: {name}.{key:.60}: {item!r:.60} is not what nanotx writes there.")


def fits(item: Any, kind: type) -> bool:
    """Return whether a JSON value has a type; integers are below 2**63, and no number is negative or infinite."""
    if kind is dict:
        return isinstance(item, dict) and all(fits(value, float) or value is None for value in item.values())
    if kind in (int, float):
        if isinstance(item, bool):
            return False
        whole = isinstance(item, int) and item < INT_LIMIT
        return (whole or (kind is float and isinstance(item, float))) and 0 <= item < math.inf
    return isinstance(item, kind)
