"""Chat templates: from messages to ids, the same in training and in chatting.

A template is a program in Jinja that writes messages as one text, with special tokens where a message begins and ends.
It may come with somebody's model, so it runs in Jinja's sandbox, where it reaches no attribute or function of Python,
and in a process whose time and memory are bounded: `template_process.py`.

Three things keep training and chatting alike, and the user out of the model's special tokens:

- The text is cut where an answer begins and at every special token, and each piece is encoded by itself. So the ids of
  a conversation up to an answer are the ids that a chat is asked with.
- The name of a special token in a message is broken before the template runs, by a character that no text holds, and
  whole again when its piece is encoded as ordinary text.
- What is learned is each answer, and the special token that ends it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.data.conversations import ASSISTANT, USER, Message
from nanotx.errors import ConfigError, TextError
from nanotx.tokenizers.base import LONGEST_TEMPLATE, UNKNOWN, Codec, Ids
from nanotx.tokenizers.special_tokens import segments
from nanotx.tokenizers.template_process import template_process
from nanotx.tokenizers.template_sandbox import Refused

DEFAULT = """\
{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}
"""
"""The template of nanotx: a special token for each role before a message, and one after it."""

DEFAULT_SPECIAL_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""The special tokens of `DEFAULT`."""

BREAKS = [chr(point) for point in range(0xFDD0, 0xFDF0)]
"""Characters of which Unicode promises that no text holds them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedChat:
    """A conversation as ids."""

    ids: Ids
    learned: NDArray[np.bool_]  # those of the answers and of the special token that ends each
    answers: tuple[int, ...]  # where each answer begins


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with its tokenizer.

    Args:
        codec: the tokenizer; its special tokens are those that the template may write.
        source: the template, in Jinja.
    """

    codec: Codec
    source: str

    def encode(self, messages: Sequence[Message], generation_prompt: bool = False) -> EncodedChat:
        """Return a conversation as ids.

        Args:
            messages: the conversation.
            generation_prompt: end where the assistant's next answer begins. The template may then ask for earlier
                answers in other words than it writes before them, as those that leave out what a model thought.

        Raises:
            ConfigError: the template fails, reaches for Python, or does not write a conversation's beginning as it
                writes the beginning of a longer one; the message gives the line, or the message.
            TextError: the tokenizer cannot encode a message.
        """
        broken, mark = self.broken(messages)
        text = self.render(broken, generation_prompt)
        begins = self.answer_begins(broken, text, is_taught=not generation_prompt)
        edges, ids, learned, answers, inside = [*begins, len(text)], list[Ids](), list[NDArray[np.bool_]](), [], False
        self.add(text[: edges[0]], mark, ids, learned, False)
        for number, (begin, end) in enumerate(pairwise(edges)):
            answers.append(sum(map(len, ids)))
            inside = self.add(text[begin:end], mark, ids, learned, True)
            if inside:
                raise ConfigError(
                    f"chat template: no special token ends answer {number + 1}, so a chat could not tell its end; the "
                    f"tokenizer has {', '.join(self.names) or 'none'}: write one of them after an answer."
                )
        return EncodedChat(
            ids=np.concatenate([np.empty(0, np.int32), *ids]),
            learned=np.concatenate([np.empty(0, bool), *learned]),
            answers=tuple(answers),
        )

    def add(self, text: str, mark: str, ids: list[Ids], learned: list[NDArray[np.bool_]], inside: bool) -> bool:
        """Append the ids of a text, and whether each is learned: up to its first special token, where `inside`.

        Returns:
            Whether it has ended inside an answer.
        """
        for segment, special in segments(text, self.names):
            if special:
                row: Ids = np.array([self.codec.special_tokens[segment]], np.int32)
            else:
                row = self.codec.encode(segment.replace(mark, ""))
            ids.append(row)
            learned.append(np.full(len(row), inside))
            inside = inside and not special
        return inside

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the special tokens that a template may write."""
        return tuple(name for name in self.codec.special_tokens if name != UNKNOWN)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Return the ids at which an answer ends: special tokens, none of which an answer holds."""
        return frozenset(self.codec.special_tokens[name] for name in self.names)

    @cached_property
    def turn_end(self) -> str:
        """Return the name of the special token that the template writes after an answer; empty if it writes none."""
        try:
            text = self.render([Message(USER, "?"), Message(ASSISTANT, BREAKS[0])], False)
        except ConfigError:  # it asks for other messages
            return ""
        after = text.partition(BREAKS[0])[2]
        return next((segment for segment, special in segments(after, self.names) if special), "")

    def answer_begins(self, messages: Sequence[Message], text: str, is_taught: bool) -> list[int]:
        """Return where in a conversation's text its answers begin.

        Args:
            messages: the conversation.
            text: what the template writes of it.
            is_taught: the answers are learned, so each has to begin where the template asks for it.

        Raises:
            ConfigError: the template asks for an answer that is taught in other words than it writes before it.
        """
        begins = list[int]()
        for number, _ in answers_of(messages):
            try:
                begins.append(self.before_answer(messages, number, text))
            except ConfigError:
                if is_taught:
                    raise
        return begins

    def broken(self, messages: Sequence[Message]) -> tuple[list[Message], str]:
        """Return the messages with the names of special tokens broken, and the character that breaks them."""
        every = self.source + "".join(message.content for message in messages)
        mark = next((letter for letter in BREAKS if letter not in every), None)
        if mark is None:
            raise TextError(
                "chat: the messages hold every one of the 32 noncharacters U+FDD0 to U+FDEF; leave one out."
            )
        if not self.names:
            return list(messages), mark
        pattern = re.compile("|".join(map(re.escape, sorted(self.names, key=len, reverse=True))))
        return [
            Message(message.role, pattern.sub(lambda match: match[0][0] + mark + match[0][1:], message.content))
            for message in messages
        ], mark

    def before_answer(self, messages: Sequence[Message], number: int, text: str) -> int:
        """Return where in a conversation's text the answer begins that is message `number`.

        Raises:
            ConfigError: the template asks for this answer in other words than those that it writes before it.
        """
        prompt = self.render(messages[:number], True)
        if not text.startswith(prompt):
            pairs = zip(prompt, text, strict=False)
            same = next((at for at, (asked, taught) in enumerate(pairs) if asked != taught), len(text))
            near = slice(max(0, same - 20), same + 20)
            raise ConfigError(
                f"chat template: before message {number + 1} it writes {text[near]!r}, and asks for it with "
                f"{prompt[near]!r}: a model would be asked otherwise than it was taught; write the same where "
                "add_generation_prompt is true."
            )
        return len(prompt)

    def render(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        """Return the text that the template writes.

        Raises:
            ConfigError: it fails, or reaches for Python; the message gives the line and the reason.
        """
        tables = [{"role": message.role, "content": message.content} for message in messages]
        values = {"messages": tables, "add_generation_prompt": generation_prompt, "tools": None, "documents": None}
        return written(self.source, values)


def answers_of(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """Return the assistant's messages, each with its place."""
    return [(number, message) for number, message in enumerate(messages) if message.role == ASSISTANT]


def chat_template_of(codec: Codec) -> ChatTemplate | None:
    """Return the chat template that a tokenizer holds; None if it holds none."""
    return ChatTemplate(codec, codec.chat_template) if codec.chat_template else None


def with_chat(codec: Codec, source: str = "") -> Codec:
    """Return a tokenizer that holds a chat template, and the special tokens of it.

    Args:
        codec: any tokenizer.
        source: the template; if empty, the one that it holds, or else that of nanotx, whose special tokens are added.

    Raises:
        TokenizerError: special tokens cannot be added to it.
        ConfigError: the template is not valid.
    """
    if not source and codec.chat_template:
        return codec
    if source:
        check_template(source)
    return codec.with_special_tokens(chat_special_tokens(source)).with_chat_template(source or DEFAULT)


def chat_special_tokens(source: str = "") -> list[str]:
    """Return the special tokens that `with_chat` adds to a tokenizer, unless it has them, for a template."""
    return [name for name in DEFAULT_SPECIAL_TOKENS if not source or name in source]


def check_template(source: str) -> None:
    """Raise ConfigError unless a template is valid Jinja; the message gives the line."""
    written(source, None)


def written(source: str, values: Mapping[str, Any] | None) -> str:
    """Return what a template writes; without values it is only checked.

    Raises:
        ConfigError: it is not valid, fails, reaches for Python, or takes too much time or memory; the message gives the
            line and the reason.
    """
    if len(source) > LONGEST_TEMPLATE:
        raise ConfigError(f"chat template: {len(source):,} characters; expected at most {LONGEST_TEMPLATE:,}.")
    try:
        return template_process().render(source, values)
    except Refused as refused:
        where = f"line {refused.line}: " if refused.line else ""
        reason = refused.reason.removesuffix(".")
        raise ConfigError(f"chat template: {where}{reason}{line_of(source, refused.line)}.") from None


def line_of(source: str, number: int) -> str:
    """Return a line of a template for a message."""
    lines = source.split("\n")
    return f" (in {lines[number - 1].strip()!r:.80})" if 0 < number <= len(lines) else ""
