"""Weights & Biases, offline: files in the folder `wandb` of the run, which `wandb sync` sends when it is asked to.

Nothing leaves the machine while the run trains, and no account is asked for.
"""

import secrets
import shutil
from dataclasses import dataclass
from typing import ClassVar

from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.logger import LoggedRun, Logger, numbers
from nanotx.training.trainer import Row

PREFIX = "nanotx-"
"""Beginning of the ids of our runs; folders of other runs in the same folder are left alone."""


@Callback.register("wandb")
@dataclass(kw_only=True)
class Wandb(Logger):
    """Write the numbers of steps and evaluations, the samples and the recipe to an offline run of wandb."""

    library: ClassVar[str] = "wandb"

    project: str = "nanotx"  # project on wandb that `wandb sync` adds the run to

    def open_sink(self, run: LoggedRun) -> None:
        import wandb  # an optional package, which takes a second

        for old in (run.folder / "wandb").glob(f"offline-run-*-{PREFIX}*"):
            shutil.rmtree(old)
        self.run = wandb.init(
            project=self.project,
            name=run.folder.name,
            id=f"{PREFIX}{secrets.token_hex(4)}",
            dir=str(run.folder),
            config=dict(run.recipe),
            mode="offline",
            reinit="create_new",  # beside a run of the user's own
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )

    def send(self, row: Row) -> None:
        text = {"sample": row["text"]} if row["event"] == "sample" else {}
        self.run.log({**numbers(row), **text}, step=row["step"])

    def close_sink(self) -> None:
        self.run.finish()
