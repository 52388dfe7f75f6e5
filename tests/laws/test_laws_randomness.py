"""The laws of dropout catch masks that depend on how a batch is split, and masks that are the same."""

import pytest
import torch
from mutated import mutated
from torch import nn

from nanotx import laws
from nanotx.errors import LawBroken
from nanotx.laws.randomness import FRACTION, overlap, with_dropout
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.dropout import Dropout
from nanotx.nn.embedding import Embedding
from nanotx.nn.transformer import Model

BUGS = {
    # name: (function, old, new, what breaks)
    "rows are numbered within their micro-batch": (
        "nanotx.nn.dropout:row_keys",
        "rows.start + 1, rows.stop + 1",
        "1, len(rows) + 1",
        r"accumulates_alike: 4 rows in micro-batches of 2: the dropout 'attention.dropout' has another mask",
    ),
    "keys are drawn from PyTorch's generator": (
        "nanotx.nn.dropout:Dropout.forward",
        "self.row_keys if self.row_keys is not None else draw_keys(x)",
        "draw_keys(x)",
        "accumulates_alike: .* has another mask",
    ),
    "all dropouts of a model have the same keys": (
        "nanotx.nn.dropout:row_keys",
        "name_key(name) for name in names",
        "0 for name in names",
        r"masks_distinct: the dropouts 'attention_dropout' and 'ffn_dropout' draw the same mask",
    ),
}


def require_laws(layer):
    """The laws of dropout, for a layer."""
    x = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1))
    laws.accumulates_alike(layer.train(), x)
    laws.masks_distinct(layer, x)


def block():
    """A block that drops wherever it can."""
    return with_dropout(Block.find("parallel")(attention=Attention.find("fused")(heads=2))).build(8)


@pytest.mark.parametrize("bug", BUGS)
def test_bug_in_dropout_is_caught(bug):
    place, old, new, match = BUGS[bug]
    require_laws(block())
    with mutated(place, old, new), pytest.raises(LawBroken, match=match):
        require_laws(block())


class Twice(nn.Module):
    """Drops its input, and what it makes of it, by one dropout."""

    def __init__(self):
        super().__init__()
        self.map, self.dropout = nn.Linear(8, 8), Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.map(self.dropout(x)))


def test_dropout_that_serves_two_places_is_named():
    with pytest.raises(
        LawBroken, match=r"the dropout 'dropout' is called twice on the same places.*a Dropout for each"
    ):
        require_laws(Twice())


def test_dropout_of_pytorch_is_caught_with_the_remedy():
    with pytest.raises(LawBroken, match=r"micro-batches of 2: outputs; draw by nanotx\.nn\.dropout alone"):
        require_laws(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)))


def test_boxes_overlap_where_every_dimension_does():
    assert overlap((0, 0), (4, 4), (3, 3), (4, 4))
    assert not overlap((0, 0), (4, 4), (3, 4), (4, 4))
    assert not overlap((0, 8), (4, 4), (0, 0), (4, 8))


def test_dropout_is_set_wherever_a_config_has_it_and_does_not_refuse_it():
    inner = Block.find("prenorm")(attention=Attention.find("linear")())
    model = with_dropout(Model(blocks=(Block.find("token_shift")(block=inner),), embedding=Embedding.find("ngrams")()))
    assert model.dropout == model.embedding.dropout == model.blocks[0].block.dropout == FRACTION
    assert model.blocks[0].block.attention.dropout == 0.0
