"""Layers that share the weights of a block: counted, saved and stepped once, with caches and dropout of their own."""

from itertools import combinations

import pytest
import torch
from helpers import text, tiny
from safetensors.torch import load_file
from torch import nn

from nanotx import laws
from nanotx.cli.main import run
from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn import Ffn
from nanotx.nn.transformer import Model

IDS = torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])


def build(layers=4, share=2, **fields):
    return Model(dim=8, layers=layers, context=8, share=share, **fields).build(7, 0)


def test_shared_layers_are_the_same_function_as_layers_with_equal_weights():
    shared, free = build(), build(share=1)
    weights = shared.state_dict()
    for name in free.state_dict():
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            free.state_dict()[name].copy_(weights[f"blocks.{int(layer) // 2}.{rest}"])
    free.embedding.weight.data.copy_(shared.embedding.weight)
    laws.cache_agrees(shared.eval(), IDS, cuts=[1, 3])
    torch.testing.assert_close(shared(IDS), free.eval()(IDS))
    y, z = shared(IDS).square().sum(), free(IDS).square().sum()
    y.backward()
    z.backward()
    name = "ffn.to_out.weight"
    both = sum(free.get_parameter(f"blocks.{layer}.{name}").grad for layer in (0, 1))
    torch.testing.assert_close(shared.get_parameter(f"blocks.0.{name}").grad, both)


@pytest.mark.parametrize("share", [1, 2, 4])
def test_parameters_are_counted_once_and_operations_for_each_layer(share):
    config = Model(dim=8, layers=4, context=8, share=share)
    model, free = config.build(7), Model(dim=8, layers=4, context=8).build(7)
    block = sum(tensor.numel() for tensor in free.blocks[0].parameters())
    assert free.parameter_count - model.parameter_count == (4 - 4 // share) * block
    assert config.size(7).parameters == model.parameter_count == sum(tensor.numel() for tensor in model.parameters())
    assert model.flops_per_token == free.flops_per_token


def test_pattern_of_blocks_is_tiled_over_the_blocks_that_are_built():
    blocks = (PreNorm(ffn=Ffn.find("mlp")()), PreNorm(attention=Attention.find("gqa")(heads=4, kv_heads=2)))
    config = Model(dim=8, layers=6, share=2, context=8, blocks=blocks)
    assert [blocks.index(block) for block in config.pattern()] == [0, 0, 1, 1, 0, 0]
    model = config.build(7)
    assert len(model.blocks) == 3 and config.size(7).parameters == model.parameter_count


def test_sharing_that_does_not_divide_the_layers_is_refused():
    with pytest.raises(ConfigError, match=r"share: 4 does not divide layers=6; try one of \[1, 2, 3, 6\]"):
        Model(layers=6, share=4)
    with pytest.raises(ConfigError, match="share: expected a number of at least 1"):
        Model(share=0)


def test_layers_that_share_a_block_drop_other_numbers_also_with_activation_checkpointing():
    from nanotx.nn.dropout import named_dropouts, row_seeded

    gradients = []
    for checkpointing in (False, True):
        model = build(layers=2, block=PreNorm(dropout=0.5)).train()
        model.activation_checkpointing = checkpointing
        kept = []
        model.blocks[0].attention_dropout.register_forward_hook(
            lambda module, given, made, kept=kept: kept.append(made != 0)
        )
        with row_seeded(named_dropouts(model), 3, range(2), torch.device("cpu")):
            model(IDS).square().mean().backward()
        first, second = kept[0], kept[1]  # of the attention in each layer
        assert not torch.equal(first, second) and 0.3 < (first == second).float().mean() < 0.7
        gradients.append({name: param.grad for name, param in model.named_parameters()})
    assert all(torch.equal(gradients[0][name], tensor) for name, tensor in gradients[1].items())


def test_uses_of_a_block_in_a_block_that_is_used_again_all_drop_other_numbers():
    from nanotx.nn.dropout import Dropout, named_dropouts, reused, row_seeded

    inner, masks = nn.Sequential(Dropout(0.5)), []
    with row_seeded(named_dropouts(inner), 3, range(2), torch.device("cpu")):
        for outer in range(2):
            with reused(inner, outer):
                for use in range(2):
                    with reused(inner, use):
                        masks.append(inner(torch.ones(2, 99)) > 0)
    assert all(not torch.equal(tensor, other) for tensor, other in combinations(masks, 2))


def test_auxiliary_losses_of_layers_that_share_experts_add_up():
    model = build(layers=2, block=PreNorm(ffn=Ffn.find("moe")(experts=4))).train()
    seen = []
    model.blocks[0].ffn.register_forward_hook(lambda module, given, made: seen.append(module.aux_loss()))
    model(IDS)
    (name,) = model.aux_losses()
    assert name == "blocks.0.ffn" and len(seen) == 2
    torch.testing.assert_close(model.aux_losses()[name], seen[0] + seen[1])


def test_run_with_shared_layers_is_saved_once_and_resumed_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    flags = ["--model.share", "2", "--block.dropout", "0.2", "--optimizer", "muon"]

    def train(name, steps):
        return run(["train", "macbook", *corpus, *tiny(model_layers=4, train_steps=steps), *flags, "--run", name])

    assert train("whole", 6) == train("parted", 4) == 0
    assert run(["resume", "parted", "--train.steps", "6"]) == 0
    first, other = (load_file(f"{name}/checkpoints/step-6/model.safetensors") for name in ("whole", "parted"))
    assert first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)
    assert {name.split(".")[1] for name in first if name.startswith("blocks.")} == {"0", "1"}
