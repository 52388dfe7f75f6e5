"""A trace sees every call of einops, changes no bit, and leaves nothing behind."""

import sys
import textwrap
from pathlib import Path

import einops
import pytest
import torch
from einops.layers.torch import EinMix, Rearrange
from mutated import mutated
from torch import nn

from nanotx.errors import ConfigError
from nanotx.lens.axes import axis_sizes, with_ellipsis
from nanotx.lens.lesson import last_values, lesson, number
from nanotx.lens.source import spans, statement_at
from nanotx.lens.trace import trace as traced
from nanotx.lens.trace import watched
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.position.none import NoPosition
from nanotx.nn.transformer import Model

IDS = torch.tensor([[3, 1, 4, 1, 5]])
PARTS = [pytest.param(name, marks=pytest.mark.slow) if name == "flex" else name for name in Attention.names()]
"""Names of the attentions; flex imports PyTorch's compiler, which takes seconds."""


def trace(built, ids):
    return traced(built, ids, passes=1)


def model(attention, layers=2, blocks=(), **others):
    config = Model(dim=16, layers=layers, context=8, blocks=blocks or (PreNorm(attention=attention),), **others)
    return config.build(11, seed=1).eval()


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_traced_logits_are_the_models_to_the_bit(name):
    built = model(Attention.find(name)(heads=2))
    result = trace(built, IDS)
    assert torch.equal(result.logits, built(IDS)[0])
    assert torch.equal(result.steps[-1].result[0], result.logits)
    assert all(step.sizes for step in result.einops)


def test_einops_calls_of_an_attention_are_seen_in_order_with_their_sizes():
    result = trace(model(Fused(heads=2), layers=1, position=NoPosition()), IDS)
    calls = [(step.name, step.shown) for step in result.einops if step.module == "blocks.0.attention"]
    assert calls == [
        ("rearrange", "b t (n k) -> b t n k"),
        *[("rearrange", "b t n k -> b n t k")] * 3,
        ("einsum", "b h t k, b h s k -> b h t s"),
        ("rearrange", "t -> t 1"),
        ("rearrange", "s -> 1 s"),
        ("einsum", "b h t s, b h s k -> b h t k"),
        ("rearrange", "b h t k -> b t (h k)"),
    ]
    scores = next(step for step in result.einops if step.name == "einsum")
    assert scores.sizes == {"b": 1, "h": 2, "t": 5, "k": 8, "s": 5}
    assert scores.statement.file == "nanotx/nn/attention/fused.py"
    assert scores.statement.code.startswith('scores = einsum(q, k, "b h t k, b h s k -> b h t s")')
    source = Path(sys.modules[Fused.__module__].__file__).read_text(encoding="utf-8").splitlines()
    assert source[scores.statement.line - 1].strip() == scores.statement.code


def test_axes_between_einops_calls_have_names():
    shown = {step.name: step.shown for step in trace(model(Fused(heads=2), layers=1), IDS).steps}
    assert shown["softmax"] == "b h t s"
    assert shown["cat"] in ("b h t k", "b h s k")
    assert shown["embedding"] == "b t d"
    assert shown["blocks.0.attention.to_qkv"] == "b t d -> b t (n k)"
    assert shown["blocks.0.attention.to_out"] == "b t (h k) -> b t d"
    assert shown["blocks.0.ffn.to_hidden"] == "b t d -> b t (two f)"  # as the call after it says
    assert shown["blocks.0.ffn.to_out"] == "b t f -> b t d"
    assert shown["head"] == "b t d -> b t v"


def test_number_of_einops_calls_is_that_of_a_count_in_einops_itself(monkeypatch):
    built, count = (
        model(PerHead(heads=2), blocks=(PreNorm(attention=PerHead(heads=2), ffn=MixtureOfExperts(experts=3)),)),
        [],
    )
    for name in ("_apply_recipe", "_compactify_pattern_for_einsum"):  # each call of einops calls one of the two
        inner = getattr(einops.einops, name)
        monkeypatch.setattr(einops.einops, name, lambda *a, inner=inner, **k: (count.append(1), inner(*a, **k))[1])
    with torch.no_grad():
        built(IDS)
    expected = len(count)
    assert len(trace(built, IDS).einops) == expected > 30


class Layered(nn.Module):
    """A feed-forward of a user with a layer of einops, `reduce`, `pack` and a list of tensors."""

    def __init__(self):
        super().__init__()
        self.split = Rearrange("b t (two d) -> two b t d", two=2)
        self.mix = EinMix("b t d -> b t f", weight_shape="d f", d=16, f=16)

    def forward(self, x):
        left, right = self.split(x)
        mean = einops.reduce(left, "b t d -> b t", "mean")
        both = einops.rearrange([left, right], "two b t d -> b t (two d)")
        packed, _ = einops.pack([self.mix(both)], "b t *")
        return packed * einops.repeat(mean, "b t -> b t 1")


def test_every_function_and_layer_of_einops_is_seen():
    built = model(Sdpa(heads=2), layers=1)
    built.blocks[0].ffn = Layered()
    result = trace(built, IDS)
    calls = [step for step in result.einops if step.module.startswith("blocks.0.ffn")]
    names = [step.name for step in calls]
    assert names == ["Rearrange", "reduce mean", "rearrange", "EinMix", "pack", "repeat"]
    assert calls[0].module == "blocks.0.ffn.split" and calls[0].sizes == {"b": 1, "t": 5, "two": 2, "d": 8}
    assert calls[2].sizes == {"two": 2, "b": 1, "t": 5, "d": 8}
    assert "self.split(x)" in calls[0].statement.code
    assert calls[1].statement.code == 'mean = einops.reduce(left, "b t d -> b t", "mean")'


def test_tracing_leaves_nothing_behind_also_after_an_exception():
    built = model(Fused(heads=2)).train()
    built.blocks[1].eval()
    functions, depth = dict(vars(einops.einops)), torch._C._len_torch_function_stack()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in built.modules()]
    trace(built, IDS)
    built.blocks[1].ffn.register_forward_hook(lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError), watched(built):
        built(IDS)
    with pytest.raises(ZeroDivisionError):
        trace(built, IDS)
    assert sys.getprofile() is None
    assert torch._C._len_torch_function_stack() == depth
    assert dict(vars(einops.einops)) == functions
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in built.modules()) == sum(hooks) + 1
    assert built.training and built.blocks[0].training and not built.blocks[1].training


def test_exception_inside_of_an_einops_call_does_not_hide_later_calls():
    built = model(Fused(heads=2), layers=1)

    class Careless(nn.Module):
        def forward(self, x):
            try:
                einops.rearrange(x, "b t -> t b")
            except einops.EinopsError:
                return einops.rearrange(x, "b t d -> b t d")

    built.blocks[0].ffn = Careless()
    calls = [step.shown for step in trace(built, IDS).einops if step.module == "blocks.0.ffn"]
    assert calls == ["b t d -> b t d"]


def test_result_that_is_changed_in_place_later_is_shown_as_it_was():
    class Hasty(nn.Module):
        def forward(self, x):
            y = einops.rearrange(x, "b t d -> t b d") + 1
            y.zero_()
            return einops.rearrange(y, "t b d -> b t d")

    built = model(Sdpa(heads=2), layers=1)
    built.blocks[0].ffn = Hasty()
    steps = [step for step in trace(built, IDS).steps if step.module == "blocks.0.ffn"]
    assert [step.name for step in steps][:2] == ["rearrange", "+"]
    assert torch.equal(steps[1].result, steps[0].result + 1) and steps[1].result.any()


def test_another_profiler_is_refused_and_left_as_it_is():
    def other(*args):
        return None

    sys.setprofile(other)
    try:
        with pytest.raises(ConfigError, match="another profiler"):
            trace(model(Sdpa(heads=2)), IDS)
        assert sys.getprofile() is other
    finally:
        sys.setprofile(None)


@pytest.mark.slow
def test_compiled_model_is_traced_eagerly_and_that_is_noted():
    built = model(Fused(heads=2))
    steps = len(trace(built, IDS).steps)
    for block in built.blocks:
        block.compile(backend="eager")
    result = trace(built, IDS)
    assert "traced eagerly" in result.notes[0]
    assert len(result.steps) == steps


def test_several_texts_are_refused():
    with pytest.raises(ConfigError, match="the ids of one text, got 2"):
        trace(model(Sdpa(heads=2)), IDS.repeat(2, 1))


def test_layers_of_one_kind_are_shown_once():
    blocks = (PreNorm(attention=Fused(heads=2)), PreNorm(attention=GroupedQuery(heads=2, kv_heads=1)))
    built = model(None, layers=6, blocks=blocks)
    result = trace(built, IDS)

    def shown(**options):
        sections = lesson(result, built, **options)
        layers = {section.module.split(".")[1] for section in sections if section.module.startswith("blocks")}
        return sorted(layers), [section.note for section in sections if not section.kind]

    assert shown() == (["0", "1"], ["Layers 2 to 5 take the steps of layers 0, 1 with their own weights."])
    assert shown(everything=True) == (list("012345"), [])
    layers, notes = shown(layer=3)
    assert layers == ["3"] and notes[0] == "Layers 0 to 2: not shown."
    with pytest.raises(ConfigError, match="--layer: 6, and the model has layers 0 to 5"):
        lesson(result, built, layer=6)


def test_layers_that_share_their_weights_are_told_apart():
    built = model(Fused(heads=2), layers=4, share=2)
    assert sorted({step.layer for step in trace(built, IDS).steps if step.layer is not None}) == [0, 1, 2, 3]


def test_heads_that_are_modules_are_shown_once():
    built = model(PerHead(heads=4), layers=1)
    result = trace(built, IDS)
    section = next(part for part in lesson(result, built) if part.module == "blocks.0.attention")
    assert section.note == "heads.1 to heads.3: the same steps with their own weights."
    whole = next(part for part in lesson(result, built, everything=True) if part.module == "blocks.0.attention")
    assert not whole.note and len(whole.lines) > 2 * len(section.lines)


def test_sizes_of_axes_follow_from_both_sides_and_from_the_call():
    heads = [("b t (n k)", (1, 5, 12)), ("b t n k", (1, 5, 3, 4))]
    assert axis_sizes(heads, {"n": 3}) == {"b": 1, "t": 5, "n": 3, "k": 4}
    halves = [("... t (two f)", (1, 2, 5, 8)), ("two ... t f", (2, 1, 2, 5, 4))]
    assert axis_sizes(halves, {}) == {"t": 5, "two": 2, "f": 4}
    assert axis_sizes([("b (h w)", (2, 6)), ("b", (2,))], {"w": 3}) == {"b": 2, "h": 2, "w": 3}
    assert axis_sizes([("b 1 ()", (2, 1, 1))], {}) == {"b": 2}
    assert axis_sizes([("b t", (2,))], {}) == {}
    assert with_ellipsis("... t (two f)", "two ... t f", ["b", "h", "t", "k"]) == "two b h t f"
    assert with_ellipsis("... t (two f)", "two ... t f", []) == "two ... t f"


def test_statement_around_a_line_is_found_whole(tmp_path):
    check_statements(tmp_path)


def check_statements(tmp_path):
    file = tmp_path / "part.py"
    file.write_text(
        textwrap.dedent("""\
        def f(x):
            for row in (
                x
            ):
                y = g(
                    row,
                )
            return y
        """),
        encoding="utf-8",
    )
    assert statement_at(str(file), 6).code == "y = g(\n    row,\n)"
    assert statement_at(str(file), 6).line == 5
    assert statement_at(str(file), 3).code == "for row in (\n    x\n):"
    assert statement_at(str(file), 8).code == "return y"
    assert statement_at(str(tmp_path / "missing.py"), 3).code == ""


def test_values_are_those_of_the_last_token():
    tensor = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert last_values(tensor, 2) == tensor[0, -1, :2].tolist()
    assert last_values(torch.tensor(3.0), 2) == [3.0]
    assert last_values(torch.tensor([True, False]), 2) == [1.0, 0.0]
    assert [number(value) for value in (1.0, -0.12345, 1e-9, float("-inf"), 1e9)] == [
        "1",
        "-0.123",
        "1e-09",
        "-inf",
        "1e+09",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "old", "new", "law"),
    [
        ("trace:watched", "sys.setprofile(None)", "pass", test_tracing_leaves_nothing_behind_also_after_an_exception),
        ("trace:Watch.close", "self.open = None", "pass", test_every_function_and_layer_of_einops_is_seen),
        (
            "trace:Watch.as_step",
            "result.clone()",
            "result",
            test_result_that_is_changed_in_place_later_is_shown_as_it_was,
        ),
        (
            "trace:FunctionMode.__torch_function__",
            "return result",
            "return 2 * result if func.__name__ == 'softmax' else result",
            None,
        ),
        ("trace:Watch.name_axes", "step.axes_out = ", "unused = ", test_axes_between_einops_calls_have_names),
        ("axes:axis_sizes", "size // max", "size + max", test_sizes_of_axes_follow_from_both_sides_and_from_the_call),
        ("source:last_line", "min(inner) - 1", "min(inner)", check_statements),
        ("lesson:omission", "set(like) & set(omitted)", "False", test_layers_of_one_kind_are_shown_once),
    ],
)
def test_laws_of_tracing_catch_a_bug_in_it(place, old, new, law, tmp_path):
    statement_at.cache_clear()
    spans.cache_clear()
    check = law or (lambda: test_traced_logits_are_the_models_to_the_bit("fused"))
    try:
        with (
            mutated(f"nanotx.lens.{place}", old, new),
            pytest.raises((AssertionError, ConfigError, TypeError, KeyError)),
        ):
            check(tmp_path) if law is check_statements else check()
    finally:
        sys.setprofile(None)
        statement_at.cache_clear()
        spans.cache_clear()
