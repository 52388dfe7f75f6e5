"""Send a finished run to TensorBoard or another logger."""

import sys
from dataclasses import dataclass
from pathlib import Path

from nanotx.cli.run import read_callback
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.toml import read_toml
from nanotx.errors import ConfigError, NanotxError, RunError
from nanotx.runs.folder import RunFolder, locked, not_a_run
from nanotx.runs.metrics_log import read
from nanotx.training.callbacks.logger import LoggedRun, Logger
from nanotx.training.loop import failure

USAGE = "RUN"
GROUP = "Use a run"
ORDER = 25


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Send the steps, evaluations and samples of a run to a logger, as if it had watched the run.

    What the logger holds of the run already is replaced, or not sent again. A run that trains is
    watched by --callback instead.

        nanotx log runs/shakespeare_char-1 --to tensorboard
        nanotx log runs/shakespeare_char-1 --to '{part = "csv", every = 10}'
    """

    folder: str = argument("RUN")  # folder of the run
    to: str = option(
        "NAME", default=""
    )  # logger: csv, tensorboard, wandb, trackio, or '{part = "name", field = value}'
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts


def run(argv: list[str]) -> int:
    """Send the run, and return the exit code."""
    flags = parse(Flags, argv, "nanotx log")
    for file in flags.load:
        load_file(file)
    logger = chosen_logger(flags.to)
    folder = RunFolder(Path(flags.folder))
    if not folder.is_run:
        raise not_a_run(flags.folder, "metrics.jsonl")
    if next(read(folder.metrics), None) is None:
        raise RunError(f"{folder.metrics}: missing or empty; there is nothing to send.")
    with locked(folder.path):
        logged = LoggedRun(folder=folder.path, recipe=read_toml(folder.recipe), rows=lambda: read(folder.metrics))
        try:
            count = logger.send_run(logged)
        except NanotxError:
            raise
        except Exception as error:  # of the logger's own library
            raise RunError(f"--to {flags.to}: {failure(error)}") from error
    sys.stdout.write(f"{flags.folder}: {count:,} rows sent to {logger.part}.\n")
    return 0


def chosen_logger(text: str) -> Logger:
    """Return the logger that `--to` names.

    Raises:
        ConfigError: it names none, or its library is not installed.
    """
    if not text:
        raise ConfigError("nanotx log: --to: missing; expected a logger such as --to tensorboard.")
    callback = read_callback(text, "--to")
    if not isinstance(callback, Logger):
        raise ConfigError(f"--to {text}: watches a run as it trains, and is no logger such as csv or tensorboard.")
    return callback
