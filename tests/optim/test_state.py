"""The state of an optimizer is saved by the names of the parameters and read back to the bit, or refused by name."""

import json
import math
from collections import deque
from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx.errors import ConfigError, LawBroken, RunError
from nanotx.laws.learning import resumes
from nanotx.nn.attention import Attention
from nanotx.optim import Optimizer, packing, state
from nanotx.optim.packing import MAX_DEPTH, Unsaveable, check_packed, pack, same, unpack
from nanotx.optim.state import Saved, StateCodec, check_table


def rows_and_columns(gradient):
    """The state of a factored second moment, whose shapes are not the parameter's."""
    square = gradient.square() + 1e-30
    return ("rows", square.mean(-1)), ("columns", square.mean(0)) if square.ndim > 1 else ("all", square)


class Everything(torch.optim.Optimizer):
    """Each step depends on state of every kind: of parameters, of groups, of neither."""

    def __init__(self, groups):
        super().__init__(groups, {"lr": 0.01})
        self.momentum = 0.5

    @torch.no_grad()
    def step(self, closure=None):
        shared = self.state["all of them"]
        shared["total"] = shared.get("total", torch.zeros((), dtype=torch.float64)) + 1
        self.momentum *= 0.9
        for group in self.param_groups:
            group["beta"] = group.get("beta", 0.9) ** 0.5
            group["norm"] = group.get("norm", torch.zeros(2)) + 1
            for param in group["params"]:
                if param.grad is not None:
                    self.move(param, group, float(shared["total"]))

    def move(self, param, group, total):
        own = self.state[param]
        own["step"] = own.get("step", 0) + 1
        own["low"] = own.get("low", torch.zeros_like(param, dtype=torch.bfloat16)) + param.grad.bfloat16() / 3
        own["wide"] = own.get("wide", torch.zeros_like(param, dtype=torch.float64)) + param.grad.double() / 3
        own["met"] = torch.logical_or(own.get("met", torch.zeros_like(param, dtype=torch.bool)), param.grad > 0)
        own["count"] = own.get("count", torch.tensor(2**60)) + 1
        own["last"] = None if own["step"] % 2 else param.grad.clone()
        own["nested"] = {"a/b": [(own["step"], math.inf), param.grad.mean()], "name": f"step {own['step']}"}
        rate = 1 / (1 + own["step"]) + float(own["nested"]["a/b"][1]) * len(own["nested"]["name"])
        for key, square in rows_and_columns(param.grad) if param.ndim else ():
            own[key] = own.get(key, 0) + square
            rate += float(own[key].mean())
        last = 0 if own["last"] is None else own["last"]
        move = own["low"].float() + own["wide"].float() + own["met"] + float(own["count"] - 2**60) + last
        param -= group["lr"] * group["beta"] * group["norm"].sum() * (rate + total + self.momentum) * move

    def state_dict(self):
        return super().state_dict() | {"momentum": self.momentum}

    def load_state_dict(self, state):
        self.momentum = state["momentum"]
        super().load_state_dict(state)


@dataclass(frozen=True, kw_only=True)
class Built(Optimizer):
    """A config of any optimizer of PyTorch's; a part of no registry."""

    kind: type = Everything
    lr: float = 0.01
    others: tuple = ()

    def build(self, parameters):
        learning = [parameter for _, parameter in parameters if parameter.requires_grad]
        halves = [learning[::2], learning[1::2]]
        groups = [{"params": half, "base_lr": self.lr} for half in halves if half]
        return self.kind(groups, **dict(self.others))


SHAPES = {"a.weight": (3, 4), "a.bias": (3,), "b/c.weight": (4, 2), "scale": (), "none": (0, 3)}


def parameters():
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def gradients(steps, skip=3):
    """Of some steps; of each parameter every `skip`th is missing."""
    generator, rows = torch.Generator().manual_seed(1), []
    for step in range(steps):
        row = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
        rows.append({name: item for at, (name, item) in enumerate(row.items()) if (step + at) % skip})
    return rows


TORCH = {
    "Adadelta": {},
    "Adafactor": {},
    "Adagrad": {},
    "Adam": {"amsgrad": True},
    "AdamW": {"fused": True},
    "Adamax": {},
    "ASGD": {"t0": 2},
    "NAdam": {},
    "RAdam": {},
    "RMSprop": {"centered": True, "momentum": 0.9},
    "Rprop": {},
    "SGD": {"momentum": 0.9, "nesterov": True},
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_optimizer_of_pytorch_resumes_to_the_bit(name, cut):
    kind, others = getattr(torch.optim, name), TORCH[name]
    named = {name: tensor for name, tensor in parameters().items() if tensor.numel()}  # Adafactor divides by the size
    resumes(Built(kind=kind, others=tuple(others.items())), named, gradients(7), cut)


@pytest.mark.parametrize("cut", range(5))
def test_state_of_every_kind_resumes_to_the_bit(cut):
    resumes(Built(), parameters(), gradients(7), cut)


def broken_state_dict(self):
    return super(Everything, self).state_dict() | {"momentum": 0.5}


def without(name):
    """A codec that loses a field of what it saves."""

    def save(self, real=Saved.encode):
        setattr(self, name, type(getattr(self, name))())
        return real(self)

    return (Saved, "encode", save)


def casting_groups(self, param, saved):
    return [dict(group) for group in param], []


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        without("state"),
        without("groups"),
        without("shared"),
        (StateCodec, "undo_casts", lambda self, parameter, values: None),
        (StateCodec, "groups", casting_groups),
        (Everything, "state_dict", broken_state_dict),
        (state, "laid_out", lambda value, parameter: value.float() if isinstance(value, torch.Tensor) else value),
        (packing, "split", lambda path: tuple(path.split("/"))),
    ],
)
def test_law_catches_a_codec_that_loses_something(monkeypatch, where, name, broken):
    monkeypatch.setattr(where, name, broken)
    if where is packing:
        monkeypatch.setattr(state, name, broken)
    with pytest.raises(LawBroken, match="resumes"):
        resumes(Built(), parameters(), gradients(7), cut=4)


class Holds(torch.optim.SGD):
    """Keeps one given value as the state of each parameter."""

    made = staticmethod(lambda parameter: None)
    place = "state"

    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                (self.state[param] if self.place == "state" else group)["mine"] = self.made(param)


class Named(torch.Tensor):
    pass


def held(made, place="state"):
    params = {"layer.weight": nn.Parameter(torch.randn(3, 2)), "layer.bias": nn.Parameter(torch.randn(3))}
    optimizer = type("Held", (Holds,), {"made": staticmethod(made), "place": place})(params.values())
    codec = StateCodec(optimizer, params)
    optimizer.step()
    return codec


def endless():
    items = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda param: object(), r"<object object at .*> of type builtins\.object; expected a tensor, a number"),
        (lambda param: deque([1]), r"deque\(\[1\]\) of type collections\.deque"),
        (lambda param: {1: 2}, r"\{1: 2\} of type builtins\.dict"),
        (lambda param: {1}, "of type builtins.set"),
        (lambda param: 2**63, r"9223372036854775808 of type builtins\.int"),
        (lambda param: param.detach().numpy(), "of type numpy.ndarray"),
        (lambda param: torch.float32, r"torch\.float32 of type torch\.dtype"),
        (lambda param: endless(), f"nested deeper than {MAX_DEPTH}"),
        (lambda param: param.detach().as_subclass(Named), "a tensor of the class Named"),
        (lambda param: nn.Parameter(param.detach().clone()), "a tensor of the class Parameter"),
        (lambda param: param.detach().to_sparse(), r"a tensor of layout torch\.sparse_coo"),
        (lambda param: param.detach().to(torch.complex64), r"a tensor of dtype torch\.complex64"),
        (lambda param: torch.empty(2, device="meta"), "without storage"),
        (lambda param: param * 2, "a tensor that requires a gradient"),
        (lambda param: param.data, r"shares memory with .*layer"),
    ],
)
def test_what_cannot_be_saved_is_named_with_its_parameter_and_key(made, says):
    with pytest.raises(
        ConfigError, match=rf"optimizer Held: its state cannot be saved: .*layer\.weight.*{says}|{says}"
    ):
        held(made).save()
    with pytest.raises(ConfigError, match=r"layer\.(weight|bias)"):
        held(made).save()


@pytest.mark.parametrize("made", [lambda param: deque([1]), lambda param: nn.Linear(1, 1)])
def test_what_cannot_be_saved_of_a_group_is_named_with_its_key(made):
    with pytest.raises(ConfigError, match=r"cannot be saved: \*groups/0/mine/now: "):
        held(made, "group").save()


def test_object_in_a_group_that_stays_is_the_configs_and_not_saved():
    params = {"w": nn.Parameter(torch.zeros(2))}
    optimizer = torch.optim.SGD([{"params": [*params.values()], "config": object()}], lr=0.1)
    codec = StateCodec(optimizer, params)
    tensors, table = codec.save()
    assert (tensors, table["groups"]) == ({}, [{}])
    codec.load(tensors, table)
    assert codec.save() == (tensors, table)  # load_state_dict copies objects


def test_state_that_overlaps_in_memory_is_refused_and_parts_of_one_buffer_are_not():
    flat = torch.zeros(9)
    parts = {6: flat[:6].view(3, 2), 3: flat[6:]}
    tensors, _ = held(lambda param: parts[param.numel()]).save()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "layer.weight/mine": (3, 2),
        "layer.bias/mine": (3,),
    }
    with pytest.raises(ConfigError, match=r"layer\.(weight|bias)/mine: shares memory with layer\.(weight|bias)/mine"):
        held(lambda param: flat[: param.numel()]).save()


def test_group_that_holds_a_tensor_of_no_model_is_refused():
    x = nn.Parameter(torch.zeros(2))
    with pytest.raises(ConfigError, match=r"group 0 holds a tensor of shape \(5,\) that is no parameter of the model"):
        StateCodec(torch.optim.SGD([x, torch.zeros(5)]), {"w": x})


def test_value_of_the_recipe_that_changes_wins_over_the_groups_and_what_training_changed_does_not():
    def made(momentum):
        params = {"w": nn.Parameter(torch.zeros(2))}
        optimizer = torch.optim.SGD(params.values(), lr=0.1, momentum=momentum)
        return optimizer, StateCodec(optimizer, params)

    before, codec = made(0.5)
    before.param_groups[0] |= {"momentum": 0.6, "count": 3}
    saved = codec.save()
    for momentum, wanted in ((0.5, 0.6), (0.9, 0.9)):
        after, other = made(momentum)
        assert other.load(*saved) == []
        assert (after.param_groups[0]["momentum"], after.param_groups[0]["count"]) == (wanted, 3)
        other.load({}, {})
        assert (after.param_groups[0]["momentum"], "count" in after.param_groups[0]) == (momentum, False)


def test_reset_gives_an_optimizer_the_state_that_it_was_built_with():
    params = {"w": nn.Parameter(torch.ones(2))}
    optimizer = torch.optim.Adagrad(params.values())  # the only one that has state before a step
    codec = StateCodec(optimizer, params)
    before = packing.copied(optimizer.state[params["w"]])
    params["w"].grad = torch.ones(2)
    optimizer.step()
    assert not same(optimizer.state[params["w"]], before)
    codec.load({}, {})
    assert same(optimizer.state[params["w"]], before)


def test_state_is_laid_out_in_memory_as_its_parameter():
    params = {"w": nn.Parameter(torch.randn(4, 3).t())}

    def steps(params, optimizer, many):
        for _ in range(many):
            params["w"].grad = torch.arange(12.0).view(4, 3).t()
            optimizer.step()

    optimizer = torch.optim.AdamW(params.values(), fused=True)
    codec = StateCodec(optimizer, params)
    steps(params, optimizer, 2)
    again = {"w": nn.Parameter(params["w"].detach().clone())}
    other = torch.optim.AdamW(again.values(), fused=True)
    tensors, table = codec.save()
    StateCodec(other, again).load({name: tensor.contiguous() for name, tensor in tensors.items()}, table)
    steps(params, optimizer, 2)
    steps(again, other, 2)
    assert torch.equal(params["w"], again["w"]) and other.state[again["w"]]["exp_avg"].stride() == (1, 3)


# Layouts.

WRITINGS = ("per_head", "sdpa")


def writing(name, kind=torch.optim.AdamW, steps=2, seed=0, **others):
    """An attention, and an optimizer that took some steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(Attention.find(name)(heads=2).build(8), nn.Linear(8, 8))
    optimizer = kind(model.parameters(), **others)
    codec = StateCodec(optimizer, dict(model.named_parameters()), model)
    for _ in range(steps):
        for param in model.parameters():
            param.grad = torch.randn_like(param)
        optimizer.step()
    return model, optimizer, codec


@pytest.mark.parametrize("name", WRITINGS)
@pytest.mark.parametrize("other", WRITINGS)
def test_equivalent_implementations_take_over_the_state_of_one_another(name, other):
    tensors, table = writing(name)[2].save()
    assert table["own_layout"] == [] and {"0.to_qkv.weight/exp_avg", "0.to_qkv.weight/step"} <= tensors.keys()
    model, optimizer, codec = writing(other, steps=0)
    assert codec.load(tensors, table) == []
    again, _ = codec.save()
    assert again.keys() == tensors.keys() and all(same(again[key], tensors[key]) for key in tensors)
    assert {float(optimizer.state[param]["step"]) for param in model.parameters()} == {2.0}


@pytest.mark.parametrize("name", WRITINGS)
@pytest.mark.parametrize("other", WRITINGS)
def test_factored_state_fits_its_own_implementation_and_no_other(name, other):
    saved = writing(name, torch.optim.Adafactor)[2].save()
    model, optimizer, codec = writing(other, torch.optim.Adafactor, steps=0)
    if name == other:
        assert codec.load(*saved) == [] and len(optimizer.state) == len([*model.parameters()])
        return
    with pytest.raises(RunError, match="keeps for 0 fits the implementation that it was saved with alone; resume with"):
        codec.load(*saved, where="optimizer")
    assert codec.load(*saved, reset=True) == ["optimizer: what it keeps for 0 starts again."]
    assert {param for param in model.parameters() if param in optimizer.state} == {*model[1].parameters()}


def test_heads_that_took_different_numbers_of_steps_are_saved_in_their_own_layout():
    model, optimizer, codec = writing("per_head")
    head = next(param for name, param in model.named_parameters() if "heads.1" in name)
    optimizer.state[head]["step"] += 1
    tensors, table = codec.save()
    assert table["own_layout"] == ["0"]
    _, _, other = writing("per_head", steps=0)
    other.load(tensors, table)
    assert same(other.save()[0], tensors)
    with pytest.raises(RunError, match="reset this state by --allow-mismatch"):
        writing("sdpa", steps=0)[2].load(tensors, table)


# Files from elsewhere.

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats() | st.text(max_size=4),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inside, max_size=3)
        | st.sampled_from([torch.zeros(()), torch.tensor([1, 2]), torch.tensor([True]), torch.tensor([-0.0, math.nan])])
    ),
    max_leaves=8,
)


@given(value=values)
def test_plain_value_goes_through_text_and_back(value):
    tensors = {}
    item = json.loads(json.dumps(pack(value, "x", tensors), allow_nan=False))
    check_packed(item, "x")
    assert same(unpack(item, "x", tensors), value) and not tensors


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dict", "tuple", "float", "tensor", "state", "groups", "built", "now", "own_layout"])
            | st.text(max_size=3),
            inside,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(table=st.dictionaries(st.sampled_from(["groups", "state", "own_layout", "shared", "extra", "?"]), junk))
def test_any_table_is_refused_in_words_or_loaded(table):
    try:
        check_table(table)
    except ValueError as error:
        assert "is not what nanotx writes there" in str(error) or "nested deeper" in str(error)
        return
    params = {"w": nn.Parameter(torch.ones(2))}
    codec = StateCodec(torch.optim.SGD(params.values(), momentum=0.9), params)
    try:
        codec.load({}, table)
    except RunError as error:
        assert str(error).startswith("optimizer: ")


def deep(depth):
    item = 1
    for _ in range(depth):
        item = [item]
    return item


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": {"w": 3}}, "state/w: {'dict': 3} is not what nanotx writes there"),
        ({"state": {"w": {"a": {"object": "os.system"}}}}, "state/w/a: {'object': 'os.system'} is not what"),
        ({"state": {"w": {"a": 2**70}}}, "state/w/a: 1180591620717411303424 is not what"),
        ({"state": {"w": {"a": math.inf}}}, "state/w/a: inf is not what"),
        ({"state": {"w": {"a": deep(500)}}}, "nested deeper than 16"),
        ({"groups": [3]}, "groups/0: 3 is not what"),
        ({"groups": [{"lr": 3}]}, "groups/0/lr: 3 is not what"),
        ({"groups": [{"params": {"dict": {"now": [7]}}}]}, "groups/0/params: .* is not what"),
        ({"own_layout": [3]}, "own_layout: 3 is not what"),
        ({"step": 3.0}, "step: 3.0 is not what"),
    ],
)
def test_table_that_nanotx_did_not_write_is_refused_by_its_place(change, says):
    with pytest.raises(ValueError, match=says):
        check_table({"groups": [], "state": {}, "own_layout": []} | change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w/exp_avg": torch.zeros(1)}, r"'w': 'exp_avg' has shape \(1,\) and torch.float32; expected \(3,\) and"),
        ({"w/exp_avg": torch.zeros(3, dtype=torch.int64)}, r"'w': 'exp_avg' has shape \(3,\) and torch.int64"),
        ({"w/step": torch.zeros(3)}, r"'w': 'step' has shape \(3,\) and torch.float32; expected \(\)"),
        ({"v/exp_avg": torch.zeros(3)}, "'v' is no parameter of this model"),
        ({"w/a/b": torch.zeros(3)}, "the tensor 'w/a/b' is missing, or is not one"),
        ({"*groups/0/d": torch.zeros(3)}, r"the tensor '\*groups/0/d' is missing, or is not one"),
        ({"w": torch.zeros(3)}, "the tensor 'w' is missing, or is not one"),
        ({"w/step": None}, "what was saved does not fit this optimizer: KeyError"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_file_and_name(change, says):
    params = {"w": nn.Parameter(torch.ones(3))}
    codec = StateCodec(torch.optim.AdamW(params.values(), fused=True), params)
    params["w"].grad = torch.ones(3)
    codec.optimizer.step()
    tensors, table = codec.save()
    tensors = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    with pytest.raises(RunError, match=f"some/file: {says}"):
        codec.load(tensors, table, where="some/file")


def test_nested_tensor_that_is_missing_is_named():
    codec = held(lambda param: [torch.zeros(2)])
    tensors, table = codec.save()
    del tensors["layer.bias/mine/0"]
    with pytest.raises(RunError, match=r"the tensor 'layer\.bias/mine/0' is missing"):
        codec.load(tensors, table)


def test_loading_takes_none_of_the_tensors():
    codec = held(lambda param: torch.zeros(2))
    tensors, table = codec.save()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    codec.load(tensors, table)
    for own in codec.optimizer.state.values():
        own["mine"] += 1
    assert not any(tensor.any() for tensor in tensors.values())
    assert safetensors.torch.save(tensors)


def test_unsaveable_value_says_where_it_is():
    with pytest.raises(Unsaveable, match=r"x/a%2Fb/1: \{1\} of type builtins\.set; expected a tensor, a number"):
        pack({"a/b": [0, {1}]}, "x", {})
