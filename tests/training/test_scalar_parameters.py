"""A learned parameter of no dimensions is trained, saved, killed and resumed like any other, to the bit."""

import pytest
import torch
from helpers import finish, start, text, tiny
from safetensors.torch import load_file

from nanotx.cli.main import run
from nanotx.runs.load import load

GAIN = '''
"""Norms with a learned number: one of no dimensions, and one that has a gradient in some steps alone."""

import os
from dataclasses import dataclass

import torch
from torch import nn

from nanotx.nn.norm import Norm

calls = 0


class Gain(nn.Module):
    def __init__(self, sometimes, dims):
        super().__init__()
        self.sometimes, self.gain = sometimes, nn.Parameter(torch.ones([1] * dims))

    def forward(self, x):
        global calls
        calls += self.training
        if calls == int(os.environ.get("DIE_AT", -1)):
            os._exit(9)
        y = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return y if self.training and self.sometimes and torch.rand(()) < 0.5 else y * self.gain


@Norm.register("gain")
@dataclass(frozen=True, kw_only=True)
class GainNorm(Norm):
    sometimes: bool = False
    dims: int = 0

    def build(self, dim):
        return Gain(self.sometimes, self.dims)
'''
PARTS = "--norm gain --position rope --attention per_head"


@pytest.fixture(scope="module")
def gain(tmp_path_factory):
    """The file of these norms: one file for all tests, since a name is given once."""
    file = tmp_path_factory.mktemp("parts") / "gain.py"
    file.write_text(GAIN, encoding="utf-8")
    return str(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "--optimizer adamw",
        "--optimizer muon",
        "--optimizer muon --embedding bigram --train.ema-decay 0.9",
        "--optimizer adamw --norm.sometimes",
        "--optimizer muon --norm.sometimes --norm.dims 1",
    ],
)
def test_run_with_a_scalar_parameter_is_killed_and_resumed_to_the_bit(tmp_path, monkeypatch, gain, words):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    shape = tiny(train_eval_every=0, train_sample_every=0, train_steps=7)
    command = ["train", "shakespeare_char", "--load", gain, *corpus, *shape, *PARTS.split(), *words.split()]
    monkeypatch.setenv("DIE_AT", "15")  # three norms: in the fifth step
    code, _, errors = finish(start(*command, "--run", "killed", cwd=tmp_path))
    assert code == 9, errors
    kept = sorted(path.name for path in (tmp_path / "killed/checkpoints").glob("step-*"))
    assert kept in (["step-2", "step-4"], ["step-1", "step-2"])  # that of step 4 may have been under way
    monkeypatch.delenv("DIE_AT")
    assert run([*command, "--run", "killed", "--resume"]) == 0
    assert run([*command, "--run", "whole"]) == 0

    for name in ("model", "optimizer"):
        first, other = (load_file(f"{folder}/checkpoints/step-7/{name}.safetensors") for folder in ("killed", "whole"))
        assert first.keys() == other.keys()
        assert all(torch.equal(first[key], other[key]) for key in first)
    gains = [key for key in first if ".gain/exp_avg" in key or key.startswith("norm.gain/exp_avg")]
    assert len(gains) >= 6 and all(first[key].ndim == int("dims 1" in words) and first[key].any() for key in gains)
    assert load("whole").model.norm.gain != 1
