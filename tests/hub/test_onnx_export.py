"""`--to onnx`: a graph of any batch and length, run by ONNX Runtime before it gets its name."""

import dataclasses
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from test_huggingface_export import QWEN3, run_of

from nanotx.errors import ConfigError, RunError
from nanotx.hub import onnx_export
from nanotx.hub.huggingface import proof
from nanotx.hub.onnx_export import export, traceable
from nanotx.nn.attention.online_softmax import OnlineSoftmax
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.ffn.moe import MixtureOfExperts

MIXED = dataclasses.replace(
    QWEN3,
    context=40,
    block=None,
    blocks=(PreNorm(attention=SlidingWindow(heads=2, window=5, block=8)), PreNorm(attention=PerHead(heads=2))),
)
NGRAMS = dataclasses.replace(QWEN3, softcap=3.0, embedding=Ngrams(buckets=64), block=TokenShift())
MOE = dataclasses.replace(QWEN3, block=PreNorm(attention=Sdpa(heads=2), ffn=MixtureOfExperts()))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(proof, "WINDOWS", 4)


def test_model_is_traced_as_an_equal_one():
    for model in (MIXED, dataclasses.replace(QWEN3, block=PreNorm(attention=OnlineSoftmax(heads=2, qk_norm=True)))):
        run = run_of(model)
        twin = traceable(run.model)
        ids = torch.randint(run.model.vocab_size, (2, model.context), generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            assert torch.allclose(twin(ids), run.model(ids), atol=1e-4)
        assert {block.attention.part for block in twin.config.pattern()} <= {"sdpa", "sliding_window"}
    plain = run_of(QWEN3).model
    assert traceable(plain) is plain


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export, "NEEDED", ("onnx_of_nobody", "torch"))
    with pytest.raises(ConfigError, match="not installed here: onnx_of_nobody; try pip install"):
        export(run_of(), tmp_path / "model")


def test_graph_that_differs_is_noticed(tmp_path, monkeypatch):
    run = run_of()

    class Session:
        def __init__(self, *_, **__): ...

        def run(self, names, feeds):
            return [np.zeros((*feeds["input_ids"].shape, run.model.vocab_size), np.float32)]

    fake = types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace, InferenceSession=Session, __version__="0", __spec__=None
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    with pytest.raises(RunError, match="onnxruntime computes other logits"):
        onnx_export.prove(run, tmp_path / "model.onnx", 20)


PROGRAM = """
import dataclasses, sys
from pathlib import Path
import onnxruntime, torch
sys.path.insert(0, sys.argv[1])
from test_onnx_export import MIXED, NGRAMS, QWEN3, MOE, run_of
from nanotx.errors import ConfigError
from nanotx.hub.onnx_export import export
from nanotx.hub.seal import check_seal

for name, model in {"windows": MIXED, "ngrams": NGRAMS}.items():
    run = run_of(model)
    export(run, Path(name))
    assert check_seal(Path(name)).startswith("onnxruntime")
    session = onnxruntime.InferenceSession(f"{name}/model.onnx")
    for shape in ((1, 1), (5, 3), (2, model.context)):
        ids = torch.randint(run.model.vocab_size, shape)
        (logits,) = session.run(None, {"input_ids": ids.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(logits), run.model(ids), atol=1e-4)
try:
    export(run_of(MOE), Path("moe"))
except ConfigError as error:
    print(error)
"""


@pytest.mark.slow
def test_graph_computes_the_run_for_any_batch_and_length(tmp_path):
    if missing := [name for name in onnx_export.NEEDED if not importlib.util.find_spec(name)]:
        pytest.skip(f"not installed: {missing}")
    done = subprocess.run(  # tracing and the checks of types do not go together
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert "exporter cannot write this model as a graph of any batch and length" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ngrams", "windows"]
