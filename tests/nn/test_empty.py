"""A model without memory for its weights is the model in all else: names, shapes, ties and buffers."""

import pytest
import torch
from torch import nn

from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.empty import allocate, empty_weights, has_no_memory, moved, set_constants
from nanotx.nn.ffn import Ffn
from nanotx.nn.loss.multi_token import MultiToken
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model

CPU = torch.device("cpu")
MODELS = {
    **{f"position {name}": Model(dim=24, layers=2, position=Position.find(name)()) for name in Position.names()},
    **{
        f"attention {name}": Model(dim=24, layers=2, block=PreNorm(attention=Attention.find(name)()))
        for name in Attention.names()
    },
    **{f"ffn {name}": Model(dim=24, layers=2, block=PreNorm(ffn=Ffn.find(name)())) for name in Ffn.names()},
    "untied": Model(dim=24, layers=2, tied=False, head_bias=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_empty_model_has_the_names_shapes_and_buffers_of_the_model_and_no_weights(name):
    config = MODELS[name]
    empty, built = config.build_empty(11), config.build(11, 3)
    assert all(map(has_no_memory, empty.parameters()))
    shapes = {name: (weight.shape, weight.dtype, weight.requires_grad) for name, weight in built.named_parameters()}
    assert {name: (w.shape, w.dtype, w.requires_grad) for name, w in empty.named_parameters()} == shapes
    tables = dict(built.named_buffers())
    assert dict(empty.named_buffers()).keys() == tables.keys()
    for name, table in empty.named_buffers():
        assert torch.equal(table, tables[name]), name


def test_model_computes_what_the_other_does_once_its_weights_have_memory_and_are_set():
    empty, built = Model(dim=24, layers=2).build_empty(11), Model(dim=24, layers=2).build(11, 3)
    for unit in (*empty.blocks, empty):
        allocate(empty, unit.parameters(), CPU)
    assert empty.head.weight is empty.embedding.weight
    empty.load_state_dict(built.state_dict())
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(empty(ids), built(ids))


def test_loss_of_an_empty_model_has_no_memory_and_is_not_drawn():
    with empty_weights():
        model = Model(dim=24, layers=1).build_empty(11)
        model.add_loss(MultiToken(), 3)
    assert [name for name, _ in model.named_parameters() if name.startswith("loss.")]
    assert all(map(has_no_memory, model.parameters()))
    assert moved(model, CPU) is model


class Scaled(nn.Module):
    """A part with a buffer that is computed from a weight, and one that cannot be written."""

    def __init__(self) -> None:
        super().__init__()
        weight = nn.Parameter(torch.arange(3.0))
        self.weight, self.again = weight, weight
        self.register_buffer("scale", self.weight.detach() * 2)
        self.register_buffer("constant", torch.ones(1).expand(3))


def test_buffer_that_is_computed_from_a_weight_is_set_to_what_another_process_has():
    with empty_weights():
        empty = Scaled()
    assert empty.weight is empty.again
    assert has_no_memory(empty.scale)
    assert not has_no_memory(empty.constant)
    moved(empty, CPU)
    set_constants(empty, dict(Scaled().named_buffers()))
    assert torch.equal(empty.scale, torch.tensor([0.0, 2.0, 4.0]))
    assert has_no_memory(empty.weight)
