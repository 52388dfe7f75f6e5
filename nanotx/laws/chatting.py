"""Laws of chats: a model is asked with the ids that it was taught, and nobody types a special token."""

from collections.abc import Sequence

import numpy as np

from nanotx.data.conversations import ASSISTANT, Message
from nanotx.errors import LawBroken
from nanotx.tokenizers.base import UNKNOWN, normalize_nfc
from nanotx.tokenizers.chat_template import ChatTemplate


def chat_as_taught(template: ChatTemplate, messages: Sequence[Message]) -> None:
    """Raise LawBroken unless the ids of a conversation up to each answer are those that a chat is asked with.

    What is learned of it are the answers, each with the special token that ends it, and nothing else.

    Args:
        template: a chat template with its tokenizer, which encodes every character of the messages.
        messages: a conversation.

    Raises:
        LawBroken: the ids differ, or something else is learned; the message says where.
    """
    taught, names = template.encode(messages), {number: name for name, number in template.codec.special_tokens.items()}
    wanted = np.zeros(len(taught.ids), bool)
    for answer, number in enumerate(index for index, message in enumerate(messages) if message.role == ASSISTANT):
        asked = template.encode(messages[:number], generation_prompt=True).ids
        if not np.array_equal(taught.ids[: len(asked)], asked):
            raise LawBroken(
                f"chat_as_taught: before message {number + 1} a chat is asked with {asked.tolist()}, and the model was "
                f"taught {taught.ids[: len(asked)].tolist()}."
            )
        content = messages[number].content
        answered = template.codec.encode(content).tolist()
        end = len(asked) + len(answered)
        if taught.answers[answer] != len(asked) or taught.ids[len(asked) : end].tolist() != answered:
            raise LawBroken(f"chat_as_taught: {content!r} is {answered}, and not what follows token {len(asked)}.")
        if end >= len(taught.ids) or taught.ids[end] not in template.ends:
            raise LawBroken(f"chat_as_taught: no special token ends the answer {content!r}, at token {end}.")
        wanted[len(asked) : end + 1] = True
    if not np.array_equal(taught.learned, wanted):
        at = int((taught.learned != wanted).argmax())
        what = names.get(int(taught.ids[at])) or template.codec.decode(taught.ids[at : at + 1])
        raise LawBroken(f"chat_as_taught: {what!r} at token {at} is {'not ' * bool(wanted[at])}learned.")


def typed_names_are_text(template: ChatTemplate, messages: Sequence[Message]) -> None:
    """Raise LawBroken unless a conversation has the special tokens that the template writes, and no other.

    Args:
        template: a chat template with its tokenizer; it writes as many special tokens for a message, whatever it is.
        messages: a conversation, whose messages may hold the names of special tokens.

    Raises:
        LawBroken: a name in a message became a special token, or its text was lost.
    """
    plain = [Message(message.role, "a") for message in messages]
    ids, expected = template.encode(messages).ids, template.encode(plain).ids
    got, wanted = ([token for token in row.tolist() if token in template.ends] for row in (ids, expected))
    if got != wanted:
        raise LawBroken(f"typed_names_are_text: special tokens {got}, and the template writes {wanted}: {messages}.")
    codec = template.codec
    if UNKNOWN not in codec.special_tokens:
        text = codec.decode(ids)
        for message in messages:
            content = normalize_nfc(message.content) if codec.nfc else message.content
            if content not in text:
                raise LawBroken(f"typed_names_are_text: {content!r} is not in {text!r}.")
