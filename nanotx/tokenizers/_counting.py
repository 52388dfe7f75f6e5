"""Counting the parts of an ASCII text in its bytes, without ever making a string of one that was met before.

This is for a compiler (`_compiled.py`); the interpreter has the standard library's Counter, which is quicker there.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

Row = Any  # of whole numbers
LETTER = np.zeros(256, np.uint8)
LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = 1
SPREAD = 0x9E3779B1  # an odd number near 2^32 divided by the golden ratio: Knuth, The Art, volume 3, section 6.4


def count_parts(count: Callable[..., Any], text: str) -> Counter[str]:
    """How often each part of an ASCII text occurs; see `Splitter.parts`."""
    data = np.frombuffer(text.encode("ascii"), np.uint8)
    size = 1 << max(len(data), 4).bit_length()  # a part has two bytes or more, but for the first and the last
    starts, ends, counts = (np.zeros(size, np.int32) for _ in range(3))
    used = count(data, LETTER, starts, ends, counts)
    rows = (row[used].tolist() for row in (starts, ends, counts))
    return Counter({text[start:end]: found for start, end, found in zip(*rows, strict=True)})


def count(data: Row, letter: Row, starts: Row, ends: Row, counts: Row) -> Row:
    """Count the parts, each in a slot of a hash table; gives the slots that are taken, in the order they were.

    Args:
        data: the bytes.
        letter: for each byte whether it is a letter; a part ends after one that is, before one that is not.
        starts: a zero for each slot, as many slots as a power of two.
        ends: likewise.
        counts: likewise.
    """
    used = [0]
    start, spread, size = 0, 0, len(data)
    for at in range(size):
        spread = (spread ^ int(data[at])) * SPREAD & 0xFFFFFFFF
        if at + 1 < size and not (letter[data[at]] and not letter[data[at + 1]]):
            continue
        end = at + 1
        slot = (spread ^ spread >> 15) & (len(starts) - 1)
        while counts[slot] > 0:
            same, other = ends[slot] - starts[slot] == end - start, starts[slot]
            for step in range(end - start):
                if not same:
                    break
                same = data[other + step] == data[start + step]
            if same:
                break
            slot = (slot + 1) & (len(starts) - 1)
        if counts[slot] == 0:
            starts[slot], ends[slot] = start, end
            used.append(slot)
        counts[slot] += 1
        start, spread = end, 0
    return np.array(used[1:], np.int64)
