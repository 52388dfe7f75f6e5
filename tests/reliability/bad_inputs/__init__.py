"""Inputs that users get wrong: flags, recipes, texts, tokenizers, runs and prompts.

Each is answered within seconds by a message that names the place and the remedy, and by the exit code of its kind:
no traceback, no file left behind. A few only look wrong, and are accepted.
"""

from reliability.bad_input import BadInput
from reliability.bad_inputs.evaluation import evaluation
from reliability.bad_inputs.flags import flags
from reliability.bad_inputs.numbers import numbers
from reliability.bad_inputs.recipe_files import recipe_files
from reliability.bad_inputs.resume import resume
from reliability.bad_inputs.runs import runs
from reliability.bad_inputs.sampling import sampling
from reliability.bad_inputs.texts import texts
from reliability.bad_inputs.tokenizer_commands import tokenizer_commands
from reliability.bad_inputs.tokenizer_files import tokenizer_files
from reliability.bad_inputs.tokenizer_training import tokenizer_training

SUBJECTS = (
    flags,
    numbers,
    recipe_files,
    texts,
    tokenizer_training,
    tokenizer_files,
    tokenizer_commands,
    runs,
    evaluation,
    resume,
    sampling,
)


def catalogue() -> list[BadInput]:
    """Return all of them, in order."""
    return [bad for subject in SUBJECTS for bad in subject()]
