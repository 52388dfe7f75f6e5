"""The dataset of a run: split, tokenized, and ready to train and evaluate on."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from nanotx.data.batches import Windows
from nanotx.data.mixtures import MixedWindows
from nanotx.errors import DataError
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import eval_texts_of, eval_texts_of_ids
from nanotx.hardware.memory import check_step_memory
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_corpus import TokenSplit, open_split, token_files_of
from nanotx.training.text_cache import encode_large, is_large, scan

MANY = 2**26
"""Numbers of a step from which on they are compared with the free memory."""


BLOCK = 2**18
"""Characters that are digested together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Training windows and evaluation texts of a run, and their tokenizer."""

    codec: Codec
    windows: Windows  # of the training text
    eval_texts: dict[str, EvalText]  # train and val, see `eval_texts_of`
    sha256: str  # of the whole text in UTF-8; of token files, see `TokenSplit`
    size: int  # of the text, in characters; of token files, the number of ids
    bytes_per_token: Fraction | None  # of the training text: mean UTF-8 bytes of a token; None if that is unknown
    floor: float | None  # bits per byte of the validation text under the process that wrote it, if that is known
    nuls: int = 0  # NUL characters of the training text; not counted in files that stay on the disk


def load_dataset(
    recipe: Recipe,
    codec: Codec | None = None,
    check: Callable[[str, int], None] = lambda digest, size: None,
    say: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Read a recipe's corpus, split it, and train its tokenizer on the training split alone.

    The ids of token files, and of a text that is encoded into the cache because it is large, stay on the disk.

    Args:
        recipe: whose corpus, tokenizer, context and seed are meant.
        codec: the tokenizer of a run that resumes; otherwise a new one is trained.
        check: called with `sha256` and `size` before anything is encoded; may raise.
        say: prints a line.

    Raises:
        DataError: the corpus cannot be read, or is too short.
        TokenizerError: token files were made by another tokenizer.
        TextError: the validation text holds a character that the tokenizer did not see in training.
        ConfigError: a step would certainly fill this machine's memory.
    """
    if files := token_files_of(recipe.corpus):
        check_memory(recipe)
        return token_dataset(recipe, open_split(recipe.corpus, files, recipe.tokenizer, codec, check))
    if is_large(recipe.corpus):
        text = scan(recipe.corpus)
        check(text.sha256, text.size)
        check_memory(recipe)
        return token_dataset(recipe, encode_large(text, recipe.tokenizer, codec, say))
    training, validation = recipe.corpus.split()
    size, digest = len(training) + len(validation), sha256(training, validation)
    check(digest, size)
    codec = codec or recipe.tokenizer.train_checked([training], training)
    ids = codec.encode(training)
    eval_texts = eval_texts_of(codec, training, validation, recipe.model.context, recipe.train)
    windows = Windows(ids=ids, context=recipe.model.context, seed=recipe.seeds.data)
    check_memory(recipe)  # after the windows: a context longer than the corpus is reported as that
    return Dataset(
        codec=codec,
        windows=windows,
        eval_texts=eval_texts,
        bytes_per_token=Fraction(len(training.encode("utf-8")), len(ids)),
        floor=recipe.corpus.floor(),
        nuls=training.count("\0"),
        size=size,
        sha256=digest,
    )


def check_memory(recipe: Recipe) -> None:
    """Raise ConfigError if a step would certainly fill this machine's memory."""
    if recipe.train.batch_size * recipe.model.context * recipe.model.dim > MANY:
        check_step_memory(recipe.train, recipe.model, recipe.device)


def with_tokenizer_of_tokens(recipe: Recipe) -> Recipe:
    """Return a recipe with the tokenizer that its token files hold; with a text it stays as it is."""
    files = token_files_of(recipe.corpus)
    return replace(recipe, tokenizer=Saved(path=str(files.train[0]))) if files else recipe


def token_dataset(recipe: Recipe, split: TokenSplit) -> Dataset:
    """Return the dataset of ids that were made before."""
    context, plan = recipe.model.context, recipe.train
    return Dataset(
        codec=split.codec,
        windows=windows_of(split, context, recipe.seeds.data),
        eval_texts=eval_texts_of_ids(split.codec, split.train, split.val, split.exact, context, plan),
        bytes_per_token=split.bytes_per_token,
        floor=recipe.corpus.floor(),
        size=split.size,
        sha256=split.sha256,
    )


def windows_of(split: TokenSplit, context: int, seed: int) -> Windows:
    """Return the training examples of ids that were made before, of several texts where they are a mixture."""
    if split.shares:
        return MixedWindows(ids=split.train, context=context, seed=seed, shares=split.shares)
    return Windows(ids=split.train, context=context, seed=seed)


def check_same_corpus(
    where: object, saved: str, current: str, remedy: str, lengths: tuple[int, int] | None = None
) -> None:
    """Raise DataError unless the corpus is the one that a run was trained on.

    Args:
        where: the run or checkpoint, for the message.
        saved: SHA-256 of the corpus of the run.
        current: SHA-256 of the corpus now; see `Dataset.sha256`.
        remedy: what to do if they differ.
        lengths: of both, in characters or tokens, where they are known.
    """
    if saved != current:
        old, new = (f"length {length:,} and " for length in lengths) if lengths else ("", "")
        raise DataError(
            f"{where}: the run began with a corpus of {old}SHA-256 {saved[:12]}..., and now it has {new}SHA-256 "
            f"{current[:12]}...; {remedy}."
        )


def sha256(*texts: str) -> str:
    """Return the digest of texts as one, in UTF-8, computed piece by piece."""
    digest = hashlib.sha256()
    for text in texts:
        for at in range(0, len(text), BLOCK):
            digest.update(text[at : at + BLOCK].encode("utf-8"))
    return digest.hexdigest()
