"""trackio: its local store, which `trackio show --project nanotx` shows.

The store cannot go back. So it is asked what it has of the run, and only the rest is sent.
"""

import io
import os
import secrets
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, ClassVar

from nanotx.errors import ConfigError
from nanotx.files import is_blank, read_regular, write_atomic
from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.logger import LoggedRun, Logger, numbers
from nanotx.training.trainer import Row

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Variables that send runs elsewhere; what is there cannot be asked for."""

LONGEST = 1 << 12
"""Maximal size of the file that holds a run's name, in bytes."""


@Callback.register("trackio")
@dataclass(kw_only=True)
class Trackio(Logger):
    """Send the numbers of steps and evaluations, and the recipe, to the local store of trackio."""

    library: ClassVar[str] = "trackio"

    project: str = "nanotx"  # project in the store

    def open_sink(self, run: LoggedRun) -> None:
        if remote := [name for name in REMOTE if os.environ.get(name)]:
            raise ConfigError(f"trackio: {remote[0]} is set, and only the local store is written; unset it.")
        import trackio  # an optional package, which takes a second
        from trackio.sqlite_storage import SQLiteStorage

        name = name_of(run)
        stored = SQLiteStorage.get_logs(self.project, name)
        self.known = {(point["step"], key) for point in stored for key in point}
        with redirect_stdout(io.StringIO()):  # it prints how to show the project
            self.run: Any = trackio.init(
                project=self.project,
                name=name,
                config=dict(run.recipe),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def send(self, row: Row) -> None:
        step = row["step"]
        if new := {key: value for key, value in numbers(row).items() if (step, key) not in self.known}:
            self.run.log(new, step=step)

    def close_sink(self) -> None:
        with redirect_stdout(io.StringIO()):
            self.run.finish()


def name_of(run: LoggedRun) -> str:
    """Return the name of a run in the store, which trackio.txt in its folder keeps; a new run has a new one."""
    file = run.folder / "trackio.txt"
    begins = next(iter(run.rows()), None) is None
    if begins or is_blank(file):
        write_atomic(file, f"{run.folder.name}-{secrets.token_hex(3)}\n")
    return read_regular(file, LONGEST).decode("utf-8").strip()
