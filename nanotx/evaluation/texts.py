"""Evaluation texts: a whole text, or windows spread evenly over it; of characters, or of ids encoded in advance.

A window of a text begins at a token, as if the whole text were encoded: some characters before it are encoded with it.
Only the windows are encoded, so time and memory do not grow with the text.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from contextlib import suppress

import numpy as np

from nanotx.data.stored_ids import DiskIds
from nanotx.errors import DataError, TextError
from nanotx.evaluation.loss import EvalText
from nanotx.recipe import Train
from nanotx.tokenizers.base import UNKNOWN, Codec, Ids
from nanotx.tokenizers.special_tokens import known_bytes

BEFORE = 128
"""Characters before a window in which a split point is searched."""

AFTER = 8
"""Tokens after a window that are encoded with it: tokens at the end of a piece may differ from those of the text."""

CUT = re.compile(r"(?<=[A-Za-z])(?=[ \n])")


def excerpts(codec: Codec, text: str, count: int, context: int) -> EvalText:
    """Return windows of a text, which are evaluated in place of all of it; a pure function of the arguments.

    Args:
        codec: the tokenizer.
        text: the whole text, of many more tokens than are read.
        count: the number of tokens that are read.
        context: tokens of a window; fewer if the text ends early, or if a token ends inside a character.

    Raises:
        DataError: the text has no tokens.
    """
    many = max(1, count // context)
    windows, size, whole, rate = list[Ids](), 0, True, 4.0
    for number in range(many):
        at = number * len(text) // many
        ids, bytes_, rate = window(codec, text, at, context, rate)
        if len(ids) > 1:
            windows.append(ids)
            size += bytes_
            whole &= bytes_ > 0
    if not windows:
        raise DataError(f"{codec.part}: makes no tokens of a text of {len(text)} characters; try a longer one.")
    size *= whole
    unknown = count_unknown(codec, [window[1:] for window in windows])
    return EvalText(
        ids=windows[0][:0],
        start=codec.start,
        size=size,
        unknown=unknown,
        windows=tuple(windows),
        requested_tokens=count,
    )


def count_unknown(codec: Codec, rows: Iterable[Ids]) -> int:
    """Return the number of unknown tokens among some ids."""
    unknown = codec.special_tokens.get(UNKNOWN)
    return 0 if unknown is None else sum(int((row == unknown).sum()) for row in rows)


def window(codec: Codec, text: str, at: int, context: int, rate: float) -> tuple[Ids, int, float]:
    """Return the window that begins at or after a character: its tokens, and the one before them.

    Args:
        codec: the tokenizer.
        text: the whole text.
        at: an offset in characters.
        context: tokens of the window.
        rate: the approximate number of characters per token.

    Returns:
        Its ids; the bytes of all but the first, 0 if they are unknown; and the characters per token in this piece.
    """
    near = CUT.search(text, max(0, at - BEFORE), at)
    begin = near.start() if near else max(0, at - BEFORE // 4)
    wanted = context + 1 + AFTER
    while True:
        end = at + round(rate * wanted)
        cut = CUT.search(text, end, end + BEFORE)
        piece = text[begin : cut.start() if cut else end]
        ids = codec.encode(piece)
        data = piece.encode("utf-8")
        ahead = len(text[begin:at].encode("utf-8"))
        size_of = measured(codec, ids)
        first = bisect_left(range(len(ids) + 1), ahead, key=size_of)
        if len(ids) - first >= wanted or end >= len(text):
            break
        rate *= 1.5
    first = min(first, max(0, len(ids) - 2))
    last = min(first + context + 1, len(ids))
    measured_rate = max(1.0, len(piece) / max(1, len(ids)))
    if count_unknown(codec, [ids]):
        size = byte_count(codec, ids[first + 1 : last]) if known_bytes(codec, ids, data) else 0
        return ids[first:last], size, measured_rate
    tail = next(
        (end for end in range(last, max(first + 1, last - AFTER), -1) if decodes_to(codec, ids, end, data)), None
    )
    head = next((end for end in range(first + 1, min(last, first + AFTER)) if decodes_to(codec, ids, end, data)), None)
    if tail is None or head is None or head >= tail:
        return ids[first:last], 0, measured_rate
    return ids[head - 1 : tail], size_of(tail) - size_of(head), measured_rate


def measured(codec: Codec, ids: Ids) -> Callable[[int], int]:
    """Return a function from n to the number of bytes that the first n ids decode to."""
    return lambda count: len(codec.decode_bytes(ids[:count]))


def decodes_to(codec: Codec, ids: Ids, count: int, data: bytes) -> bool:
    """Return whether the first `count` ids decode to a prefix of the bytes that they were encoded from."""
    return data.startswith(codec.decode_bytes(ids[:count]))


WHOLE = 200_000
"""The most tokens of a text that an evaluation reads by default."""


TRAIN = 2**15
"""The most tokens of the training text that are read by default where the validation text is read whole."""


LEAST = 2**14
"""The fewest tokens that are read of a longer text: the standard error is then about a hundredth of a nat."""


BLOCK = 2**18
"""Characters that are encoded together."""


def eval_texts_of(codec: Codec, training: str, validation: str, context: int, plan: Train) -> dict[str, EvalText]:
    """Return the evaluation texts of the training and the validation text.

    A short validation text is read whole, with as much of the beginning of the training text, or by default with at
    most `TRAIN` tokens spread evenly over it: the loss there is read beside the other, and never chosen by. Of a longer
    validation text, windows are read, as many of each text, spread evenly over it and the same each time.

    Raises:
        DataError: a text has no tokens.
        TextError: the validation text has a character that the training text does not have.
    """
    limit = WHOLE if plan.eval_tokens == "auto" else plan.eval_tokens
    texts = {"train": training, "val": validation}
    with suppress(TextError):  # the whole text may be encodable even if a piece is not
        if limit and not fits(codec, validation, limit):
            check_known(codec, validation)
            count = eval_tokens(plan, context)
            return {name: eval_text(codec, text, count, context) for name, text in texts.items()}
    try:
        val = eval_text(codec, validation)
        if plan.eval_tokens == "auto" and val.tokens > TRAIN:
            return {"train": eval_text(codec, training, TRAIN, context), "val": val}
        return {"train": eval_text(codec, training[: len(validation)]), "val": val}
    except TextError as error:
        raise TextError(f"validation text, of which training saw nothing: {error}") from None


def eval_tokens(plan: Train, context: int) -> int:
    """Return the number of tokens of each text that an evaluation reads if it does not read all.

    With `auto`, reading both texts costs a tenth of the training between two evaluations, assuming that a training
    token costs three times as much, within `LEAST` and `WHOLE`. This is counted and not timed, so that the same run
    reads the same windows on any machine.
    """
    if plan.eval_tokens != "auto":
        return plan.eval_tokens
    between = min(plan.eval_every or plan.steps, plan.steps) * plan.batch_size * context
    return min(WHOLE, max(LEAST, between * 3 // 20))


def fits(codec: Codec, text: str, limit: int) -> bool:
    """Return whether a text has at most `limit` tokens; encoding stops once it has more."""
    count = 0
    for at in range(0, len(text), BLOCK):
        count += len(codec.encode(text[at : at + BLOCK]))
        if count > limit:
            return False
    return True


def check_known(codec: Codec, text: str) -> None:
    """Raise TextError if a text, of which only windows will be read, has a character outside the vocabulary."""
    try:
        codec.encode("".join(sorted(set(text))))
    except TextError:
        codec.encode(text)  # the error gives the offset; or the text is accepted although its characters alone are not


def eval_text(codec: Codec, text: str, count: int = 0, context: int = 0) -> EvalText:
    """Return the evaluation text of a text.

    Args:
        codec: the tokenizer.
        text: the whole text.
        count: the approximate number of its tokens to read, in windows spread evenly over it; 0 for all.
        context: tokens of a window.

    Raises:
        DataError: the text has no tokens.
    """
    if count:
        return excerpts(codec, text, count, context)
    ids, data = codec.encode(text), text.encode("utf-8")
    if not len(ids):
        raise DataError(f"{codec.part}: makes no tokens of a text of {len(text)} characters; try a longer one.")
    return EvalText(ids=ids, start=codec.start, size=known_bytes(codec, ids, data), unknown=count_unknown(codec, [ids]))


def eval_texts_of_ids(
    codec: Codec, training: Ids | DiskIds, validation: Ids | DiskIds, exact: bool, context: int, plan: Train
) -> dict[str, EvalText]:
    """Return the evaluation texts of ids: as `eval_texts_of`, with windows at tokens in place of characters.

    Args:
        codec: the tokenizer that encoded them.
        training: the ids to train on.
        validation: the ids to validate on.
        exact: whether they decode to exactly the text that was encoded; otherwise there are no bits per byte.
        context: tokens of a window.
        plan: the recipe's `train`.
    """
    limit = WHOLE if plan.eval_tokens == "auto" else plan.eval_tokens
    count = eval_tokens(plan, context) if limit and len(validation) > limit else 0
    fewer = TRAIN if plan.eval_tokens == "auto" and len(validation) > TRAIN else 0
    return {
        "train": eval_text_of_ids(codec, training, exact, count or fewer, context, len(validation)),
        "val": eval_text_of_ids(codec, validation, exact, count, context),
    }


def eval_text_of_ids(
    codec: Codec, ids: Ids | DiskIds, exact: bool, count: int = 0, context: int = 0, most: int | None = None
) -> EvalText:
    """Return the evaluation text of ids that stay on the disk.

    Args:
        codec: the tokenizer that encoded them.
        ids: all ids.
        exact: see `eval_texts_of_ids`.
        count: the approximate number of ids to read, in evenly spread windows; 0 for all.
        context: tokens of a window.
        most: the number of ids to read from the beginning, if no windows are read.
    """
    if not count:
        whole = ids[:most]
        size, unknown = exact * byte_count(codec, whole), count_unknown(codec, [whole])
        return EvalText(ids=whole, start=codec.start, size=size, unknown=unknown)
    many = max(1, min(count, len(ids)) // context)
    starts = [number * (len(ids) - 1) // many for number in range(many)]
    windows = tuple(ids[start : start + context + 1] for start in starts)
    size = exact * sum(byte_count(codec, window) - byte_count(codec, window[:1]) for window in windows)
    unknown = count_unknown(codec, [window[1:] for window in windows])
    return EvalText(
        ids=windows[0][:0], start=codec.start, size=size, unknown=unknown, windows=windows, requested_tokens=count
    )


def byte_count(codec: Codec, ids: Ids) -> int:
    """Return the number of UTF-8 bytes that ids decode to, piece by piece; special tokens have none."""
    special = list(codec.special_tokens.values())
    ids = ids[~np.isin(ids, special)] if special else ids
    step = BLOCK if codec.decodes_independently else max(1, len(ids))
    return sum(codec.count_bytes(ids[first : first + step]) for first in range(0, len(ids), step))
