"""A start does not import PyTorch's compiler; where that can no longer be avoided, no number changes."""

import functools
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from nanotx.hardware import lazy_compiler
from nanotx.hardware.lazy_compiler import meta_device, undecorated
from nanotx.optim.adamw import LightAdamW
from nanotx.recipes.shakespeare_char import recipe

START = """
import sys, torch
from dataclasses import replace
from nanotx.nn import Attention, Block, Ffn, Norm, Position, PreNorm
from nanotx.nn.embedding import Embedding
from nanotx.optim import Optimizer
from nanotx.recipes.shakespeare_char import recipe
model = recipe.model
models = [model]
models += [replace(model, position=Position.find(name)()) for name in Position.names()]
models += [replace(model, embedding=Embedding.find(name)()) for name in Embedding.names()]
models += [replace(model, norm=Norm.find(name)()) for name in Norm.names()]
models += [replace(model, block=Block.find(name)()) for name in Block.names()]
models += [replace(model, block=PreNorm(attention=Attention.find(name)())) for name in Attention.names()]
models += [replace(model, block=PreNorm(ffn=Ffn.find(name)())) for name in Ffn.names()]
for model in models:
    model.size(65)
    if "torch._dynamo" in sys.modules:
        sys.exit(f"imported by {model}")
for name in Optimizer.names():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = Optimizer.find(name)().build([("weight", weight)])
    weight.grad = torch.ones(2, 2)
    optimizer.step(), optimizer.zero_grad(), optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


def test_start_up_does_not_import_the_compiler():
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def steps(kind: type[torch.optim.AdamW]) -> torch.Tensor:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 3))
    optimizer = kind([weight], lr=0.1, weight_decay=0.1, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return weight.detach()


def test_without_its_decorators_adamw_takes_the_same_steps():
    assert LightAdamW.zero_grad is not torch.optim.AdamW.zero_grad
    assert torch.equal(steps(LightAdamW), steps(torch.optim.AdamW))


def test_decorator_that_hides_what_it_wraps_stays(monkeypatch):
    def opaque(self, closure=None):
        return plain(self, closure)

    plain = torch.optim.AdamW.step
    expected = steps(torch.optim.AdamW)
    monkeypatch.setattr(torch.optim.AdamW, "step", opaque)
    assert undecorated(torch.optim.AdamW.step) is opaque
    assert torch.equal(steps(LightAdamW), expected)


def test_what_is_wrapped_is_a_function_of_an_optimizer_or_it_stays():
    @functools.wraps(print)
    def wrapper(*arguments):
        return print(*arguments)  # noqa: T201

    assert undecorated(wrapper) is wrapper


@pytest.mark.parametrize("skips", [True, False], ids=["skipped", "initialised"])
def test_size_does_not_depend_on_whether_initialisation_is_skipped(skips, monkeypatch):
    if not skips:
        monkeypatch.setattr(lazy_compiler, "SkipInit", nullcontext)
    with meta_device():
        weights = nn.Linear(2, 3).weight
    assert weights.is_meta and weights.shape == (3, 2)
    assert recipe.model.size(65).parameters == sum(p.numel() for p in recipe.model.build(65).parameters())
