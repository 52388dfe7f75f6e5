"""The verdict on a contender: whether it is the reference's function, learns as it does, and drops as much."""

from harness.contenders import CONTENDERS, LIBRARIES, Contender, drop_by_library, texts_of, with_attention
from harness.judging import Advance, Pair, same_dropout, same_function, same_losses
from harness.laws import PASS
from harness.rival import give_weights, with_dropout
from harness.rival_loop import Loop
from nanotx.errors import ConfigError, LawBroken
from nanotx.hardware.device import Machine, choose_machine
from nanotx.laws.weights import share_weights
from nanotx.recipe import Recipe
from nanotx.training.dataset import Dataset


def judge(name: str, recipe: Recipe, dropouts: tuple[float, ...], device: str, threads: int) -> str:
    """ "pass", or how it is another function than the reference, learns otherwise, or drops otherwise."""
    texts, machine = texts_of(recipe), choose_machine(device, "float32", threads)
    who, still = CONTENDERS[name], with_dropout(recipe, 0.0)
    try:
        for training in (False, True):
            same_function(pair(who, still, texts, machine), texts.windows, machine, training)
        same_losses(still, lambda changed: starts(who, changed, texts, machine))
        for share in dropouts:
            if share:
                same_dropout(pair(who, with_dropout(recipe, share), texts, machine), texts.windows, machine)
    except (LawBroken, ConfigError) as error:
        return f"failed: {error}"
    return PASS


def learned(who: Contender, recipe: Recipe) -> Recipe:
    """The recipe with the biases that the contender learns."""
    return LIBRARIES[who.library].learns(recipe) if who.library else recipe


def pair(who: Contender, recipe: Recipe, texts: Dataset, machine: Machine) -> Pair:
    """Our plain model and the contender's, untrained."""
    size, own = texts.codec.vocab_size, learned(who, recipe)
    ours = own.model.build(size)
    drop_by_library(ours)
    if not who.library:
        theirs = with_attention(own, who.attention).model.build(size)
        return Pair(ours=ours.to(machine.device), theirs=theirs.to(machine.device), give=share_weights)
    library = LIBRARIES[who.library]
    other = library.build(own, size)
    return Pair(
        ours=ours.to(machine.device),
        theirs=other.to(machine.device),
        give=lambda one, another: give_weights(one, another, library),
    )


def starts(who: Contender, recipe: Recipe, texts: Dataset, machine: Machine) -> tuple[Advance, Advance]:
    """A step of ours and one of theirs, from the same weights, with the same biases to learn."""
    both = pair(who, recipe, texts, machine)
    both.give(both.ours, both.theirs)
    ours, theirs = (Loop(recipe, one, texts.windows, machine, compiled=False) for one in (both.ours, both.theirs))
    return ours.advance, theirs.advance
