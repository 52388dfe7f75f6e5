"""What the main job imports can be read in an evening, no file is long, and what needs no torch waits for none."""

import ast
import io
import json
import subprocess
import sys
import time
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EVENING = 3300  # lines of code; docs/decisions/files_beyond_the_plan.md says why it is no longer 2,500
PAGE = 180  # lines of code; with its docstrings such a file fills three screens or four

# Runs a module as `python -m` does, with the words given, and tells which modules are there when it ends.
TRACE = """
import json, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print()
print(json.dumps({name: getattr(one, "__file__", None) for name, one in list(sys.modules.items())}))
"""


def modules_of(*words: str) -> dict[str, str | None]:
    """The modules, with their files, that `python -m WORDS...` has imported when it ends."""
    command = [sys.executable, "-c", TRACE, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def lines_of_code(source: str) -> int:
    """Physical lines that hold code: no blank ones, no comments, no docstrings."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def test_lines_of_code_are_neither_blank_nor_comments_nor_docstrings():
    source = '"""A face,\n\nof three lines."""\n\n# why\nx = (  # and what\n    1,\n\n    2,\n)\ntext = """a\nb"""\n'
    source += 'def f():\n    "Doc."\n    return x\n\n\nx: int\n"""What x means."""\n'
    assert lines_of_code(source) == len(["x = (", "1,", "2,", ")", "text", "b", "def", "return", "x: int"])


def test_what_the_main_job_imports_can_be_read_in_an_evening(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(32 + (i * i + i // 7) % 90) for i in range(600)) * 2, encoding="utf-8")
    words = "--model.dim 16 --model.layers 1 --model.context 8 --attention.heads 2 --train.steps 1 --train.batch 2"
    words += " --train.sample-tokens 5 --device cpu --dtype float32 --threads 1 --corpus file"
    named = modules_of(
        "nanotx.recipes.shakespeare_char", *words.split(), "--corpus.path", str(text), "--run", str(tmp_path / "run")
    )
    files = {Path(file) for name, file in named.items() if file and name.split(".")[0] == "nanotx"}
    files.add(ROOT / "nanotx" / "recipes" / "shakespeare_char.py")  # it ran as __main__
    files.remove(ROOT / "nanotx" / "corpus" / "file.py")  # stands in for what the recipe imported and would fetch
    assert {"train.py", "model.py", "fused.py", "checkpoint.py", "write.py"} <= {file.name for file in files}
    sizes = {file.relative_to(ROOT).as_posix(): lines_of_code(file.read_text(encoding="utf-8")) for file in files}
    print(f"The main job imports {len(sizes)} modules of ours, {sum(sizes.values())} lines of code.")  # noqa: T201
    longest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:5]
    assert sum(sizes.values()) <= EVENING, f"{sum(sizes.values())} lines of code; the longest: {longest}"
    assert not {"hypothesis", "matplotlib", "platformdirs", "nanotx.laws"} & named.keys()
    assert not {"nanotx.agreement", "nanotx.resume", "nanotx.picture"} & named.keys()  # no --resume, no terminal


def test_no_file_is_long():
    files = sorted((ROOT / "nanotx").rglob("*.py"))
    sizes = {file.relative_to(ROOT).as_posix(): lines_of_code(file.read_text(encoding="utf-8")) for file in files}
    assert {name: size for name, size in sizes.items() if size > PAGE} == {}


def test_the_front_door_opens_without_torch_and_numpy():
    began = time.perf_counter()
    named = modules_of("nanotx", "--help")
    seconds = time.perf_counter() - began
    assert "nanotx.cli" in named
    assert not {"torch", "numpy", "tyro", "rich", "einops"} & named.keys()
    assert seconds < 5  # some fifty times what it takes; torch alone may take as long


def test_tokenizers_wait_for_no_torch():
    files = sorted((ROOT / "nanotx" / "tokenizers").glob("*.py"))
    imports = "; ".join(f"import nanotx.tokenizers.{file.stem}" for file in files if file.stem != "__init__")
    code = f"import sys, nanotx.tokenizers; {imports}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_the_tokenizer_verb_waits_for_no_torch(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("To be", encoding="utf-8")
    named = modules_of("nanotx", "tokenizer", "encode", "shakespeare_bpe_512", str(text))
    assert "nanotx.tokenizers.bpe" in named
    assert "torch" not in named
