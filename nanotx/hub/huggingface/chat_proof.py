"""Compare conversations: their ids here, and those that `apply_chat_template` of transformers gives them."""

import inspect
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nanotx.data.conversations import ASSISTANT, SYSTEM, USER, Message
from nanotx.errors import ConfigError, TextError
from nanotx.hub.huggingface.proof import encodable, some_texts
from nanotx.tokenizers import Codec
from nanotx.tokenizers.chat_template import ChatTemplate, chat_template_of

CHATS = 200
"""Conversations whose ids are compared."""

TYPED = 20
"""Conversations whose messages hold names of special tokens."""

MOST_TURNS = 3
"""The most questions of a conversation."""

SANITIZE = "sanitize_control_tokens"
"""The argument by which newer versions of transformers keep names of special tokens in a message as text."""

Conversations = list[list[Message]]


@dataclass(frozen=True, kw_only=True)
class ChatProof:
    """What was compared of a chat template."""

    chats: int = 0  # conversations with equal ids; 0 where there is no template, or it differs
    trimmed: bool = False  # only where no message begins or ends with white space
    typed: bool = False  # names of special tokens in a message stay text there too, if SANITIZE asks for it
    fault: str = ""  # the first difference; empty where there is none

    def __str__(self) -> str:
        return f"ids of {self.chats:,} conversations equal" if self.chats else ""


def compare_chats(codec: Codec, tokenizer: Any) -> ChatProof:
    """Compare the ids of conversations, those that ask for an answer and, where it can be taught, whole ones.

    Args:
        codec: with a chat template, or without one.
        tokenizer: the same as transformers opens it, with the same template.
    """
    template = chat_template_of(codec)
    if template is None:
        return ChatProof()
    draw = random.Random(1)
    texts = [text for text in some_texts(codec, 4 * CHATS) if text.strip() and not names_in(text, template.names)]
    if len(texts) < 2:
        return ChatProof(fault="the tokenizer has no texts of which conversations could be made")
    try:
        conversations = drawn(template, texts, draw)
        fault, trimmed = difference(template, tokenizer, conversations), False
        if fault:
            stripped = [[Message(role, content.strip()) for role, content in chat] for chat in conversations]
            trimmed = not difference(template, tokenizer, stripped)
    except (ConfigError, TextError) as error:  # of the template, on a conversation that it does not take
        return ChatProof(fault=str(error))
    if fault and not trimmed:
        return ChatProof(fault=fault)
    return ChatProof(chats=len(conversations), trimmed=trimmed, typed=keeps_typed(template, tokenizer, texts, draw))


def names_in(text: str, names: Iterable[str]) -> bool:
    """Return whether a text holds one of these names."""
    return any(name in text for name in names)


def drawn(template: ChatTemplate, texts: Sequence[str], draw: random.Random) -> Conversations:
    """Return conversations of texts: with and without a system, of several turns, with the last answer or before it.

    Raises:
        ConfigError: the template takes no conversation.
    """
    system = takes(template, [Message(SYSTEM, texts[0]), Message(USER, texts[1])])
    taught = takes(template, [Message(USER, texts[0]), Message(ASSISTANT, texts[1])])
    conversations = []
    for _ in range(CHATS):
        chat = [Message(SYSTEM, draw.choice(texts))] if system and draw.random() < 0.5 else []
        for _ in range(draw.randint(1, MOST_TURNS)):
            chat += [Message(USER, draw.choice(texts)), Message(ASSISTANT, draw.choice(texts))]
        conversations.append(chat if taught and draw.random() < 0.5 else chat[:-1])
    return conversations


def takes(template: ChatTemplate, messages: Sequence[Message]) -> bool:
    """Return whether a template takes a conversation."""
    try:
        template.encode(messages, generation_prompt=messages[-1].role == USER)
    except (ConfigError, TextError):
        return False
    return True


def difference(template: ChatTemplate, tokenizer: Any, conversations: Conversations, **options: bool) -> str:
    """Return where the ids of a conversation differ; empty if all are equal."""
    for messages in conversations:
        asks = messages[-1].role == USER
        ours = template.encode(messages, generation_prompt=asks).ids.tolist()
        tables = [message._asdict() for message in messages]
        try:
            theirs = tokenizer.apply_chat_template(tables, add_generation_prompt=asks, return_dict=False, **options)
        except Exception as error:  # of the template, which may raise anything there
            return f"transformers: {type(error).__name__}: {error!s:.200}"
        if ours != theirs:
            at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
            near = template.codec.decode(ours[max(0, at - 8) : at + 8])
            return f"near {near!r} a conversation has the ids {ours[at : at + 6]}, and there {theirs[at : at + 6]}"
    return ""


def keeps_typed(template: ChatTemplate, tokenizer: Any, texts: Sequence[str], draw: random.Random) -> bool:
    """Return whether names of special tokens in a message stay text in transformers, as they do here."""
    names = list(islice((name for name in template.names if encodable(template.codec, name)), TYPED))
    if not names or SANITIZE not in inspect.signature(tokenizer.apply_chat_template).parameters:
        return False
    conversations = [[Message(USER, f"{draw.choice(texts)}{draw.choice(names)}".strip())] for _ in range(TYPED)]
    return not difference(template, tokenizer, conversations, **{SANITIZE: True})
