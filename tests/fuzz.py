"""Fuzz every reader of files for some minutes: `python tests/fuzz.py --minutes 5 [--seed 7] [--only runs]`.

Each batch has a seed of its own, counted up from `--seed` (a random one without it), and is printed as a line. Files
that break a promise are kept in `--keep`, and the exit code is 1.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from reliability.fuzz import batch
from reliability.fuzzed_files import KINDS

from nanotx.selftest import Broken

FILES = 100
"""Files of a batch."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="stop after the batch in which they have passed")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first batch")
    parser.add_argument("--only", choices=KINDS, help="one kind of files")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "nanotx-fuzz"), help="a folder")
    flags = parser.parse_args()
    flags.keep.mkdir(parents=True, exist_ok=True)
    end, seed, broken = time.monotonic() + 60 * flags.minutes, flags.seed, 0
    while time.monotonic() < end or seed == flags.seed:  # at least one batch of each kind
        for kind in [flags.only] if flags.only else KINDS:
            try:
                ends = batch(kind, seed, range(FILES), flags.keep)
                print(f"{kind} of seed {seed}: {', '.join(f'{name} {count}' for name, count in ends.most_common())}")
            except Broken as error:
                broken += 1
                print(f"BROKEN {error}")
        seed += 1
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
