"""The house has floors: a module imports from lower ones, or from the face of its own folder."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A file of nanotx/, or a folder with all that is in it, on its floor. The registry stands on floor 0 and raises
# errors, so errors lie below, in the cellar, with the face of nanotx itself (its version, and when it started).
PLAN = """
    16  __main__
    15  cli
    14  verbs
    13  by_name selftest
    12  recipes laws
    11  run retaken
    10  session loaded recorded
     9  resume writing
     8  longer fitting train save summary scoring sheets speculate trainer_json
     7  trainer texts recipe_flags agreement exchange together findings
     6  recipe evaluate rolling compiled_reader compiling
     5  model optimizers display
     4  block write picture verified
     3  attention ffn sample checkpoint loss course spans named_tokens
     2  norm position tokenizers corpus schedules data embedding flags layers choosing past_kinds compiler rates race
     1  config figures text_files device past dropout loss_chunks numerics lock journal folder door signals layout room
     0  registry shapes shelf files penalty pace averaging scripts columns curve printable stops linear limits allocator
     0  harmless outlet toml_file
    -1  nanotx errors disk
"""

# The laws are a house in the house: their files have floors of their own.
LAWS = """
    8  testing portrait report
    7  trial
    6  book
    5  book_embeddings book_layers book_learning book_model book_places book_texts
    4  book_config layer_case lesson_case
    3  texts numbers
    2  equality learning time place windows elsewhere strategies
    1  law values weights config corpora text stretches picture
"""

# So are the files of the self-test.
SELFTEST = """
    8  inputs fuzz
    7  _inputs_deeds
    6  _inputs_evals _inputs_flags _inputs_learning _inputs_numbers _inputs_resumed _inputs_runs _inputs_sampling
    6  _inputs_texts _inputs_tokenizers _inputs_toml _mutants
    5  _changed _recipe_texts damage faults kills saves
    4  _bad _damage
    3  _tiny _reading _hostile
    2  small
    1  child meddle
    0  selftest
"""
HOUSES = {"laws": LAWS, "selftest": SELFTEST}

Floors = dict[str, int]
Import = tuple[str, int]  # the full name of a module, and the line in which it is imported


def floors(plan: str) -> Floors:
    rows = [line.split() for line in plan.splitlines() if line.strip()]
    return {name: int(height) for height, *names in rows for name in names}


@dataclass(frozen=True)
class House:
    """A package called nanotx, read and never imported."""

    folder: Path

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module's full name and file; a folder's face goes by the folder's name."""
        found = {}
        for file in sorted(self.folder.rglob("*.py")):
            parts = [self.folder.name, *file.relative_to(self.folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return found

    def is_face(self, module: str) -> bool:
        return self.modules[module].name == "__init__.py"

    def imports(self, module: str) -> list[Import]:
        """What a module of ours imports of ours, inside functions and for types alone too."""
        tree = ast.parse(self.modules[module].read_text(encoding="utf-8"))
        named = [(name, line) for node in ast.walk(tree) for name, line in self.named(module, node)]
        return [(name, line) for name, line in named if name in self.modules]

    def named(self, module: str, node: ast.AST) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                package = module.split(".") if self.is_face(module) else module.split(".")[:-1]
                origin = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                inside = f"{origin}.{alias.name}"
                yield inside if inside in self.modules else origin, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            word = node.args[0]
            if isinstance(word, ast.JoinedStr):  # f"nanotx.verbs.{name}"
                word = word.values[0]
            if isinstance(word, ast.Constant):
                yield str(word.value).rstrip("."), node.lineno


def faults(house: House, known: Floors) -> list[str]:
    """Each import that does not point down, each module without a floor, each floor without its module."""
    top = house.folder.name
    units = {unit_of(module) for module in house.modules}
    found = [
        f"{unit} has no floor yet: give it one in PLAN of {Path(__file__).name}, just above all that it imports"
        for unit in sorted(units - known.keys())
    ]
    found += [f"{unit} stands in PLAN and nowhere else: take it out" for unit in sorted(known.keys() - units)]
    for module in house.modules:
        if module == top or unit_of(module) not in known:
            continue  # the face of nanotx imports when it is asked
        for other, line in house.imports(module):
            reason = fault(house, known, module, other)
            if reason:
                found.append(f"{house.modules[module].relative_to(house.folder.parent)}:{line}: {reason}")
    return found


def fault(house: House, known: Floors, module: str, other: str) -> str:
    """What is wrong with an import of `other` by `module`; empty where nothing is."""
    here, there = unit_of(module), unit_of(other)
    hidden = other.rpartition(".")[2].startswith("_")
    if here == there and here in HOUSES and not house.is_face(module):
        return fault_inside(here, module.rpartition(".")[2], other.rpartition(".")[2])
    if here == there:
        gathers = house.is_face(module) and module not in {name for name, _ in house.imports(other)}
        if house.is_face(other) or hidden or gathers:
            return ""
        return f"{module} imports {other}, which is of the same folder; only a folder's face is shared"
    if hidden:
        return f"{module} imports {other}, which belongs to its own folder alone"
    if there == "laws" and here not in ("cli", "verbs"):
        return f"{module} imports {other}; only cli, verbs, tests and benchmarks look at the laws"
    if here == "tokenizers" and there == "shapes":
        return f"{module} imports {other}, and a tokenizer knows no tensors"
    if there in known and known[there] >= known[here]:
        return f"{module} (floor {known[here]}) imports {other} (floor {known[there]}); imports point down"
    return ""


def fault_inside(inner: str, here: str, there: str) -> str:
    """What is wrong with an import of one file by another of the same house in the house."""
    known = floors(HOUSES[inner])
    missing = {here, there} - known.keys()
    if missing:
        return f"{inner}.{missing.pop()} has no floor yet: give it one in {inner.upper()} of {Path(__file__).name}"
    if known[there] >= known[here]:
        heights = f"{inner}.{here} (floor {known[here]}) imports {inner}.{there} (floor {known[there]})"
        return f"{heights}; imports point down"
    return ""


def unit_of(module: str) -> str:
    """What has a floor: the file or folder right under nanotx, or nanotx itself."""
    return ".".join(module.split(".")[1:2]) or module


def strangers(file: Path) -> set[str]:
    """The top-level packages that a file imports, ours among them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    froms = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level)
    return found | {str(node.module).split(".")[0] for node in froms}


def test_every_import_points_down():
    assert faults(House(ROOT / "nanotx"), floors(PLAN)) == []


def test_tokenizers_know_no_torch():
    files = sorted((ROOT / "nanotx" / "tokenizers").glob("*.py"))
    assert files
    assert [file.name for file in files if {"torch", "jaxtyping"} & strangers(file)] == []


def test_a_stranger_is_seen_wherever_it_is_imported(tmp_path):
    file = tmp_path / "some.py"
    file.write_text("def late():\n    from torch.nn import functional\n    import numpy.linalg\n", encoding="utf-8")
    assert strangers(file) == {"torch", "numpy"}


# The checker itself, on houses made up for it.

SMALL = floors("2 upper cli\n 1 middle laws tokenizers\n 0 lower shapes\n -1 nanotx")


def build(folder: Path, **changed: str) -> House:
    """A sound house, and in it the files that are named here, folders parted from files by a double underline."""
    files = {
        "": "import nanotx.upper\n",
        "lower": "",
        "shapes": "import nanotx\n",
        "upper": "from nanotx import lower\nfrom nanotx.middle.red import Red\n",
        "cli": "import importlib\nfrom nanotx.laws import causal\n",
        "laws/__init__": "from nanotx.laws.time import causal\n",
        "laws/time": "from nanotx import lower\n",
        "middle/__init__": "from nanotx.middle._hidden import secret\n",
        "middle/_hidden": "import nanotx.lower\n",
        "middle/red": "from nanotx.middle import secret\nfrom nanotx.middle._hidden import secret\n",
        "middle/blue": "import nanotx.middle\n",
        "tokenizers/__init__": "",
        "tokenizers/char": "from nanotx.tokenizers import *\n",
    }
    for name, text in {**files, **{key.replace("__", "/"): text for key, text in changed.items()}}.items():
        file = folder / "nanotx" / f"{name or '__init__'}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return House(folder / "nanotx")


def test_a_sound_house_has_no_fault(tmp_path):
    assert faults(build(tmp_path), SMALL) == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"lower": "import nanotx.upper"}, r"lower.py:1: nanotx.lower \(floor 0\) imports nanotx.upper \(floor 2\)"),
        ({"lower": "from nanotx import upper"}, "imports nanotx.upper .* point down"),
        ({"lower": "from nanotx.upper import Red"}, "imports nanotx.upper .* point down"),
        ({"lower": "from . import upper"}, "imports nanotx.upper .* point down"),
        ({"lower": "from .upper import Red"}, "imports nanotx.upper .* point down"),
        ({"lower": "\ndef late():\n    import nanotx.upper"}, "lower.py:3: .* point down"),
        ({"lower": "if TYPE_CHECKING:\n    from nanotx.upper import Red"}, "lower.py:2: .* point down"),
        ({"lower": "import importlib\nimportlib.import_module('nanotx.upper')"}, "lower.py:2: .* point down"),
        ({"lower": "import_module(f'nanotx.middle.{name}')"}, r"imports nanotx.middle \(floor 1\)"),
        ({"lower": "from nanotx import shapes"}, r"\(floor 0\) imports nanotx.shapes \(floor 0\)"),
        ({"middle/_hidden": "from nanotx.upper import Red"}, "nanotx.middle._hidden .* point down"),
        ({"middle/red": "from nanotx.middle.blue import Blue"}, "only a folder's face is shared"),
        ({"middle/red": "from nanotx.middle import blue"}, "only a folder's face is shared"),
        ({"middle/red": "from . import blue"}, "only a folder's face is shared"),
        ({"middle/__init__": "from nanotx.middle import red"}, "only a folder's face is shared"),
        ({"upper": "from nanotx.middle import _hidden"}, "belongs to its own folder alone"),
        ({"upper": "from nanotx.laws import causal"}, "only cli, verbs, tests and benchmarks"),
        ({"tokenizers/char": "from nanotx.shapes import Tokens"}, "a tokenizer knows no tensors"),
        ({"fresh": ""}, "fresh has no floor yet: give it one in PLAN of test_floors.py"),
    ],
)
def test_a_planted_fault_is_caught(tmp_path, changed, reason):
    (found,) = faults(build(tmp_path, **changed), SMALL)
    assert re.search(reason, found), found


def test_a_floor_for_what_is_not_there_is_a_fault(tmp_path):
    assert faults(build(tmp_path), SMALL | {"ghost": 3}) == ["ghost stands in PLAN and nowhere else: take it out"]
