"""Whether two trees of nanotx compute the same bits: a net under a change that should change none.

    python tests/net.py REV [--only NAME ...]

checks REV out beside this tree, trains a few dozen tiny recipes with both on this machine, and compares every loss,
evaluation, sample, checkpointed tensor and token id. No figure is recorded: another processor would not repeat it.
Exits with 1 where anything differs, and prints what.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

NASTY = "To be,\tor\n\n not  'tis?! caf\u00e9 \u4f60\u597d \U0001f642 \u0301a\u200d \x1f\x85 don't 12345 \u2028end  "

PLAIN = (
    "--corpus playhouse --corpus.size 30000 --model.dim 32 --model.layers 2 --model.context 32 --attention.heads 2 "
    "--train.steps 20 --train.batch-size 4 --train.eval-every 10 --train.sample-every 20 --train.sample-tokens 60 "
    "--train.checkpoint-every 0 --device cpu --threads 1 --no-compile --seed 7"
)

CASES: dict[str, tuple[str, str]] = {
    # name: (recipe, flags beside PLAIN)
    "shakespeare_char": ("shakespeare_char", ""),
    "shakespeare_ngrams": ("shakespeare_ngrams", ""),
    "shakespeare_bpe": ("shakespeare_bpe", ""),
    **{
        f"attention/{name}": ("macbook", f"--attention {name}")
        for name in ("per_head", "fused", "sdpa", "blockwise", "online_softmax", "gqa", "sliding_window", "linear")
    },
    **{
        f"position/{name}": ("macbook", f"--position {name}")
        for name in ("learned", "sinusoidal", "rope", "alibi", "none", "rope_linear", "rope_ntk", "rope_yarn")
    },
    **{f"ffn/{name}": ("macbook", f"--ffn {name}") for name in ("mlp", "relu2", "swiglu", "geglu", "moe")},
    **{f"block/{name}": ("macbook", f"--block {name}") for name in ("postnorm", "parallel", "sandwich")},
    **{f"embedding/{name}": ("macbook", f"--embedding {name}") for name in ("bigram", "ngrams")},
    **{f"tokenizer/{name}": ("macbook", f"--tokenizer {name}") for name in ("byte", "shakespeare_bpe_512")},
    **{
        f"tokenizer/{name}": ("macbook", f"--tokenizer {name} --tokenizer.vocab-size 500")
        for name in ("bpe", "word --tokenizer.unknown", "wordpiece", "unigram")
    },
    "optimizer/muon": ("macbook", "--optimizer muon"),
    "schedule/wsd": ("macbook", "--schedule wsd"),
    "accumulate": ("macbook", "--train.grad-accum-steps 2"),
    "micro_batch": (
        "macbook",
        "--train.micro-batch-size 1 --train.activation-checkpointing --train.loss-chunk-size 16",
    ),
    "dropout": ("macbook", "--train.grad-clip 0.5 --attention.dropout 0.2 --block.dropout 0.1 --model.dropout 0.1"),
    "average": ("macbook", "--train.ema-decay 0.9 --loss.z-loss 0.01 --model.softcap 20"),
    "bfloat16": ("macbook", "--dtype bfloat16"),
}

# Flags and values by today's name, and what a tree calls them whose sources do not know the last word of it.
RENAMED: dict[str, str] = {
    "layernorm": "layer",
    "rmsnorm": "rms",
    "online_softmax": "online",
    "sliding_window": "sliding",
    "token_shift": "shift",
    "--attention.kv-heads": "--attention.groups",
    "--embedding.max-n": "--embedding.longest",
    "--embedding.buckets": "--embedding.rows",
    "--embedding.resets": "--embedding.renewals",
    "--train.batch-size": "--train.batch",
    "--train.grad-accum-steps": "--train.accumulate",
    "--train.micro-batch-size": "--train.micro-batch",
    "--train.grad-clip": "--train.clip",
    "--train.ema-decay": "--train.average",
    "--loss.z-loss": "--train.z-loss",
    "--train.loss-chunk-size": "--train.loss-chunk",
    "wsd": "trapezoid",
    "--train.activation-checkpointing": "--train.recompute",
}


def record(only: list[str], out: Path) -> None:
    """Run the cases with the nanotx that this process imports, and write what came of each."""
    import torch
    from safetensors.torch import load_file

    import nanotx

    try:
        from nanotx.cli.main import run
    except ModuleNotFoundError:  # a tree of before
        from nanotx.cli import run
    from nanotx.tokenizers import load

    torch.set_num_threads(1)
    sources = "\n".join(path.read_text(encoding="utf-8") for path in Path(nanotx.__file__).parent.rglob("*.py"))
    results: dict[str, dict[str, Any]] = {}
    for name, (recipe, flags) in CASES.items():
        if only and not any(name.startswith(item) for item in only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run")
            numbers = [] if "--dtype" in flags else ["--dtype", "float32"]
            words = [spelled(word, sources) for word in [*PLAIN.split(), *numbers, *flags.split()]]
            try:
                code = run(["train", recipe, *words, "--run", str(path)])
            except Exception as error:
                results[name] = {"error": f"{type(error).__name__}: {error}"}
                continue
            result: dict[str, Any] = {"code": code}
            for row in map(json.loads, (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
                for key in ("loss", "grad_norm", "lr", "train_loss", "val_loss", "bits_per_byte", "text"):
                    if key in row:
                        result[f"{row['event']} {row['step']} {key}"] = row[key]
            for file in sorted(path.glob("checkpoints/step-20/*.safetensors")):
                for key, tensor in sorted(load_file(file).items()):
                    if key.endswith("/step"):  # up to format 3 in trainer.json
                        continue
                    bits = hashlib.sha256(
                        tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                    ).hexdigest()[:16]
                    result[f"{file.name.replace('average', 'ema')} {key}"] = (
                        f"{tensor.dtype} {list(tensor.shape)} {bits}"
                    )
            try:
                result["ids"] = load(path / "tokenizer.json").encode(NASTY).tolist()
            except Exception as error:
                result["ids"] = type(error).__name__
            results[name] = result
    out.write_text(json.dumps(results), encoding="utf-8")


def spelled(word: str, sources: str) -> str:
    """Return a flag or a value as a tree with these sources spells it."""
    group, _, last = word.lstrip("-").replace("-", "_").rpartition(".")
    slot = not group or group in ("model", "train") or f'slot="{group}"' in sources
    known = slot and re.search(rf"\b{re.escape(last)}\b", sources)
    return word if known else RENAMED.get(word, word)


def results_of(tree: Path, only: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start recording the cases with a tree of nanotx."""
    code = f"import sys; sys.path.insert(0, {str(tree)!r}); sys.argv[0] = {__file__!r}; "
    code += f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
    words = [sys.executable, "-c", code, "--record", str(out), *(["--only", *only] if only else [])]
    return subprocess.Popen(words, cwd=tree, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})


def main() -> int:
    """Compare two trees; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rev", nargs="?", help="the commit to compare this tree with")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose names begin so")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        record(options.only, options.record)
        return 0
    if not options.rev:
        parser.error("expected a commit to compare this tree with, such as HEAD~1")
    with tempfile.TemporaryDirectory() as folder:
        old, files = Path(folder, "tree"), [Path(folder, "old.json"), Path(folder, "new.json")]
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(old), options.rev], cwd=ROOT, check=True)
        try:
            children = [results_of(tree, options.only, out) for tree, out in zip([old, ROOT], files, strict=True)]
            if any(child.wait() for child in children):
                raise SystemExit("net: a tree could not run its cases (above).")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=ROOT, check=True)
        before, after = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return report(before, after)


def report(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print a line for each case, and the first things that differ in it; returns the exit code."""
    bad = 0
    for name in before:
        old, new = before[name], after.get(name, {})
        differing = [key for key in old | new if old.get(key, "missing") != new.get(key, "missing")]
        bad += bool(differing) or "error" in old
        verdict = f"{len(differing)} of {len(old)} differ" if differing else f"{len(old)} equal"
        print(f"{name:24} {verdict}{'  ' + old['error'] if 'error' in old else ''}")
        for key in differing[:3]:
            print(f"    {key}: {str(old.get(key, 'missing'))[:90]} -> {str(new.get(key, 'missing'))[:90]}")
    print(f"{len(before) - bad} of {len(before)} cases are equal to the bit")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
