"""Texts written side by side from prompts, or one after the other with a draft's help."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from nanotx.compiled_reader import CompiledReader
from nanotx.config import in_range
from nanotx.errors import ConfigError
from nanotx.model import Transformer
from nanotx.sample import RANGES, Sampling, check_length, check_seeds
from nanotx.sheets import Sheet, fill
from nanotx.speculate import Scorer, Speculation
from nanotx.together import together
from nanotx.tokenizers import Codec
from nanotx.write import prompt_ids


@dataclass(kw_only=True, eq=False)
class Writing:
    """What is to be written, and by whom; going through it writes, and gives the number of a text and its next piece.

    Raises:
        ConfigError: a number is out of range, or these cannot be together: a past that rolls, a draft, a model that
            is compiled.
        TextError: the tokenizer cannot hold a prompt.
    """

    model: Transformer  # in evaluation mode
    codec: Codec
    prompts: Sequence[str]
    max_new_tokens: int  # of each text
    sampling: Sampling  # of the first text; each after it has the next seed
    stops: Sequence[str] = ()
    rolls: bool = False  # whether the past rolls beyond the context
    draft: Scorer | None = None  # of the same tokenizer
    draft_tokens: int = 4  # at a time
    compiled: bool = False  # whether the reading of one more token is compiled first
    device: torch.device | None = None  # where the models are; None is the CPU
    drafted: int = field(default=0, init=False)  # tokens so far
    accepted: int = field(default=0, init=False)  # of these

    def __post_init__(self) -> None:
        check_length(self.max_new_tokens)
        in_range("draft_tokens", self.draft_tokens, *RANGES["draft_tokens"], whole=True)
        check_seeds(self.sampling, len(self.prompts))
        if self.draft is not None and self.rolls:
            raise ConfigError("beyond: a past that rolls takes nothing back, and a draft needs that; try reread.")
        if self.compiled and self.rolls:
            raise ConfigError("compile: a past that rolls lies elsewhere each time; try reread, or no --compile.")
        if self.compiled and self.draft is not None:
            raise ConfigError("compile: one token at a time is compiled, and with a draft several are read; drop one.")
        self.sampling = self.sampling.without(self.codec.undefined_ids)
        self.ids = [prompt_ids(self.codec, prompt) for prompt in self.prompts]
        self.sheets = [Sheet(self.codec, prompt, self.max_new_tokens, self.stops) for prompt in self.prompts]

    def __iter__(self) -> Iterator[tuple[int, str]]:
        if self.draft is None:
            reader = CompiledReader(self.model) if self.compiled else self.model
            steps = together(reader, self.ids, self.sampling, self.max_new_tokens, self.rolls, self.device)
            yield from fill(self.sheets, steps)
            return
        for row, (sheet, ids) in enumerate(zip(self.sheets, self.ids, strict=True)):
            sampling = replace(self.sampling, seed=self.sampling.seed + row)
            both = Speculation(self.model, self.draft, ids, sampling, self.draft_tokens, self.device)
            yield from ((row, piece) for _, piece in fill([sheet], both))
            self.drafted, self.accepted = self.drafted + both.drafted, self.accepted + both.accepted
