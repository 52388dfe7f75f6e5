"""Load a model wherever it is: a run, a pack, a folder of the Hugging Face world, or a model of the Hub."""

import warnings
from pathlib import Path

from nanotx.errors import RunError, RunWarning
from nanotx.hub.download import fetched, is_model_id
from nanotx.hub.huggingface.import_run import read_folder
from nanotx.runs.folder import RunFolder, is_pack
from nanotx.runs.load import LoadedRun, read_run


def load(folder: str | Path, step: int | None = None) -> LoadedRun:
    """Load a model, on the CPU.

    Args:
        folder: a run, whose newest valid checkpoint is loaded; a pack; a folder of the Hugging Face world, as
            `nanotx import` reads it; or the id of a model on the Hub, `owner/name`.
        step: of the checkpoint of a run.

    A `RunWarning` says so where a file with a part of the model is not the one that the run was trained with.

    Raises:
        RunError: there is no run, no such checkpoint, or no valid one; says which. Or the model cannot be fetched.
        UnknownPart: its recipe names a part that must be supplied by --load FILE.py.
        ConfigError: the config of a folder has a class or a key that is not known.
    """
    if foreign := foreign_folder(folder):
        if step is not None:
            raise RunError(f"{folder}: a folder of the Hugging Face world; it holds no step {step}.")
        return read_folder(foreign, str(folder)).run
    loaded = read_run(folder, step)
    for remark in loaded.remarks:
        warnings.warn(remark, RunWarning, stacklevel=2)
    return loaded


def foreign_folder(folder: str | Path) -> Path | None:
    """Return the folder of a model of the Hugging Face world, which is fetched if need be; None if it is another."""
    path = Path(folder)
    if (path / "config.json").is_file() and not is_pack(path) and not RunFolder(path).checkpoints.exists():
        return path
    return fetched(str(folder)) if is_model_id(str(folder)) else None
