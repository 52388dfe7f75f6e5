"""Parts and optimizers added from outside in one file are trained, killed and resumed, equal to the bit."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers import Forked, answer, text, tiny
from safetensors.torch import load_file, save_file

from nanotx.cli.main import run
from nanotx.errors import ConfigError, RunError
from nanotx.runs.load import load

OPTIMIZERS = '''
"""Optimizers of one's own: Adafactor's factored second moment, and PyTorch's in three lines each."""

from dataclasses import dataclass

import torch

from nanotx.optim import Optimizer


class Factored(torch.optim.Optimizer):
    """The mean square of the gradient, by its rows and columns: Shazeer and Stern 2018, algorithm 4, shortened."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            decay = 1 - group["steps"] ** -0.8
            for one in group["params"]:
                if one.grad is None:
                    continue
                square, state = one.grad.square() + 1e-30, self.state[one]
                if one.ndim < 2:
                    state["all"] = torch.lerp(square, state.get("all", square), decay)
                    root = state["all"].sqrt()
                else:
                    state["rows"] = torch.lerp(square.mean(-1), state.get("rows", square.mean(-1)), decay)
                    state["columns"] = torch.lerp(square.mean(0), state.get("columns", square.mean(0)), decay)
                    root = torch.outer(state["rows"] / state["rows"].mean(), state["columns"]).sqrt()
                one -= group["lr"] * one.grad / root


def grouped(config, parameters):
    params = [one for _, one in parameters if one.requires_grad]
    return [{"params": params, "base_lr": config.lr, "weight_decay": 0.0}]


@Optimizer.register("factored")
@dataclass(frozen=True, kw_only=True)
class FactoredConfig(Optimizer):
    lr: float = 1e-3

    def build(self, parameters):
        return Factored(grouped(self, parameters), {"lr": self.lr})


class Objects(torch.optim.SGD):
    """Keeps an object for parameters that a small trial has not."""

    def step(self):
        super().step()
        for group in self.param_groups:
            for one in group["params"][2:3]:
                self.state[one]["secret"] = object()


@Optimizer.register("objects")
@dataclass(frozen=True, kw_only=True)
class ObjectsConfig(Optimizer):
    lr: float = 1e-3

    def build(self, parameters):
        return Objects(grouped(self, parameters), lr=self.lr)
'''
WRAPPED = """

@Optimizer.register("{part}")
@dataclass(frozen=True, kw_only=True)
class {name}Config(Optimizer):
    lr: float = 1e-3

    def build(self, parameters):
        return torch.optim.{name}(grouped(self, parameters), lr=self.lr, **{others})
"""
TORCH = {
    "Adafactor": {},
    "SGD": {"momentum": 0.9},
    "RMSprop": {"centered": True},
    "NAdam": {},
    "RAdam": {},
    "ASGD": {"t0": 3},
    "Rprop": {},
    "LBFGS": {},
}
OPTIMIZERS += "".join(WRAPPED.format(part=name.lower(), name=name, others=others) for name, others in TORCH.items())

NORMS = '''
"""Norms with state: a running mean, a count of calls, a number without dimensions; layers that share a matrix."""

import os
from dataclasses import dataclass

import torch
from torch import nn

from nanotx.nn.ffn import Ffn
from nanotx.nn.norm import Norm


class Stateful(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain, self.scale = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bool))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("one", torch.ones(1).expand(3))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.count += 1
            if self.count == int(os.environ.get("DIE_AT", -1)):
                os._exit(9)
            self.seen = self.seen | torch.tensor([True, bool(self.count % 2)])
            self.mean.lerp_(x.detach().mean((0, 1)).float(), 0.1)
        x = x - self.mean * (1 + 1 / (1 + self.count)) * self.seen.float().mean()
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.gain * self.scale


@Norm.register("stateful")
@dataclass(frozen=True, kw_only=True)
class StatefulNorm(Norm):
    def build(self, dim):
        return Stateful(dim)


class Tied(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu())


@Ffn.register("tied")
@dataclass(frozen=True, kw_only=True)
class TiedFfn(Ffn):
    def build(self, dim):
        return Tied(dim)
'''

PLAIN = ["--position", "rope", "--block", "prenorm", "--embedding", "tokens"]
NAMES = ("model", "optimizer", "buffers", "ema")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of these parts: one each for all tests, since a name is registered once."""
    folder = tmp_path_factory.mktemp("parts")
    for name, source in (("optimizers", OPTIMIZERS), ("norms", NORMS)):
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def command(tmp_path, monkeypatch, files):
    """Makes the words of a run, of seven steps if not told otherwise, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    load = [word for name in ("norms", "optimizers") for word in ("--load", str(files / f"{name}.py"))]
    monkeypatch.delenv("DIE_AT", raising=False)

    def words(*more, steps=7, every=2):
        shape = {"train_eval_every": 0, "train_sample_every": 0, "train_steps": steps, "train_checkpoint_every": every}
        flags = tiny(model_layers=2, **shape)
        return ["train", "shakespeare_char", *load, *corpus, *flags, *PLAIN, *more]

    words.load = load
    return words


def tensors(folder, step=7):
    """Of a checkpoint, by file and name."""
    results = {name: Path(folder, f"checkpoints/step-{step}/{name}.safetensors") for name in NAMES}
    return {
        f"{name}:{key}": tensor
        for name, file in results.items()
        if file.exists()
        for key, tensor in load_file(file).items()
    }


def killed_in_fifth_step(words, tmp_path, monkeypatch):
    """Train, be killed in the fifth step, resume; train undisturbed; return the tensors of both at the end."""
    monkeypatch.setenv("DIE_AT", "5")
    child = Forked(*words, "--run", "killed", cwd=tmp_path)
    code, output = child.finish()
    assert code == 9, output
    monkeypatch.delenv("DIE_AT")
    kept = sorted(path.name for path in Path("killed/checkpoints").glob("step-*"))
    assert kept in (["step-2", "step-4"], ["step-1", "step-2"])  # that of step 4 may have been under way
    assert run([*words, "--run", "killed", "--resume"]) == 0
    assert run([*words, "--run", "whole"]) == 0
    first, other = tensors("killed"), tensors("whole")
    assert first.keys() == other.keys()
    assert [key for key in first if not torch.equal(first[key], other[key])] == []
    return first


@pytest.mark.parametrize(
    "optimizer",
    [
        "factored",
        "adafactor",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("sgd", "rmsprop", "nadam", "radam", "asgd", "rprop", "muon")
        ),
    ],
)
def test_any_optimizer_is_killed_and_resumed_to_the_bit(command, tmp_path, monkeypatch, optimizer):
    result = killed_in_fifth_step(command("--optimizer", optimizer, "--norm", "stateful"), tmp_path, monkeypatch)
    keys = {key.rpartition("/")[2] for key in result if key.startswith("optimizer")}
    wanted = {"factored": {"rows", "columns", "all"}, "adafactor": {"row_var", "col_var", "variance", "step"}}
    assert wanted.get(optimizer, keys) == keys and keys


def test_parts_with_buffers_and_shared_parameters_are_killed_and_resumed_to_the_bit(command, tmp_path, monkeypatch):
    words = command("--norm", "stateful", "--ffn", "tied", "--train.ema-decay", "0.9")
    result = killed_in_fifth_step(words, tmp_path, monkeypatch)
    buffers = {key.rpartition(".")[2]: tensor for key, tensor in result.items() if key.startswith("buffers:")}
    assert buffers.keys() == {"mean", "count", "seen", "mask", "one"}
    assert buffers["count"] == 7 and buffers["mean"].any() and buffers["seen"].dtype == torch.bool
    assert {result[key].ndim for key in result if key.startswith("model:") and key.endswith(".scale")} == {0}
    assert [key.endswith("first.weight") for key in result if key.startswith("model:") and ".ffn." in key].count(
        True
    ) == 2
    assert not [key for key in result if "second.weight" in key]
    model = load("whole").model
    assert model.norm.count == 7 and torch.equal(model.norm.mean, result["buffers:norm.mean"])
    for words in (["verify", "whole"], ["replay", "whole", "--step", "6"], ["diff", "killed", "whole"]):
        assert run([*words, *command.load]) == 0, words


def test_skipped_step_leaves_the_buffers_as_they_were(command, monkeypatch):
    from nanotx.training.trainer import Trainer

    real, seen = Trainer.compute_gradients, []

    def spoilt(self):
        numbers = real(self)
        seen.append(self.model.norm.count.item())
        return numbers | ({"loss": float("nan")} if self.progress.step == 2 else {})

    monkeypatch.setattr(Trainer, "compute_gradients", spoilt)
    assert run(command("--norm", "stateful", "--train.on-nonfinite", "skip", "--run", "run")) == 0
    assert seen == [1, 2, 3, 3, 3, 4, 5, 6]
    assert tensors("run")["buffers:norm.count"] == 6


def test_optimizer_installed_as_a_plug_in_is_resumed_to_the_bit(tmp_path, files):
    """In processes of their own: of a part that comes by entry point each has to find the name."""
    site = tmp_path / "site"
    info = site / "nanotx_factored-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(files / "optimizers.py", site / "factored_optimizers.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nanotx_factored\nVersion: 1.0\n", encoding="utf-8")
    entry = "[nanotx.optimizers]\nfactored = factored_optimizers:FactoredConfig\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "letters.txt"))]
    words = ["train", "shakespeare_char", *corpus, *tiny(train_eval_every=0), "--optimizer", "factored"]
    for folder in ("whole", "parted"):
        code, _, errors = answer(*words, "--run", folder, cwd=tmp_path, PYTHONPATH=str(site))
        assert code == 0, errors
    for path in (tmp_path / "parted/checkpoints").glob("step-6"):
        shutil.rmtree(path)  # as if the disk had lost it
    code, out, errors = answer("resume", "parted", cwd=tmp_path, PYTHONPATH=str(site))
    assert code == 0 and "step 4" in out + errors, out + errors
    first, other = tensors(tmp_path / "parted", 6), tensors(tmp_path / "whole", 6)
    assert first.keys() == other.keys() and all(torch.equal(first[key], other[key]) for key in first)
    assert any(key.endswith("/rows") for key in first)


# What cannot be saved.


@pytest.mark.parametrize("every", [2, 0])
def test_state_that_cannot_be_saved_is_found_after_the_first_step_and_leaves_no_folder(command, every):
    words = command("--optimizer", "objects", "--run", "run", every=every)
    says = r"optimizer Objects: its state cannot be saved: .*/secret: <object object at .*> of type builtins\.object"
    with pytest.raises(ConfigError, match=rf"{says}.*nothing is left in run"):
        run(words)
    assert not Path("run").exists()


def test_optimizer_that_needs_a_closure_is_refused_before_the_run(command):
    with pytest.raises(ConfigError, match=r"lbfgs.*step\(\) missing 1 required positional argument: 'closure'"):
        run(command("--optimizer", "lbfgs", "--run", "run"))
    assert not Path("run").exists()


def test_run_writes_its_first_checkpoint_after_its_first_step(command, capsys):
    assert run(command("--run", "run", every=50)) == 0
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step-1", "step-7"]
    assert run(command("--run", "bare", every=0)) == 0
    assert sorted(path.name for path in Path("bare/checkpoints").iterdir()) == ["step-7"]
    assert run(command("--run", "run", "--resume", steps=9, every=50)) == 0
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step-7", "step-9"]


# Implementations, and files from elsewhere.


def test_factored_state_of_another_implementation_is_refused_and_reset_on_request(command, capsys):
    assert run(command("--optimizer", "adafactor", "--attention", "per_head", "--run", "run")) == 0
    swapped = ["resume", "run", *command.load, "--train.steps", "9", "--attention", "sdpa"]
    with pytest.raises(
        RunError, match=r"optimizer\.safetensors: what the optimizer keeps for blocks\.0\.attention fits"
    ):
        run(swapped)
    capsys.readouterr()
    assert run([*swapped, "--allow-mismatch"]) == 0
    assert "optimizer: what it keeps for blocks.1.attention starts again." in capsys.readouterr().out


def seal(path, name, content):
    """Put a file into a checkpoint, with the digest that it should have."""
    save_file(content, path / name)
    manifest = json.loads((path / "MANIFEST.json").read_text(encoding="utf-8"))
    data = (path / name).read_bytes()
    manifest[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_buffers_that_are_not_those_of_the_model_are_refused_by_name(command):
    assert run(command("--norm", "stateful", "--run", "run", steps=2)) == 0
    path = Path("run/checkpoints/step-2")
    sound = load_file(path / "buffers.safetensors")
    for change, says in [
        ({"norm.count": torch.zeros(2, dtype=torch.int64)}, r"'norm\.count' is torch\.int64 of shape \(2,\); expected"),
        ({"norm.count": torch.tensor(1.0)}, r"'norm\.count' is torch\.float32 of shape \(\); expected torch\.int64"),
        ({"norm.other": torch.tensor(1.0)}, r"'norm\.other' is not of this model"),
        ({"norm.mean": None}, r"'norm\.mean' is missing"),
    ]:
        seal(path, "buffers.safetensors", {name: item for name, item in (sound | change).items() if item is not None})
        for words in (["resume", "run", *command.load, "--train.steps", "3"], ["sample", "run", *command.load]):
            with pytest.raises(RunError, match=rf"buffers\.safetensors: the buffer {says}"):
                run(words)


def test_optimizer_that_cannot_step_with_what_a_file_holds_says_so(command):
    assert run(command("--optimizer", "factored", "--run", "run", steps=2)) == 0
    path = Path("run/checkpoints/step-2")
    content = load_file(path / "optimizer.safetensors")
    name = next(name for name in content if name.endswith("/rows"))
    seal(path, "optimizer.safetensors", content | {name: torch.zeros(5)})
    with pytest.raises(RunError, match=r"step-2/optimizer\.safetensors: the optimizer cannot step with what is saved"):
        run(["resume", "run", *command.load, "--train.steps", "3"])
