"""Each class of transformers computes the models that its layout takes, at the scale of trained weights."""

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
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

TOLERANCE = 1e-5
"""The largest difference of logits, relative to their spread."""

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
    table = {POSITION_TABLE: position_table(model)}
    tensors = their_weights(layout.entries(shape), table | weights)
    for name in tensors:
        if name.endswith(forgotten):
            tensors[name].zero_()
    config = layout.config(shape)
    config = transformers.AutoConfig.for_model(**config)
    theirs, report = getattr(transformers, layout.class_name).from_pretrained(
        None, config=config, state_dict=tensors, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values()), report
    return theirs.eval()


@torch.no_grad()
def differences(model: Transformer, *others: Callable[[Tensor], Tensor], seed: int = 1) -> tuple[float, float]:
    """The largest difference of logits from those of others, and from the model's own in float64.

    On windows of random ids, both relative to the spread of the logits.
    """
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.vocab_size, (3, model.context), generator=draw)
    ours = model(ids)
    exact = copy.deepcopy(model).double()(ids)
    spread = float(ours.std())
    return max(float((ours - other(ids)).abs().max()) for other in others) / spread, float(
        (ours - exact).abs().max()
    ) / spread


def error(model: Transformer, theirs, seed: int = 1) -> float:
    """The largest difference of logits, in units of what is allowed.

    A model of few numbers can be ill-conditioned; its own rounding errors tell how much.
    """
    difference, rounding = differences(model, lambda ids: theirs(ids).logits, seed=seed)
    return difference / max(TOLERANCE, 16 * rounding)


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
    assert error(model, exported(model, BY_NAME[name])) < 1


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
            assert error(model, exported(model, layout)) < 1, layout.class_name


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
    assert error(model, exported(model, layout())) > 10


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
    return error(model, exported(model, layout, place))


@pytest.mark.parametrize(("config", "place"), BIASES)
def test_bias_that_is_dropped_is_noticed(config, place):
    assert with_a_bias_dropped(config, place, seed=3) > 10


def test_original_length_is_that_of_the_part():
    config, layout = dataclasses.replace(LLAMA3, position=RopeLlama3()), BY_NAME["LlamaForCausalLM"]
    model = trained(config, vocab_size=11, seed=3)
    shape = model_shape(config, 11, to_canonical(model, dict(model.state_dict())))
    assert shape.position.original == 1  # the context of 8 over a factor of 8
    assert error(model, exported(model, layout)) < 1


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
