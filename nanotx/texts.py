"""The texts of a run, cut, tokenized, and ready to learn from and to be scored on."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from nanotx.data import Windows
from nanotx.errors import DataError, TextError
from nanotx.evaluate import Exam
from nanotx.excerpts import excerpts
from nanotx.recipe import Recipe, Train
from nanotx.tokenizers import Codec

MANY = 2**26
"""Numbers of a step that are held against the memory there is."""

WHOLE = 200_000
"""The most tokens of a text that an evaluation reads, unless the recipe says otherwise."""

LEAST = 2**14
"""The fewest that are read of a longer text: the standard error is then some hundredth of a nat."""

BLOCK = 2**18
"""Characters that are looked at together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """What a corpus gives a run."""

    codec: Codec
    windows: Windows  # of the training text
    exams: dict[str, Exam]  # train and val, see `exams_of`
    sha256: str  # of the whole text in UTF-8
    size: int  # of it, in characters
    floor: float | None  # bits per byte of the validation text under the process that wrote it, if that is known


def read_texts(
    recipe: Recipe, codec: Codec | None = None, check: Callable[[str, int], None] = lambda digest, size: None
) -> Texts:
    """Read a recipe's corpus, cut it, and let its tokenizer learn from the training part alone.

    Args:
        recipe: whose corpus, tokenizer, context and seed are meant.
        codec: the tokenizer of a run that goes on; nothing is learned anew.
        check: called with the text's SHA-256 and its characters before anything is encoded; may raise.

    Raises:
        DataError: the text cannot be had, or is too short.
        TextError: the validation text holds what training did not teach the tokenizer.
        ConfigError: a step would surely fill this machine's memory.
    """
    training, validation = recipe.corpus.split()
    size, digest = len(training) + len(validation), sha256(training, validation)
    check(digest, size)
    codec = codec or recipe.tokenizer.learn_checked([training], training)
    ids = codec.encode(training)
    exams = exams_of(codec, training, validation, recipe.model.context, recipe.train)
    windows = Windows(ids=ids, context=recipe.model.context, seed=recipe.seed)
    if recipe.train.batch * recipe.model.context * recipe.model.dim > MANY:
        from nanotx.room import check_step  # smaller steps fit anywhere

        check_step(recipe.train, recipe.model, recipe.device)
    return Texts(codec=codec, windows=windows, exams=exams, floor=recipe.corpus.floor(), size=size, sha256=digest)


def sha256(*texts: str) -> str:
    """The digest of texts as one, in UTF-8, worked out piece by piece."""
    digest = hashlib.sha256()
    for text in texts:
        for at in range(0, len(text), BLOCK):
            digest.update(text[at : at + BLOCK].encode("utf-8"))
    return digest.hexdigest()


def exams_of(codec: Codec, training: str, validation: str, context: int, plan: Train) -> dict[str, Exam]:
    """What the training and the validation text are scored on.

    A validation text of few tokens is read whole, and as much of the beginning of the training text. Of a longer one
    windows are read, as many of each text, evenly spread over all of it and the same each time.

    Raises:
        DataError: there is nothing to score.
        TextError: the validation text holds what training did not teach the tokenizer.
    """
    limit = WHOLE if plan.eval_tokens == "auto" else plan.eval_tokens
    texts = {"train": training, "val": validation}
    with suppress(TextError):  # a piece of the text cannot be encoded by itself: then perhaps the whole can
        if limit and not fits(codec, validation, limit):
            check_known(codec, validation)
            count = eval_tokens(plan, context)
            return {name: exam(codec, text, count, context) for name, text in texts.items()}
    try:
        return {"train": exam(codec, training[: len(validation)]), "val": exam(codec, validation)}
    except TextError as error:
        raise TextError(f"validation text, of which training saw nothing: {error}") from None


def eval_tokens(plan: Train, context: int) -> int:
    """How many tokens of each text an evaluation reads where it does not read all.

    Left to us, reading both texts costs a tenth of the training between two evaluations, taken to cost three times as
    much a token, if that is no fewer than `LEAST` and no more than `WHOLE`. It is counted and not timed, so that the
    same run reads the same windows on any machine.
    """
    if plan.eval_tokens != "auto":
        return plan.eval_tokens
    between = min(plan.eval_every or plan.steps, plan.steps) * plan.batch * context
    return min(WHOLE, max(LEAST, between * 3 // 20))


def fits(codec: Codec, text: str, limit: int) -> bool:
    """Whether a text has at most so many tokens; no more of it is encoded than it takes to know."""
    count = 0
    for at in range(0, len(text), BLOCK):
        count += len(codec.encode(text[at : at + BLOCK]))
        if count > limit:
            return False
    return True


def check_known(codec: Codec, text: str) -> None:
    """Raise TextError where a text, of which only windows will be read, holds a character that no token holds."""
    try:
        codec.encode("".join(sorted(set(text))))
    except TextError:
        codec.encode(text)  # says where, or takes what its characters by themselves are not


def exam(codec: Codec, text: str, count: int = 0, context: int = 0) -> Exam:
    """A text to be scored on.

    Args:
        codec: what makes tokens of it.
        text: all of it.
        count: about how many of its tokens are read, in windows evenly spread over it; 0 for all.
        context: tokens of such a window.

    Raises:
        DataError: there is nothing in it to score.
    """
    if count:
        return excerpts(codec, text, count, context)
    ids, data = codec.encode(text), text.encode("utf-8")
    if not len(ids):
        raise DataError(f"{codec.part}: makes no tokens of a text of {len(text)} characters; try a longer one.")
    return Exam(ids=ids, start=codec.start, size=len(data) if codec.decode_bytes(ids) == data else 0)
