"""A model that is cast to half the bits: its weights are rounded, and where its tokens stand is not."""

import numpy as np
import pytest
import torch
from torch import nn

from nanotx.evaluation.by_script import score_text
from nanotx.generation import Sampling
from nanotx.hardware.device import choose_machine
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.runs.load import LoadedRun
from nanotx.tokenizers.char import Char

HALVES = (torch.bfloat16, torch.float16)


def loud(position, attention="sdpa", context=512):
    """A model whose attention decides much: all of its matrices are ten times larger than when training begins."""
    block = Block.find("prenorm")(attention=Attention.find(attention)(heads=2))
    model = Model(dim=24, layers=1, context=context, position=Position.find(position)(), block=block).build(20).eval()
    with torch.no_grad():
        for param in model.parameters():
            param *= 10.0 if param.ndim > 1 else 1.0
    return model


@torch.no_grad()
def away(model, dtype, time):
    """By how much the logits of a model that is cast differ, beside their length; the middle of each 64 positions."""
    ids = torch.randint(20, (1, time), generator=torch.Generator().manual_seed(0))
    wanted = model(ids).double()
    lengths = wanted.norm(dim=-1)
    differences = (model.to(dtype)(ids).double() - wanted).norm(dim=-1) / lengths
    return [float(item.median()) for item in differences[0].split(64)]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("position", Position.names())
def test_model_cast_to_half_the_bits_is_as_accurate_late_in_its_context_as_early(position, dtype):
    middles = away(loud(position), dtype, 512)
    assert max(middles) < 2 * middles[0] < 0.05


@pytest.mark.parametrize("attention", ["per_head", "linear", "online_softmax", "sliding_window"])
def test_attention_cast_to_bfloat16_distinguishes_late_positions(attention):
    middles = away(loud("rope", attention), torch.bfloat16, 512)
    assert max(middles) < 2 * middles[0] < 0.05


def test_long_context_in_float16_ends_as_well_as_it_begins():
    middles = away(loud("rope", context=9000), torch.float16, 9000)
    assert max(middles[-8:]) < 2 * max(middles[:8])


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("position", ["rope", "rope_linear", "rope_ntk", "rope_yarn"])
def test_rotary_positions_of_a_model_that_was_cast_turn_as_before(position, dtype):
    context = 70_000
    module = Position.find(position)().build(16, 2, context)
    q, at = torch.randn(1, 2, 5, 8).to(dtype), torch.tensor([0, 256, 257, 2049, context - 1])
    wanted = module.rotate(q.float(), q.float(), at)[0]
    got = module.to(dtype).rotate(q, q, at)[0]
    assert got.dtype is dtype
    torch.testing.assert_close(got.float(), wanted, atol=0.05 if dtype is torch.bfloat16 else 0.01, rtol=0)


def test_slopes_of_alibi_have_a_distance_beyond_the_largest_number_of_float16():
    bias = (
        Position.find("alibi")().build(24, 3, 8).half().bias(torch.tensor([70_000]), torch.tensor([0, 69_999, 70_000]))
    )
    assert bias.isfinite().all() and bias[0, 0, 2] == 0
    torch.testing.assert_close(bias[:, 0, 0], 70_000 * bias[:, 0, 1])


class Constants(nn.Module):
    """What parts of somebody else may keep: a mask, complex rates, counts, nothing."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -1e30).triu(1))
        self.register_buffer("rates", torch.polar(torch.ones(4), 0.123 * torch.arange(4.0)), persistent=False)
        self.register_buffer("count", torch.arange(5))
        self.register_buffer("nothing", None)
        self.inner = nn.BatchNorm1d(2)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64], ids=str)
def test_whatever_a_part_keeps_as_a_buffer_comes_through_a_cast_unrounded(dtype):
    model = loud("none")
    model.blocks.append(Constants())
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    model.to(dtype)
    assert all(param.dtype is dtype for param in model.parameters())
    after = dict(model.named_buffers())
    assert len(after) >= 6 and all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_model_cast_to_half_and_back_has_the_constants_that_it_had():
    model = loud("rope_yarn")
    wanted = model.position.rotate(torch.ones(1, 12), torch.ones(1, 12), torch.tensor([400]))[0]
    got = model.half().float().position.rotate(torch.ones(1, 12), torch.ones(1, 12), torch.tensor([400]))[0]
    assert torch.equal(got, wanted)


def test_what_sample_says_of_its_tokens_in_bfloat16_is_what_eval_says_of_them_late_ones_too():
    codec = Char().train(["abcdefghijklmnopqrst"])
    model = loud("rope", "sdpa")
    model.vocab_size, model.head.weight.data = codec.vocab_size, model.head.weight[: codec.vocab_size].data
    run = LoadedRun(model=model, tokenizer=codec, recipe=Recipe(), step=0, folder="none")

    def apart(dtype):
        """Between the two, of each token; in the middle of those from 0 to 250, and of those from 260 on."""
        run.model.to(dtype)
        generation = run.generation([""], 340, Sampling(temperature=1.0))
        text = "".join(piece for _, piece in generation)
        message = -np.array(generation.completions[0].log_probs)
        scored = score_text(
            run.model.float(), codec, text, choose_machine("cpu", str(dtype).removeprefix("torch."), 1)
        ).nats
        differences = abs(message - scored)
        return np.median(differences[:250]), np.median(differences[260:])

    assert max(apart(torch.float32)) < 1e-4
    early, late = apart(torch.bfloat16)
    assert late < 2 * early < 0.2
