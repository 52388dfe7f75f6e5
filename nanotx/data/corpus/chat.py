"""Conversations of the user's own: prompts and answers in a file of JSON lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from nanotx.data.conversations import Conversation, Conversations, read_conversations
from nanotx.data.corpus.base import Corpus
from nanotx.errors import DataError


@Corpus.register("chat")
@dataclass(frozen=True, kw_only=True)
class Chat(Conversations):
    """Conversations from JSON lines: messages with roles, or prompts and answers. Only the answers are learned."""

    path: str = ""  # talk.jsonl, a folder, or a glob

    def conversations(self) -> Sequence[Conversation]:
        """Return the conversations of the files.

        Raises:
            DataError: there is no such file, or a line is no conversation.
        """
        if not self.path:
            raise DataError("corpus chat: path is empty; give --corpus.path talk.jsonl, or try --corpus small_talk.")
        return read_conversations("corpus chat", self.path)
