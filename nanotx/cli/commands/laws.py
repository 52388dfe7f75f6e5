"""Check the laws on random cases of every part."""

import gc
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from nanotx.cli.console import write_json
from nanotx.config.flags import argument, option, parse, repeated
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.hardware.cpu import cores
from nanotx.hardware.device import choose_machine
from nanotx.laws.all_laws import LAWS, laws_not_asked, laws_on, part_names, part_of
from nanotx.laws.heat_map import part_heat_map
from nanotx.laws.law import Where
from nanotx.laws.report import tables
from nanotx.laws.runner import EXAMPLES, Verdict, attempt_all

USAGE = "[SLOT[/PART] ...]"
GROUP = "Check nanotx"
ORDER = 51

MIN_CASES_FOR_POOL = 24
"""Laws to try below which other processes take longer to start than they spare."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Check every law on random cases of every part, and show the smallest case that breaks one.

    Exits with 0 where all laws hold, and with 1 where one is broken.

        nanotx laws
        nanotx laws attention/sdpa norm
        nanotx laws attention/mine --load mine.py --show
    """

    names: tuple[str, ...] = argument("SLOT[/PART] ...", ())  # slots or parts to check; all where none is named
    examples: int = EXAMPLES  # random cases per law
    seed: int = 0  # seed of the random cases
    device: Literal["cpu", "cuda", "mps"] = "cpu"  # device of the modules under test
    dtype: Literal["float32", "bfloat16"] = "float32"  # type of the arithmetic
    compile: bool = False  # check the law of compilation as well, which is slow
    show: bool = False  # draw which outputs depend on which inputs
    jobs: int = 0  # number of processes; 0 for one per core
    json: str = option("FILE")  # write the verdicts to this file
    load: tuple[str, ...] = repeated("FILE.py")  # Python file of your own, which registers parts

    def __post_init__(self) -> None:
        check_min(self, 1, "examples")
        check_min(self, 0, "jobs", "seed")


def run(argv: list[str]) -> int:
    """Check the laws, print the verdicts, and return the exit code."""
    flags = parse(Flags, argv, "nanotx laws")
    choose_machine(flags.device, flags.dtype, 1)
    prepare_process(flags.load)
    names = list(dict.fromkeys(name for word in flags.names or tuple(LAWS) for name in part_names(word)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    verdicts = list(with_progress(try_all(flags, names), sum(len(laws_on(name, flags.compile)) for name in names)))
    verdicts.sort(key=lambda verdict: names.index(verdict.part))
    console.print(tables(verdicts, console))
    left_out = laws_not_asked(names, flags.compile)
    for (law, reason), those in left_out.items():
        console.print(Text(f"· {law} is not asked of {', '.join(those)}: {reason}.", "dim"), soft_wrap=True)
    for verdict in verdicts:
        if verdict.broken:
            console.print(Text(f"\n{verdict.part} breaks {verdict.law}: {verdict.broken}", "red"), soft_wrap=True)
            console.print(Text(verdict.replay(flags.load)), soft_wrap=True)
    if flags.show:
        print_dependencies(console, names, verdicts, flags)
    if flags.json:
        rows = [asdict(verdict) | {"passed": verdict.passed} for verdict in verdicts]
        not_asked = [{"law": law, "parts": those, "reason": reason} for (law, reason), those in left_out.items()]
        setting = {"device": flags.device, "dtype": flags.dtype, "seed": flags.seed, "examples": flags.examples}
        write_json(flags.json, {**setting, "verdicts": rows, "not_asked": not_asked})
    broken = sum(bool(verdict.broken) for verdict in verdicts)
    cases = sum(verdict.cases for verdict in verdicts)
    skipped = sum(bool(verdict.skipped) for verdict in verdicts)
    summary = f"{len(verdicts) - skipped} laws on {len(names)} part{'s' * (len(names) != 1)}, {cases:,} cases"
    console.print(
        Text(f"\n{summary}: {f'{broken} broken' if broken else 'all hold'}.", "bold red" if broken else "bold")
    )
    return 1 if broken else 0


def try_all(flags: Flags, names: list[str]) -> Iterator[Verdict]:
    """Check every law of every part; in several processes where there are many."""
    jobs = [(name, flags) for name in names]
    count = flags.jobs or cores()
    if sum(len(laws_on(name)) for name in names) < MIN_CASES_FOR_POOL or count == 1 or flags.device != "cpu":
        yield from chain.from_iterable(map(try_part, jobs))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=prepare_process, initargs=(flags.load,)) as pool:
        yield from chain.from_iterable(pool.map(try_part, jobs))


def prepare_process(load: tuple[str, ...]) -> None:
    """Prepare a process: one thread, the user's files, and no garbage collection of what is imported."""
    torch.set_num_threads(1)
    for file in load:
        load_file(file)
    gc.freeze()  # scanning the imported objects again and again takes 5% of the time


def try_part(job: tuple[str, Flags]) -> list[Verdict]:
    """Check every law of one part."""
    name, flags = job
    where = Where(device=flags.device, dtype=flags.dtype)
    return attempt_all(laws_on(name, flags.compile), part_of(name), flags.examples, where, flags.seed)


def with_progress(verdicts: Iterable[Verdict], count: int) -> Iterator[Verdict]:
    """Yield the verdicts, with a progress bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=count)
        for verdict in verdicts:
            progress.update(task, advance=1, description=verdict.part)
            yield verdict


def print_dependencies(console: Console, names: list[str], verdicts: list[Verdict], flags: Flags) -> None:
    """Draw which outputs depend on which inputs, per part: in a case that breaks a law, if there is one."""
    for name in names:
        cases: list[Any] = [verdict for verdict in verdicts if verdict.part == name and verdict.case]
        picture = part_heat_map(name, cases[0] if cases else None)
        if picture is not None:
            console.print(picture)
