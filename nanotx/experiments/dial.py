"""The dial: a recipe at another size, by rules that are stated and follow from the recipe alone.

    width           the share of the recipe's, in whole heads
    heads           as many as keep the width of a head
    layers          in proportion to the width
    tokens          in proportion to the FLOPs of a token, so FLOPs grow with their square
    warm-up         in proportion to the steps
    learning rate   of adamw, in inverse proportion to the width; muon's stay, whose step is scaled by the shape
    all else        as in the recipe: batch, context, ratios of the ffn, dropout

A depth (`--depth`) sets the layers, from which the width follows by the same rules, and the batch as well:

    batch           in proportion to the tokens to the power 0.383, rounded to a power of two times the recipe's
    learning rate   of adamw, besides, in proportion to the square root of the batch

Sources: tokens in proportion to size, Hoffmann et al. 2022, https://arxiv.org/abs/2203.15556; the rate of hidden
matrices under Adam, Yang et al. 2022, https://arxiv.org/abs/2203.03466, table 3; the batch, Bergsma et al. 2025,
https://arxiv.org/abs/2505.13738; its square root, Malladi et al. 2022, https://arxiv.org/abs/2205.10287
"""

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from nanotx.config.schema import fields
from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.transformer import Model
from nanotx.recipe import BUDGETS, Recipe, Train

UNIT = 8
"""What divides the width of a model that has one head: an even number for positions that rotate pairs."""

ON_THE_DIAL = ("model.dim", "model.layers")
"""Fields that no arm may set for itself."""

SET_BY_DEPTH = (
    *(*ON_THE_DIAL, "attention.heads", "attention.kv_heads", "optimizer.lr", "schedule.warmup", "train.batch_size"),
    *(f"train.{budget}" for budget in BUDGETS),
)
"""Fields that a depth sets."""

BATCH_POWER = 0.383
"""The power of the tokens in whose proportion the best batch grows."""

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class Size:
    """A recipe at a size, and what it costs."""

    recipe: Recipe
    flops: float  # of the whole training, forward and backward

    @property
    def name(self) -> str:
        """The size in a few characters, such as 96x3: width and layers."""
        return f"{self.recipe.model.dim}x{self.recipe.model.layers}"


def at_depth(recipe: Recipe, depth: int, vocab_size: int) -> Recipe:
    """Return a recipe at a number of layers, with all that follows from it.

    Args:
        recipe: whose budget is not in seconds.
        depth: number of layers.
        vocab_size: of its tokenizer.

    Raises:
        ConfigError: the budget is in seconds, or layers that share weights or repeat a pattern do not divide the depth.
    """
    model = resized_model(recipe.model, depth / recipe.model.layers, depth)
    work = flops_per_token(model, vocab_size) / flops_per_token(recipe.model, vocab_size)
    return with_model(recipe, model, work, batch_growth(recipe.train, work))


def resized(recipe: Recipe, share: float, vocab_size: int) -> Recipe:
    """Return a recipe at about a share of its width.

    Args:
        recipe: whose budget is in steps.
        share: of the width; above 1 for a larger model.
        vocab_size: of its tokenizer.
    """
    model = resized_model(recipe.model, share)
    work = flops_per_token(model, vocab_size) / flops_per_token(recipe.model, vocab_size)
    return with_model(recipe, model, work, 1.0)


def with_model(recipe: Recipe, model: Model, work: float, batch: float) -> Recipe:
    """Return a recipe with another size of its model, and the budget, warm-up and rate that follow.

    Args:
        recipe: with the model as it was.
        model: at another size.
        work: its operations per token, relative to those before.
        batch: rows of a step, relative to those before.
    """
    train, schedule, optimizer = with_budget(recipe.train, work, batch), recipe.schedule, recipe.optimizer
    if "warmup" in fields(type(schedule)):
        before = cast(Any, schedule).warmup
        warmup = before * train.steps / recipe.train.steps if train.steps else before * work / batch
        schedule = with_fields(schedule, warmup=round(warmup))
    if optimizer.part == "adamw":
        lr = cast(Any, optimizer).lr * recipe.model.dim / model.dim * math.sqrt(batch)
        optimizer = with_fields(optimizer, lr=float(f"{lr:.4g}"))
    return replace(recipe, model=model, train=train, schedule=schedule, optimizer=optimizer)


def with_budget(train: Train, work: float, batch: float) -> Train:
    """Return the plan with tokens in proportion to the operations of one.

    Raises:
        ConfigError: the budget is in seconds.
    """
    name, amount = train.budget
    if name == "seconds":
        raise ConfigError(
            "train.seconds: the dial turns tokens, and what a time buys depends on the hour; give --train.steps, "
            "tokens, bytes or flops."
        )
    times = {"steps": work / batch, "flops": work * work}.get(name, work)
    more = {name: amount * times if name == "flops" else max(1, round(amount * times))}
    return replace(train, batch_size=round(train.batch_size * batch), **cast(Any, more))


def batch_growth(train: Train, work: float) -> float:
    """Return by what power of two a batch grows with the tokens; a smaller one still has whole micro-batches."""
    power = round(BATCH_POWER * math.log2(work))
    whole = int(train.micro_batch_size) if train.micro_batch_size not in (0, "auto") else train.grad_accum_steps
    while power < 0 and train.batch_size % (whole * 2**-power):
        power += 1
    return 2.0**power


def resized_model(model: Model, share: float, layers: int | None = None) -> Model:
    """Return a model at about a share of its width, with heads in proportion, and layers too unless they are given."""
    common = math.gcd(*(attention.heads for attention in model.attentions())) or 1
    unit = model.dim // common if common > 1 else min(UNIT, model.dim)
    dim = model.dim if share == 1 else max(1, round(share * model.dim / unit)) * unit
    layers = layers or max(1, round(model.layers / model.share * dim / model.dim)) * model.share

    def narrower(attention: Attention) -> Attention:
        if common == 1:
            return attention
        heads = attention.heads * dim // model.dim
        changes = {"heads": heads}
        if "kv_heads" in fields(type(attention)):
            most = max(1, round(cast(Any, attention).kv_heads * dim / model.dim))
            changes["kv_heads"] = max(count for count in range(1, most + 1) if not heads % count)
        return with_fields(attention, **changes)

    block = None if model.block is None else with_attentions(model.block, narrower)
    blocks = tuple(with_attentions(block, narrower) for block in model.blocks)
    return replace(model, dim=dim, layers=layers, block=block, blocks=blocks)


def with_attentions(block: Block, change: Any) -> Block:
    """Return a block in which every attention is changed, also those of blocks inside it."""
    changes = {}
    for name in fields(type(block)):
        value = getattr(block, name)
        if isinstance(value, Attention):
            changes[name] = change(value)
        elif isinstance(value, Block):
            changes[name] = with_attentions(value, change)
    return with_fields(block, **changes)


def with_fields(config: C, **changes: Any) -> C:
    """Return a config with other values of some fields."""
    return cast(C, replace(cast(Any, config), **changes))


def flops_per_token(model: Model, vocab_size: int) -> int:
    """Return the floating-point operations of a token in training; takes no memory."""
    return int(model.build_meta(vocab_size).flops_per_token)


def sizes(recipe: Recipe, smallest: float, largest: float, count: int, vocab_size: int) -> list[Size]:
    """Return a recipe at several sizes whose widths have about equal ratios, the smallest first.

    Args:
        recipe: whose budget is in steps.
        smallest: share of its width.
        largest: share of its width.
        count: of sizes.
        vocab_size: of its tokenizer.

    Raises:
        ConfigError: so many sizes cannot be told apart in whole heads; says how many can.
    """
    ratio = (largest / smallest) ** (1 / (count - 1))
    recipes = [resized(recipe, smallest * ratio**index, vocab_size) for index in range(count)]
    widths = {other.model.dim for other in recipes}
    if len(widths) < count:
        unit = recipes[0].model.dim // max(1, math.gcd(*(other.heads for other in recipes[0].model.attentions())))
        raise ConfigError(
            f"--sizes {count}: from {smallest:g} to {largest:g} of the width {recipe.model.dim}, in whole heads of "
            f"{unit}, there are only the widths {sorted(widths)}; try --sizes {len(widths)}, a wider range by "
            "--smallest-width and --largest-width, or a recipe with narrower heads."
        )
    tokens = recipe.train.batch_size * recipe.model.context
    return [
        Size(recipe=other, flops=float(flops_per_token(other.model, vocab_size)) * tokens * other.train.steps)
        for other in recipes
    ]
