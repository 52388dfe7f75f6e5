"""A recipe: a whole run as one value. How files and flags change it: `recipe_flags.py`."""

import math
import re
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, get_args

from nanotx.config.flags import option, repeated
from nanotx.config.registry import default_part
from nanotx.config.schema import check_fraction, check_max, check_min, divisors, nearest
from nanotx.data.corpus import Corpus
from nanotx.errors import ConfigError
from nanotx.nn.loss import Loss
from nanotx.nn.transformer import Model
from nanotx.optim import Optimizer
from nanotx.optim.schedules import Schedule
from nanotx.tokenizers import Tokenizer

Budget = Literal["steps", "tokens", "bytes", "flops", "seconds"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)
"""Fields of `Train` of which exactly one decides how long a run is; `training/budget.py` makes steps of the others."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Length, batching and safety of training, and how often it evaluates, samples and saves."""

    steps: int = 2000  # number of optimizer steps; 0 where another budget decides
    tokens: int | None = None  # budget in place of steps: tokens to learn from
    bytes: int | None = None  # budget in place of steps: UTF-8 bytes of text to learn from
    flops: float | None = None  # budget in place of steps: floating-point operations, forward and backward
    seconds: float | None = None  # budget in place of steps: seconds in training steps, by one measurement at the start
    batch_size: int = 12  # sequences per optimizer step, over all micro-batches
    grad_accum_steps: int = 1  # micro-batches per optimizer step
    micro_batch_size: int | Literal["auto"] = (
        0  # sequences per micro-batch; 0 for batch-size / grad-accum-steps, auto for as many as fit in memory
    )
    activation_checkpointing: bool = (
        False  # recompute the activations of blocks in the backward pass, which saves memory
    )
    loss_chunk_size: int = 0  # tokens whose logits are in memory at once; 0 for a whole micro-batch
    ema_decay: float = 0.0  # decay rate of the average of the weights that is evaluated and sampled; 0 for no average
    grad_clip: float = 1.0  # maximum norm of the gradient; 0 for no clipping
    on_nonfinite: Literal["raise", "skip"] = (
        "raise"  # raise an error, or skip the step, where a loss or gradient is NaN or infinite
    )
    eval_every: int = 250  # steps between evaluations; 0 for one at the end only
    eval_tokens: int | Literal["auto"] = (
        "auto"  # tokens of each text per evaluation, evenly spread; 0 for all, auto for at most 200,000
    )
    sample_every: int = 500  # steps between samples; 0 for one at the end only
    sample_tokens: int = 300  # number of tokens in each sample
    checkpoint_every: int = 500  # steps between checkpoints, after one of step 1; 0 for one at the end only

    excludes: ClassVar[dict[str, tuple[str, ...]]] = {
        name: tuple(other for other in BUDGETS if other != name) for name in BUDGETS
    }

    def __post_init__(self) -> None:
        self._check_budget()
        check_min(self, 1, "batch_size", "grad_accum_steps", "sample_tokens")
        check_min(self, 0, "grad_clip", "eval_every", "sample_every", "checkpoint_every", "loss_chunk_size")
        check_max(self, 2**24, "batch_size", "sample_tokens")
        check_fraction(self, "ema_decay")
        if self.eval_tokens != "auto" and self.eval_tokens < 0:
            raise ConfigError(
                f"eval_tokens: expected a number of at least 0, or 'auto', got {self.eval_tokens}; 0 reads all."
            )
        if self.micro_batch_size:
            self._check_micro_batch()
        if self.batch_size % self.grad_accum_steps:
            fit = divisors(self.batch_size)
            raise ConfigError(
                f"grad_accum_steps: {self.grad_accum_steps} does not divide batch_size={self.batch_size}; "
                f"try one of {fit}, as in --train.grad-accum-steps {nearest(self.grad_accum_steps, fit)}."
            )

    @property
    def num_micro_batches(self) -> int:
        """Return the number of micro-batches per optimizer step."""
        return self.batch_size // int(self.micro_batch_size) if self.micro_batch_size else self.grad_accum_steps

    @property
    def budget(self) -> tuple[Budget, int | float]:
        """Return the field that decides how long the run is, and its value."""
        return next((name, getattr(self, name)) for name in reversed(BUDGETS) if getattr(self, name) is not None)

    def with_steps(self, steps: int) -> "Train":
        """Return the same plan with a number of steps in place of its budget."""
        return replace(self, steps=steps, tokens=None, bytes=None, flops=None, seconds=None)

    def _check_budget(self) -> None:
        others = [name for name in BUDGETS[1:] if getattr(self, name) is not None]
        if others and self.steps == type(self).steps:  # the default was not asked for
            object.__setattr__(self, "steps", 0)
        if not others and self.steps == 0:
            raise ConfigError(
                f"steps: expected a number of at least 1, got 0; or one of {', '.join(BUDGETS[1:])}, "
                "such as --train.seconds 60."
            )
        check_min(self, 1 if self.steps < 0 else 0, "steps")  # 0 stands for another budget
        check_min(self, 1, "tokens", "bytes", "flops")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigError(f"seconds: expected a number above 0, got {self.seconds!r}.")
        named = [f"{name}={getattr(self, name)}" for name in BUDGETS if name in others or getattr(self, name)]
        if len(named) > 1:
            raise ConfigError(
                f"{others[0]}: exactly one budget decides how long a run is, got {' and '.join(named)}; leave one out."
            )

    def _check_micro_batch(self) -> None:
        if self.grad_accum_steps != 1:
            raise ConfigError(
                f"micro_batch_size: expected it or grad_accum_steps, got both ({self.grad_accum_steps}); "
                "leave one out, by --train.micro-batch-size 0 or --train.grad-accum-steps 1."
            )
        if self.micro_batch_size != "auto" and (self.micro_batch_size < 0 or self.batch_size % self.micro_batch_size):
            fit = divisors(self.batch_size)
            raise ConfigError(
                f"micro_batch_size: {self.micro_batch_size} does not divide batch_size={self.batch_size}; "
                f"try one of {fit}, as in --train.micro-batch-size {nearest(self.micro_batch_size, fit)}."
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Corpus, tokenizer, model, training, and the machine they run on."""

    corpus: Corpus = default_part(Corpus, "tiny_shakespeare")
    tokenizer: Tokenizer = default_part(Tokenizer, "char")
    model: Model = Model()
    optimizer: Optimizer = default_part(Optimizer, "adamw")
    schedule: Schedule = default_part(Schedule, "cosine")
    loss: Loss = default_part(Loss, "cross_entropy")  # what training minimises; evaluation reports cross-entropy
    train: Train = Train()
    init: str | None = option("RUN", None)  # run or pack whose weights this run begins with; without it, a draw
    init_sha256: str | None = option("DIGEST", None)  # digest of these weights, which a run records and obeys
    freeze: tuple[str, ...] = repeated("PATTERN")  # names of parameters that are not trained, such as 'blocks.0.*'
    seed: int = 1337  # seed of the weights, of the order of the data, and of dropout
    weights_seed: int | None = None  # seed of the weights at the start; without it, seed
    data_seed: int | None = None  # seed of the order of the data; without it, seed
    dropout_seed: int | None = None  # seed of dropout, and of whatever else a step draws; without it, seed
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # device to run on; auto for the best one of this machine
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # type of the arithmetic; weights stay float32
    threads: int = 0  # processor threads; 0 for OMP_NUM_THREADS, else one per core
    compile: bool | Literal["auto"] = "auto"  # use torch.compile, block by block; auto where it pays off
    reduce: Literal["exact", "fast"] = (
        "exact"  # order of sums over processes that train together: exact for one that is fixed, fast for the backend's
    )
    deterministic: bool = False  # allow on CUDA only operations that give the same bits every time; a CPU has no others

    def __post_init__(self) -> None:
        check_min(self, 0, "seed", "weights_seed", "data_seed", "dropout_seed", "threads")
        check_max(self, 1024, "threads")
        if self.init == "":
            raise ConfigError("init: expected a run such as runs/gpt2, or a pack, got nothing.")
        if self.init_sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.init_sha256):
            raise ConfigError(f"init_sha256: expected 64 digits from 0 to f, got {self.init_sha256!r:.80}.")
        if self.init_sha256 is not None and self.init is None:
            raise ConfigError("init_sha256: a digest of weights, and init names none; leave it out, or give init.")

    @property
    def seeds(self) -> "Seeds":
        """Return the seeds of a run, each of which is `seed` unless it is given."""
        own = {name: getattr(self, f"{name}_seed") for name in Seeds._fields}
        return Seeds(**{name: self.seed if seed is None else seed for name, seed in own.items()})


class Seeds(NamedTuple):
    """The seeds of a run. Changing one of them changes only what it names."""

    weights: int  # of the weights at the start
    data: int  # of the order of the windows
    dropout: int  # of dropout, and of whatever else a step draws
