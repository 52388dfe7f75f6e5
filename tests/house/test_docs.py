"""The pages keep their word: a quoted line stands in its file, a link leads somewhere, the tour runs."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge
from nanotx.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = ROOT / "docs" / "decisions"
SEEDS = ROOT / "docs" / "seeds.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# Quotes: a block headed by its language and a path holds lines of that file, in their order.


def quotes(text: str) -> list[tuple[str, list[str]]]:
    """The path and the lines, without their indentation, of each quote on a page."""
    results = [(path, body) for _, path, body in BLOCK.findall(text) if path]
    return [(path, [line.strip() for line in body.splitlines() if line.strip()]) for path, body in results]


def missing(lines: list[str], source: str) -> list[str]:
    """The quoted lines that do not stand in a source, each after the one before it."""
    left = iter([line.strip() for line in source.splitlines()])
    return [line for line in lines if line not in left]


@pages
def test_every_quoted_line_is_in_the_file_that_is_named(page):
    faults = {path: fault for path, lines in quotes(text_of(page)) if (fault := missing(lines, text_of(ROOT / path)))}
    assert faults == {}


def test_equations_are_quoted():
    assert len(quotes(text_of(SEEDS))) >= 10


@pytest.mark.parametrize(
    ("lines", "gone"),
    [
        (["b = 2", "c = 3"], []),
        (["b = 3"], ["b = 3"]),
        (["c = 3", "b = 2"], ["b = 2"]),
        (["b = 2", "b = 2"], ["b = 2"]),
        (["= 2"], ["= 2"]),
    ],
)
def test_quote_that_was_changed_is_caught(lines, gone):
    assert missing(lines, "a = 1\n    b = 2\nc = 3\n") == gone


def test_quote_is_distinguished_from_a_program_and_a_command():
    page = "```python a/b.py\n  x = 1\n\n  y = 2\n```\n\n```python\nz = 3\n```\n\n```sh\nls\n```\n"
    assert quotes(page) == [("a/b.py", ["x = 1", "y = 2"])]


# Links: to a file that is there, and where the words are a name in ticks, to a file that defines it.


def defined(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """The names that a module defines, those in its classes with the class before them."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))
        if isinstance(node, ast.ClassDef):
            yield from defined(node, f"{prefix}{node.name}.")


def dead_ends(page: Path, text: str) -> list[str]:
    """The links that lead nowhere, and those whose file does not define what they name."""
    results = []
    for words, target in LINK.findall(text):
        file = page.parent / target.partition("#")[0]
        if target.startswith(("https://", "#")):
            continue
        if not file.exists():
            results.append(target)
        elif words.startswith("`") and file.suffix == ".py" and not words.strip("`").endswith(".py"):
            name = words.strip("`")
            results += [] if name in defined(ast.parse(text_of(file))) else [f"{name} in {target}"]
    return results


@pages
def test_every_link_leads_to_what_it_names(page):
    assert dead_ends(page, text_of(page)) == []


def test_link_that_leads_nowhere_is_caught(tmp_path):
    (tmp_path / "a.py").write_text("X = 1\nclass B:\n    y: int = 2\n    def c(self): ...\n", encoding="utf-8")
    good = "[`X`](a.py) [`B`](a.py) [`B.c`](a.py) [`B.y`](a.py) [`a.py`](a.py) [a page](a.py) [far](https://a.b/c)"
    assert dead_ends(tmp_path / "page.md", good) == []
    assert dead_ends(tmp_path / "page.md", "[`B.d`](a.py) [there](b.py)") == ["B.d in a.py", "b.py"]


def paths(text: str) -> list[str]:
    """The paths of our files that a page speaks of, without those that it links to."""
    return re.findall(r"`((?:nanotx|tests|docs|recipes|tokenizers|benchmarks|\.ci)/[\w./]*)`", LINK.sub("", text))


def named_tests(text: str) -> set[str]:
    """The tests that a page names."""
    return set(re.findall(r"`(test_\w+)`", text))


@pages
def test_every_path_that_is_spoken_of_is_there(page):
    assert [path for path in paths(text_of(page)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if named_tests(text_of(page))], ids=lambda page: page.stem)
def test_every_test_that_is_named_is_there(page):
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert named_tests(text_of(page)) <= {name for file in files for name in defined(ast.parse(text_of(file)))}


# Programs and tables on the pages.


@pytest.mark.parametrize("page", ["tour", "layers_alone"])
def test_page_of_python_runs_from_its_first_line_to_its_last(tmp_path, monkeypatch, page):
    monkeypatch.chdir(tmp_path)
    result = BLOCK.findall(text_of(ROOT / "docs" / f"{page}.md"))
    blocks = [body for language, path, body in result if language == "python" and not path]
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for body in blocks:
        exec(compile(body, f"docs/{page}.md: {body.splitlines()[0]}", "exec"), names)


def tables(text: str) -> list[str]:
    """The blocks of TOML on a page."""
    return [body for language, _, body in BLOCK.findall(text) if language == "toml"]


@pytest.mark.parametrize("page", [page for page in PAGES if tables(text_of(page))], ids=lambda page: page.stem)
def test_every_table_of_toml_is_one_that_a_recipe_takes(page):
    for body in tables(text_of(page)):
        table = merge(Recipe, to_table(Recipe()), tomllib.loads(body))
        assert isinstance(from_table(Recipe, table), Recipe)


@pytest.mark.parametrize(("find", "least"), [(paths, 50), (named_tests, 3), (tables, 3), (LINK.findall, 300)])
def test_what_is_checked_on_pages_is_found_there(find, least):
    assert sum(len(find(text_of(page))) for page in PAGES) >= least


# Lists that have to be whole.


def test_published_set_ups_are_all_named():
    published = ["nanogpt_64", "micropgpt", "my_gpt", "deep_64", "decoder_384", "baby_gpt", "macbook"]
    assert [name for name in published if f"(../recipes/{name}.toml)" not in text_of(SEEDS)] == []


def test_every_decision_is_in_the_index_once():
    files = {page.name for page in DECISIONS.glob("*.md")} - {"README.md"}
    listed = [target for _, target in LINK.findall(text_of(DECISIONS / "README.md"))]
    assert sorted(listed) == sorted(files)


MUTABLE_ON_RESUME = {"torch", "regex", "einops", "rich", "pytest", "hypothesis"}
"""Packages that need no reason."""


def declared() -> set[str]:
    """The packages that we ask for, to run, to build, to test and to compare with."""
    table = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    project = table["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    asked = [*table["build-system"]["requires"], *project["dependencies"], *extras]
    return {re.match(r"[\w-]+", item)[0] for item in asked}


def test_every_package_has_a_section_that_gives_its_reason():
    sections = set(re.findall(r"^## (\S+)$", text_of(DECISIONS / "dependencies.md"), re.MULTILINE))
    assert sections == declared() - MUTABLE_ON_RESUME


# What a training run does without.

ABSENT = ("matplotlib", "hypothesis", "platformdirs", "transformers", "beartype", "pytest")
TRAINING = """
from nanotx.recipe import Recipe
from nanotx.cli.run import run

words = "--corpus playhouse --corpus.size 3000 --tokenizer byte --model.dim 8 --model.layers 1 --model.context 8"
words += " --train.steps 2 --train.batch-size 2 --train.sample-tokens 2"
words += " --device cpu --dtype float32 --threads 1 --run {run}"
assert run(Recipe(), words.split(), name="tiny") == 0
"""


def imported(code: str, folder: Path) -> list[str]:
    """Which of the packages are in memory after a program has run in a process of its own."""
    tail = f"import sys\nprint([name for name in {ABSENT!r} if name in sys.modules])\n"
    head = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
    command = [sys.executable, "-c", head + code + tail]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=True, timeout=120)
    return list(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_run_imports_neither_pictures_nor_tests_nor_other_frameworks(tmp_path):
    assert imported(TRAINING.format(run="tiny"), tmp_path) == []
    assert (tmp_path / "tiny" / "summary.json").is_file()


def test_unwanted_import_is_caught(tmp_path):
    assert imported("import platformdirs\n", tmp_path) == ["platformdirs"]
