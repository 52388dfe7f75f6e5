"""Conversations: messages with roles, read from JSON lines and checked, and the corpora that consist of them.

A line is a conversation, in one of two forms:

    {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good morning."}]}
    {"prompt": "Hello.", "answer": "Good morning."}
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nanotx.data.corpus.base import Corpus
from nanotx.data.text_files import files_named, read_text
from nanotx.errors import DataError

SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """What somebody says in a conversation."""

    role: str  # system, user or assistant
    content: str


Conversation = tuple[Message, ...]
"""Messages: at most one of the system, at the beginning, then those of user and assistant by turns."""


@dataclass(frozen=True, kw_only=True)
class Conversations(Corpus):
    """Fields of a corpus that consists of conversations: a model learns its answers."""

    documents: Literal["join", "separate"] = (
        "separate"  # join: a row of conversations is one text; separate: each reads only itself
    )
    template: str = ""  # file of the chat template, in Jinja; the tokenizer's, or nanotx's own, where it is empty

    @property
    def keeps_apart(self) -> bool:
        return self.documents == "separate"

    @property
    def packs_documents(self) -> bool:
        return True

    @abstractmethod
    def conversations(self) -> Sequence[Conversation]:
        """Return all conversations, checked.

        Raises:
            DataError: they cannot be read, or one of them is wrong; the message says which.
        """

    def text(self) -> str:
        """Return all that is said, a message per line, with an empty line between conversations."""
        return "\n\n".join("\n".join(message.content for message in turns) for turns in self.conversations())

    def template_source(self) -> str:
        """Return the chat template of the file; empty where none is named.

        Raises:
            DataError: the file cannot be read.
        """
        if not self.template:
            return ""
        try:
            return read_text(Path(self.template))
        except (DataError, OSError) as error:
            raise DataError(f"corpus.template: {error}") from None

    def split_conversations(self) -> tuple[list[Conversation], list[Conversation]]:
        """Return the conversations to train on, and those to validate on, which are the last ones.

        Raises:
            DataError: one of the two would be empty.
        """
        every = list(self.conversations())
        cut = len(every) - round(len(every) * self.validation)
        if not 0 < cut < len(every):
            raise DataError(
                f"{self.where()}: {len(every)} conversation{'s' * (len(every) != 1)} with "
                f"validation={self.validation:g} leave {cut} to train on and {len(every) - cut} to validate on; both "
                "need some: try more conversations, or --corpus.validation 0.5."
            )
        return every[:cut], every[cut:]


def read_conversations(where: str, path: str) -> list[Conversation]:
    """Return the conversations of a file of JSON lines, of all files of a folder, or of those that match a glob.

    Raises:
        DataError: there is no such file, or a line is no conversation; the message says which, and why.
    """
    return [
        conversation
        for file in files_named(where, path)
        for conversation in conversations_of(f"{where}: {file}", read_lines(where, file))
    ]


def read_lines(where: str, file: Path) -> str:
    """Return the text of a file.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_text(file)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except OSError as error:
        raise DataError(f"{where}: {file}: cannot be read: {error.strerror}.") from None


def conversations_of(where: str, text: str) -> list[Conversation]:
    """Return the conversations of JSON lines; empty lines are skipped.

    Raises:
        DataError: a line is no conversation, or there is none.
    """
    lines = enumerate(text.split("\n"), start=1)
    every = [conversation_of(f"{where}: line {number:,}", line) for number, line in lines if line.strip()]
    if not every:
        raise DataError(f"{where}: there is no conversation in it; expected a line such as {EXAMPLE}")
    return every


EXAMPLE = '{"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good morning."}]}'


def as_line(conversation: Conversation) -> str:
    """Return a conversation as the line of JSON from which it is read."""
    return json.dumps({"messages": [message._asdict() for message in conversation]}, ensure_ascii=False)


def conversation_of(where: str, line: str) -> Conversation:
    """Return the conversation of a line of JSON.

    Raises:
        DataError: it is not JSON, or no conversation; the message says why.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}; expected a conversation per line, such as {EXAMPLE}") from None
    if isinstance(value, dict) and {"prompt", "answer"} <= value.keys():
        value = [{"role": USER, "content": value["prompt"]}, {"role": ASSISTANT, "content": value["answer"]}]
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise DataError(f"{where}: no messages; expected {EXAMPLE}")
    checked = checked_messages(where, messages)
    if checked[-1].role != ASSISTANT:
        least = any(message.role == ASSISTANT for message in checked)
        raise DataError(
            f"{where}: {'ends with a message of the user' if least else 'has no message of the assistant'}, and a "
            "model learns from answers; expected an assistant's message at its end, or leave the rest out."
        )
    return checked


def checked_messages(where: str, messages: Sequence[Any], learned: bool = True) -> Conversation:
    """Return messages, after checking that each has a role and a content, and that the roles take turns.

    Args:
        where: begins the messages of errors.
        messages: as they came.
        learned: the answers are learned, so none may be empty.

    Raises:
        DataError: one of them has not; the message says which.
    """
    checked = list[Message]()
    for number, table in enumerate(messages, start=1):
        message = checked_message(f"{where}: message {number}", table, learned)
        expected = expected_roles(checked)
        if message.role not in expected:
            twice = message.role == SYSTEM and any(other.role == SYSTEM for other in checked)
            problem = "a second message of the system" if twice else f"a message of the {message.role}"
            raise DataError(
                f"{where}: message {number}: {problem}, and here comes one of the {' or the '.join(expected)}: at most "
                "one of the system, at the beginning, then user and assistant by turns."
            )
        checked.append(message)
    if not checked:
        raise DataError(f"{where}: has no messages; expected {EXAMPLE}")
    return tuple(checked)


def expected_roles(before: Sequence[Message]) -> tuple[str, ...]:
    """Return the roles that the next message may have."""
    if not before:
        return (SYSTEM, USER)
    return (ASSISTANT,) if before[-1].role == USER else (USER,)


def checked_message(where: str, table: Any, learned: bool = True) -> Message:
    """Return a message after checking its role and its content; an answer that is not `learned` may be empty.

    Raises:
        DataError: one of them is missing or wrong.
    """
    if not isinstance(table, dict) or not isinstance(table.get("role"), str):
        raise DataError(f"{where}: has no role; expected one of {', '.join(ROLES)}, as in {EXAMPLE}")
    role, content = table["role"], table.get("content")
    if role not in ROLES:
        raise DataError(f"{where}: role: expected one of {', '.join(ROLES)}, got {role!r:.40}.")
    if not isinstance(content, str):
        raise DataError(f"{where}: content: expected a text, got {type(content).__name__}.")
    if not content.strip() and (learned or role != ASSISTANT):
        what = "an empty answer, from which nothing can be learned" if role == ASSISTANT else "an empty message"
        raise DataError(f"{where}: {what}; write one, or leave the conversation out.")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: content: lone surrogate at offset {error.start} is no character.") from None
    return Message(role, content)
