"""How the codebase is written: axes moved by patterns, a part a file, a source a part, every text opened as UTF-8."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from nanotx.config.registry import Slot

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nanotx"
OURS = [file for folder in ("nanotx", "benchmarks", "tests") for file in sorted((ROOT / folder).rglob("*.py"))]


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def where(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


# Axes are named, split and moved by patterns.

MOVES = """
    view view_as permute transpose transpose_ t_ swapaxes swapdims moveaxis movedim adjoint T mT H mH newaxis
    reshape reshape_as flatten unflatten ravel squeeze squeeze_ unsqueeze unsqueeze_ expand_dims Flatten Unflatten
"""


def moves(tree: ast.AST) -> Iterator[str]:
    """Each place of a program in which an axis is moved, split or made without a pattern."""
    annotations = [getattr(node, name, None) for node in ast.walk(tree) for name in ("annotation", "returns")]
    types = {id(item) for kind in annotations if isinstance(kind, ast.AST) for item in ast.walk(kind)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in MOVES.split():
            yield f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"line {node.lineno}: {alias.name}" for alias in node.names if alias.name in MOVES.split())
        elif isinstance(node, ast.Subscript) and id(node) not in types:
            inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            none = any(isinstance(item, ast.Constant) and item.value is None for item in inside)
            if none and not any(isinstance(item, ast.List) for item in inside):  # Callable[[int], None] is a type
                yield f"line {node.lineno}: an index of None"


def test_attention_ffn_and_block_move_axes_by_patterns_alone():
    files = [
        file for folder in ("attention", "ffn", "block") for file in sorted((PACKAGE / "nn" / folder).glob("*.py"))
    ]
    assert len(files) > 6
    assert {where(file): results for file in files if (results := list(moves(parsed(file))))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "y = x.view(2, -1)",
        "y = x.permute(0, 2, 1)",
        "y = x.transpose(1, 2)",
        "y = torch.transpose(x, 1, 2)",
        "y = x.reshape(2, -1)",
        "y = x.unsqueeze(0)",
        "y = x.squeeze()",
        "y = x.flatten(1)",
        "y = x.unflatten(1, (2, 3))",
        "y = x.movedim(0, 1)",
        "y = x.swapaxes(0, 1)",
        "y = x.T",
        "y = x.mT @ z",
        "y = x[:, None]",
        "y = x[None]",
        "y = x[..., None, :]",
        "y = x[np.newaxis]",
        "from torch import transpose",
        "turn = torch.Tensor.view",
        "for one in x.reshape(3, 4): print(one)",
        "y = nn.Flatten()(x)",
    ],
)
def test_axis_moved_without_einops_is_caught(line):
    assert len(list(moves(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "y = rearrange(x, 'b t (h k) -> b h t k', h=4)",
        "y = x[:, -1]",
        "def f(x: dict[str, None]) -> tuple[int, None]: ...",
        "Make = Callable[[int], None]",
        "q, k, v = qkv.unbind()",
        "mask: Callable[..., None] = print",
        "T = TypeVar('T')",
    ],
)
def test_patterns_plain_indices_and_types_are_free(line):
    assert list(moves(ast.parse(line))) == []


# A part is a file of its own name, and says where it comes from.

SELF_EVIDENT = {
    "nanotx/nn/adapt/none.py": "does nothing",
    "nanotx/nn/norm/none.py": "does nothing",
    "nanotx/nn/embedding/tokens.py": "a table",
    "nanotx/optim/schedules/constant.py": "the number one",
    "nanotx/tokenizers/char.py": "numbers the characters",
    "nanotx/tokenizers/saved.py": "reads a file of ours",
    "nanotx/data/corpus/file.py": "reads a file of the user's",
    "nanotx/data/corpus/chat.py": "reads a file of the user's",
    "nanotx/data/corpus/small_talk.py": "an invention of this house",
    "nanotx/data/corpus/tokens.py": "reads files of ours",
    "nanotx/data/corpus/playhouse/corpus.py": "an invention of this house",
    "nanotx/training/callbacks/gradient_norms.py": "norms",
    "nanotx/training/callbacks/csv.py": "writes a table",
    "nanotx/training/callbacks/tensorboard.py": "calls a library",
    "nanotx/training/callbacks/trackio.py": "calls a library",
    "nanotx/training/callbacks/wandb.py": "calls a library",
}
"""Parts that no paper had to propose."""

SOURCE = re.compile(r"Sources?: .|https?://|doi:|arXiv")


def slots() -> list[type[Slot]]:
    """The slots, each declared in its package's `base.py`."""
    for base in sorted(PACKAGE.rglob("base.py")):
        importlib.import_module(".".join(base.relative_to(ROOT).with_suffix("").parts))
    return sorted(
        (slot for slot in Slot.__subclasses__() if slot.package.startswith("nanotx.")), key=lambda slot: slot.package
    )


def folder_of(slot: type[Slot]) -> Path:
    return ROOT / Path(*slot.package.split("."))


def parts() -> list[Path]:
    """The file of each part that comes with the package; of a part with several files, the one that registers it."""
    results = []
    for slot in slots():
        for name in sorted(slot.shipped()):
            file = Path(sys.modules[slot.find(name).__module__].__file__)
            results.append(file)
    return results


def registered(tree: ast.Module) -> list[str]:
    """The names that a file registers parts under."""
    decorators = [item for node in tree.body if isinstance(node, ast.ClassDef) for item in node.decorator_list]
    calls = [
        decorator
        for decorator in decorators
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute)
    ]
    return [
        call.args[0].value
        for call in calls
        if call.func.attr == "register" and call.args and isinstance(call.args[0], ast.Constant)
    ]


def test_every_slot_of_nanotx_is_listed():
    known = {
        "adapt",
        "attention",
        "block",
        "callback",
        "corpus",
        "embedding",
        "ffn",
        "loss",
        "norm",
        "optimizer",
        "position",
        "schedule",
        "tokenizer",
    }
    assert known == {slot.slot for slot in slots()}


def test_part_has_the_name_of_its_file_or_of_its_folder():
    wrong = [where(file) for file in parts() if registered(parsed(file)) not in ([file.stem], [file.parent.name])]
    assert wrong == []


def test_what_is_no_part_is_named_by_its_slot_and_registers_none():
    for slot in slots():
        names = {file.stem for file in folder_of(slot).glob("[!_]*.py")} | {
            file.parent.name for file in folder_of(slot).glob("*/__init__.py")
        }
        assert set(slot.shared) | slot.shipped() == names, slot
        files = [folder_of(slot) / f"{name}.py" for name in slot.shared]
        assert [where(file) for file in files if file.exists() and registered(parsed(file))] == []


def test_name_given_to_a_part_is_read():
    text = "@Norm.register('rmsnorm')\n@dataclass(frozen=True)\nclass RmsNorm(Norm): ...\n@final\nclass Other: ..."
    assert registered(ast.parse(text)) == ["rmsnorm"]


def test_part_cites_its_source_or_needs_none():
    silent = {where(file) for file in parts() if not SOURCE.search(ast.get_docstring(parsed(file)) or "")}
    assert silent == SELF_EVIDENT.keys(), "a part cites a source in its docstring, or stands in SELF_EVIDENT; not both"


def test_every_module_has_a_docstring():
    files = [file for file in OURS if "tests" not in file.relative_to(ROOT).parts]
    assert [where(file) for file in files if not ast.get_docstring(parsed(file))] == []


# Texts are opened as UTF-8, and printed by the entry point alone.


def printed(tree: ast.AST) -> list[int]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]


def test_only_the_entry_point_prints():
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if file.name not in ("entry.py", "main.py")]
    assert {where(file): lines for file in files if (lines := printed(parsed(file)))} == {}


def test_print_is_caught():
    assert printed(ast.parse("x = 1\nif x:\n    print(x)\npprint(x)")) == [3]


def unnamed(tree: ast.AST) -> Iterator[str]:
    """Each call that reads or writes text in whatever encoding the machine prefers."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {key.arg for key in node.keywords}
        last = name.rpartition(".")[2]
        texts = {"read_text": 0, "write_text": 1, "open": 2 if "." in name else 3, "fdopen": 3}
        # an address is opened with a timeout; a browser opens pages, and an archive its members, as bytes
        other = name in ("os.open", "self.open", "browser.open", "archive.open") or "timeout" in keywords
        if last not in texts or other:
            continue
        message = [*node.args, *(key.value for key in node.keywords if key.arg == "mode")]
        binary = any(
            isinstance(item, ast.Constant) and re.fullmatch("[rwax+]*b[rwax+]*", str(item.value)) for item in message
        )
        if "encoding" not in keywords and len(node.args) <= texts[last] and not (binary and last in ("open", "fdopen")):
            yield f"line {node.lineno}: {name}"


def test_every_text_is_opened_in_a_named_encoding():
    assert {where(file): results for file in OURS if (results := list(unnamed(parsed(file))))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "open('a')",
        "open('a', 'w')",
        "path.open()",
        "path.open('w', newline='')",
        "Path('a').read_text()",
        "path.write_text('b')",
        "os.fdopen(3, 'w')",
    ],
)
def test_text_in_the_encoding_of_the_machine_is_caught(line):
    assert len(list(unnamed(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "open('a', encoding='utf-8')",
        "open('a', 'rb')",
        "path.open('wb')",
        "path.open(mode='ab')",
        "path.read_text('utf-8')",
        "path.write_text('b', encoding='utf-8')",
        "os.open(path, os.O_RDONLY)",
        "os.fdopen(3, 'wb')",
        "opener().open(url, timeout=5)",
        "path.read_bytes()",
    ],
)
def test_text_with_a_named_encoding_and_bytes_are_allowed(line):
    assert list(unnamed(ast.parse(line))) == []


# Nothing of ours stands in the way of a package of the same name.

NEEDED = {"numpy", "torch", "einops", "rich", "regex", "safetensors", "hypothesis", "matplotlib", "jaxtyping"}
NEEDED |= {"transformers", "tokenizers", "tiktoken", "datasets", "platformdirs", "tomli_w", "nanotx", "pytest"}


def shadows(folder: Path) -> list[str]:
    """Modules of a folder of scripts that hide a package from them: the folder comes first on the path."""
    taken = NEEDED | set(sys.stdlib_module_names) | set(packages_distributions())
    names = {path.stem for path in folder.glob("*.py")}
    return sorted(names & taken | {path.name for path in folder.iterdir() if path.is_dir() and path.name in NEEDED})


def test_no_benchmark_hides_a_package():
    assert shadows(ROOT / "benchmarks") == []


@pytest.mark.parametrize("name", ["numpy.py", "transformers.py", "statistics.py", "_pytest.py", "torch"])
def test_benchmark_that_hides_a_package_is_caught(tmp_path, name):
    (tmp_path / "attn.py").touch()
    (tmp_path / "results").mkdir()
    assert shadows(tmp_path) == []
    (tmp_path / name).touch() if name.endswith(".py") else (tmp_path / name).mkdir()
    assert shadows(tmp_path) == [name.removesuffix(".py")]


@pytest.mark.parametrize("folder", ["tokenizers", "recipes"])
def test_preset_folder_holds_data_and_no_package(folder):
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert files
    assert [where(file) for file in files if file.suffix not in (".json", ".toml", ".md")] == []


@pytest.mark.parametrize("folder", ["tokenizers", "recipes"])
def test_preset_folder_is_no_module_in_the_checkout(folder):
    code = f"try:\n    import {folder} as one\nexcept ImportError:\n    print(None)\nelse:\n    print(one.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    file = done.stdout.strip()
    assert file == "None" or ROOT not in Path(file).parents
    assert importlib.util.find_spec(f"nanotx.{folder}") is not None  # the package of that name is in the package
