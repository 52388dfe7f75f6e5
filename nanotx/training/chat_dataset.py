"""Datasets of documents: of conversations, whose answers alone are learned, and of texts that are kept apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import numpy as np

from nanotx.data.conversations import Conversation, Conversations
from nanotx.data.documents import Documents, PackedRows, pack
from nanotx.errors import ConfigError, DataError, TextError
from nanotx.evaluation.loss import EvalText
from nanotx.evaluation.texts import byte_count, count_unknown
from nanotx.tokenizers import Codec
from nanotx.tokenizers.base import Ids
from nanotx.tokenizers.chat_template import ChatTemplate, EncodedChat
from nanotx.tokenizers.template_sandbox import TODAY

ROWS = 1 << 10
"""Rows of documents whose bytes are counted together."""


@dataclass(frozen=True, kw_only=True)
class Shortened:
    """How many conversations were longer than the context, and end after the last answer that fits."""

    count: int = 0
    longest: int = 0  # tokens of the longest


def encode_conversations(
    template: ChatTemplate, conversations: Sequence[Conversation], context: int, where: str
) -> tuple[Documents, Shortened]:
    """Return conversations as documents; one that is longer than the context ends after the last answer that fits.

    Args:
        template: with its tokenizer.
        conversations: all of them.
        context: tokens of a window.
        where: begins the messages.

    Raises:
        DataError: the first answer of a conversation does not fit the context; says which.
        ConfigError: the template fails on a conversation; says which.
        TextError: the tokenizer cannot encode a conversation; says which.
    """
    check_timeless(template, where)
    rows, learned, shortened = list[Ids](), list[np.ndarray](), Shortened()
    for number, messages in enumerate(conversations, start=1):
        place = f"{where}: conversation {number:,}"
        encoded = encoded_at(place, template, messages)
        if len(encoded.ids) > context + 1:
            length = len(encoded.ids)
            shortened = Shortened(count=shortened.count + 1, longest=max(shortened.longest, length))
            encoded = fitting(place, template, messages, encoded, context)
        rows.append(encoded.ids)
        learned.append(encoded.learned)
    starts = np.array([0, *accumulate(map(len, rows))][:-1], np.int64)
    return Documents(ids=np.concatenate(rows), starts=starts, counted=np.concatenate(learned)), shortened


def check_timeless(template: ChatTemplate, where: str) -> None:
    """Raise ConfigError if a template writes the date of today: a run that is resumed would have other ids."""
    if TODAY in template.source:
        raise ConfigError(
            f"{where}: the chat template writes the date of the day it runs ({TODAY}), so the ids of a conversation "
            "would change overnight; write a date in its place, and name the file by --corpus.template FILE."
        )


def encoded_at(place: str, template: ChatTemplate, messages: Conversation) -> EncodedChat:
    """Return a conversation as ids; an error says where it is."""
    try:
        return template.encode(messages)
    except (ConfigError, TextError) as error:
        raise type(error)(f"{place}: {error}") from None


def fitting(
    place: str, template: ChatTemplate, messages: Conversation, whole: EncodedChat, context: int
) -> EncodedChat:
    """Return the beginning of a conversation, up to the last answer that fits the context with its end.

    Raises:
        DataError: its first answer does not.
    """
    answers = [number for number, message in enumerate(messages) if message.role == "assistant"]
    for number in reversed(answers[:-1]):
        shorter = encoded_at(place, template, messages[: number + 1])
        if len(shorter.ids) <= context + 1:
            return shorter
    end = whole.answers[0] + int(np.argmin(np.append(whole.learned[whole.answers[0] :], False)))
    raise DataError(
        f"{place}: its first answer ends at token {end:,}, and a window has model.context={context:,}; try "
        f"--model.context {max(end, context + 1)}, or a shorter answer."
    )


def eval_text_of_documents(codec: Codec, documents: Documents, context: int, apart: bool, count: int) -> EvalText:
    """Return the evaluation text of documents, all of which are read: `count` tokens of them, evenly spread, or all.

    Its bits per byte are those of what is learned, such as the answers: special tokens have no bytes.
    """
    return eval_text_of_rows(codec, pack(documents, context, apart), documents.ids, count)


def eval_text_of_rows(codec: Codec, rows: PackedRows, ids: Ids, count: int, exact: bool = True) -> EvalText:
    """Return the evaluation text of packed documents.

    Args:
        codec: the tokenizer that encoded them.
        rows: the documents.
        ids: the beginning of their text, to be looked at.
        count: the approximate number of tokens to read, in evenly spread rows; 0 for all.
        exact: whether the ids decode to exactly the text that was encoded; otherwise there are no bits per byte.
    """
    part = bool(count) and len(rows) * (rows.context + 1) > count
    packed = rows.spread(max(1, count // rows.context)) if part else rows
    size = unknown = 0
    at_once = ROWS if codec.decodes_independently else max(1, len(packed))
    for first in range(0, len(packed), at_once):
        some = slice(first, first + at_once)
        scored = packed.read(some)[:, 1:][packed.learned(some)]
        size += byte_count(codec, scored)
        unknown += count_unknown(codec, [scored])
    return EvalText(
        ids=ids,
        start=codec.start,
        size=exact * size,
        unknown=unknown,
        packed=packed,
        requested_tokens=count if part else 0,
    )


def encode_texts(codec: Codec, texts: Sequence[str]) -> Documents:
    """Return texts as documents."""
    rows = [ids for text in texts if len(ids := codec.encode(text))]
    if not rows:
        raise DataError(f"{codec.part}: makes no tokens of {len(texts)} documents; try longer ones.")
    starts = np.array([0, *accumulate(map(len, rows))][:-1], np.int64)
    return Documents(ids=np.concatenate(rows), starts=starts)


def texts_of(conversations: Sequence[Conversation]) -> list[str]:
    """Return what is said in conversations: the texts that a tokenizer is trained on."""
    return ["\n".join(message.content for message in messages) + "\n" for messages in conversations]


def bytes_of(texts: Sequence[str], documents: Documents) -> Fraction:
    """Return the mean UTF-8 bytes of a token."""
    return Fraction(sum(len(text.encode("utf-8")) for text in texts), len(documents.ids))


Say = Callable[[str], None]


def say_shortened(say: Say, corpus: Conversations, shortened: Shortened, total: int, context: int) -> None:
    """Report conversations that were longer than the context, if there are any."""
    if shortened.count:
        say(
            f"{corpus.where()}: {shortened.count:,} of {total:,} conversations are longer than model.context="
            f"{context:,} (the longest has {shortened.longest:,} tokens) and end after the last answer that fits."
        )
