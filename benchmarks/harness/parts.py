"""What `attn.py` and `layers.py` do: from their flags to a table, a file and a plot."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.text import Text

from harness import Row
from harness.comparison import STEPS, Comparison, PartFlags, Setup, check_parts, with_peak_share
from harness.machine import choose_machines, described
from harness.report import known_names, merge, open_output, progress, write_json
from harness.slots import QUICK, SLOTS, choose_shapes
from harness.tables import Cell, laws, number, open_console, print_notes, print_table
from nanotx.config.flags import parse
from nanotx.config.registry import load_file
from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.recipe_flags import read_options

ABOUT = (
    "ms: median, and its interquartile range. MB: the peak of the part run alone. GFLOP/s: the operations that the "
    "definition needs, and their share of what a matrix product reaches here. x: time relative to this one. laws: "
    "passed of tried; cases: of all of them."
)
PLOTS = (".svg", ".png")


Parsed = TypeVar("Parsed", bound=PartFlags)


def read_flags(kind: type[Parsed], prog: str) -> Parsed:
    """Return the flags, with the user's files imported.

    Raises:
        ConfigError: they are invalid, or exclude one another.
    """
    words = sys.argv[1:]
    flags = dataclasses.replace(parse(kind, words, prog), load=read_options(words).load)
    if flags.merge and dataclasses.replace(flags, merge=(), json="", plot="") != kind():
        raise ConfigError(
            "--merge: shows what was measured, and measures nothing; give no flags but --json and --plot."
        )
    if flags.quick and flags.shapes != kind().shapes:
        raise ConfigError("--quick: has a shape of its own; leave --shapes out, or name few and lower --rounds.")
    check_min(flags, 1, "rounds", "cases")
    for file in flags.load:
        load_file(file)
    return dataclasses.replace(flags, rounds=3, cases=2) if flags.quick else flags


def run(flags: PartFlags, slots: Sequence[str]) -> int:
    """Measure, or merge what was measured; then show, write and plot it."""
    if flags.plot and Path(flags.plot).suffix not in PLOTS:
        raise ConfigError(f"--plot {flags.plot}: expected a file that ends in {' or '.join(PLOTS)}.")
    out, plot = open_output(flags.json), open_output(flags.plot, "--plot")
    machines, rows = merge(flags.merge) if flags.merge else measure(flags, slots)
    write_json(out, machines[0], rows, machines)
    show(machines, rows)
    if plot:
        from harness.plot import draw  # matplotlib takes a second to import

        draw(rows, plot)
    return 0


def measure(flags: PartFlags, slots: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Return the machine, and the rows of every slot, shape, pass, dtype and part."""
    names = choose_parts(slots, flags.parts)
    machines = choose_machines(flags.device, flags.threads, flags.dtype)
    setups = [
        Setup(slot=slot, names=names[slot], machine=machine, label=label, shape=shape)
        for slot in slots
        for device in dict.fromkeys(machine.device.type for machine in machines)
        for label, shape in (QUICK if flags.quick else choose_shapes(device, flags.shapes)).items()
        for machine in machines
        if machine.device.type == device and names[slot]
    ]
    total = len(machines) * sum(map(len, names.values())) + STEPS * len(setups)
    with described(machines) as machine, progress(total) as announce:
        comparison = Comparison(flags, check_parts(names, machines, flags.cases, announce), announce)
        rows = [row for setup in setups for row in comparison.rows(setup)]
    return [machine], [with_peak_share(row, machine["peak_flops"]) for row in rows]


def choose_parts(slots: Sequence[str], words: str) -> dict[str, tuple[str, ...]]:
    """Return by slot the parts with these names, separated by commas; all parts for no name.

    Raises:
        ConfigError: an unknown name.
    """
    known = {slot: SLOTS[slot].slot.names() for slot in slots}
    every = sorted({name for names in known.values() for name in names})
    asked = known_names("--parts", words, every) if words else every
    return {slot: tuple(name for name in known[slot] if name in asked) for slot in slots}


# Tables: one for each slot, shape, pass and dtype; rows of several places are shown side by side.

Place = tuple[int, str]
"""The index of a machine, and a device of it."""


def show(machines: Sequence[Row], rows: Sequence[Row]) -> None:
    """Print all rows."""
    console, places, tables = open_console(), named_places(rows), dict[Any, list[Row]]()
    for index, machine in enumerate(machines):
        names = ", ".join(name for where, name in places.items() if where[0] == index)
        console.print(Text(f"{names}: {machine_line(machine)}"), soft_wrap=True)
    for row in rows:
        tables.setdefault((row["slot"], row["shape"], row["pass"], row["dtype"]), []).append(row)
    for (slot, shape, way, dtype), group in tables.items():
        here = {where: name for where, name in places.items() if where in map(place, group)}
        sizes = dict.fromkeys(f"{places[place(row)]} {sizes_of(row)}" for row in group)
        if len(here) == 1:
            title = f"{slot}, {shape}: {sizes_of(group[0])}, {way}, {dtype} on {next(iter(here.values()))}"
            print_table(console, title, columns_of(group[0]), group)
        else:
            title = f"{slot}, {shape}: {'; '.join(sizes)}; {way}, {dtype}"
            print_table(console, title, *side_by_side(group, here))
    print_notes(console, ABOUT, rows)


def machine_line(machine: Row) -> str:
    """Return a machine in a line."""
    device = ", ".join(filter(None, (machine["gpu"], machine["cpu"])))
    peaks = [f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in machine["peak_flops"].items()]
    return f"{device}, {machine['threads']} threads, torch {machine['torch']}; matrix products: {', '.join(peaks)}"


def place(row: Row) -> Place:
    """Return where a row was measured."""
    return row.get("machine", 0), row["device"]


def named_places(rows: Sequence[Row]) -> dict[Place, str]:
    """Return each place that rows come from, named by its device; numbered where several machines have one."""
    places = list(dict.fromkeys(place(row) for row in rows))
    devices = [device for _, device in places]
    return {(index, name): f"{name} {index + 1}" if devices.count(name) > 1 else name for index, name in places}


def columns_of(first: Row) -> dict[str, Cell]:
    """Return the columns for rows of one place."""
    ratios = {key: key.removeprefix("ratio_to_").replace("_", "\n", 1) for key in first if key.startswith("ratio_to_")}
    return {
        "": name,
        "ms": number("median_ms", ",.3f"),
        "iqr": number("iqr_ms", ".3f"),
        "tokens/s": number("tokens_per_second", ",.0f"),
        "MB": number("memory_mb", ",.1f"),
        "GFLOP/s": number("flops_per_second", ",.0f", 1e-9),
        "of\npeak": number("peak_share", ".0%"),
        f"x {first['reference']}": number("ratio", ".3f"),
        **{f"x {peer}": number(key, ".3f") for key, peer in ratios.items()},
        "compile\ns": number("compile_seconds", ".1f"),
        "laws": laws,
        "cases": number("cases", ",d"),
        "kernel": kernels,
    }


def side_by_side(rows: Sequence[Row], places: dict[Place, str]) -> tuple[dict[str, Cell], list[Row]]:
    """Return the columns for the main figures of each place, and a row of rows by place for each part."""
    columns: dict[str, Cell] = {
        "ms": number("median_ms", ",.3f"),
        "tokens/s": number("tokens_per_second", ",.0f"),
        "MB": number("memory_mb", ",.0f"),
        f"x {rows[0]['reference']}": number("ratio", ".2f"),
        "laws": laws,
    }
    if len(places) > 2:
        del columns["MB"]
    by_part: dict[tuple[str, bool], Row] = {}
    for row in rows:
        both = by_part.setdefault((row["name"], row["compiled"]), {"name": row["name"], "compiled": row["compiled"]})
        both[places[place(row)]] = row

    def within(where: str, cell: Cell) -> Cell:
        return lambda row: cell(row[where]) if where in row else Text("-")

    wide = {f"{where}\n{head}": within(where, cell) for where in places.values() for head, cell in columns.items()}
    return {"": name, **wide}, list(by_part.values())


def sizes_of(row: Row) -> str:
    """Return a row's shape in words."""
    return f"{row['batch']} x {row['time']} x {row['dim']}, {row['heads']} heads"


def name(row: Row) -> Text:
    """Return a part's name; a compiled part follows the eager one."""
    return Text("  compiled", "dim") if row["compiled"] else Text(row["name"])


def kernels(row: Row) -> Text:
    """Return the kernel of the forward pass, and that of the backward pass where it is another."""
    both = dict.fromkeys(filter(None, (row["kernel"], row["kernel_backward"])))
    return Text(", ".join(both) or "-")
