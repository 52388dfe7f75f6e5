"""Prompt-lookup decoding: where the last few tokens occurred before, the tokens that followed them are tried at once.

The model reads the tokens that are looked up in one pass and samples after each of them as ever, with the same random
numbers. As long as it samples what was looked up, a pass gives several tokens. So the text is the one that the same
seed gives without lookup, but for the rounding of float32 in a pass over several tokens.

Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding; Yang et al. 2023,
https://arxiv.org/abs/2304.04487, section 3
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from nanotx.config.schema import in_range
from nanotx.generation.engine import Engine, Step
from nanotx.generation.sampler import RANGES, Sampler, Sampling, check_seeds
from nanotx.generation.speculative import SequenceModel, Window

MIN_MATCH, MAX_MATCH = 3, 12
"""Tokens at the end of a text that must have occurred before, and the most that are compared."""


class LookupEngine(Engine):
    """Samples one text after another, several tokens per pass where a text repeats itself.

    Args:
        model: the model, in evaluation mode.
        prompts: ids, at least one per prompt; the model reads the newest `context` of them.
        sampling: the sampling config; row r uses its seed plus r.
        max_new_tokens: the number of tokens to sample per row.
        draft_tokens: the largest number of tokens that are looked up per pass.
        device: the model's; None is the CPU.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        model: SequenceModel,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        max_new_tokens: int,
        *,
        draft_tokens: int = 4,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(prompts, max_new_tokens)
        in_range("draft_tokens", draft_tokens, *RANGES["draft_tokens"], whole=True)
        check_seeds(sampling, len(prompts))
        self.model, self.sampling, self.draft_tokens, self.device = model, sampling, draft_tokens, device

    def steps(self) -> Iterator[Step]:
        for row, prompt in enumerate(self.prompts):
            sampler = Sampler(replace(self.sampling, seed=int(self.sampling.seed) + row), [prompt])
            window, earlier = Window(self.model, prompt, self.draft_tokens, self.device), Ngrams(prompt)
            while self.remaining[row]:
                yield from self.one_pass(row, window, earlier, sampler)

    @torch.inference_mode()
    def one_pass(self, row: int, window: Window, earlier: "Ngrams", sampler: Sampler) -> list[Step]:
        """Read the tokens that are looked up; return the steps up to the first that is sampled otherwise."""
        drafts = earlier.following(min(self.draft_tokens, window.room))
        for token in drafts:
            window.add(token)
        steps: list[Step] = []
        for count, logit in enumerate(window.logits(len(drafts) + 1).split(1)):
            ids = sampler.draw(logit)
            steps.append(Step([row], ids, logit))
            token = int(ids)
            earlier.append(token)
            if drafts[count : count + 1] != [token]:
                window.cut(len(drafts) - count)
                window.add(token)
                break
        self.drafted, self.accepted = self.drafted + len(drafts), self.accepted + len(steps) - 1
        return steps


class Ngrams:
    """A text, and where each of its n-grams occurred last.

    Args:
        text: its first ids.
    """

    def __init__(self, text: Sequence[int]) -> None:
        self.text: list[int] = []
        self.places: dict[tuple[int, ...], int] = {}  # of an n-gram: the index of the token after it
        for token in text:
            self.append(token)

    def append(self, token: int) -> None:
        """Append a token; the n-grams before it are known from now on."""
        for length in range(MIN_MATCH, min(MAX_MATCH, len(self.text)) + 1):
            self.places[tuple(self.text[-length:])] = len(self.text)
        self.text.append(token)

    def following(self, count: int) -> list[int]:
        """Return up to `count` tokens that followed the longest earlier match of the end of the text; maybe none."""
        for length in range(min(MAX_MATCH, len(self.text)), MIN_MATCH - 1, -1):
            place = self.places.get(tuple(self.text[-length:]))
            if place is not None:
                return self.text[place : place + count]
        return []
