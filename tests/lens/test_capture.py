"""The lens: a pass that is looked at is the pass, and looking leaves nothing behind."""

import pytest
import torch
from einops import einsum, rearrange
from mutated import mutated
from torch import nn

from nanotx.errors import ConfigError
from nanotx.lens import capture, replaced
from nanotx.lens.capture import skipped
from nanotx.nn.attention import Attention
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.attention.sdpa import Sdpa, SdpaAttention
from nanotx.nn.block.parallel import Parallel
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.position.alibi import Alibi
from nanotx.nn.position.rope import Rope
from nanotx.nn.transformer import Model

IDS = torch.randint(0, 11, (2, 7), generator=torch.Generator().manual_seed(3))
SMALL = {"gqa": {"kv_heads": 2}, "sliding_window": {"window": 3, "block": 2}, "online_softmax": {"block": 2}}
SMALL |= {"sliding_gqa": {"window": 3, "block": 2}}
SMALL |= {"blockwise": {"block": 3}}


PARTS = [pytest.param(name, marks=pytest.mark.slow) if name == "flex" else name for name in Attention.names()]
"""Names of the attentions; flex imports PyTorch's compiler, which takes seconds."""


EQUIVALENTS = [name for name in Attention.names() if Attention.find(name).equivalent_to]


def model(attention, position=None, share=1, block=PreNorm):
    config = Model(
        dim=16, layers=2, context=8, position=position or Rope(), share=share, block=block(attention=attention)
    )
    return config.build(11, seed=1).eval()


def attention(name):
    return Attention.find(name)(heads=4, **SMALL.get(name, {}))


def hooks(value):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return [len(getattr(module, kind)) for module in value.modules() for kind in kinds] + [
        len(getattr(module, "attend_hooks", ())) for module in value.modules()
    ]


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_logits_of_a_pass_that_is_looked_at_are_the_models_to_the_bit(name):
    built = model(attention(name))
    with capture(built, IDS) as c:
        assert torch.equal(c["logits"], built(IDS))
        assert torch.equal(c["norm"], built.hidden_states(IDS))


@pytest.mark.parametrize("position", [Rope(), Alibi()], ids=["rope", "alibi"])
@pytest.mark.parametrize("name", [part for part in PARTS if part != "linear"])
def test_weights_times_values_are_the_output(name, position):
    built = model(attention(name), position)
    with capture(built, IDS) as c:
        for layer in range(2):
            place = f"blocks.{layer}.attention"
            weights, values = c[f"{place}.weights"], c[f"{place}.values"]
            assert weights.shape == (2, 4, 7, 7)
            assert weights.triu(1).abs().max() == 0
            heads = einsum(weights, values, "b h t s, b h s k -> b h t k")
            torch.testing.assert_close(heads, c[f"{place}.heads"], atol=1e-5, rtol=1e-4)
            merged = built.get_submodule(place).to_out(rearrange(heads, "b h t k -> b t (h k)"))
            torch.testing.assert_close(merged, c[place], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in PARTS if name in EQUIVALENTS or name not in Attention.names()])
def test_equivalent_parts_show_the_same_weights(name):
    with capture(model(attention(name)), IDS) as c, capture(model(attention("fused")), IDS) as fused:
        wanted = fused["blocks.1.attention.weights"]
        torch.testing.assert_close(c["blocks.1.attention.weights"], wanted, atol=1e-5, rtol=1e-4)


def test_weights_of_linear_are_refused():
    with capture(model(attention("linear")), IDS) as c:
        with pytest.raises(ConfigError, match=r"blocks\.0\.attention: linear has no attention weights"):
            c["blocks.0.attention.weights"]
        assert c["blocks.0.attention.heads"].shape == (2, 4, 7, 4)


class Odd(SdpaAttention):
    """An attention of a user: its output is not softmax(Q K^T) V."""

    def attend(self, q, k, v, bias):
        return super().attend(q, k, v, bias) ** 2


class Shown(SdpaAttention):
    """An attention of a user that forms its weights, which are no softmax of the scores."""

    def attend(self, q, k, v, bias):
        scores = einsum(q, k, "b h t k, b h s k -> b h t s").relu().tril() + 0.01
        weights = scores.tril() / scores.tril().sum(-1, keepdim=True)
        return einsum(self.dropout(weights), v, "b h t s, b h s k -> b h t k")


def test_weights_of_a_part_of_a_user_are_refused_where_they_cannot_be_had():
    built = model(Sdpa(heads=4))
    built.blocks[1].attention = Odd(Sdpa(heads=4), 16).eval()
    with capture(built, IDS) as c:
        assert c["blocks.0.attention.weights"].shape == (2, 4, 7, 7)
        with pytest.raises(
            ConfigError, match=r"blocks\.1\.attention: the attention weights of .* cannot be had.*dropout"
        ):
            c["blocks.1.attention.weights"]
        assert torch.equal(c["logits"], built(IDS))


def test_weights_of_a_part_of_a_user_are_caught_in_its_dropout():
    built = model(Sdpa(heads=4))
    built.blocks[1].attention = Shown(Sdpa(heads=4), 16).eval()
    with capture(built, IDS) as c:
        weights = c["blocks.1.attention.weights"]
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 7))
        heads = einsum(weights, c["blocks.1.attention.values"], "b h t s, b h s k -> b h t k")
        torch.testing.assert_close(heads, c["blocks.1.attention.heads"])


class Bare(nn.Module):
    """An attention of a user without heads that can be told apart."""

    def forward(self, x, position=None, cache=None):
        return x


def test_attention_without_heads_is_refused_by_name():
    built = model(Sdpa(heads=4))
    built.blocks[0].attention = Bare()
    with capture(built, IDS) as c, pytest.raises(ConfigError, match=r"blocks\.0\.attention\.weights: there are none"):
        c["blocks.0.attention.weights"]


@pytest.mark.parametrize("part", [Sdpa(heads=4), PerHead(heads=4)], ids=["sdpa", "per_head"])
def test_replaced_weights_are_those_of_the_pass(part):
    built = model(part)
    before = built(IDS)
    with capture(built, IDS) as c:
        first = torch.zeros(2, 4, 7, 7)
        first[..., 0] = 1.0
        c.replace("blocks.0.attention.weights", first)
        values = c["blocks.0.attention.values"]
        assert torch.equal(c["blocks.0.attention.weights"], first)
        torch.testing.assert_close(c["blocks.0.attention.heads"], values[:, :, :1].expand_as(values))
        assert not torch.equal(c["logits"], before)
        c.replace("blocks.0.attention.weights", lambda weights: weights)
        torch.testing.assert_close(c["logits"], before, atol=1e-5, rtol=1e-4)
    assert torch.equal(built(IDS), before)


def test_passes_that_are_looked_at_inside_of_one_another_each_see_their_weights():
    built = model(Sdpa(heads=4))
    with replaced(built, {"blocks.0.attention.weights": lambda weights: weights}), capture(built, IDS) as c:
        assert c["blocks.0.attention.weights"].shape == (2, 4, 7, 7)
    assert not any(block.attention.attend_hooks for block in built.blocks)


def test_replaced_module_feeds_those_after_it():
    built = model(Sdpa(heads=4))
    with capture(built, IDS) as c:
        c.replace("blocks.1", c["blocks.0"])
        assert torch.equal(c["norm"], built.norm(c["blocks.0"]))
        assert torch.equal(c["logits"], built.logits(c["norm"]))


def test_shared_block_is_named_by_its_call():
    built = model(Sdpa(heads=4), share=2)
    with capture(built, IDS) as c:
        assert not torch.equal(c["blocks.0:0"], c["blocks.0:1"])
        assert torch.equal(c["norm"], built.norm(c["blocks.0:1"]))
        assert not torch.equal(c["blocks.0.attention.weights:0"], c["blocks.0.attention.weights:1"])
        with pytest.raises(ConfigError, match=r"blocks\.0: called 2 times in a pass; name one of them: blocks\.0:0"):
            c["blocks.0"]


@pytest.mark.parametrize("block", [Parallel, lambda attention: TokenShift(block=PreNorm(attention=attention))])
def test_attention_is_found_in_any_block(block):
    built = model(Sdpa(heads=4), block=block)
    with capture(built, IDS) as c:
        names = [name for name in c.names if name.endswith("attention.weights")]
        assert len(names) == 2
        assert c[names[1]].shape == (2, 4, 7, 7)


def step(value, look):
    value.train()
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(value.parameters(), lr=0.1)
    for _ in range(2):
        value(IDS).logsumexp(-1).sum().backward()
        if look:
            with capture(value, IDS) as c:
                c.replace("blocks.0.ffn", torch.zeros_like(c["blocks.0.ffn"]))
                assert c["logits"].isfinite().all()
        optimizer.step()
    return [param.clone() for param in value.parameters()]


def test_looking_changes_no_later_step():
    part = Sdpa(heads=4, dropout=0.5)
    built = model(part)
    with_looks, without = step(built, look=True), step(model(part), look=False)
    assert all(torch.equal(a, b) for a, b in zip(with_looks, without, strict=True))
    assert all(module.training for module in built.modules())


def test_exception_leaves_no_hook_behind():
    built = model(Sdpa(heads=4)).train()
    before = hooks(built)
    built.blocks[0].eval()
    broken = built.blocks[1].ffn.register_forward_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError), capture(built, IDS) as c:
        c["blocks.0"]
    broken.remove()
    with pytest.raises(ZeroDivisionError), replaced(built, {"blocks.0.attention.weights": lambda weights: weights}):
        1 / 0  # noqa: B018
    assert hooks(built) == before
    assert built.training and not built.blocks[0].training and built.blocks[1].training


def test_compiled_model_is_looked_at_eagerly_and_says_so():
    built = model(Sdpa(heads=4))
    wanted = built(IDS)
    for block in built.blocks:
        block.compile(backend="eager")
    with capture(built, IDS) as c:
        assert "looked at eagerly" in c.notes[0]
        assert torch.equal(c["logits"], wanted)
        assert c["blocks.1.attention.weights"].shape == (2, 4, 7, 7)
    with capture(model(Sdpa(heads=4)), IDS) as c:
        assert c.notes == ()


def test_layer_can_be_skipped():
    built = model(Sdpa(heads=4))
    with capture(built, IDS) as c:
        first = c["blocks.0"]
    with replaced(built, {"blocks.1": skipped}):
        assert torch.equal(built.hidden_states(IDS), built.norm(first))


def test_bad_requests_are_refused_with_a_remedy():
    built = model(Sdpa(heads=4))
    with capture(built, IDS) as c:
        with pytest.raises(ConfigError, match=r"Did you mean 'blocks\.0\.attention\.weights'"):
            c["blocks.0.attention.wieghts"]
        with pytest.raises(ConfigError, match=r"expected a tensor of shape \(2, 7, 16\), got \(7, 16\)"):
            c.replace("blocks.0", torch.zeros(7, 16))
        with pytest.raises(ConfigError, match="replace the weights or the heads"):
            c.replace("blocks.0.attention.values", torch.zeros(2, 4, 7, 4))
    with pytest.raises(ConfigError, match="9 tokens do not fit the context of 8"):
        capture(built, [1] * 9)
    with pytest.raises(ConfigError, match="ids from 0 to 11; the model has 0 to 10"):
        capture(built, [0, 11])
    with pytest.raises(ConfigError, match="at least"):
        capture(built, [])
    with pytest.raises(ConfigError, match="no tokenizer"):
        capture(built, "text")
    with pytest.raises(ConfigError, match="no such name"), replaced(built, {"blocks.7": skipped}):
        built(IDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "old", "new", "law"),
    [
        ("capture:eager_evaluation", "module.training = before", "pass", test_looking_changes_no_later_step),
        ("capture:eager_evaluation", "model.eval()", "pass", test_looking_changes_no_later_step),
        ("capture:hooked", "stack.callback(handle.remove)", "pass", test_exception_leaves_no_hook_behind),
        ("capture:see_output", "None if new is output else new", "new.roll(1, 0)", None),
        ("capture:merged", "b h t k -> b t (h k)", "b h t k -> b t (k h)", test_replaced_weights_are_those_of_the_pass),
        ("weights:softmax_weights", "math.sqrt(q.shape[-1])", "1", test_weights_times_values_are_the_output),
        ("weights:softmax_weights", "b (g n) s k", "b (n g) s k", test_weights_times_values_are_the_output),
    ],
)
def test_laws_catch_a_bug_in_the_lens(place, old, new, law):
    laws = {
        test_looking_changes_no_later_step: (),
        test_exception_leaves_no_hook_behind: (),
        test_weights_times_values_are_the_output: ("gqa", Rope()),
        test_replaced_weights_are_those_of_the_pass: (Sdpa(heads=4),),
        None: ("sdpa",),
    }
    check = law or test_logits_of_a_pass_that_is_looked_at_are_the_models_to_the_bit
    with mutated(f"nanotx.lens.{place}", old, new), pytest.raises((AssertionError, ConfigError)):
        check(*laws[law])
