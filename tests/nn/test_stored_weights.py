"""Linear maps that store their weights in fewer bits compute almost the same, and say how much less they hold."""

import copy

import pytest
import torch
from torch import nn

from nanotx.generation import Sampling, generate
from nanotx.nn.adapt.lora import Lora
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.linear import Linear
from nanotx.nn.stored_weights import StoredLinear, store_weights
from nanotx.nn.transformer import Model


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
@pytest.mark.parametrize("bias", [True, False])
def test_each_weight_is_off_by_half_a_unit_at_most(storage, bias):
    layer = Linear(24, 5, bias=bias)
    with torch.no_grad():
        layer.weight[3] *= 1000  # a row of other sizes harms no other row
        layer.weight[4] = 0
    stored = StoredLinear(layer, storage)
    with torch.inference_mode():
        zero = 0 if layer.bias is None else layer.bias
        weight = (stored(torch.eye(24)) - zero).t()
        unit = layer.weight.abs() / 128 if storage == "bfloat16" else layer.weight.abs().amax(1)[:, None] / 127
    assert ((weight - layer.weight).abs() <= 0.51 * unit + 1e-6 * layer.weight.abs().amax()).all()
    assert stored.weight.nbytes == layer.weight.nbytes // (2 if storage == "bfloat16" else 4)
    assert weight.count_nonzero() and not weight[4].any()


def model(**fields):
    return Model(dim=24, layers=2, context=16, block=PreNorm(attention=Sdpa(heads=2)), **fields).build(11).eval()


def test_storing_replaces_every_plain_map_and_keeps_the_table():
    plain = model()
    stored = copy.deepcopy(plain)
    store_weights(stored, "int8")
    kinds = {name: type(layer) for name, layer in stored.named_modules() if name in dict(plain.named_modules())}
    maps = [name for name, layer in plain.named_modules() if isinstance(layer, nn.Linear)]
    assert maps and all(kinds[name] is StoredLinear for name in maps)
    assert torch.equal(stored.embedding.weight, plain.embedding.weight)  # the tied head has a copy
    ids = torch.randint(11, (2, 16))
    with torch.inference_mode():
        torch.testing.assert_close(stored(ids), plain(ids), atol=0.05, rtol=0.05)
        assert not torch.equal(stored(ids), plain(ids))
    assert generate(stored, ids[:, :3], 5, Sampling(seed=1)).shape == (2, 8)


def test_float32_changes_nothing_and_adapted_maps_stay():
    plain = model()
    store_weights(plain, "float32")
    assert not any(isinstance(layer, StoredLinear) for layer in plain.modules())
    adapted = model(adapt=Lora(rank=2, targets=("blocks.0.*",)))
    store_weights(adapted, "int8")
    assert not any(isinstance(layer, StoredLinear) for layer in adapted.blocks[0].modules())
    assert any(isinstance(layer, StoredLinear) for layer in adapted.blocks[1].modules())
