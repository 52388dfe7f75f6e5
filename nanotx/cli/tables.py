"""Tables of cells: with lines on a terminal, as plain columns elsewhere."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Cells = Sequence[Sequence[str]]
"""A header and rows of equal length; the first columns are left-aligned, the others right-aligned."""


def print_table(
    console: Console, title: str, cells: Cells, terminal: bool, loud: tuple[str, ...] = (), left: int = 1
) -> None:
    """Print a table.

    Args:
        console: the console to print on.
        title: the title above the table; may be empty.
        cells: the header and the rows.
        terminal: draw lines; otherwise print plain columns.
        loud: endings of cells to highlight.
        left: the number of left-aligned columns.
    """
    if terminal:
        console.print(rich_table(title, cells, loud, left))
    else:
        console.print(Text("\n".join([*([title] if title else []), *plain_lines(cells, left), ""])), soft_wrap=True)


def rich_table(title: str, cells: Cells, loud: tuple[str, ...] = (), left: int = 1) -> Table:
    """Return the cells as a table with lines."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1))
    for index, name in enumerate(cells[0]):
        table.add_column(name, justify="left" if index < left else "right", overflow="fold", no_wrap=not index)
    for row in cells[1:]:
        table.add_row(*(Text(cell, "yellow" if loud and cell.endswith(loud) else "") for cell in row))
    return table


def plain_lines(cells: Cells, left: int = 1) -> list[str]:
    """Return the cells as lines of columns separated by two spaces."""
    widths = [max(cell_len(row[index]) for row in cells) for index in range(len(cells[0]))]
    lines = []
    for row in cells:
        pads = [" " * (width - cell_len(cell)) for width, cell in zip(widths, row, strict=True)]
        words = [cell + pad for pad, cell in zip(pads[:left], row[:left], strict=True)]
        figures = [pad + cell for pad, cell in zip(pads[left:], row[left:], strict=True)]
        lines.append("  ".join([*words, *figures]).rstrip())
    return lines
