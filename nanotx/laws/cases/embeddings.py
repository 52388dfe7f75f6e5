"""The laws of embeddings, on random parts, sizes, weights and ids."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from nanotx.errors import LawBroken
from nanotx.hardware.lazy_compiler import meta_device
from nanotx.laws import equality, numbers, randomness, values
from nanotx.laws.fields import come_of, fields_matter, gets_gradient, has_fields, untried
from nanotx.laws.law import Case, Law, Where, first_sentence
from nanotx.laws.strategies import Drawn, batches, configs, cuts, seeds, times
from nanotx.laws.weights import redraw, seeded
from nanotx.nn.embedding import TokenEmbedding
from nanotx.nn.shapes import Tokens


@dataclass(frozen=True, kw_only=True)
class EmbeddingCase(Case):
    """An embedding with random weights, and random ids for it."""

    vocab_size: int = 2
    dim: int = 1  # width of the stream
    batch: int = 1
    time: int = 1
    seed: int = 0  # of the weights and of the ids
    cut: int = 0  # a position
    cuts: tuple[int, ...] = ()  # where the pieces but the first begin
    lengths: tuple[int, ...] = ()  # of the rows, where they differ
    device: str = "cpu"

    def module(self, shift: int = 0) -> TokenEmbedding:
        """The embedding, with weights of its own seed."""
        with seeded(self.seed + shift):
            module: TokenEmbedding = self.config.build(self.vocab_size, self.dim)
        redraw(module, self.seed + shift)
        return module.to(self.device).eval()

    def ids(self, shift: int = 0) -> Tokens:
        """The input."""
        generator = torch.Generator().manual_seed(self.seed + shift)
        return torch.randint(self.vocab_size, (self.batch, self.time), generator=generator).to(self.device)

    def fits(self) -> None:
        with meta_device():
            self.config.build(self.vocab_size, self.dim)


@st.composite
def embeddings(draw: Drawn, part: type[Any], where: Where) -> EmbeddingCase:
    """An embedding of this part, and where its text is cut."""
    length, batch = draw(times), draw(batches)
    return EmbeddingCase(
        config=draw(configs(part)),
        vocab_size=draw(st.integers(1, 20)),
        dim=draw(st.integers(1, 8)),
        batch=batch,
        time=length,
        seed=draw(seeds),
        cut=draw(st.integers(0, length - 1)),
        cuts=draw(cuts(length)),
        lengths=draw(st.just(()) | st.tuples(*[st.integers(1, length)] * batch)),
        device=where.device,
    )


def batches_of_rows(part: type[Any], where: Where) -> st.SearchStrategy[EmbeddingCase]:
    """Batches of several rows, in embeddings that drop wherever they can."""
    cases = embeddings(part, where)
    return cases.map(
        lambda case: replace(case, config=randomness.with_dropout(case.config), batch=randomness.ROWS, lengths=())
    )


def batch_independent(case: EmbeddingCase) -> None:
    """Rows of a batch do not feel one another."""
    values.batch_independent(case.module(), case.ids(), case.seed + 1)


def prefix(case: EmbeddingCase) -> None:
    """What comes out for a beginning is the beginning of what comes out."""
    values.time_prefix(case.module(), case.ids(), case.cut)


def padding(case: EmbeddingCase) -> None:
    """What a text is padded with on its right changes nothing."""
    values.right_padding(case.module(), case.ids(), case.ids(shift=1))


def cache(case: EmbeddingCase) -> None:
    """Read in pieces with a cache, a text gives what it gives at once."""
    equality.cache_agrees(case.module(), case.ids(), case.cuts, lengths=case.lengths)


def tied(case: EmbeddingCase) -> None:
    """Its weight has a row for each id, which is all that a change of that row changes where the id stands."""
    module, ids = case.module(), case.ids()
    with torch.no_grad():
        before = module(ids)
        module.weight[0] += 1.0
        moved = (module(ids) - before).abs().amax(dim=-1) > 0.5
    if module.weight.shape != (case.vocab_size, case.dim) or not moved.equal(ids == 0):
        raise LawBroken(f"tied: row 0 of the weight, of shape {tuple(module.weight.shape)}, is not that of id 0.")


def state_complete(case: EmbeddingCase) -> None:
    """The state is all there is to it."""
    numbers.state_complete(case.module(), case.module(shift=1), case.ids())


def finite(case: EmbeddingCase) -> None:
    """Outputs and gradients are finite."""
    numbers.finite(case.module(), case.ids(), case.seed)


def all_get_gradient(case: EmbeddingCase) -> None:
    """Every parameter of an ordinary case gets a gradient."""
    long = replace(case, time=24)  # longer than any n-gram
    module = long.module().train()
    with seeded(case.seed):
        gets_gradient([(module, module(long.ids()))])


def all_fields_matter(case: EmbeddingCase) -> None:
    """Every field changes something, dropout in training, or the part says that it changes the cost alone."""
    long, default = replace(case, time=24), replace(case, time=24, vocab_size=20)

    def come(case: EmbeddingCase, config: Any) -> dict[str, Tensor]:
        one = replace(case, config=config)
        return come_of(one.module(), one.ids(), seed=case.seed)

    fields_matter(case.config, lambda config: come(long, config), lambda config: come(default, config))


def compiled(case: EmbeddingCase) -> None:
    """Compiled, it is the same function."""
    numbers.compile_agrees(case.module(), case.ids(), 1e-4, case.seed)


def accumulates_alike(case: EmbeddingCase) -> None:
    """In training, rows come out the same however their batch is split, masks exactly."""
    randomness.accumulates_alike(case.module().train(), case.ids(), case.seed)


def masks_distinct(case: EmbeddingCase) -> None:
    """No dropout is called twice on the same places, and no two draw the same mask."""
    randomness.masks_distinct(case.module().train(), case.ids(), case.seed)


def law(name: str, check: Callable[[EmbeddingCase], None], draw: Any = embeddings, **more: Any) -> Law:
    """A law that is shown on embeddings."""
    return Law(name=name, about=first_sentence(check), case=EmbeddingCase, draw=draw, check=check, **more)


LAWS = {
    "embedding": (
        law("batch_independent", batch_independent),
        law("prefix", prefix),
        law("padding", padding),
        law("cache", cache),
        law("tied", tied),
        law("state_complete", state_complete),
        law("finite", finite),
        law("gets_gradient", all_get_gradient),
        law("field_matters", all_fields_matter, fits=has_fields, unless="it has no fields", left_out=untried, most=10),
        law("compiled", compiled, on_request=True),
        law("accumulates_alike", accumulates_alike, batches_of_rows, most=10),
        law("masks_distinct", masks_distinct, batches_of_rows, most=10),
    )
}
