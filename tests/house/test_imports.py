"""What needs no torch does not wait for it, and a run imports nothing that only its tests or pictures need."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Runs a module as `python -m` does, with the arguments given, and prints which modules are loaded when it ends.
TRACE = """
import json, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print()
print(json.dumps(sorted(sys.modules)))
"""


def modules_of(*words: str) -> set[str]:
    """The modules that `python -m WORDS...` has imported when it ends."""
    command = [sys.executable, "-c", TRACE, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_run_imports_no_laws_and_no_plots(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(32 + (i * i + i // 7) % 90) for i in range(600)) * 2, encoding="utf-8")
    words = "--model.dim 16 --model.layers 1 --model.context 8 --attention.heads 2 --train.steps 1 --train.batch-size 2"
    words += " --train.sample-tokens 5 --device cpu --dtype float32 --threads 1 --corpus file"
    named = modules_of(
        "nanotx.recipes.shakespeare_char", *words.split(), "--corpus.path", str(text), "--run", str(tmp_path / "run")
    )
    assert {"nanotx.training.loop", "nanotx.nn.transformer", "nanotx.runs.checkpoint"} <= named
    assert not {"hypothesis", "matplotlib", "nanotx.laws"} & named


def test_help_imports_neither_torch_nor_numpy():
    named = modules_of("nanotx", "--help")
    assert "nanotx.cli.main" in named
    assert not {"torch", "numpy", "rich", "einops"} & named


def test_tokenizers_import_no_torch():
    files = sorted((ROOT / "nanotx" / "tokenizers").rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    imports = "; ".join(f"import {name}" for name in names)
    code = f"import sys, nanotx.tokenizers; {imports}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_tokenizer_command_imports_no_torch(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("To be", encoding="utf-8")
    named = modules_of("nanotx", "tokenizer", "encode", "shakespeare_bpe_512", str(text))
    assert "nanotx.tokenizers.bpe.tokenizer" in named
    assert "torch" not in named


def test_completion_imports_neither_torch_nor_numpy():
    named = modules_of("nanotx", "completion", "--candidates", "train", "shakespeare_char", "--attention.")
    assert "nanotx.config.source" in named
    assert not {"torch", "numpy", "rich", "einops", "nanotx.nn", "nanotx.recipe"} & named
