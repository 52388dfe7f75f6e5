"""Rows of cells as a table: drawn on a terminal, in plain columns elsewhere."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Cells = Sequence[Sequence[str]]
"""A header and rows, all of one length; the first columns stand to the left, the others to the right."""


def print_table(
    console: Console, title: str, cells: Cells, terminal: bool, loud: tuple[str, ...] = (), left: int = 1
) -> None:
    """Print a table.

    Args:
        console: where to.
        title: what stands above it; may be empty.
        cells: what it holds.
        terminal: whether it is drawn.
        loud: a cell that ends so is not to be missed.
        left: how many columns stand to the left.
    """
    if terminal:
        console.print(rich_table(title, cells, loud, left))
    else:
        console.print(Text("\n".join([*([title] if title else []), *plain_lines(cells, left), ""])), soft_wrap=True)


def rich_table(title: str, cells: Cells, loud: tuple[str, ...] = (), left: int = 1) -> Table:
    """With lines."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    for index, name in enumerate(cells[0]):
        table.add_column(name, justify="left" if index < left else "right", overflow="fold", no_wrap=not index)
    for row in cells[1:]:
        table.add_row(*(Text(cell, "yellow" if loud and cell.endswith(loud) else "") for cell in row))
    return table


def plain_lines(cells: Cells, left: int = 1) -> list[str]:
    """In columns parted by two blanks."""
    widths = [max(cell_len(row[index]) for row in cells) for index in range(len(cells[0]))]
    lines = []
    for row in cells:
        pads = [" " * (width - cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
        words = [cell + pad for pad, cell in zip(pads[:left], row[:left], strict=True)]
        figures = [pad + cell for pad, cell in zip(pads[left:], row[left:], strict=True)]
        lines.append("  ".join([*words, *figures]).rstrip())
    return lines
