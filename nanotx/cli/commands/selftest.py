"""Kill runs, fail disks and networks, damage files."""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from nanotx.cli import tables
from nanotx.cli.console import write_json
from nanotx.config.flags import option, parse
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError, did_you_mean
from nanotx.hardware.device import choose_machine
from nanotx.selftest import Broken, Case, damage, faults, kills, network, ranks, saves

USAGE = ""
GROUP = "Check nanotx"
ORDER = 52

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Kill runs, make their disks and networks fail, and damage their files; nothing that was saved may be lost.

    Prints a line per case: its verdict, the steps that had to be repeated, the case, and its outcome. Every case works
    in a temporary folder of its own; one that this system does not allow is skipped, with the reason. Exits with 1
    where a promise is broken.

        nanotx selftest --quick
        nanotx selftest --only kill --kills 10 --device cuda
    """

    quick: bool = False  # run a few cases of every kind, which takes about two minutes
    only: str = option(
        "KIND,..."
    )  # kinds of cases to run: save, kill, ranks, network, fault, damage, separated by commas; without it, all
    case: str = ""  # run only cases whose name contains this
    device: Literal["cpu", "cuda", "mps"] = "cpu"  # device of the runs that are killed
    seed: int = 0  # seed of kills, faults and damage
    kills: int = 50  # number of runs to kill
    rank_kills: int = 20  # number of runs of two processes of which one is killed
    saves: int = 0  # number of disk failures to try; 0 for all there are
    keep: str = option("DIR")  # keep the folders of failing cases here
    json: str = option("FILE")  # write the outcomes to this file

    def __post_init__(self) -> None:
        check_min(self, 0, "seed", "kills", "rank_kills", "saves")


QUICK: dict[str, Any] = {"kills": 5, "rank_kills": 2, "saves": 12}
KINDS: dict[str, Callable[[Flags], list[Case]]] = {
    "save": lambda flags: saves.cases(flags.seed, flags.saves or None),
    "kill": lambda flags: kills.cases(flags.seed, flags.kills, flags.device),
    "ranks": lambda flags: ranks.cases(flags.seed, flags.rank_kills),
    "network": lambda flags: network.cases(),
    "fault": lambda flags: faults.cases(flags.seed),
    "damage": lambda flags: damage.cases(flags.seed),
}


def run(argv: list[str]) -> int:
    """Run the cases; print a line for each and a table."""
    flags = parse(Flags, argv, "nanotx selftest")
    choose_machine(flags.device, "float32", 1)
    if flags.quick:
        flags = dataclasses.replace(flags, **QUICK)
    kinds = [word for word in flags.only.split(",") if word] or list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--only {kind}: no such kind.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}.")
    cases = [case for kind in kinds for case in KINDS[kind](flags) if flags.case in case.name]
    if not cases:
        raise ConfigError(f"--case {flags.case}: no case of {', '.join(kinds)} has this in its name.")
    console, rows = Console(highlight=False), list[Row]()
    for row in run_cases(cases, flags.keep):
        rows.append(row)
        print_case(console, row)
    tables.print_table(console, "", totals(rows), console.is_terminal)
    broken = [row["case"] for row in rows if not row["kept"]]
    for name in broken:
        console.print(Text(f"again: nanotx selftest --seed {flags.seed} --case '{name}'"), soft_wrap=True)
    if flags.json:
        write_json(flags.json, {"seed": flags.seed, "cases": len(rows), "broken": len(broken), "rows": rows})
    return 1 if broken else 0


def run_cases(cases: list[Case], keep: str) -> Iterator[Row]:
    """Run each case in an empty folder of its own; yield the results."""
    with tempfile.TemporaryDirectory(prefix="nanotx-selftest-") as name:
        for number, case in enumerate(cases):
            folder, began = Path(name) / str(number), time.perf_counter()
            folder.mkdir()
            row: Row = {"case": case.name, "happened": "", "lost": None, "skipped": False, "kept": True}
            try:
                row |= dataclasses.asdict(case.run(folder))
            except Exception as error:  # a bug in one case must not end the others
                kind = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
                row |= {"happened": f"{kind}{error}", "kept": False}
                if keep:
                    shutil.copytree(folder, Path(keep) / str(number), dirs_exist_ok=True)
            yield row | {"seconds": time.perf_counter() - began}
            shutil.rmtree(folder, ignore_errors=True)


def print_case(console: Console, row: Row) -> None:
    """Print a line about a case."""
    verdict = ("skipped" if row["skipped"] else "kept") if row["kept"] else "BROKEN"
    lost = "" if row["lost"] is None else f"{row['lost']} steps lost"
    line = f"{verdict:7}  {lost:12}  {row['case']}: {row['happened']}"
    console.print(Text(line, "" if row["kept"] else "bold red"), soft_wrap=True)


def totals(rows: list[Row]) -> list[list[str]]:
    """Return a table with a row for each kind."""
    table = [["kind", "cases", "broken", "most steps lost", "seconds"]]
    for kind in dict.fromkeys(row["case"].partition("/")[0] for row in rows):
        cases = [row for row in rows if row["case"].startswith(f"{kind}/")]
        lost = [row["lost"] for row in cases if row["lost"] is not None]
        broken, seconds = sum(not row["kept"] for row in cases), sum(row["seconds"] for row in cases)
        most = f"{max(lost)}" if lost else ""
        table.append([kind, f"{len(cases):,}", f"{broken}", most, f"{seconds:.0f}"])
    return table
