"""Arms with different tokenizers: what a token holds of the text, and what is unfair about comparing them.

Bits per byte are fair to any tokenizer; a budget of steps or tokens, and a file that knows the held-out piece, are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nanotx.errors import ConfigError
from nanotx.experiments.plan import Arm, Facts
from nanotx.recipe import Budget
from nanotx.tokenizers.saved import Saved

ALIKE = 0.01
"""Difference, as a share, below which tokens are called equally long."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an arm learns from, in bytes; NaN where its tokenizer does not give the text back."""

    token: float  # bytes of a token of the training text, in the mean
    window: float
    step: float
    run: float
    flops: float  # of the run


def reading(arm: Arm, facts: Facts, steps: int) -> Reading:
    """Return what an arm learns from in a number of steps."""
    token, step = facts.bytes_per_token, facts.tokens_per_step * facts.bytes_per_token
    flops = steps * facts.tokens_per_step * facts.flops_per_token
    return Reading(token=token, window=arm.recipe.model.context * token, step=step, run=steps * step, flops=flops)


def share_tokenizer(arms: Sequence[Arm]) -> bool:
    """Return whether all arms have one tokenizer."""
    return all(arm.recipe.tokenizer == arms[0].recipe.tokenizer for arm in arms)


def check_exact(arms: Sequence[Arm], facts: Sequence[Facts]) -> None:
    """Raise ConfigError where arms with different tokenizers would have no common unit."""
    lossy = [arm for arm, fact in zip(arms, facts, strict=True) if math.isnan(fact.bytes_per_token)]
    if lossy and not share_tokenizer(arms):
        raise ConfigError(
            f"{lossy[0].name}: {lossy[0].recipe.tokenizer.part} does not give the held-out text back, so there are no "
            "bits per byte, in which alone different tokenizers compare; use one that does, such as byte."
        )


def token_warnings(arms: Sequence[Arm], facts: Sequence[Facts], equal: Budget) -> list[tuple[str, ...]]:
    """Return for each arm what a reader has to know of its tokens; nothing where all arms have one tokenizer."""
    if share_tokenizer(arms):
        return [()] * len(arms)
    return [of_text(facts[0], fact, equal) + of_file(arm) for arm, fact in zip(arms, facts, strict=True)]


def of_text(base: Facts, facts: Facts, equal: Budget) -> tuple[str, ...]:
    """Return a warning where an equal budget is not equal text, nor equal work."""
    ratio = facts.bytes_per_token / base.bytes_per_token
    if equal not in ("steps", "tokens") or not abs(ratio - 1) > ALIKE:
        return ()
    return (
        f"warning: its tokens hold {facts.bytes_per_token:.3g} bytes and those of the baseline "
        f"{base.bytes_per_token:.3g}, so at equal {equal} it learns from {ratio:.3g} times the text; --equal bytes and "
        "--equal flops are fair.",
    )


def of_file(arm: Arm) -> tuple[str, ...]:
    """Return a warning where a tokenizer may have been trained on the text that decides."""
    if not isinstance(arm.recipe.tokenizer, Saved):
        return ()
    return (
        f"warning: the tokenizer {arm.recipe.tokenizer.path} was trained before, perhaps on the held-out piece too; "
        'a part such as tokenizer={part="bpe", vocab_size=512} is trained on the rest alone.',
    )
