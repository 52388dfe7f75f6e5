"""A recipe: a whole run as one value."""

from dataclasses import dataclass
from typing import Literal

from nanotx.config import at_least, at_most, divisors, share
from nanotx.corpus import Corpus
from nanotx.errors import ConfigError
from nanotx.model import Model
from nanotx.optimizers import Optimizer
from nanotx.registry import usual
from nanotx.schedules import Schedule
from nanotx.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long a model learns, and how often it is looked at."""

    steps: int = 2000  # how many
    batch: int = 12  # sequences of one step, over all its micro-batches
    accumulate: int = 1  # micro-batches of one step, one after another
    micro_batch: int | Literal["auto"] = (
        0  # sequences of one; 0 as `accumulate` says, auto for as many as fit in memory
    )
    recompute: bool = False  # blocks' inner values are not kept for the backward pass, but computed again: less memory
    loss_chunk: int = 0  # tokens whose scores are held at once; 0 for all of a micro-batch
    z_loss: float = 0.0  # weight of the squared log of the scores' partition function
    average: float = 0.0  # decay of the weights' running average, which is scored and sampled; 0 for none
    clip: float = 1.0  # the gradient's norm is cut to this; 0 for never
    nonfinite: Literal["stop", "skip"] = (
        "stop"  # what to do where a loss or gradient is no number: end, or go on without it
    )
    eval_every: int = 250  # steps; 0 for only at the end
    eval_tokens: int | Literal["auto"] = "auto"  # read of each text, evenly spread; 0 for all; auto for at most 200,000
    sample_every: int = 500  # steps; 0 for only at the end
    sample_tokens: int = 300  # length of these samples
    checkpoint_every: int = 500  # steps; 0 for only at the end

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "batch", "accumulate", "sample_tokens")
        at_least(self, 0, "clip", "eval_every", "sample_every", "checkpoint_every", "loss_chunk", "z_loss")
        at_most(self, 2**24, "batch", "sample_tokens")
        share(self, "average")
        if self.eval_tokens != "auto" and self.eval_tokens < 0:
            raise ConfigError(
                f"eval_tokens: expected a number of at least 0, or 'auto', got {self.eval_tokens}; 0 reads all."
            )
        if self.micro_batch:
            self._check_micro_batch()
        if self.batch % self.accumulate:
            fit = divisors(self.batch)
            raise ConfigError(f"accumulate: {self.accumulate} does not divide batch={self.batch}; try one of {fit}.")

    @property
    def parts(self) -> int:
        """How many micro-batches a step has."""
        return self.batch // int(self.micro_batch) if self.micro_batch else self.accumulate

    def _check_micro_batch(self) -> None:
        if self.accumulate != 1:
            raise ConfigError(f"micro_batch: expected it or accumulate, got both ({self.accumulate}); leave one out.")
        if self.micro_batch != "auto" and (self.micro_batch < 0 or self.batch % self.micro_batch):
            fit = divisors(self.batch)
            raise ConfigError(f"micro_batch: {self.micro_batch} does not divide batch={self.batch}; try one of {fit}.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Corpus, tokenizer, model, training, and the machine they run on."""

    corpus: Corpus = usual(Corpus, "tiny_shakespeare")
    tokenizer: Tokenizer = usual(Tokenizer, "char")
    model: Model = Model()
    optimizer: Optimizer = usual(Optimizer, "adamw")
    schedule: Schedule = usual(Schedule, "cosine")
    train: Train = Train()
    seed: int = 1337  # of the weights, the order of the data and dropout
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # where it runs; auto for the best that this machine has
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the mathematics; weights stay float32
    threads: int = 0  # processor threads; 0 for as many as there are cores
    compile: bool | Literal["auto"] = "auto"  # through torch.compile, block by block; auto where it pays
    deterministic: bool = False  # on CUDA, only operations that give the same bits again; a CPU has no others

    def __post_init__(self) -> None:
        at_least(self, 0, "seed", "threads")
        at_most(self, 1024, "threads")
