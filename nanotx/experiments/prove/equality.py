"""Whether two recipes that differ in one part compute one function: of equal weights, on random inputs.

Model parts are compared within the recipe's model, of one period of its blocks: logits and the gradients of all
weights, or for losses the training objective and the same gradients.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nanotx.errors import LawBroken
from nanotx.experiments.prove.card import Claim
from nanotx.laws.equality import Outcome, outputs_and_gradients, require_same_outcome
from nanotx.laws.weights import redraw, seeded, share_weights
from nanotx.nn.canonical import to_canonical
from nanotx.nn.loss import Head
from nanotx.nn.transformer import Transformer
from nanotx.recipe import Recipe
from nanotx.tokenizers import Codec

VOCAB = 61
"""Ids of the models that are compared."""

TOLERANCE = 1e-4
"""By how much numbers of models may differ, relative to the largest (or 1): the same as in the law `equivalent`."""

WEIGHTS_TOLERANCE = 1e-6
"""The same for weights that optimizers stepped: a step of a low rate moves them by little."""

NOUNS = {
    "optimizer": {"gradient of": "weights of"},
    "schedule": {"outputs": "factors"},
    "tokenizer": {"outputs": "ids"},
    "loss": {"outputs": "objectives"},
}
"""What is compared of a slot, by the word that an error has for it; of the others, logits and gradients."""

STEPS = 4
"""Steps after which the weights of two optimizers are compared."""

Outcomes = Iterator[tuple[Outcome, Outcome]]
"""Of each case what the two recipes compute, under one set of names."""


def claim(
    slot: str, name: str, recipe: Recipe, other: Recipe, seeds: Sequence[int], codecs: Callable[[Recipe], Codec]
) -> Claim:
    """Return whether two recipes that differ in a slot are one function.

    Args:
        slot: the slot in which they differ.
        name: of the other's part.
        recipe, other: the two.
        seeds: of the random cases to compare.
        codecs: returns the trained tokenizer of a recipe; asked where the slot is the tokenizer.

    Raises:
        ConfigError: a recipe cannot be built.
    """
    tolerance = TOLERANCE if slot in MODELS else WEIGHTS_TOLERANCE if slot == "optimizer" else 0.0
    done, largest = 0, 0.0
    try:
        for done, (mine, theirs) in enumerate(outcomes(slot, recipe, other, seeds, codecs), start=1):  # noqa: B007
            require_same_outcome("equal", mine, theirs, tolerance)
            largest = max(largest, difference(mine, theirs))
    except LawBroken as error:
        why = str(error).removeprefix("equal: ").removesuffix(".")
        for word, noun in NOUNS.get(slot, {"outputs": "of equal weights, logits"}).items():
            why = why.replace(word, noun, 1)
        return Claim(other=name, same=False, cases=done, tolerance=tolerance, why=why)
    return Claim(other=name, same=True, cases=done, tolerance=tolerance, largest=largest)


def outcomes(
    slot: str, recipe: Recipe, other: Recipe, seeds: Sequence[int], codecs: Callable[[Recipe], Codec]
) -> Outcomes:
    """Return the pairs of outcomes of a slot.

    Raises:
        LawBroken: the two have different weights or vocabularies.
    """
    if slot == "tokenizer":
        return of_tokenizers(codecs(recipe), codecs(other), recipe, seeds)
    return {"optimizer": of_optimizers, "schedule": of_schedules}.get(slot, of_models)(recipe, other, seeds)


def difference(mine: Outcome, theirs: Outcome) -> float:
    """Return the largest difference of two outcomes, each tensor relative to its largest number (or 1)."""
    pairs = [(mine[0], theirs[0]), *((mine[1][name], theirs[1][name]) for name in mine[1])]
    return max(
        float((first.double() - second.double()).abs().max() / max(1.0, float(second.double().abs().max())))
        for first, second in pairs
        if first.numel()
    )


# Models.

MODELS = ("attention", "block", "ffn", "norm", "position", "embedding", "loss")
"""Slots of parts that are compared within a model."""


class Objective(nn.Module):
    """What a recipe's loss minimises on a text."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """Return the objective of predicting each id from those before it."""
        model, head = self.model, self.model.head
        assert model.loss is not None
        with model.one_pass():
            x = model.hidden_states(ids[:, :-1])
            total, _ = model.loss(Head(model.logits, [*head.parameters()]), x, ids[:, 1:])
        return total


def of_models(recipe: Recipe, other: Recipe, seeds: Sequence[int]) -> Outcomes:
    """Yield the logits, or objectives, and the gradients of two models of equal weights on random texts."""
    mine, theirs = (built(some, recipe.loss != other.loss) for some in (recipe, other))
    require_same_weights(mine, theirs)
    context = min(recipe.model.context, other.model.context)
    for case, seed in enumerate(seeds):
        redraw(mine, seed)
        share_weights(mine, theirs)
        generator = torch.Generator().manual_seed(seed)
        batch, length = (
            case % 3 + 1,
            context if case < 2 else int(torch.randint(2, context + 1, (), generator=generator)),
        )
        ids = torch.randint(VOCAB, (batch, length), generator=generator)
        (y, gradients), (other_y, other_gradients) = (
            outputs_and_gradients(model, ids, seed) for model in (mine, theirs)
        )
        yield (y, to_canonical(mine, gradients)), (other_y, to_canonical(theirs, other_gradients))


def built(recipe: Recipe, with_loss: bool) -> nn.Module:
    """Return a recipe's model, of one period of its blocks and deterministic; or its objective."""
    layers = len(recipe.model.blocks) or 1
    model = replace(recipe.model, layers=layers * recipe.model.share).build(VOCAB, recipe.seed)
    if not with_loss:
        return model.eval()
    model.add_loss(recipe.loss, recipe.seed)
    return Objective(model).eval()


def require_same_weights(mine: nn.Module, theirs: nn.Module) -> None:
    """Raise LawBroken unless two modules have the same weights in the canonical layout; names those that differ."""
    shapes, others = (
        {name: tuple(tensor.shape) for name, tensor in to_canonical(model, dict(model.named_parameters())).items()}
        for model in (mine, theirs)
    )
    alone, missing = sorted(shapes.keys() - others.keys()), sorted(others.keys() - shapes.keys())
    if alone or missing:
        words = [f"it {verb} {some_of(names)}" for verb, names in (("has", alone), ("lacks", missing)) if names]
        raise LawBroken(f"equal: other weights: {' and '.join(words)}.")
    for name, shape in shapes.items():
        if shape != others[name]:
            raise LawBroken(f"equal: other weights: {name} is {by(shape)}, and {by(others[name])} there.")


def some_of(names: list[str]) -> str:
    """Return the first of some names, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def by(shape: tuple[int, ...]) -> str:
    """Return a shape as words, such as `4 x 8`."""
    return " x ".join(map(str, shape)) or "a number"


# Other slots.


def of_optimizers(recipe: Recipe, other: Recipe, seeds: Sequence[int]) -> Outcomes:
    """Yield the weights of a model after some steps of two optimizers on the same random gradients."""
    for seed in seeds[:5]:
        pair = [stepped(some, seed) for some in (recipe, other)]
        yield (torch.zeros(1), pair[0]), (torch.zeros(1), pair[1])


def stepped(recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Return the weights of the recipe's model after some steps of its optimizer on random gradients."""
    model = replace(recipe.model, layers=(len(recipe.model.blocks) or 1) * recipe.model.share).build(VOCAB, seed)
    optimizer = recipe.optimizer.build_grouped(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def of_schedules(recipe: Recipe, other: Recipe, seeds: Sequence[int]) -> Outcomes:
    """Yield the factors of every step of two schedules, for runs of several lengths."""
    for steps in sorted({1, 40, 400, *([recipe.train.steps] if recipe.train.steps else [])}):
        factors = [
            torch.tensor([some.schedule.factor(step, steps) for step in range(steps)], dtype=torch.float64)
            for some in (recipe, other)
        ]
        yield (factors[0], {}), (factors[1], {})


def of_tokenizers(mine: Codec, theirs: Codec, recipe: Recipe, seeds: Sequence[int]) -> Outcomes:
    """Yield the ids that two tokenizers give to pieces of the training text.

    Raises:
        LawBroken: their vocabularies differ in size.
    """
    if mine.vocab_size != theirs.vocab_size:
        raise LawBroken(f"equal: a vocabulary of {mine.vocab_size:,} ids, and of {theirs.vocab_size:,} there.")
    training, _ = recipe.corpus.split()
    for seed in seeds:
        with seeded(seed):
            start = int(torch.randint(max(1, len(training) - 1000), ()))
        ids: list[Any] = [torch.from_numpy(codec.encode(training[start : start + 1000])) for codec in (mine, theirs)]
        yield (ids[0], {}), (ids[1], {})
