"""Pack a run to hand on."""

import dataclasses
import sys
from pathlib import Path

from nanotx.cli.unfinished import report_unfinished
from nanotx.config.flags import argument, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError, shell_quoted
from nanotx.hub.pack_writer import run_name, write_pack
from nanotx.runs.folder import is_pack
from nanotx.runs.load import load

USAGE = "RUN [PATH]"
GROUP = "Hand a run on"
ORDER = 42


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Pack a run to hand on: one zip file, or a folder.

    It holds the weights without the optimizer's state, the tokenizer, the recipe, the figures, the report where there
    is one, and a card (README.md) that says what the model is and how to use it. What takes a run takes a pack: sample,
    eval, look, show, export and nanotx.load; only training needs the run itself.

        nanotx pack runs/shakespeare_char-1
        nanotx pack runs/shakespeare_char-1 mine.zip --overwrite
        nanotx pack runs/shakespeare_char-1 a_folder --step 500
    """

    folder: str = argument("RUN")  # folder of the run
    path: str = argument("PATH", "")  # zip file or folder to write; without it, a zip file named like the run
    overwrite: bool = False  # replace a pack that is there already
    step: int | None = None  # step of the checkpoint to pack; without it, the newest
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts; packed as data

    def __post_init__(self) -> None:
        check_min(self, 0, "step")


def run(argv: list[str]) -> int:
    """Write the pack, print what it holds, and return the exit code."""
    flags = parse(Flags, argv, "nanotx pack")
    if is_pack(Path(flags.folder)):
        raise ConfigError(f"{flags.folder}: a pack already; copy it, or pack the run that it was made from.")
    plugins = [load_file(file) for file in flags.load]
    loaded = load(flags.folder, flags.step)
    if flags.step is None:
        report_unfinished(loaded, flags.load)
    target = Path(flags.path or f"{run_name(loaded)}.zip")
    sizes = write_pack(loaded, target, plugins, flags.overwrite)
    total = sum(sizes.values())
    sys.stdout.write(f"{target}: step {loaded.step:,}, {len(sizes)} files, {total:,} bytes: {', '.join(sizes)}\n")
    if place := getattr(loaded.recipe.corpus, "path", ""):
        sys.stdout.write(f"recipe.toml, README.md and the logs name the corpus by its path here, {place}\n")
    own = "".join(f" --load {shell_quoted(file)}" for file in flags.load)
    sys.stdout.write(f"nanotx sample {shell_quoted(target)}{own}\n")
    return 0
