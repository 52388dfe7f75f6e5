"""Runs for the tests of the server: small models that were never trained, in place of what a folder holds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

for package in ("starlette", "uvicorn", "httpx"):
    pytest.importorskip(package)

# ruff: noqa: E402
from starlette.testclient import TestClient

from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.runs.load import LoadedRun
from nanotx.serve.app import Service, build_app
from nanotx.serve.run import ServedRun, model_names
from nanotx.serve.watch import Watch
from nanotx.tokenizers import Codec, Tokenizer

TEXT = "to be or not to be, that is the question: whether it is nobler é in the mind €\n"
CONTEXT = 16


def loaded(tokenizer: str = "char", seed: int = 1, **fields: object) -> LoadedRun:
    """A run with an untrained model."""
    codec: Codec = Tokenizer.find(tokenizer)(**fields).train([TEXT])
    config = Model(dim=16, layers=2, context=CONTEXT, block=PreNorm(attention=Sdpa(heads=2)))
    torch.manual_seed(seed)
    model = config.build(codec.vocab_size, seed=seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # so that its guesses differ
    return LoadedRun(model=model, tokenizer=codec, recipe=Recipe(), step=7, folder="a")


def served(monkeypatch: pytest.MonkeyPatch, *runs: LoadedRun) -> list[ServedRun]:
    """The runs as the server has them, called `a`, `a-2` and so on."""
    left = list(runs)
    monkeypatch.setattr("nanotx.serve.run.load", lambda folder, step: left.pop(0))
    names = model_names(["a"] * len(runs))
    return [ServedRun("a", name, torch.device("cpu")) for name in names]


@contextmanager
def client_of(runs: list[ServedRun], watches: Sequence[Watch] = ()) -> Iterator[TestClient]:
    """A client of the application, in this process."""
    service = Service(runs, watches=watches)
    with TestClient(build_app(service), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client
