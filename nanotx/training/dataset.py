"""The dataset of a run: split, tokenized, and ready to train and evaluate on."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from nanotx.data.batches import Windows
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import eval_texts_of
from nanotx.hardware.memory import check_step_memory
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec

MANY = 2**26
"""Numbers of a step that are held against the memory there is."""


BLOCK = 2**18
"""Characters that are looked at together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Training windows and evaluation texts of a run, and their tokenizer."""

    codec: Codec
    windows: Windows  # of the training text
    eval_texts: dict[str, EvalText]  # train and val, see `eval_texts_of`
    sha256: str  # of the whole text in UTF-8
    size: int  # of it, in characters
    floor: float | None  # bits per byte of the validation text under the process that wrote it, if that is known


def load_dataset(
    recipe: Recipe, codec: Codec | None = None, check: Callable[[str, int], None] = lambda digest, size: None
) -> Dataset:
    """Read a recipe's corpus, split it, and train its tokenizer on the training split alone.

    Args:
        recipe: whose corpus, tokenizer, context and seed are meant.
        codec: the tokenizer of a run that resumes; otherwise a new one is trained.
        check: called with the text's SHA-256 and its characters before anything is encoded; may raise.

    Raises:
        DataError: the text cannot be had, or is too short.
        TextError: the validation text holds what training did not teach the tokenizer.
        ConfigError: a step would surely fill this machine's memory.
    """
    training, validation = recipe.corpus.split()
    size, digest = len(training) + len(validation), sha256(training, validation)
    check(digest, size)
    codec = codec or recipe.tokenizer.train_checked([training], training)
    ids = codec.encode(training)
    eval_texts = eval_texts_of(codec, training, validation, recipe.model.context, recipe.train)
    windows = Windows(ids=ids, context=recipe.model.context, seed=recipe.seed)
    if recipe.train.batch_size * recipe.model.context * recipe.model.dim > MANY:
        check_step_memory(recipe.train, recipe.model, recipe.device)
    return Dataset(
        codec=codec, windows=windows, eval_texts=eval_texts, floor=recipe.corpus.floor(), size=size, sha256=digest
    )


def sha256(*texts: str) -> str:
    """The digest of texts as one, in UTF-8, worked out piece by piece."""
    digest = hashlib.sha256()
    for text in texts:
        for at in range(0, len(text), BLOCK):
            digest.update(text[at : at + BLOCK].encode("utf-8"))
    return digest.hexdigest()
