"""The continuation of a prompt or of a conversation, a token at a time, with the model's own log-probabilities.

A token is handed out once its text is final, so that none of a stop sequence is ever shown: neither its text nor its
tokens.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from nanotx.data.conversations import Message
from nanotx.errors import ConfigError, TextError
from nanotx.generation import Generation, Sampling
from nanotx.generation.chat import answer, fitting
from nanotx.generation.engine import top_log_probs
from nanotx.lens.capture import Edit, replaced
from nanotx.lens.remove import removal_edits
from nanotx.nn.transformer import Transformer
from nanotx.serve.errors import ApiError
from nanotx.serve.run import ServedRun
from nanotx.tokenizers.chat_template import ChatTemplate, chat_template_of

Top = tuple[tuple[int, float], ...]
"""The likeliest ids and their log-probabilities in nats, the likeliest first."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a client asks for."""

    prompt: str
    max_tokens: int
    sampling: Sampling
    messages: tuple[Message, ...] = ()  # a conversation that is to be answered, in place of a prompt
    drops: bool = False  # its oldest turns go where the context has no room for an answer
    stops: tuple[str, ...] = ()
    top: int = 0  # how many of the likeliest ids to return with each token
    removed: tuple[str, ...] = ()  # parts of the model that are removed, such as 2.attention.head3


@dataclass(frozen=True, kw_only=True)
class ShownToken:
    """A token of the prompt or of its continuation."""

    id: int
    log_prob: float | None  # in nats, by the model's own logits; None where nothing precedes it
    top: Top = ()
    offset: int = 0  # of its text, in characters from the beginning of the prompt


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text that became final, and the tokens that end in it."""

    text: str = ""
    tokens: tuple[ShownToken, ...] = ()


class Continuation:
    """The continuation of a prompt, or the answer to a conversation; iterate over it, once, to sample it.

    It yields a piece per token.

    Raises:
        ApiError: the conversation cannot be answered: there is no chat template, it fails, or the context is too short.
        ConfigError: a number is out of range, or the model has no part that is to be removed.
        TextError: the tokenizer cannot encode the prompt.
        RunError: the run has no checkpoint yet.
    """

    def __init__(self, run: ServedRun, wanted: Wanted) -> None:
        self.run, self.wanted, self.loaded = run, wanted, run.loaded
        self.edits = removal_edits(self.loaded.model, wanted.removed)
        self.dropped = 0  # turns of the conversation that the context has no room for
        self.generation = self._answer() if wanted.messages else self._continuation()
        self.completion = self.generation.completions[0]
        self._pending: deque[tuple[int, ShownToken]] = deque()  # tokens, each with the end of its text

    def _continuation(self) -> Generation:
        wanted = self.wanted
        return self.loaded.generation(
            [wanted.prompt], wanted.max_tokens, wanted.sampling, wanted.stops, top_log_probs=wanted.top
        )

    def _answer(self) -> Generation:
        wanted, model = self.wanted, self.loaded.model
        template = chat_template(self.run)
        messages: Sequence[Message] = wanted.messages
        try:
            if wanted.drops:
                messages, self.dropped = fitting(template, messages, model.context, wanted.max_tokens)
            prompt = template.encode(messages, generation_prompt=True).ids.tolist()
        except (ConfigError, TextError) as error:  # of the template, or of a message
            raise ApiError(400, str(error), param="messages") from None
        if len(prompt) >= model.context:
            raise ApiError(
                400, f"messages: they make {len(prompt):,} tokens, and the model's context of {model.context:,} has to "
                "hold an answer too; leave the oldest out.", param="messages", code="context_length_exceeded",
            )  # fmt: skip
        return answer(model, template, prompt, wanted.sampling, wanted.max_tokens, wanted.stops, wanted.top)

    @property
    def prompt_ids(self) -> Sequence[int]:
        """The ids of the prompt; those of an empty prompt are the start token."""
        return self.generation.engine.prompts[0]

    @property
    def left_out(self) -> int:
        """The number of tokens at the beginning of the prompt that do not fit the context."""
        return max(0, len(self.prompt_ids) - self.loaded.model.context)

    @property
    def finish_reason(self) -> str:
        """Why it ended, in the words of the API."""
        return "stop" if self.completion.stopped else "length"

    @property
    def ended_at(self) -> ShownToken | None:
        """The special token at which an answer ended; None where it did not end by itself."""
        completion = self.completion
        if not completion.ended:
            return None
        return ShownToken(id=completion.ids[-1], log_prob=completion.log_probs[-1], top=completion.top[-1])

    def prompt_tokens(self) -> list[ShownToken]:
        """Return the tokens of the prompt; those before the context, and its first, have no log-probability."""
        ids = list(self.prompt_ids) if self.wanted.prompt or self.wanted.messages else []
        loaded = self.loaded
        window = ids[-loaded.model.context :]
        scores: list[tuple[float | None, Top]] = [(None, ())] * min(len(ids), len(ids) - len(window) + 1)
        with self.run.lock, removed(loaded.model, self.edits if window else {}):
            scores += token_log_probs(loaded.model, window, self.wanted.top)
        offset, tokens = 0, []
        for token, (log_prob, top) in zip(ids, scores, strict=True):
            tokens.append(ShownToken(id=token, log_prob=log_prob, top=top, offset=offset))
            offset = min(len(self.wanted.prompt), offset + len(loaded.tokenizer.decode([token])))
        return tokens

    def __iter__(self) -> Iterator[Piece]:
        samples, remaining = iter(self.generation), self.generation.engine.remaining
        while any(remaining):
            start = self._decoded()
            with self.run.lock, removed(self.loaded.model, self.edits):
                _, text = next(samples)
            yield Piece(text=text, tokens=tuple(self._final_tokens(start, is_last=not any(remaining))))

    def _decoded(self) -> int:
        return len(self.completion.text) + len(self.completion.held)

    def _final_tokens(self, start: int, is_last: bool) -> Iterator[ShownToken]:
        completion, final = self.completion, len(self.completion.text)
        if not completion.ended:
            offset = len(self.wanted.prompt) + start
            token = ShownToken(
                id=completion.ids[-1], log_prob=completion.log_probs[-1], top=completion.top[-1], offset=offset
            )
            # The end of a token in a stop sequence is unknown, and beyond the text in any case.
            self._pending.append((final + 1 if completion.stopped else self._decoded(), token))
        everything = is_last and (completion.ended or not completion.stopped)
        while self._pending:
            end, token = self._pending[0]
            is_final = end <= final and token.offset - len(self.wanted.prompt) < final
            if not (is_final or everything):
                return
            self._pending.popleft()
            yield token


def chat_template(run: ServedRun) -> ChatTemplate:
    """Return the chat template of a run.

    Raises:
        ApiError: it has none.
        RunError: the run has no checkpoint yet.
    """
    template = chat_template_of(run.loaded.tokenizer)
    if template is None:
        raise ApiError(
            404, f"model: {run.name} has learned no chat: its tokenizer holds no chat template; try /v1/completions.",
            param="model", code="unsupported_endpoint",
        )  # fmt: skip
    return template


def removed(model: Transformer, edits: Mapping[str, Edit]) -> AbstractContextManager[None]:
    """Return the context in which parts of a model are removed."""
    return replaced(model, edits) if edits else nullcontext()


def token_log_probs(model: Transformer, ids: Sequence[int], top: int) -> list[tuple[float | None, Top]]:
    """Return the log-probability of each id after the first, with the likeliest ids at its place."""
    if len(ids) < 2:
        return []
    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=next(model.parameters()).device))[0, :-1]
        targets = torch.tensor(ids[1:], device=logits.device)
        own = -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        likeliest = top_log_probs(logits, top) if top else [()] * len(targets)
    return list(zip(own.tolist(), likeliest, strict=True))
