"""The laws of embeddings, on random parts, sizes, weights and ids."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from nanotx.errors import LawBroken
from nanotx.hardware.lazy_compiler import meta_device
from nanotx.laws import documents, equality, numbers, randomness, values
from nanotx.laws.fields import come_of, fields_matter, gets_gradient, has_fields, untried
from nanotx.laws.law import Case, LawBook, Where
from nanotx.laws.strategies import Drawn, batches, configs, cuts, seeds, times
from nanotx.laws.weights import redraw, seeded
from nanotx.nn.documents import positions_within
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
        """Return the embedding, with weights drawn from a seed."""
        with seeded(self.seed + shift):
            module: TokenEmbedding = self.config.build(self.vocab_size, self.dim)
        redraw(module, self.seed + shift)
        return module.to(self.device).eval()

    def ids(self, shift: int = 0) -> Tokens:
        """Return the input."""
        generator = torch.Generator().manual_seed(self.seed + shift)
        return torch.randint(self.vocab_size, (self.batch, self.time), generator=generator).to(self.device)

    def fits(self) -> None:
        with meta_device():
            self.config.build(self.vocab_size, self.dim)


@st.composite
def embeddings(draw: Drawn, part: type[Any], where: Where) -> EmbeddingCase:
    """Draw an embedding of this part, and where its text is cut."""
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
    """Draw batches of several rows, in embeddings with dropout wherever they support it."""
    cases = embeddings(part, where)
    return cases.map(
        lambda case: replace(case, config=randomness.with_dropout(case.config), batch=randomness.ROWS, lengths=())
    )


LAWS = LawBook()


@LAWS.law("embedding", draw=embeddings)
def batch_independent(case: EmbeddingCase) -> None:
    """Rows of a batch do not influence one another."""
    values.batch_independent(case.module(), case.ids(), case.seed + 1)


@LAWS.law("embedding", draw=embeddings)
def prefix(case: EmbeddingCase) -> None:
    """The outputs of a prefix are the prefix of the outputs."""
    values.time_prefix(case.module(), case.ids(), case.cut)


@LAWS.law("embedding", draw=embeddings)
def padding(case: EmbeddingCase) -> None:
    """Padding a text on its right changes no output before it."""
    values.right_padding(case.module(), case.ids(), case.ids(shift=1))


@LAWS.law("embedding", draw=embeddings)
def cache(case: EmbeddingCase) -> None:
    """Read in pieces with a cache, a text has the same outputs as when it is read at once."""
    equality.cache_agrees(case.module(), case.ids(), case.cuts, lengths=case.lengths)


@LAWS.law(
    "embedding", draw=embeddings, fits=lambda part: part.supports_documents, unless="it refuses to keep documents apart"
)
def documents_apart(case: EmbeddingCase) -> None:
    """Documents that share a row have the outputs that each of them has alone."""
    module = case.module()

    def read(ids: Tensor, numbers: Tokens | None) -> Tensor:
        return module(ids, None, None if numbers is None else positions_within(numbers))

    documents.documents_apart(read, case.ids(), case.cuts)


@LAWS.law("embedding", draw=embeddings)
def tied(case: EmbeddingCase) -> None:
    """Its weight has a row for each id, and changing a row changes the outputs at that id and no others."""
    module, ids = case.module(), case.ids()
    with torch.no_grad():
        before = module(ids)
        module.weight[0] += 1.0
        moved = (module(ids) - before).abs().amax(dim=-1) > 0.5
    if module.weight.shape != (case.vocab_size, case.dim) or not moved.equal(ids == 0):
        raise LawBroken(f"tied: row 0 of the weight, of shape {tuple(module.weight.shape)}, is not that of id 0.")


@LAWS.law("embedding", draw=embeddings)
def state_complete(case: EmbeddingCase) -> None:
    """The state dict determines the outputs."""
    numbers.state_complete(case.module(), case.module(shift=1), case.ids())


@LAWS.law("embedding", draw=embeddings)
def finite(case: EmbeddingCase) -> None:
    """Outputs and gradients are finite."""
    numbers.finite(case.module(), case.ids(), case.seed)


@LAWS.law("embedding", draw=embeddings, name="gets_gradient")
def all_get_gradient(case: EmbeddingCase) -> None:
    """Every parameter of an ordinary case gets a gradient."""
    long = replace(case, time=24)  # longer than any n-gram
    module = long.module().train()
    with seeded(case.seed):
        gets_gradient([(module, module(long.ids()))])


@LAWS.law(
    "embedding",
    draw=embeddings,
    name="field_matters",
    fits=has_fields,
    unless="it has no fields",
    left_out=untried,
    most=10,
)
def all_fields_matter(case: EmbeddingCase) -> None:
    """Every field changes something (dropout in training), or the part lists it in `cost_only`."""
    long, default = replace(case, time=24), replace(case, time=24, vocab_size=20)

    def outcome(case: EmbeddingCase, config: Any) -> dict[str, Tensor]:
        case = replace(case, config=config)
        return come_of(case.module(), case.ids(), seed=case.seed)

    fields_matter(case.config, lambda config: outcome(long, config), lambda config: outcome(default, config))


@LAWS.law("embedding", draw=embeddings, on_request=True)
def compiled(case: EmbeddingCase) -> None:
    """Compiled, it is the same function."""
    numbers.compile_agrees(case.module(), case.ids(), 1e-4, case.seed)


@LAWS.law("embedding", draw=batches_of_rows, most=10)
def accumulates_alike(case: EmbeddingCase) -> None:
    """In training, rows have the same outputs and masks however their batch is split."""
    randomness.accumulates_alike(case.module().train(), case.ids(), case.seed)


@LAWS.law("embedding", draw=batches_of_rows, most=10)
def masks_distinct(case: EmbeddingCase) -> None:
    """No dropout is called twice on the same places, and no two draw the same mask."""
    randomness.masks_distinct(case.module().train(), case.ids(), case.seed)
