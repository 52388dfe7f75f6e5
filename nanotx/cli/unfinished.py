"""Say that a run is not over, where its newest weights are used as if they were its last."""

import sys
from collections.abc import Sequence
from pathlib import Path

from nanotx.errors import printable, shell_quoted
from nanotx.runs.folder import is_pack
from nanotx.runs.load import LoadedRun


def report_unfinished(loaded: LoadedRun, load: Sequence[str] = ()) -> None:
    """Write a line to standard error if the newest weights of a run are not its last, with how to train it on.

    Args:
        loaded: the run, from its newest checkpoint.
        load: files of the user's own that it needs.
    """
    steps = loaded.recipe.train.steps
    if not 0 < loaded.step < steps:
        return
    line = f"{loaded.folder}: unfinished; these are the weights of step {loaded.step:,} of {steps:,}."
    if not is_pack(Path(loaded.folder)):
        own = "".join(f" --load {shell_quoted(file)}" for file in load)
        line += f" To train on: nanotx resume {shell_quoted(loaded.folder)}{own}"
    sys.stderr.write(f"{printable(line)}\n")
