"""Chat: a conversation with a model, answer by answer, with the ids that it was taught."""

from collections.abc import Generator, Sequence
from dataclasses import replace

from nanotx.data.conversations import ASSISTANT, SYSTEM, USER, Message, checked_message
from nanotx.errors import ConfigError, DataError
from nanotx.generation.sampler import Sampling, check_max_new_tokens
from nanotx.generation.text import Generation
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers.chat_template import ChatTemplate

ANSWER_FRACTION = 4
"""A context keeps this fraction of itself free for an answer: 4 for a quarter, or `max_new_tokens` if that is less."""


class Chat:
    """A conversation with a model.

    Args:
        model: in evaluation mode.
        template: the chat template with the tokenizer of the model.
        sampling: the sampling config; each answer uses the next seed.
        max_new_tokens: the most tokens of an answer.
        system: what the system says before the conversation; empty for nothing.
    """

    def __init__(
        self,
        model: Transformer,
        template: ChatTemplate,
        sampling: Sampling | None = None,
        max_new_tokens: int = 256,
        system: str = "",
    ) -> None:
        check_max_new_tokens(max_new_tokens)
        self.model, self.template, self.max_new_tokens = model, template, max_new_tokens
        self.sampling = (sampling or Sampling()).with_banned(template.codec.undefined_ids)
        self.system = [message_by(SYSTEM, system)] if system else []
        self.messages = list(self.system)
        self.answers = 0  # given so far, over all resets
        self.dropped = 0  # turns that the last question pushed out of the context
        self.ended = True  # whether the last answer ended by itself

    def reset(self) -> None:
        """Forget the conversation, except what the system says."""
        self.messages = list(self.system)

    def ask(self, text: str) -> Generator[str, None, None]:
        """Yield the answer to a message piece by piece; both are in `messages` once it has ended, or was given up.

        A conversation that leaves no room for an answer loses its oldest turns, as `dropped` tells.

        Raises:
            ConfigError: the message alone does not fit the context, or the template fails.
            DataError: the message is empty.
            TextError: the tokenizer cannot encode it.
        """
        messages = [*self.messages, message_by(USER, text)]
        messages, self.dropped = fitting(self.template, messages, self.model.context, self.max_new_tokens)
        prompt = self.template.encode(messages, generation_prompt=True).ids.tolist()
        sampling = replace(self.sampling, seed=self.sampling.seed + self.answers)
        generation = answer(self.model, self.template, prompt, sampling, self.max_new_tokens)
        completion, self.ended = generation.completions[0], False
        self.answers += 1
        try:
            for _, piece in generation:
                yield piece
            self.ended = completion.ended
        finally:
            self.messages = [*messages, Message(ASSISTANT, completion.text)]


def answer(
    model: Transformer,
    template: ChatTemplate,
    prompt: Sequence[int],
    sampling: Sampling,
    max_new_tokens: int,
    stops: Sequence[str] = (),
    top_log_probs: int = 0,
) -> Generation:
    """Return the answer to a conversation as a `Generation`: it ends at a special token, or where the context does.

    Args:
        model: in evaluation mode.
        template: the chat template with the tokenizer of the model.
        prompt: ids of the conversation, fewer than the context.
        sampling: the sampling config.
        max_new_tokens: the most tokens of the answer.
        stops: the answer ends before the first of these.
        top_log_probs: how many of the likeliest ids to keep with each token.
    """
    return Generation(
        model=model,
        codec=template.codec,
        prompts=[""],
        ids=[prompt],
        ends=template.ends,
        max_new_tokens=min(max_new_tokens, model.context - len(prompt)),
        sampling=sampling,
        stops=stops,
        top_log_probs=top_log_probs,
    )


def fitting(
    template: ChatTemplate, messages: Sequence[Message], context: int, max_new_tokens: int
) -> tuple[list[Message], int]:
    """Return messages without the oldest turns, so that there is room for an answer, and how many turns went.

    Args:
        template: the chat template with the tokenizer of the model.
        messages: a conversation that ends with a message of the user; what the system says at its beginning stays.
        context: of the model.
        max_new_tokens: the most tokens of an answer.

    Raises:
        ConfigError: the newest message alone does not fit the context.
    """
    system = [message for message in messages[:1] if message.role == SYSTEM]
    turns, dropped = list(messages[len(system) :]), 0
    room = max(1, min(max_new_tokens, context // ANSWER_FRACTION))
    while True:
        length = len(template.encode([*system, *turns], generation_prompt=True).ids)
        if length + room <= context:
            return [*system, *turns], dropped
        if len(turns) == 1:
            break
        turns, dropped = turns[2:], dropped + 1
    if length < context:
        return [*system, *turns], dropped
    raise ConfigError(
        f"chat: this message makes {length:,} tokens with what surrounds it, and the model's context is {context:,}; "
        "write a shorter one."
    )


def message_by(role: str, text: str) -> Message:
    """Return a message.

    Raises:
        DataError: it is empty, or holds a lone surrogate.
    """
    try:
        return checked_message("chat", {"role": role, "content": text})
    except DataError as error:
        raise DataError(str(error)) from None
