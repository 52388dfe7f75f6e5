"""Completions: the generated text of each prompt, its ids and their log-probabilities."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange

from nanotx.config.schema import in_range
from nanotx.errors import ConfigError
from nanotx.generation.compiled import CompiledModel
from nanotx.generation.engine import Step, generate_batch
from nanotx.generation.rolling import check_rolling
from nanotx.generation.sampler import RANGES, Sampling, check_max_new_tokens, check_seeds
from nanotx.generation.speculative import SequenceModel, SpeculativeDecoder
from nanotx.generation.stop_sequences import StopSequences
from nanotx.generation.text import prompt_ids
from nanotx.nn.transformer import Transformer
from nanotx.tokenizers import Codec, StreamingDecoder


class Completion:
    """One generated text, complete or in progress.

    Args:
        codec: the tokenizer.
        prompt: what it goes on from.
        limit: how many tokens are written at most.
        stops: the text ends before the first of these that is written.
    """

    def __init__(self, codec: Codec, prompt: str, limit: int, stops: Sequence[str] = ()) -> None:
        self.prompt, self.limit = prompt, limit
        self.text = ""  # what follows the prompt
        self.ids: list[int] = []  # all that was drawn, those of the stop too
        self.log_probs: list[float] = []  # of each id, in nats, to the model itself, before any logits processor
        self._decoder, self._stops = StreamingDecoder(codec), StopSequences(stops)

    @property
    def stopped(self) -> bool:
        """Return whether the text ended at a stop sequence."""
        return self._stops.found

    @property
    def done(self) -> bool:
        """Return whether the text is complete."""
        return self.stopped or len(self.ids) >= self.limit

    @property
    def log_prob(self) -> float:
        """Return the sum of the log-probabilities of all sampled ids, in nats."""
        return sum(self.log_probs, 0.0)

    @property
    def mean_log_prob(self) -> float:
        """Return the mean log-probability, in nats per token; 0 for an empty completion."""
        return self.log_prob / max(1, len(self.ids))

    def add(self, one: int, log_prob: float) -> str:
        """Append an id; return the text that became final."""
        self.ids.append(one)
        self.log_probs.append(log_prob)
        piece = self._stops.push(self._decoder.push(one))
        if self.done:
            piece += self._stops.push(self._decoder.end()) + self._stops.end()
        self.text += piece
        return piece


def complete(completions: Sequence[Completion], steps: Iterable[Step]) -> Iterator[tuple[int, str]]:
    """Run the steps until every completion is done; yield (index of the completion, new text) as it comes."""
    if all(completion.done for completion in completions):
        return
    for step in steps:
        chances = step.logits.float().log_softmax(dim=-1)
        found = rearrange(chances.gather(-1, rearrange(step.ids, "b -> b 1")), "b 1 -> b").tolist()
        for row, one in enumerate(step.ids.tolist()):
            if row in step.drawn and not completions[row].done:
                yield row, completions[row].add(one, found[row])
        if all(completion.done for completion in completions):
            return


def rank(completions: Iterable[Completion]) -> list[Completion]:
    """Sort completions by falling mean log-probability; the mean gives short texts no advantage."""
    return sorted(completions, key=lambda completion: completion.mean_log_prob, reverse=True)


@dataclass(kw_only=True, eq=False)
class Generation:
    """A batch of completions; iterating over it generates them and yields (index of the completion, new text).

    Raises:
        ConfigError: a number is out of range, or these cannot be together: a cache that rolls, a draft, a model that
            is compiled.
        TextError: the tokenizer cannot hold a prompt.
    """

    model: Transformer  # in evaluation mode
    codec: Codec
    prompts: Sequence[str]
    max_new_tokens: int  # of each text
    sampling: Sampling  # the seed is that of the first text; text r uses seed + r
    stops: Sequence[str] = ()
    rolling: bool = False  # use a rolling cache beyond the context
    draft_model: SequenceModel | None = None  # must have the same tokenizer
    draft_tokens: int = 4  # drafted per round
    compiled: bool = False  # compile the single-token step first
    device: torch.device | None = None  # of the models; None is the CPU
    drafted: int = field(default=0, init=False)  # draft tokens so far
    accepted: int = field(default=0, init=False)  # draft tokens that the model accepted

    def __post_init__(self) -> None:
        check_max_new_tokens(self.max_new_tokens)
        in_range("draft_tokens", self.draft_tokens, *RANGES["draft_tokens"], whole=True)
        check_seeds(self.sampling, len(self.prompts))
        if self.rolling:  # before the prompt is printed
            check_rolling(self.model)
        if self.draft_model is not None and self.rolling:
            raise ConfigError(
                "overflow: a rolling cache cannot be rewound, and a draft model needs that; try recompute."
            )
        if self.compiled and self.rolling:
            raise ConfigError(
                "compile: a rolling cache moves in memory; try overflow recompute, or leave --compile out."
            )
        if self.compiled and self.draft_model is not None:
            raise ConfigError(
                "compile: only single-token steps are compiled, and a draft model needs longer ones; drop one."
            )
        self.sampling = self.sampling.with_banned(self.codec.undefined_ids)
        self.ids = [prompt_ids(self.codec, prompt) for prompt in self.prompts]
        self.completions = [Completion(self.codec, prompt, self.max_new_tokens, self.stops) for prompt in self.prompts]

    def __iter__(self) -> Iterator[tuple[int, str]]:
        if self.draft_model is None:
            reader = CompiledModel(self.model) if self.compiled else self.model
            steps = generate_batch(reader, self.ids, self.sampling, self.max_new_tokens, self.rolling, self.device)
            yield from complete(self.completions, steps)
            return
        for row, (completion, ids) in enumerate(zip(self.completions, self.ids, strict=True)):
            sampling = replace(self.sampling, seed=self.sampling.seed + row)
            both = SpeculativeDecoder(self.model, self.draft_model, ids, sampling, self.draft_tokens, self.device)
            yield from ((row, piece) for _, piece in complete([completion], both))
            self.drafted, self.accepted = self.drafted + both.drafted, self.accepted + both.accepted
