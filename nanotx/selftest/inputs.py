"""Ways in which people go wrong: flags, recipes, texts, tokenizers, runs and prompts that cannot be.

Each must be answered within seconds by a message that names the place and the remedy, and by the exit code of its kind:
no traceback, nothing left behind. A few only look wrong, and must be taken.
"""

import random

from nanotx.selftest import Case
from nanotx.selftest._bad import Bad, as_case
from nanotx.selftest._inputs_evals import evals
from nanotx.selftest._inputs_flags import flags
from nanotx.selftest._inputs_learning import learning
from nanotx.selftest._inputs_numbers import numbers
from nanotx.selftest._inputs_resumed import resumed
from nanotx.selftest._inputs_runs import runs
from nanotx.selftest._inputs_sampling import samples
from nanotx.selftest._inputs_texts import texts
from nanotx.selftest._inputs_tokenizer_commands import tokenizer_commands
from nanotx.selftest._inputs_tokenizers import tokenizers
from nanotx.selftest._inputs_toml import recipes

KINDS = (flags, numbers, recipes, texts, learning, tokenizers, tokenizer_commands, runs, evals, resumed, samples)


def catalogue() -> list[Bad]:
    """All of them, in order."""
    return [bad for kind in KINDS for bad in kind()]


def cases(seed: int) -> list[Case]:
    """All of them, in an order drawn from the seed, so that none leans on the one before it."""
    found = [as_case(bad) for bad in catalogue()]
    random.Random(seed).shuffle(found)
    return found
