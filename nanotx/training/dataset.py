"""The dataset of a run: split, tokenized, and ready to train and evaluate on."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import NoReturn, cast

from nanotx.config.command_line import collect_flags
from nanotx.data.batches import Windows
from nanotx.data.conversations import Conversations
from nanotx.data.documents import Documents, PackedWindows, pack
from nanotx.data.mixtures import JoinedRows, MixedDocuments, MixedWindows
from nanotx.data.packed_files import PackedFile, pack_file
from nanotx.data.shares import Share
from nanotx.data.stored_ids import DiskIds, JoinedIds
from nanotx.errors import ConfigError, DataError, TextError, TokenizerError
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import WHOLE, eval_texts_of, eval_texts_of_ids, eval_tokens
from nanotx.hardware.memory import check_step_memory
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec
from nanotx.tokenizers.chat_template import chat_special_tokens, chat_template_of, with_chat
from nanotx.tokenizers.saved import Saved
from nanotx.tokenizers.token_corpus import TokenSplit, open_split, token_files_of
from nanotx.training.chat_dataset import (
    bytes_of,
    encode_conversations,
    encode_texts,
    eval_text_of_documents,
    eval_text_of_rows,
    say_shortened,
    texts_of,
)
from nanotx.training.text_cache import encode_large, is_large, scan

MANY = 2**26
"""Numbers of a step from which on they are compared with the free memory."""


BLOCK = 2**18
"""Characters that are digested together."""


SHOWN = 2**16
"""Ids of documents on the disk that are at hand to be looked at."""

ASSUMED = 256
"""The size of a vocabulary of which nothing is known, for a plan: that of bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Training windows and evaluation texts of a run, and their tokenizer."""

    codec: Codec
    windows: Windows | PackedWindows  # of the training text
    eval_texts: dict[str, EvalText]  # train and val, see `eval_texts_of`
    sha256: str  # of the whole text in UTF-8; of token files, see `TokenSplit`
    size: int  # of the text, in characters; of token files, the number of ids
    bytes_per_token: Fraction | None  # of the training text: mean UTF-8 bytes of a token; None if that is unknown
    floor: float | None  # bits per byte of the validation text under the process that wrote it, if that is known
    nuls: int = 0  # NUL characters of the training text; not counted in files that stay on the disk
    padding: float | None = None  # share of the places in rows of documents that none fills; None for windows of a text


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
    if isinstance(recipe.corpus, Conversations):
        return chat_dataset(recipe, recipe.corpus, codec, check, say)
    if files := token_files_of(recipe.corpus):
        check_memory(recipe)
        split = open_split(recipe.corpus, files, recipe.tokenizer, codec, check)
        return packed_dataset(recipe, split, say) if recipe.corpus.keeps_apart else token_dataset(recipe, split)
    if recipe.corpus.keeps_apart:
        return documents_dataset(recipe, codec, check)
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


def chat_dataset(
    recipe: Recipe,
    corpus: Conversations,
    codec: Codec | None,
    check: Callable[[str, int], None],
    say: Callable[[str], None],
) -> Dataset:
    """Return the dataset of conversations: whole ones are packed into rows, and only answers are learned.

    The tokenizer holds the chat template from then on. See `load_dataset` for the arguments.
    """
    training, validation = corpus.split_conversations()
    texts, digest = texts_of(training), sha256(*(json.dumps(messages) for messages in (*training, *validation)))
    check(digest, sum(map(len, texts)) + sum(map(len, texts_of(validation))))
    if codec is None:
        codec = with_chat(recipe.tokenizer.train_checked(texts, texts[0]), corpus.template_source())
    template = chat_template_of(codec)
    if template is None:
        raise ConfigError(f"{corpus.where()}: the tokenizer of this run holds no chat template; begin a new run.")
    context, where = recipe.model.context, corpus.where()
    learned, shortened = encode_conversations(template, training, context, where)
    held_out, _ = encode_conversations(template, validation, context, f"{where}: validation")
    say_shortened(say, corpus, shortened, len(training), context)
    return dataset_of_documents(
        recipe, codec, learned, held_out, bytes_of(texts, learned), digest, sum(map(len, texts))
    )


def documents_dataset(recipe: Recipe, codec: Codec | None, check: Callable[[str, int], None]) -> Dataset:
    """Return the dataset of documents that are kept apart: the last ones are for validation, each whole.

    See `load_dataset` for the arguments.
    """
    corpus = recipe.corpus
    every = list(corpus.document_texts())
    cut = len(every) - max(1, round(len(every) * corpus.validation)) if corpus.validation else len(every)
    if not 0 < cut < len(every):
        raise DataError(
            f"{corpus.where()}: {len(every)} document{'s' * (len(every) != 1)} with validation={corpus.validation:g} "
            f"leave {cut} to train on and {len(every) - cut} to validate on; both need one at least: try more files, "
            "or --corpus.documents join."
        )
    training, digest, size = every[:cut], sha256(*(json.dumps(text) for text in every)), sum(map(len, every))
    check(digest, size)
    codec = codec or recipe.tokenizer.train_checked(training, training[0])
    learned = encode_texts(codec, training)
    try:
        held_out = encode_texts(codec, every[cut:])
    except TextError as error:
        raise TextError(f"validation text, of which training saw nothing: {error}") from None
    return dataset_of_documents(recipe, codec, learned, held_out, bytes_of(training, learned), digest, size)


def dataset_of_documents(
    recipe: Recipe,
    codec: Codec,
    learned: Documents,
    held_out: Documents,
    bytes_per_token: Fraction,
    digest: str,
    size: int,
) -> Dataset:
    """Return the dataset of documents that any corpus may give.

    Args:
        recipe: whose context, seed and evaluation are meant.
        codec: the tokenizer that made the ids.
        learned: the documents to train on.
        held_out: the documents to validate on.
        bytes_per_token: of the training text.
        digest: identifies all documents.
        size: of all documents, in characters or ids.
    """
    context, apart, plan = recipe.model.context, recipe.corpus.keeps_apart, recipe.train
    if apart:
        recipe.model.check_documents()
    check_memory(recipe)
    limit = WHOLE if plan.eval_tokens == "auto" else plan.eval_tokens
    count = eval_tokens(plan, context) if limit and len(held_out.ids) > limit else 0
    most = count or len(held_out.ids)  # as much of the training text
    return Dataset(
        codec=codec,
        windows=PackedWindows(packed=pack(learned, context, apart), seed=recipe.seeds.data),
        eval_texts={
            "train": eval_text_of_documents(codec, learned, context, apart, most),
            "val": eval_text_of_documents(codec, held_out, context, apart, count),
        },
        bytes_per_token=bytes_per_token,
        floor=recipe.corpus.floor(),
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


def with_tokenizer_unless_named(recipe: Recipe, named: Collection[str], argv: Sequence[str]) -> Recipe:
    """Return a recipe with the tokenizer that its token files hold, if it has any and no other tokenizer was asked for.

    Args:
        recipe: as files and flags make it.
        named: the fields that these have set.
        argv: the files and flags.
    """
    flags = collect_flags(argv)
    asked = "tokenizer" in flags or ("corpus" not in flags and "tokenizer" in named)
    return recipe if asked else with_tokenizer_of_tokens(recipe)


def vocab_size_of(recipe: Recipe) -> int:
    """Return the size of the vocabulary; the corpus is read, and fetched, only where the size depends on it."""
    known = known_vocab_size(recipe)
    return load_dataset(recipe).codec.vocab_size if known is None else known


def assumed_vocab_size(recipe: Recipe) -> tuple[int, str]:
    """Return the size of the vocabulary without a network, and the reason if it is an assumption; else an empty text.

    A text is read only where it is on this machine and small.
    """
    known, corpus = known_vocab_size(recipe), recipe.corpus
    if known is not None:
        return known, ""
    if corpus.is_local() and not is_large(corpus):
        return vocab_size_of(recipe), ""
    why = "large" if corpus.is_local() else "not on this machine"
    return ASSUMED, f"tokenizer {recipe.tokenizer.part} is trained on corpus {corpus.part}, which is {why}"


def known_vocab_size(recipe: Recipe) -> int | None:
    """Return the size of the vocabulary as far as it is known without the corpus; None if it depends on the text.

    Raises:
        TokenizerError: the tokenizer is a file, or comes with a library, and cannot be read.
    """
    tokenizer, corpus = recipe.tokenizer, recipe.corpus
    if (size := tokenizer.known_vocab_size(corpus.characters())) is not None:
        own = getattr(tokenizer, "special_tokens", ())
        added = chat_special_tokens(corpus.template_source()) if isinstance(corpus, Conversations) else []
        return size + len({*added} - {*own})
    try:
        codec = tokenizer.train_checked(UnreadTexts())
    except TextNeeded:
        return None
    return (with_chat(codec, corpus.template_source()) if isinstance(corpus, Conversations) else codec).vocab_size


class TextNeeded(TokenizerError):
    """A tokenizer has to be trained on a text."""


class UnreadTexts:
    """Texts that no tokenizer may read."""

    def __iter__(self) -> NoReturn:
        raise TextNeeded("the tokenizer is trained on the text of the corpus.")


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


def packed_dataset(recipe: Recipe, split: TokenSplit, say: Callable[[str], None]) -> Dataset:
    """Return the dataset of ids that were made before, whose documents are kept apart.

    See `load_dataset` for the arguments.
    """
    recipe.model.check_documents()
    context, plan, seed = recipe.model.context, recipe.train, recipe.seeds.data
    texts = [pack_file(ids, context) for ids in training_texts(split)]
    rows, held_out = JoinedRows(texts), pack_file(cast(DiskIds, split.val), context)
    if not (rows.targets and held_out.targets):
        raise DataError(
            f"{recipe.corpus.where()}: {rows.targets:,} tokens to learn and {held_out.targets:,} to validate on: the "
            "first token of a document is not predicted; try longer documents, or --corpus.documents join."
        )
    windows: PackedWindows = PackedWindows(packed=texts[0], seed=seed)
    if split.shares:
        windows = MixedDocuments(packed=rows, shares=shares_of_rows(split.shares, texts), seed=seed)
    limit = WHOLE if plan.eval_tokens == "auto" else plan.eval_tokens
    count = eval_tokens(plan, context) if limit and len(split.val) > limit else 0
    padding = 1 - sum(text.filled for text in texts) / (len(rows) * (context + 1))
    say(describe_packing(recipe.corpus.where(), texts, padding))
    return Dataset(
        codec=split.codec,
        windows=windows,
        eval_texts={
            "train": eval_text_of_rows(split.codec, rows, split.train[:SHOWN], count or len(split.val), split.exact),
            "val": eval_text_of_rows(split.codec, held_out, split.val[:SHOWN], count, split.exact),
        },
        bytes_per_token=split.bytes_per_token,
        floor=recipe.corpus.floor(),
        size=split.size,
        sha256=split.sha256,
        padding=padding,
    )


def training_texts(split: TokenSplit) -> list[JoinedIds]:
    """Return the texts to train on: those of a mixture, or one."""
    lengths = [share.length for share in split.shares] or [len(split.train)]
    ends = list(accumulate(lengths))
    train = cast(DiskIds, split.train)
    return [JoinedIds([(train, end - length, end)]) for length, end in zip(lengths, ends, strict=True)]


def shares_of_rows(shares: Sequence[Share], texts: Sequence[PackedFile]) -> tuple[Share, ...]:
    """Return the texts of a mixture with the number of places in their rows as their length.

    Raises:
        DataError: a text has no rows.
    """
    for share, text in zip(shares, texts, strict=True):
        if not len(text):
            raise DataError(f"data: {share.name} has no document to train on; try more documents of it.")
    return tuple(replace(share, length=len(text.flat)) for share, text in zip(shares, texts, strict=True))


def describe_packing(where: str, texts: Sequence[PackedFile], padding: float) -> str:
    """Return a line about rows of documents."""
    rows, width = sum(map(len, texts)), texts[0].context + 1
    cut = sum(text.documents_cut for text in texts)
    total = cut + sum(text.documents_whole for text in texts)
    longer = f"; {cut:,} of them are longer and are cut" if cut else ""
    return f"{where}: {total:,} documents in {rows:,} rows of {width:,} tokens, {padding:.1%} padding{longer}."


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
