"""Laws of packed documents: an epoch learns each token once, after its own document's tokens and no others."""

from collections import Counter
from collections.abc import Iterator, Sequence

from nanotx.data.documents import PackedWindows
from nanotx.errors import LawBroken
from nanotx.nn.loss.chunked_loss import IGNORE

Lesson = tuple[tuple[int, ...], int]
"""The tokens that are read, and the one that is predicted from them."""


def each_target_once(windows: PackedWindows, documents: Sequence[Sequence[int]], batch: int, epoch: int = 0) -> None:
    """Raise LawBroken unless an epoch learns each token of each document once, from its beginning.

    A document of at most `context + 1` tokens is whole: each of its tokens is predicted from all before it. A longer
    one comes in pieces of `context + 1` tokens, the first of which is the last of the piece before. Nothing else is
    learned: no token across documents, and no padding. Epochs may end in the middle of a step.

    Args:
        windows: the documents as training examples, each kept apart.
        documents: the tokens of each, in any order.
        batch: rows of a step, any number.
        epoch: any.

    Raises:
        LawBroken: a token is not learned, or is learned twice or otherwise; the message gives it.
    """
    expected = Counter(lesson for document in documents for lesson in lessons(document, windows.context))
    learned = Counter(learned_in(windows, batch, epoch))
    for lesson, times in (expected - learned).items():
        raise LawBroken(
            f"each_target_once: token {lesson[1]} after {list(lesson[0])} is learned {learned[lesson]} times in epoch "
            f"{epoch}; expected {times + learned[lesson]}."
        )
    for lesson, times in (learned - expected).items():
        raise LawBroken(
            f"each_target_once: token {lesson[1]} after {list(lesson[0])} is learned {times + expected[lesson]} times "
            f"in epoch {epoch}; expected {expected[lesson]}."
        )


def lessons(document: Sequence[int], context: int) -> Iterator[Lesson]:
    """Yield what there is to learn of a document."""
    for first in range(0, max(1, len(document) - 1), context):
        piece = tuple(document[first : first + context + 1])
        yield from ((piece[:end], piece[end]) for end in range(1, len(piece)))


def learned_in(windows: PackedWindows, batch: int, epoch: int) -> Iterator[Lesson]:
    """Yield what an epoch learns: for each target that counts, the tokens of its document before it in its row."""
    first, end = epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch
    for step in range(first // batch, -(-end // batch)):
        x, y = windows.batch(step, batch)
        numbers = windows.documents(step, batch)
        for row in range(batch):
            if not first <= step * batch + row < end:
                continue
            inputs, targets = x[row].tolist(), y[row].tolist()
            own = [0] * len(inputs) if numbers is None else numbers[row].tolist()
            for at, target in enumerate(targets):
                if target != IGNORE:
                    yield tuple(inputs[own.index(own[at]) : at + 1]), target
