"""Run a recipe from the command line; recipes are found by name: ours, presets, plug-ins, files."""

import hashlib
import importlib
import shlex
import signal
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import nanotx
from nanotx.cli.dashboard import Display, Silent
from nanotx.cli.depth import read_at_depth
from nanotx.cli.entry import run_and_exit
from nanotx.cli.notebook import run_display
from nanotx.cli.recipe_list import ENTRY_POINT_GROUP, PROG, builtin_recipes, missing_name, no_such_recipe, train_page
from nanotx.config.command_line import collect_flags, positional_args
from nanotx.config.help import page_width, write_page
from nanotx.config.presets import presets
from nanotx.config.registry import load_file
from nanotx.config.schema import from_table
from nanotx.config.toml import read_toml, write_toml
from nanotx.distributed import Alone, Group, Ranks, check_parallel, check_shares
from nanotx.distributed.join import joined, world_size
from nanotx.distributed.launch import launch, own_command
from nanotx.errors import ConfigError, MemoryFull, RunError, is_memory_full, shell_quoted
from nanotx.hardware.cpu import default_threads
from nanotx.recipe import Recipe
from nanotx.recipe_flags import Options, apply_files, describe_budget, read_options, read_recipe
from nanotx.recipe_swaps import describe_swaps
from nanotx.runs.callbacks import Display as AnyDisplay
from nanotx.runs.checkpoint import steps
from nanotx.runs.folder import RunFolder, find_folder
from nanotx.runs.followers import follow
from nanotx.runs.initial_weights import with_model_of
from nanotx.runs.load import LoadedRun, load
from nanotx.runs.resume_check import (
    Survey,
    changes,
    check_init,
    check_resumable,
    obey_budget,
    recipe_left,
    resolve_auto,
    survey,
)
from nanotx.runs.session import Session, Work
from nanotx.training.callbacks.base import Callback
from nanotx.training.callbacks.logger import Logger
from nanotx.training.dataset import with_tokenizer_unless_named
from nanotx.training.plugin_checks import laws_of_foreign
from nanotx.training.signals import Interrupted, Stop, ends_at_once, listening


def main(recipe: Recipe) -> None:
    """Entry point of every recipe: `python -m nanotx.recipes.<name> [FILE.toml ...] [flags]`."""
    spec = sys.modules["__main__"].__spec__
    name, prog = (
        (spec.name.rpartition(".")[2], f"python -m {spec.name}") if spec else ("recipe", f"python {sys.argv[0]}")
    )
    argv = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]  # without it, torchrun takes --run for its own
    run_and_exit(partial(run, recipe, argv, name=name, prog=prog))


def train(
    recipe: Recipe,
    *,
    run: str | Path = "",
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
    restart: bool = False,
    allow_mismatch: bool = False,
    quiet: bool = False,
) -> LoadedRun:
    """Train a recipe and return the run, ready to generate. In a notebook its figures are one output, updated in place.

    A signal that stops the run, such as Ctrl-C, is raised after it has been saved.

    Args:
        recipe: the whole run as one value.
        run: the folder of the results; without it the next `runs/run-<n>`.
        callbacks: what watches the run, in the order in which they are called.
        resume: continue from the newest checkpoint in the folder.
        restart: start again in the folder; its old files are moved aside, not deleted.
        allow_mismatch: resume although recipe, corpus or tokenizer differ from the run's.
        quiet: print nothing.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped the run.
        SystemExit: another signal stopped it.
        NanotxError: a user error of any kind.
    """
    check_callbacks(callbacks)
    if world_size() > 1:
        raise ConfigError(
            f"WORLD_SIZE={world_size()}: nanotx.train trains in one process; several train a recipe together by "
            "torchrun -m nanotx.recipes.NAME, or by nanotx train NAME --ranks N."
        )
    folder = find_folder(str(run), "run", resume or restart)
    options = Options(run=str(run), resume=resume and not restart, restart=restart, allow_mismatch=allow_mismatch)
    surveyed = survey(folder, allow_mismatch) if options.resume else Survey()
    if surveyed.recipe:
        check_init(surveyed.recipe, recipe)
        recipe = obey_budget(surveyed.recipe, resolve_auto(surveyed.recipe, recipe), folder)
        if not allow_mismatch:
            check_resumable(surveyed.recipe, recipe)
    with listening() as stop:
        work = Work(recipe, folder, options, surveyed, tuple(callbacks), began=time.perf_counter())
        execute(work, folder.path.name, Silent() if quiet else run_display(), stop)
    if stop.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if stop.signal:
        raise SystemExit(stop.exit_code)
    if not steps(folder.checkpoints):
        raise RunError(
            f"{folder.path}: stopped before its first step, so there is no model to return; try resume=True."
        )
    return load(folder.path)


def check_callbacks(callbacks: object) -> None:
    """Raise ConfigError unless a value is a sequence of callbacks.

    Raises:
        ConfigError: it is not; says which item.
    """
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ConfigError(f"callbacks: expected a list such as [MyCallback()], got {type(callbacks).__name__}.")
    for index, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            got = f"the class {callback.__name__}; write {callback.__name__}()" if isinstance(callback, type) else None
            raise ConfigError(
                f"callbacks[{index}]: expected an object of a class derived from nanotx.Callback, got "
                f"{got or type(callback).__name__}."
            )


def run(recipe: Recipe, argv: list[str], name: str, callbacks: Sequence[Callback] = (), prog: str = "") -> int:
    """Run a recipe with the files and flags of a command line, and return the exit code.

    Args:
        recipe: the recipe, before files and flags.
        argv: the files and flags.
        name: the name of the recipe, which names a new run.
        callbacks: what watches the run, before the callbacks of the flags.
        prog: the command as it was typed, for help and errors; without it, `nanotx train NAME`.

    Raises:
        NanotxError: a user error of any kind.
    """
    options = read_options(argv)
    ranks: Ranks = Alone()
    try:
        with joined(facts(recipe, argv, options), options.rank_timeout, run_found(options)) as ranks:
            ranks.parallel = options.parallel
            if isinstance(ranks, Group) and ranks.rank:
                with listening() as stop:
                    return follow(ranks, stop, options.load)
            for file in options.load:
                load_file(file)
            ranks.exit_code = run_leading(recipe, argv, name, callbacks, prog, ranks)
            return ranks.exit_code
    finally:
        if ranks.lost or (ranks.rank and ranks.exit_code):
            ends_at_once.set(True)


def run_leading(
    recipe: Recipe, argv: list[str], name: str, callbacks: Sequence[Callback], prog: str, ranks: Ranks
) -> int:
    """Run a recipe as `run` does, in the process that has the run's folder."""
    options = read_options(argv)
    callbacks = [*callbacks, *map(read_callback, options.callback)]
    label = "" if options.resume else recipe_label(name, recipe, argv)
    name = Path(positional_args(argv)[-1]).stem if positional_args(argv) else name
    folder = find_folder(options.run, name, options.resume or options.restart)
    surveyed = Survey()
    if options.restart:
        recipe = (recipe_left(folder) or recipe) if options.resume else recipe
    elif options.resume:
        surveyed = survey(folder, options.allow_mismatch)
    saved = surveyed.recipe
    ignored: list[str] = []
    if saved and not options.allow_mismatch:
        argv, ignored = drop_files(saved, argv, name, folder)
    merged = set[str]()
    if not saved:
        recipe, argv, merged = with_source(recipe, argv)
    base = saved or recipe
    recipe, named, turned = read_at_depth(base, argv, prog or f"nanotx train {name}")
    named |= merged
    begun_from = (label, apply_files(base, argv)[0]) if label else None
    if not saved:
        recipe = with_tokenizer_unless_named(recipe, named, argv)
    if options.print_config:
        sys.stdout.write(write_toml(recipe))
        return 0
    display = Display()
    unproven = [] if saved else laws_of_foreign(recipe, options.load)
    swaps = describe_swaps(base, argv, recipe)
    alone = ranks.size == options.ranks == 1 and options.parallel != "replicas"
    undivided = [f"warning: --parallel {options.parallel}: one process divides nothing; add --ranks 2."] * alone
    remarks = (*ignored, *turned, *describe_budget(base, argv, recipe), *swaps, *unproven, *undivided)
    if saved:
        check_init(saved, recipe)
        recipe = obey_budget(saved, resolve_auto(saved, recipe), folder)
        if not options.allow_mismatch:
            check_resumable(saved, recipe)
    elif options.resume and not options.restart:
        display.say(f"{folder.path}: there is no run to resume, so this one begins at step 0.")
    may_fall_back = "corpus" not in named and saved is None
    check_shares(recipe, options.ranks if ranks.size == 1 else ranks.size)
    check_parallel(recipe, options.parallel)
    if options.ranks > 1 and ranks.size == 1:
        return launch(own_command(), options.ranks, max(1, default_threads() // options.ranks))
    with listening() as stop:
        work = Work(
            recipe, folder, options, surveyed, tuple(callbacks), may_fall_back, remarks, named=begun_from, ranks=ranks
        )
        return execute(work, name, display, stop)


def with_source(recipe: Recipe, argv: list[str]) -> tuple[Recipe, list[str], set[str]]:
    """Put the model and the tokenizer of the run that `init` names under the file or the flags that name it.

    Returns:
        The recipe; the files and flags that are still to be merged into it; and the fields that files named which are
        merged already.

    Raises:
        NanotxError: that run cannot be read.
    """
    files = positional_args(argv)
    tables = [read_toml(Path(file)) for file in files]
    flags = collect_flags(argv[len(files) :])
    naming = [index for index, table in enumerate(tables) if isinstance(table.get("init"), str)]
    if "init" in flags:
        path = " ".join(flags["init"][0])
        first = 1 if files and recipe == Recipe() else 0  # a first file over the defaults is the recipe itself
    elif naming:
        path, first = tables[naming[-1]]["init"], naming[-1]
    else:
        return recipe, argv, set()
    if path in ("", "none", "None"):
        return recipe, argv, set()
    keeps = "tokenizer" in flags or any("tokenizer" in table for table in tables[first:])
    whole = 1 if first == 0 and recipe == Recipe() and "init" not in flags else 0  # that file is the recipe itself
    recipe, named = apply_files(recipe, files[:first])
    recipe, more = apply_files(with_model_of(recipe, path, keeps), files[first : first + whole])
    return recipe, argv[first + whole :], named | more


def recipe_label(name: str, recipe: Recipe, argv: Sequence[str]) -> str:
    """Return a name for the recipe that a command line names, with its files; empty for the defaults alone.

    Args:
        name: of the recipe.
        recipe: before the files; the defaults where a file is the recipe.
        argv: the files and flags.
    """
    return " + ".join([*([] if recipe == Recipe() else [name]), *(Path(file).stem for file in positional_args(argv))])


def execute(work: Work, name: str, display: AnyDisplay, stop: Stop) -> int:
    """Train, show it on a display, and return the exit code.

    Raises:
        NanotxError: a user error of any kind.
    """
    path = work.folder.path
    with suppress(Interrupted):
        try:
            return Session(replace(work, report=write_report), display, stop).run_to_end(name)
        except BrokenPipeError:
            raise
        except (MemoryError, RuntimeError) as error:
            if not is_memory_full(error):
                raise
            raise MemoryFull(
                f"{path}: memory is full: {error!s:.300}; what was saved before is there. "
                "Try a smaller --train.batch-size, --model.dim or --model.context."
            ) from None
        except OSError as error:
            raise RunError(
                f"{path}: cannot be written: {error}; what was saved before is there. "
                "Free some space, or repair the folder, and continue with --resume; or try another --run."
            ) from error
    display.say(f"{path}: stopped before anything was changed.")
    return stop.exit_code


def write_report(session: Session, whole: bool) -> None:
    """Write report.html of a run that ends."""
    from nanotx.report import report_at_end  # at the end of a run, so that a start does not wait for it

    report_at_end(session, whole)


def facts(recipe: Recipe, argv: Sequence[str], options: Options) -> dict[str, str]:
    """Return what ranks must have in common: the recipe before files and flags, these, and the code; {} for one."""
    size = world_size()
    if size == 1:
        return {}
    if options.ranks not in (1, size):
        raise ConfigError(f"--ranks {options.ranks}: the launcher has started {size} processes; leave it out.")
    files = {name: digest_of(Path(name)) for name in (*positional_args(argv), *options.load)}
    flags = {f"--{name}": " ".join(map(shlex.join, values)) for name, values in collect_flags(argv).items()}
    digest = hashlib.sha256(write_toml(recipe).encode("utf-8")).hexdigest()
    return files | flags | {"recipe": digest[:12], "code of nanotx": code_digest()[:12]}


def run_found(options: Options) -> str:
    """Return the folder of `--run` if a run is there that this process would continue; empty otherwise."""
    try:
        return options.run if options.run and RunFolder(Path(options.run)).is_run else ""
    except OSError:  # such as a name that is too long, which is reported where the folder is opened
        return ""


def digest_of(file: Path) -> str:
    """Return the digest of a file; empty where it cannot be read, which is reported where it is read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    except OSError:
        return ""


def code_digest() -> str:
    """Return the digest of the source files of nanotx."""
    root, digest = Path(nanotx.__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def read_callback(text: str, flag: str = "--callback") -> Callback:
    """Return the callback that a flag names: by its name, or by a table in TOML with `part` and its fields.

    Raises:
        ConfigError: it is no such table, a field of it is wrong, or a package that it needs is not installed.
        UnknownPart: there is no callback of this name.
    """
    table: object = text
    if text.lstrip().startswith("{"):
        try:
            table = tomllib.loads(f"callback = {text}")["callback"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(
                f"{flag} {text}: {error}; expected a name, or a table such as "
                "'{part = \"gradient_norms\", every = 10}'."
            ) from None
    callback: Callback = from_table(Callback, table, flag)
    if isinstance(callback, Logger):
        callback.check_library()
    return callback


def drop_files(saved: Recipe, argv: list[str], name: str, folder: RunFolder) -> tuple[list[str], list[str]]:
    """Return the command line of a resume without its TOML files, and a note on the fields in which they differ.

    The files name the run's recipe but change nothing. The run may have been started with flags besides, so it is
    compared with the present flags alone.
    """
    files = positional_args(argv)
    recipe, _ = read_recipe(saved, files, prog=name)
    with suppress(ConfigError):  # other seconds than the run began with
        recipe = obey_budget(saved, recipe, folder)
    differences = [f"{key} {now!r}, and the run has {was!r}" for key, was, now in changes(saved, recipe)]
    note = f"{' '.join(files)}: ignored, as the run's own recipe applies: {'; '.join(differences)}."
    return argv[len(files) :], [note] if differences else []


def run_by_name(argv: list[str], callbacks: Sequence[Callback] = (), command: str = PROG) -> int:
    """Run the recipe that the arguments name.

    Args:
        argv: the name of the recipe, files and flags.
        callbacks: what watches the run, besides those of its flags.
        command: the command as it was typed, for help and errors.
    """
    name = next(iter(positional_args(argv)), "")
    if not name and {"-h", "--help"} & set(argv):
        write_page(train_page(page_width()))
        return 0
    if not name:
        raise missing_name(argv)
    recipe, rest, stem = recipe_by_name(argv, command)
    return run(recipe, rest, stem, callbacks, f"{command} {shell_quoted(name)}")


def recipe_by_name(argv: list[str], command: str = PROG) -> tuple[Recipe, list[str], str]:
    """Return the recipe that the first argument names, the files and flags that change it, and the name of its runs.

    Args:
        argv: the name of the recipe, files and flags.
        command: the command as it was typed, for errors.

    Raises:
        ConfigError: there is no such recipe.
    """
    name = argv[0]
    if Path(name).suffix == ".toml":
        return Recipe(), argv, Path(name).stem
    if name in builtin_recipes():
        return importlib.import_module(f"{ENTRY_POINT_GROUP}.{name}").recipe, argv[1:], name
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return entry.load(), argv[1:], name
    preset = presets("recipes") / f"{name}.toml"
    if preset.is_file():
        return Recipe(), [str(preset), *argv[1:]], name
    raise no_such_recipe(name, argv[1:], command)
