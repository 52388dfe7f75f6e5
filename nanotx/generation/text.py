"""From text to text: encode prompts, decode their continuations as the tokens come, end them at stop sequences."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from nanotx.config.schema import in_range
from nanotx.errors import ConfigError, RunError, TextError
from nanotx.generation.ahead_of_time import ahead_of_time
from nanotx.generation.compiled import CompiledModel
from nanotx.generation.engine import BatchEngine, Engine, LanguageModel
from nanotx.generation.lookup import LookupEngine
from nanotx.generation.sampler import RANGES, Sampling, check_bias, check_max_new_tokens
from nanotx.generation.speculative import SpeculativeEngine
from nanotx.generation.stop_sequences import StopSequences
from nanotx.hardware.compiler import find_compiler
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec, StreamingDecoder

WORTH_TOKENS = 50_000
"""Tokens of one text from which compiling its step pays for itself (docs/decisions/sampling.md)."""
MIN_COMPILED_TOKENS = 32
"""Tokens of one text below which loading a compiled step takes longer than it saves."""


def ignore(remark: str) -> None:
    """Ignore a remark."""


@dataclass(kw_only=True, eq=False)
class Generation:
    """A batch of completions; iterate over it, once, to generate them: it yields (index, new text) per token.

    Raises:
        ConfigError: prompts or stop sequences are not texts, a stop sequence is empty, a number is out of range,
            nothing can be compiled, the positions do not allow a rolling cache, or two of rolling, draft_model and
            compiled are combined.
        TextError: the tokenizer cannot encode a prompt.
    """

    model: Transformer  # in evaluation mode
    codec: Codec
    prompts: Sequence[str]  # an empty one is the start token
    max_new_tokens: int  # per prompt
    sampling: Sampling  # completion r uses its seed plus r
    stops: Sequence[str] = ()  # a completion ends before the first of these
    rolling: bool = False  # use a rolling cache beyond the context instead of recomputing the newer half
    draft_model: Transformer | None = None  # for speculative decoding, with the same tokenizer and device
    draft_tokens: int = 4  # per round, of the draft model or of lookup
    lookup: bool = False  # try the tokens that followed the same ones before; the text stays the same
    compiled: bool | Literal["auto"] = False  # compile the single-token step; auto: where that costs no time
    top_log_probs: int = 0  # how many of the likeliest ids to keep with each token
    ids: Sequence[Sequence[int]] = ()  # of the prompts, where they are not what the tokenizer makes of their texts
    ends: Collection[int] = ()  # a completion ends at one of these ids, which has no text in it
    say: Callable[[str], None] = ignore  # takes remarks for the user, such as that a step is being compiled

    def __post_init__(self) -> None:
        check_texts("prompts", self.prompts)
        check_texts("stop", self.stops)
        in_range("draft_tokens", self.draft_tokens, *RANGES["draft_tokens"], whole=True)
        check_max_new_tokens(self.max_new_tokens)
        if self.draft_model is not None and self.rolling:
            raise ConfigError(
                "overflow: a rolling cache cannot be rewound, and a draft model needs that; try recompute."
            )
        if self.compiled is True and self.rolling:
            raise ConfigError(
                "compile: a rolling cache moves in memory; try overflow recompute, or leave --compile out."
            )
        if self.compiled is True and self.draft_model is not None:
            raise ConfigError(
                "compile: only single-token steps are compiled, and a draft model needs longer ones; drop one."
            )
        if self.lookup:
            self.check_lookup()
        self.sampling = self.sampling.with_banned(self.codec.undefined_ids)
        self.completions = [Completion(self.codec, prompt, self.stops) for prompt in self.prompts]
        self.engine = self.build_engine()
        self.engine.top_log_probs = self.top_log_probs

    def check_lookup(self) -> None:
        """Raise ConfigError for what lookup cannot be combined with."""
        if self.rolling:
            raise ConfigError("lookup: a rolling cache cannot be rewound, and lookup needs that; try recompute.")
        if self.compiled is True:
            raise ConfigError("lookup: only single-token steps are compiled, and lookup needs longer ones; drop one.")
        if self.draft_model is not None:
            raise ConfigError("lookup: expected a draft model or lookup, got both; drop one.")

    def build_engine(self) -> Engine:
        """Return the engine that samples the continuations."""
        ids = self.ids or [prompt_ids(self.codec, prompt) for prompt in self.prompts]
        device = next(self.model.parameters()).device
        if self.draft_model is not None:
            return SpeculativeEngine(
                self.model,
                self.draft_model,
                ids,
                self.sampling,
                self.max_new_tokens,
                draft_tokens=self.draft_tokens,
                device=device,
            )
        if self.lookup:
            return LookupEngine(
                self.model, ids, self.sampling, self.max_new_tokens, draft_tokens=self.draft_tokens, device=device
            )
        return BatchEngine(
            self.stepped(device), ids, self.sampling, self.max_new_tokens, rolling=self.rolling, device=device
        )

    def stepped(self, device: torch.device) -> LanguageModel:
        """Return the model, with a compiled step if that is asked for or is to be had."""
        if self.compiled is True and device.type != "cpu":
            return CompiledModel(self.model)
        if self.compiled is True:
            return ahead_of_time(self.model, len(self.prompts), True, self.say) or self.model
        few = self.max_new_tokens < MIN_COMPILED_TOKENS
        if self.compiled is False or device.type != "cpu" or self.rolling or few:
            return self.model
        build = self.max_new_tokens >= WORTH_TOKENS and find_compiler() is not None
        try:
            return ahead_of_time(self.model, len(self.prompts), build, self.say) or self.model
        except (ConfigError, RunError) as error:
            self.say(str(error))
            return self.model

    def __iter__(self) -> Iterator[tuple[int, str]]:
        for row, token, log_prob, top in self.engine:
            completion = self.completions[row]
            text = completion.add(token, log_prob, top, is_end=token in self.ends)
            if completion.stopped:
                self.engine.stop(row)
            if not self.engine.remaining[row]:
                text += completion.end()
            yield row, text


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Raise ConfigError unless `texts` is a list of texts; a single text would be taken for its characters."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ConfigError(f"{name}: expected a list of texts such as ['To be'], got {type(texts).__name__}.")
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{name}: expected texts, got {type(text).__name__} among them.")


class Completion:
    """The continuation of a prompt, complete or in progress.

    Args:
        codec: the tokenizer.
        prompt: the text that it continues.
        stops: it ends before the first of these.

    Raises:
        ConfigError: a stop sequence is empty.
    """

    def __init__(self, codec: Codec, prompt: str, stops: Sequence[str] = ()) -> None:
        self.prompt = prompt
        self.text = ""  # without the prompt and without the stop sequence
        self.ids: list[int] = []  # of all sampled tokens, those of the stop sequence included
        self.log_probs: list[float] = []  # of each id, in nats, before any logits processor
        self.top: list[tuple[tuple[int, float], ...]] = []  # likeliest ids and their log-probabilities, at each id
        self.ended = False  # at a token that ends a text
        self._decoder, self._stops = StreamingDecoder(codec), StopSequences(stops)

    @property
    def stopped(self) -> bool:
        """Return whether the text ended at a stop sequence, or at a token that ends it."""
        return self.ended or self._stops.stopped

    @property
    def log_prob(self) -> float:
        """Return the sum of the log-probabilities of all sampled ids, in nats."""
        return sum(self.log_probs, 0.0)

    @property
    def mean_log_prob(self) -> float:
        """Return the mean log-probability, in nats per token; 0 without tokens."""
        return self.log_prob / max(1, len(self.ids))

    @property
    def held(self) -> str:
        """Return the decoded text that is held back because it may begin a stop sequence."""
        return self._stops.held

    def add(self, token: int, log_prob: float, top: tuple[tuple[int, float], ...] = (), is_end: bool = False) -> str:
        """Append a token; return the text that became final. A token that ends the text adds none to it."""
        self.ids.append(token)
        self.log_probs.append(log_prob)
        self.top.append(top)
        if is_end:
            self.ended = True
            return ""
        return self._append(self._stops.push(self._decoder.push(token)))

    def end(self) -> str:
        """End the text; return what was held back: an incomplete character, the beginning of a stop sequence."""
        return self._append(self._stops.push(self._decoder.end()) + self._stops.end())

    def _append(self, text: str) -> str:
        self.text += text
        return text


def rank(completions: Iterable[Completion]) -> list[Completion]:
    """Sort completions by falling mean log-probability; their sum would favour short texts."""
    return sorted(completions, key=lambda completion: completion.mean_log_prob, reverse=True)


def prompt_ids(codec: Codec, prompt: str) -> list[int]:
    """Return the ids of a prompt; those of an empty prompt are the start token."""
    return codec.encode(prompt).tolist() or [codec.start]


def token_id(codec: Codec, text: str, field: str) -> int:
    """Return the id of the token with this text, or of the special token with this name.

    Raises:
        ConfigError: the text is not exactly one token; names the field.
        TextError: the tokenizer cannot encode the text; names the field.
    """
    if text in codec.special_tokens:
        return codec.special_tokens[text]
    try:
        ids = codec.encode(text).tolist()
    except TextError as error:
        raise TextError(f"{field}: {error}") from None
    if len(ids) != 1:
        parts = ", ".join(repr(codec.decode([token])) for token in ids) or "none"
        raise ConfigError(f"{field}: expected the text of one token, got {text!r}, which is {len(ids)}: {parts}.")
    return int(ids[0])


def token_ids(codec: Codec, texts: Iterable[str], field: str) -> tuple[int, ...]:
    """Return the ids of tokens given by their texts."""
    return tuple(token_id(codec, text, field) for text in texts)


def bias_by_id(codec: Codec, values: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Return (id, bias) pairs of tokens given by their texts.

    Raises:
        ConfigError: a text is not exactly one token, or a bias is out of range; says which.
        TextError: the tokenizer cannot encode a text.
    """
    for text, value in values.items():
        check_bias(repr(text), value)
    return tuple((token_id(codec, text, "bias"), value) for text, value in values.items())
