"""Merge the adapter of a run into its weights."""

import dataclasses
import sys
from pathlib import Path

from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError, shell_quoted
from nanotx.hub.pack_writer import write_pack
from nanotx.runs.load import load
from nanotx.runs.merge import merged

USAGE = "RUN --run OUT"
GROUP = "Hand a run on"
ORDER = 43


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Merge the adapter of a run (--adapt lora) into its weights: a model of the size that it had before.

    The result is a pack. What takes a run takes it: sample, eval, look, show, export, and --init of another run.

        nanotx merge runs/shakespeare_char-2 --run runs/merged
        nanotx sample runs/merged
    """

    folder: str = argument("RUN")  # folder of the run, or a pack
    run: str = option("OUT", dataclasses.MISSING)  # folder to write, or a zip file
    overwrite: bool = False  # replace a pack that is there already
    step: int | None = None  # step of the checkpoint to merge; without it, the newest
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 0, "step")


def run(argv: list[str]) -> int:
    """Write the pack, print what it is, and return the exit code."""
    flags = parse(Flags, argv, "nanotx merge")
    plugins = [load_file(file) for file in flags.load]
    loaded = load(flags.folder, flags.step)
    adapter = loaded.recipe.model.adapt
    if not adapter.patterns:
        raise ConfigError(f"{flags.folder}: has no adapter to merge; it can be used as it is.")
    whole = merged(loaded)
    write_pack(whole, Path(flags.run), plugins, flags.overwrite)
    sys.stdout.write(
        f"{flags.run}: step {loaded.step:,}, {whole.model.parameter_count:,} weights, of which the adapter had "
        f"{loaded.model.parameter_count - whole.model.parameter_count:,} beside them\n"
    )
    own = "".join(f" --load {shell_quoted(file)}" for file in flags.load)
    sys.stdout.write(f"nanotx sample {shell_quoted(flags.run)}{own}\n")
    return 0
