"""Laws of mixtures: each text has its share of the rows at any time, and is read as if it were alone."""

import math

import numpy as np

from nanotx.data.batches import Windows
from nanotx.data.documents import PackedWindows
from nanotx.data.mixtures import MixedDocuments, MixedWindows
from nanotx.errors import LawBroken


def shares_kept(windows: MixedWindows | MixedDocuments, rows: int, batch: int) -> None:
    """Raise LawBroken unless each text has its weight of the rows, after every number of rows, within a few of them.

    Args:
        windows: the texts as training examples.
        rows: how many are counted.
        batch: rows of a step.

    Raises:
        LawBroken: a text had too many or too few; the message gives the number of rows.
    """
    number, _ = places(windows, rows, batch)
    for text, share in enumerate(windows.shares):
        seen = np.cumsum(number == text)
        wanted = share.weight * np.arange(1, len(number) + 1)
        allowed = 3 + np.log2(np.arange(1, len(number) + 1))
        if (wrong := np.abs(seen - wanted) > allowed).any():
            at = int(wrong.argmax())
            raise LawBroken(
                f"shares_kept: of the first {at + 1} rows {seen[at]} are of {share.name}, of the weight "
                f"{share.weight:g}; expected {wanted[at]:.1f} give or take {allowed[at]:.1f}."
            )


def each_text_once(windows: MixedWindows, rows: int, batch: int) -> None:
    """Raise LawBroken unless the rows of each text are the windows of that text alone, in their order.

    So each of its windows is read once per epoch of the text (`each_window_once` of its own windows), and none has
    tokens of another text.

    Args:
        windows: the texts as training examples.
        rows: how many are checked.
        batch: rows of a step.

    Raises:
        LawBroken: a row is another one; the message says which.
    """
    number, starts = places(windows, rows, batch)
    offset = 0
    for text, share in enumerate(windows.shares):
        ids = np.arange(offset, offset + share.length)
        alone = Windows(ids=ids, context=windows.context, seed=windows.seeds[text])
        at = np.flatnonzero(number == text)
        expected = offset + alone.starts(0, len(at)) if len(at) else at
        if (wrong := starts[at] != expected).any():
            row = int(wrong.argmax())
            raise LawBroken(
                f"each_text_once: row {at[row]} of the run, the {row + 1}. of {share.name} begins at "
                f"{starts[at][row]}; expected {expected[row]}."
            )
        offset += share.length


def places(windows: MixedWindows | MixedDocuments, rows: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the text of each row, by where it begins, and where it begins."""
    starts = np.concatenate([windows.starts(step, batch) for step in range(math.ceil(rows / batch))])[:rows]
    edges = np.cumsum([share.length for share in windows.shares])
    return np.searchsorted(edges, starts, side="right"), starts


def ranks_agree(windows: Windows | PackedWindows, step: int, batch: int, ranks: int) -> None:
    """Raise LawBroken unless ranks that each read an aligned block of a step's rows read, together, the step's rows.

    A rank computes its rows from the seed, the step and the row alone: as those of a step of fewer rows.

    Args:
        windows: the text as training examples.
        step: any.
        batch: rows of the step, over all ranks.
        ranks: how many, a divisor of `batch`.

    Raises:
        LawBroken: a row differs; the message says which.
    """
    whole, own = windows.starts(step, batch), batch // ranks
    for rank in range(ranks):
        block = windows.starts(step * ranks + rank, own)
        if not np.array_equal(block, whole[rank * own : (rank + 1) * own]):
            row = int((block != whole[rank * own : (rank + 1) * own]).argmax())
            raise LawBroken(
                f"ranks_agree: with {ranks} ranks, row {rank * own + row} of step {step} begins at {block[row]} on "
                f"rank {rank}; expected {whole[rank * own + row]}."
            )
