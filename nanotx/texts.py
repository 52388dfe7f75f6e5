"""The texts of a run, cut, tokenized, and ready to learn from and to be scored on."""

import hashlib
from dataclasses import dataclass

from nanotx.data import Windows
from nanotx.errors import DataError, TextError
from nanotx.evaluate import Exam
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec

MANY = 2**26
"""Numbers of a step that are held against the memory there is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """What a corpus gives a run."""

    codec: Codec
    windows: Windows  # of the training text
    exams: dict[str, Exam]  # train: the first of it, as long as the validation text; val: all of that
    sha256: str  # of the whole text in UTF-8
    size: int  # of it, in characters
    floor: float | None  # bits per byte of the validation text under the process that wrote it, if that is known


def read_texts(recipe: Recipe, codec: Codec | None = None) -> Texts:
    """Read a recipe's corpus, cut it, and let its tokenizer learn from the training part alone.

    Args:
        recipe: whose corpus, tokenizer, context and seed are meant.
        codec: the tokenizer of a run that goes on; nothing is learned anew.

    Raises:
        DataError: the text cannot be had, or is too short.
        TextError: the validation text holds what training did not teach the tokenizer.
        ConfigError: a step would surely fill this machine's memory.
    """
    training, validation = recipe.corpus.split()
    codec = codec or recipe.tokenizer.learn([training])
    ids = codec.encode(training)
    try:
        exams = {"train": exam(codec, training[: len(validation)]), "val": exam(codec, validation)}
    except TextError as error:
        raise TextError(f"validation text, of which training saw nothing: {error}") from None
    windows = Windows(ids=ids, context=recipe.model.context, seed=recipe.seed)
    if recipe.train.batch * recipe.model.context * recipe.model.dim > MANY:
        from nanotx.room import check_step  # smaller steps fit anywhere

        check_step(recipe.train, recipe.model, recipe.device)
    return Texts(
        codec=codec,
        windows=windows,
        exams=exams,
        floor=recipe.corpus.floor(),
        size=len(training) + len(validation),
        sha256=hashlib.sha256((training + validation).encode("utf-8")).hexdigest(),
    )


def exam(codec: Codec, text: str) -> Exam:
    """A text to be scored on.

    Raises:
        DataError: there is nothing in it to score.
    """
    ids, data = codec.encode(text), text.encode("utf-8")
    if not len(ids):
        raise DataError(f"{codec.part}: makes no tokens of a text of {len(text)} characters; try a longer one.")
    return Exam(ids=ids, start=codec.start, size=len(data) if codec.decode_bytes(ids) == data else 0)
