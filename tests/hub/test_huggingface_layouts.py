"""Each class of transformers computes the models that its layout takes, at the scale of trained weights."""

import dataclasses
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch
from float64 import Float64, float64_by_default, in_float64, widened
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nanotx.hub.huggingface.export import position_table
from nanotx.hub.huggingface.layouts import (
    LAYOUTS,
    POSITION_TABLE,
    SAME,
    Gpt2,
    GptNeoX,
    Layout,
    Llama,
    Qwen3,
    their_weights,
)
from nanotx.hub.huggingface.proof import moved_by_last_bits
from nanotx.hub.huggingface.shape import Unfit, model_shape
from nanotx.nn.attention.fused import Fused
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.linear import LinearKernel
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_gqa import SlidingGroupedQuery
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block.parallel import Parallel
from nanotx.nn.block.parallel_norms import ParallelNorms
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.canonical import to_canonical
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.ffn.geglu import GeGlu
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.norm.none import NoNorm
from nanotx.nn.norm.rmsnorm import RmsNorm
from nanotx.nn.position.alibi import Alibi
from nanotx.nn.position.learned import Learned
from nanotx.nn.position.none import NoPosition
from nanotx.nn.position.rope import Rope
from nanotx.nn.position.rope_linear import RopeLinear
from nanotx.nn.position.rope_llama3 import RopeLlama3
from nanotx.nn.position.rope_ntk import RopeNtk
from nanotx.nn.position.rope_partial import RopePartial
from nanotx.nn.position.rope_yarn import RopeYarn
from nanotx.nn.position.sinusoidal import Sinusoidal
from nanotx.nn.transformer import Model, Transformer

transformers = pytest.importorskip("transformers")

EXACT = 1e-11
"""The largest difference of logits in float64, relative to their spread; that of a wrong formula is over 1e-5."""

TOLERANCE = 1e-5
"""The largest difference of logits in float32."""

ROUNDING = 2.0
"""A model that magnifies rounding may differ by this many times what the last bits of the class's weights do."""

BY_NAME = {layout.class_name: layout for layout in LAYOUTS}


def trained(config: Model, vocab_size: int, seed: int) -> Transformer:
    """A model whose weights, norms and biases included, have the scale that training gives them."""
    model = config.build(vocab_size, seed).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            if weight.ndim == 1:
                weight.add_(0.3 * noise)
            else:
                weight.copy_(noise * (1.0 if "embedding" in name else 1.5 / weight.shape[-1] ** 0.5))
    return model


def exported(model: Transformer, layout: Layout, forgotten: str = "nothing"):
    """The model as transformers computes it, weights whose names end in `forgotten` left at zero."""
    weights = to_canonical(model, dict(model.state_dict()))
    shape = model_shape(model.config, model.vocab_size, weights)
    assert not layout.misfits(shape)
    with precision(model):
        table = {POSITION_TABLE: position_table(model)}
        tensors = their_weights(layout.entries(shape), table | weights)
        for name in tensors:
            if name.endswith(forgotten):
                tensors[name].zero_()
        theirs, report = getattr(transformers, layout.class_name).from_pretrained(
            None,
            config=transformers.AutoConfig.for_model(**layout.config(shape)),
            state_dict=tensors,
            dtype=model.head.weight.dtype,
            attn_implementation="eager",
            output_loading_info=True,
        )
    assert not any(report.values()), report
    return theirs.eval()


def precision(model):
    """The context in which a class has the precision of this model, ours or theirs."""
    return in_float64() if next(model.parameters()).dtype is torch.float64 else nullcontext()


@torch.no_grad()
def computed(theirs, ids: Tensor) -> Tensor:
    """The logits of a class."""
    with precision(theirs):
        return theirs(ids).logits


class Difference(NamedTuple):
    """The largest differences of logits, relative to their spread."""

    float64: float  # of the two functions
    float32: float  # of what is computed
    rounding: float  # of the class in float32 from itself in float64
    allowed: float  # in float32: more than `TOLERANCE` where the last bits of the class's weights do more

    def check(self) -> "Difference":
        """Raise AssertionError if it is more than is allowed."""
        assert self.float64 < EXACT
        assert self.float32 < self.allowed
        return self


def windows(model: Transformer) -> Tensor:
    """Windows of random ids, which fill the context."""
    return torch.randint(model.vocab_size, (3, model.context), generator=torch.Generator().manual_seed(1))


def far(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference of logits, relative to their spread."""
    return float((ours.double() - theirs.double()).abs().max() / ours.double().std())


@torch.no_grad()
def difference(model: Transformer, layout: Layout, *, saved=None, read: Transformer | None = None) -> Difference:
    """How far a model is from the class of a layout, or from a model that was read from what the class saved.

    Args:
        model: ours.
        layout: of the class.
        saved: the class with the model's weights, if it is at hand.
        read: a model of ours with the weights of `saved`, to the bit, which has to be as near to the class.
    """
    ids, theirs = windows(model), exported(model, layout) if saved is None else saved
    ours = [model] if read is None else [model, read]
    if read is not None:
        again = exported(read, layout).state_dict()
        assert all(torch.equal(weight, again[name]) for name, weight in theirs.state_dict().items())
    logits = computed(theirs, ids)
    wide = [widened(each) for each in ours]  # a table of positions that was read is one of float32
    exact = [computed(exported(each, layout), ids) for each in wide]
    float32, allowed = max(far(each(ids), logits) for each in ours), TOLERANCE
    if not float32 < allowed:
        moved = moved_by_last_bits(lambda: computed(theirs, ids), theirs.parameters(), float(logits.std()))
        allowed = max(allowed, ROUNDING * moved)
    return Difference(
        float64=max(far(each(ids), other) for each, other in zip(wide, exact, strict=True)),
        float32=float32,
        rounding=far(exact[0], logits),
        allowed=allowed,
    )


def error(model: Transformer, layout: Layout, forgotten: str = "nothing") -> float:
    """The largest difference of logits in float64, from those of a class with some weights left at zero."""
    wide, ids = widened(model), windows(model)
    with torch.no_grad():
        return far(wide(ids), computed(exported(wide, layout, forgotten), ids))


widths = st.sampled_from([(1, 8), (2, 8), (3, 4), (4, 6), (6, 2)])
"""Number of heads, and the width of one."""


@st.composite
def attentions(draw, parts, *, biases=("bias", "out_bias"), qk_norm=False, own_width=True):
    heads, _ = size = draw(widths)
    part = draw(st.sampled_from(parts))
    fields = {name: draw(st.booleans()) for name in biases}
    if part in (GroupedQuery, SlidingGroupedQuery):
        fields["kv_heads"] = draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    if part in (SlidingWindow, SlidingGroupedQuery):
        fields["window"] = draw(st.integers(1, 8))
    if own_width:
        fields["head_dim"] = draw(st.sampled_from([None, 2, 6, 10]))
    return part(heads=heads, qk_norm=qk_norm, **fields), size[0] * size[1]


@st.composite
def models(draw, kind: str):
    """A config that the layout of this name takes."""
    norm = RmsNorm(eps=draw(st.sampled_from([1e-6, 1e-5, 1e-3])))
    position = draw(
        st.sampled_from([Rope(), Rope(theta=500.0), RopeLinear(factor=3.0), RopeNtk(theta=100.0, factor=2.5)])
    )
    llama3 = RopeLlama3(theta=draw(st.sampled_from([10.0, 1e4])), original=draw(st.sampled_from([1, 5, 700])))
    dense, windows = (Fused, Sdpa, PerHead, GroupedQuery), (SlidingWindow, SlidingGroupedQuery)
    blocks = (PreNorm,)
    ffn_bias = draw(st.booleans())
    ffns = [SwiGlu(bias=ffn_bias), GeGlu(bias=ffn_bias, hidden_dim=12), Relu2(bias=ffn_bias)]
    if kind in ("GPT2LMHeadModel", "GPTNeoXForCausalLM"):
        norm = LayerNorm(eps=draw(st.sampled_from([1e-5, 1e-3])), bias=draw(st.booleans()))
        attention, dim = draw(attentions((Fused, Sdpa, PerHead), own_width=False))
        ffns = [Mlp(bias=ffn_bias), Mlp(activation="relu", bias=ffn_bias, hidden_dim=10), Relu2(bias=ffn_bias)]
        ffns.append(Mlp(activation="gelu_tanh", bias=ffn_bias))
        if kind == "GPT2LMHeadModel":
            position = draw(st.sampled_from([Learned(), NoPosition(), *([] if dim % 2 else [Sinusoidal(theta=50.0)])]))
        else:
            blocks = (PreNorm, Parallel, ParallelNorms)
            partial = RopePartial(theta=draw(st.sampled_from([9.0, 1e4])), fraction=draw(st.floats(1 / 64, 1)))
            position = draw(st.sampled_from([position, partial]))
    elif kind == "MistralForCausalLM":
        attention, dim = draw(attentions(windows, biases=()))
        ffns = [SwiGlu(), GeGlu(), Relu2()]
    elif kind == "Qwen3ForCausalLM":
        norm = RmsNorm()
        attention, dim = draw(attentions((*dense, *windows), qk_norm=True))
        ffns = [SwiGlu(), GeGlu(), Relu2()]
    elif kind == "Qwen2ForCausalLM":
        attention, dim = draw(attentions((*dense, *windows), biases=("bias",)))
        ffns = [SwiGlu(), GeGlu(), Relu2()]
    else:
        attention, dim = draw(attentions(dense))
        if kind == "ArceeForCausalLM":
            ffns = [Mlp(bias=ffn_bias), Mlp(activation="relu", bias=ffn_bias), Relu2(bias=ffn_bias)]
    block = draw(st.sampled_from(blocks))(attention=attention, ffn=draw(st.sampled_from(ffns)), norm=norm)
    pattern = (block,)
    if isinstance(attention, windows) and kind.startswith("Qwen") and draw(st.booleans()):
        fields = {name: getattr(attention, name) for name in ("heads", "head_dim", "bias", "out_bias", "qk_norm")}
        whole = GroupedQuery(kv_heads=attention.kv_heads, **fields)
        pattern = (block, dataclasses.replace(block, attention=whole))
    if isinstance(position, Rope | RopeLinear | RopeNtk) and draw(st.integers(0, 3)) == 0:
        position = llama3
    return Model(
        dim=dim,
        layers=2 * draw(st.integers(1, 2)),
        share=draw(st.sampled_from([1, 2])),
        context=draw(st.integers(2, 12)),
        tied=draw(st.booleans()),
        position=position,
        norm=norm,
        blocks=pattern,
    )


@pytest.mark.parametrize("name", BY_NAME)
@given(data=st.data())
def test_logits_are_those_of_the_model(name, data):
    model = trained(data.draw(models(name)), data.draw(st.integers(2, 40)), data.draw(st.integers(0, 1000)))
    difference(model, BY_NAME[name]).check()


@st.composite
def mixed_models(draw):
    """A config of one layout with some parts of another's, which few layouts or none take."""
    model, other = (draw(st.sampled_from(sorted(BY_NAME)).flatmap(models)) for _ in range(2))
    ffn = draw(st.sampled_from([model, other])).blocks[0].ffn
    norms = draw(st.sampled_from([(model, model), (other, other), (model, other)]))
    qk_norm = draw(st.booleans())
    blocks = tuple(
        dataclasses.replace(
            block,
            ffn=ffn,
            norm=norms[0].blocks[0].norm,
            attention=dataclasses.replace(block.attention, qk_norm=qk_norm),
        )
        for block in model.blocks
    )
    position = draw(st.sampled_from([model, other])).position
    position = NoPosition() if isinstance(position, Sinusoidal) and model.dim % 2 else position
    return dataclasses.replace(model, blocks=blocks, norm=norms[1].norm, position=position)


@given(config=mixed_models())
@settings(max_examples=200)
def test_layout_that_takes_a_model_computes_it(config):
    model = trained(config, vocab_size=7, seed=5)
    shape = model_shape(config, 7, to_canonical(model, dict(model.state_dict())))
    for layout in LAYOUTS:
        if not layout.misfits(shape):
            assert error(model, layout) < EXACT, layout.class_name


GPT2 = Model(
    dim=16,
    layers=2,
    context=8,
    position=Learned(),
    norm=LayerNorm(),
    block=PreNorm(attention=Sdpa(heads=2, bias=True), ffn=Mlp(bias=True), norm=LayerNorm()),
)
QWEN3 = Model(dim=16, layers=2, context=8, block=PreNorm(attention=Sdpa(heads=2, qk_norm=True), ffn=Relu2()))


LLAMA3 = Model(dim=16, layers=2, context=8, position=RopeLlama3(theta=10.0, original=12), block=PreNorm(ffn=SwiGlu()))
NEOX = Model(
    dim=16,
    layers=2,
    context=8,
    position=RopePartial(theta=10.0, fraction=0.5),
    norm=LayerNorm(),
    block=ParallelNorms(attention=Sdpa(heads=2, bias=True), ffn=Mlp(bias=True), norm=LayerNorm()),
)


class TanhGelu(Gpt2):
    def other_config(self, shape):
        return super().other_config(shape) | {"activation_function": "gelu_new"}


class SquareNotTransposed(Gpt2):
    def entries(self, shape):
        return [dataclasses.replace(e, form=SAME) if "attn.c_proj" in e.theirs else e for e in super().entries(shape)]


class OtherEps(Gpt2):
    def other_config(self, shape):
        return super().other_config(shape) | {"layer_norm_epsilon": 1e-3}


class BiasOfAnotherLayer(Gpt2):
    def entries(self, shape):
        place = "h.1.mlp.c_fc.bias"
        return [
            dataclasses.replace(e, ours="blocks.0.ffn.to_hidden.bias") if e.theirs.endswith(place) else e
            for e in super().entries(shape)
        ]


class Interleaved(Qwen3):
    def attention_entries(self, shape, theirs, ours):
        axes, form = (("h", shape.layer.heads), ("two", 2)), ("(h two f) d", "(h f two) d")
        return [
            dataclasses.replace(e, form=form, axes=axes) if e.theirs.endswith(("q_proj.weight", "k_proj.weight")) else e
            for e in super().attention_entries(shape, theirs, ours)
        ]


class OtherBounds(Llama):
    def other_config(self, shape):
        config = super().other_config(shape)
        return config | {"rope_parameters": config["rope_parameters"] | {"high_freq_factor": 8.0}}


class WholeHeads(GptNeoX):
    def other_config(self, shape):
        config = super().other_config(shape)
        return config | {"rope_parameters": config["rope_parameters"] | {"partial_rotary_factor": 1.0}}


class NormsSwapped(GptNeoX):
    def entries(self, shape):
        swap = {"attention_norm": "ffn_norm", "ffn_norm": "attention_norm"}
        return [
            dataclasses.replace(e, ours=".".join(swap.get(name, name) for name in e.ours.split(".")))
            for e in super().entries(shape)
        ]


class GateNotSquared(Qwen3):
    def other_config(self, shape):
        return super().other_config(shape) | {"hidden_act": "silu"}


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (GPT2, TanhGelu),
        (GPT2, SquareNotTransposed),
        (GPT2, OtherEps),
        (GPT2, BiasOfAnotherLayer),
        (QWEN3, Interleaved),
        (QWEN3, GateNotSquared),
        (LLAMA3, OtherBounds),
        (NEOX, WholeHeads),
        (NEOX, NormsSwapped),
    ],
)
def test_wrong_layouts_are_noticed(config, layout):
    model = trained(config, vocab_size=11, seed=3)
    assert error(model, layout()) > 10 * TOLERANCE


BIASED = dataclasses.replace(
    GPT2, block=PreNorm(attention=Sdpa(heads=2, bias=True, out_bias=True), ffn=Mlp(bias=True), norm=LayerNorm())
)
QWEN2 = dataclasses.replace(QWEN3, block=PreNorm(attention=Sdpa(heads=2, bias=True), ffn=SwiGlu()))
BIASES = [
    *(
        (BIASED, f"{place}.bias")
        for place in ("1.ln_1", "0.ln_2", "ln_f", "1.attn.c_attn", "0.attn.c_proj", "0.mlp.c_proj")
    ),
    *((QWEN2, f"layers.1.self_attn.{place}_proj.bias") for place in "qkv"),
    *((NEOX, f"layers.0.{place}.bias") for place in ("attention.query_key_value", "mlp.dense_4h_to_h")),
]
"""Models, and the end of the name of a bias in each."""


def with_a_bias_dropped(config: Model, place: str, seed: int) -> float:
    """The error of a class that has one bias of the model at zero."""
    model = trained(config, vocab_size=11, seed=seed)
    shape = model_shape(config, 11, to_canonical(model, dict(model.state_dict())))
    layout = next(layout for layout in LAYOUTS if not layout.misfits(shape))
    assert sum(entry.theirs.endswith(place) for entry in layout.entries(shape)) == 1
    return error(model, layout, place)


@pytest.mark.parametrize(("config", "place"), BIASES)
def test_bias_that_is_dropped_is_noticed(config, place):
    assert with_a_bias_dropped(config, place, seed=3) > 10 * TOLERANCE


def test_original_length_is_that_of_the_part():
    config, layout = dataclasses.replace(LLAMA3, position=RopeLlama3()), BY_NAME["LlamaForCausalLM"]
    model = trained(config, vocab_size=11, seed=3)
    shape = model_shape(config, 11, to_canonical(model, dict(model.state_dict())))
    assert shape.position.original == 1  # the context of 8 over a factor of 8
    difference(model, layout).check()


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - {"GPT2LMHeadModel"}))
@given(data=st.data())
def test_frequencies_are_those_of_the_class_to_the_last_bit(name, data):
    model = data.draw(models(name)).build(2)
    theirs = [x for key, x in exported(model, BY_NAME[name]).named_buffers() if key.endswith("rotary_emb.inv_freq")]
    assert len(theirs) == 1 and torch.equal(model.position.rates, theirs[0])


@pytest.mark.parametrize("position", [Rope(), Rope(theta=5e5), RopeNtk(theta=7.0), RopeLlama3(theta=5e5, original=99)])
def test_long_texts_differ_no_more_than_short_ones(position):
    config = Model(dim=64, layers=2, context=512, position=position, block=PreNorm(attention=Sdpa(heads=2)))
    model = trained(config, vocab_size=11, seed=3)
    assert difference(model, BY_NAME["LlamaForCausalLM"]).check().float32 < TOLERANCE


def test_class_that_is_cast_to_float64_rounds_to_float32_within():
    model = trained(QWEN3, vocab_size=11, seed=3)
    ids, theirs, wide = windows(model), exported(model, Qwen3()).double(), widened(model)
    with torch.no_grad():
        assert far(wide(ids), theirs(ids).logits) > 1e4 * EXACT


def test_float32_is_not_asked_for_in_float64():
    x = torch.full((3,), 0.1, dtype=torch.float64)
    with float64_by_default(), Float64():
        for y in (x.to(torch.float32), x.float(), x.softmax(-1, dtype=torch.float32), torch.tensor(1).float() / 10):
            assert y.dtype is torch.float64
        with pytest.raises(AssertionError, match=r"_to_copy.default: a result in torch.bfloat16"):
            x.bfloat16()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"embedding": Ngrams()}, "embedding ngrams"),
        ({"head_bias": True}, "model.head-bias"),
        ({"softcap": 30.0}, "model.softcap"),
        ({"position": RopeYarn()}, "position rope_yarn"),
        ({"position": Alibi()}, "position alibi"),
        ({"position": RopeLlama3(factor=3.0)}, "position rope_llama3: .* no whole number of tokens"),
        ({"block": TokenShift()}, "block token_shift"),
        ({"block": PreNorm(attention=LinearKernel())}, "attention linear"),
        ({"block": PreNorm(ffn=MixtureOfExperts())}, "ffn moe"),
        ({"block": PreNorm(norm=NoNorm())}, "block.norm none"),
        ({"norm": NoNorm()}, "model.norm none"),
        ({"blocks": (PreNorm(), PreNorm(ffn=Relu2()))}, "layers may differ in their windows alone"),
    ],
)
def test_parts_without_a_class_are_named(fields, reason):
    config = Model(dim=16, layers=2, context=8, **fields)
    model = config.build(5)
    with pytest.raises(Unfit, match=reason):
        model_shape(config, 5, to_canonical(model, dict(model.state_dict())))
