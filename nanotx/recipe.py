"""A recipe: a whole run as one value."""

from dataclasses import dataclass
from typing import Literal

from nanotx.config import at_least, divisors
from nanotx.corpus import Corpus
from nanotx.corpus.tiny_shakespeare import TinyShakespeare
from nanotx.errors import ConfigError
from nanotx.model import Model
from nanotx.optimizers import Optimizer
from nanotx.optimizers.adamw import AdamW
from nanotx.schedules import Schedule
from nanotx.schedules.cosine import Cosine
from nanotx.tokenizers import Tokenizer
from nanotx.tokenizers.char import Char


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long a model learns, and how often it is looked at."""

    steps: int = 2000  # how many
    batch: int = 12  # sequences of one step, over all its micro-batches
    accumulate: int = 1  # micro-batches of one step, one after another
    clip: float = 1.0  # the gradient's norm is cut to this; 0 for never
    eval_every: int = 250  # steps; 0 for only at the end
    sample_every: int = 500  # steps; 0 for only at the end
    sample_tokens: int = 300  # length of these samples
    checkpoint_every: int = 500  # steps; 0 for only at the end

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "batch", "accumulate", "sample_tokens")
        at_least(self, 0, "clip", "eval_every", "sample_every", "checkpoint_every")
        if self.batch % self.accumulate:
            fit = divisors(self.batch)
            raise ConfigError(f"accumulate: {self.accumulate} does not divide batch={self.batch}; try one of {fit}.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Corpus, tokenizer, model, training, and the machine they run on."""

    corpus: Corpus = TinyShakespeare()
    tokenizer: Tokenizer = Char()
    model: Model = Model()
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Cosine()
    train: Train = Train()
    seed: int = 1337  # of the weights, the order of the data and dropout
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the mathematics; weights stay float32
    threads: int = 0  # processor threads; 0 for as many as there are cores
    compile: bool = False  # through torch.compile

    def __post_init__(self) -> None:
        at_least(self, 0, "seed", "threads")
