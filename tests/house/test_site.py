"""The pages for users: their programs run, their commands are understood, their tables are those of the code."""

import importlib
import json
import re
import shlex
import sys
import tomllib
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, text, tiny
from torch import nn

from nanotx.cli.main import run as nanotx_command
from nanotx.config import other_names
from nanotx.config.registry import LOADED, load_file
from nanotx.data.corpus.file import File
from nanotx.laws.all_laws import SLOTS
from nanotx.optim.schedules import Schedule
from nanotx.recipe import Train
from nanotx.recipes import shakespeare_char
from nanotx.training.callbacks import Callback

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md", "tokenizers/README.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted((DOCS / "decisions").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, *languages):
    """The code blocks of a page in some languages."""
    return [body for language, body in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


# Programs.


@pytest.mark.parametrize("page", ["comparing", "run_folder", "tokenizers"])
def test_page_of_small_programs_runs(page):
    names: dict[str, object] = {}
    result = blocks(DOCS / f"{page}.md", "python")
    assert result
    for body in result:
        exec(compile(body, f"docs/{page}.md: {body.splitlines()[0]}", "exec"), names)


def test_program_of_fine_tuning_trains_on_from_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    corpus = ["--corpus", "file", "--corpus.path", str(text(tmp_path / "text.txt"))]
    assert nanotx_command(["train", "macbook", *corpus, *tiny(), "--run", "runs/gpt2"]) == 0
    (body,) = blocks(DOCS / "fine_tuning.md", "python")
    short = replace(shakespeare_char.recipe, corpus=File(path="text.txt"), train=Train(steps=2, batch_size=2))
    monkeypatch.setattr(shakespeare_char, "recipe", short)
    exec(compile(body, "docs/fine_tuning.md", "exec"), {})
    (run,) = (tmp_path / "runs").glob("run-*")
    assert 'init = "runs/gpt2"' in (run / "recipe.toml").read_text(encoding="utf-8")


@pytest.fixture
def no_parts_are_left():
    """Forget the parts that a test registers."""
    yield
    for slot in [*SLOTS.values(), Callback, Schedule]:
        for name in [name for name, part in slot.registered.items() if part.__module__.startswith(LOADED)]:
            del slot.registered[name]


def test_every_file_on_the_page_of_extensions_is_one_that_load_takes(tmp_path, monkeypatch, no_parts_are_left):
    board = SimpleNamespace(SummaryWriter=object)  # tensorboard is not among the packages that tests need
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    result = blocks(DOCS / "extending.md", "python")
    assert len(result) >= 9
    for number, body in enumerate(result):
        file = tmp_path / f"mine_{number}.py"
        file.write_text(body, encoding="utf-8")
        load_file(file)
    assert {"inverse_root"} <= set(Schedule.names()) and "sums" in SLOTS["corpus"].names()
    assert Schedule.find("inverse_root")(warmup=100).factor(99, 1000) == 1.0
    assert SLOTS["corpus"].find("sums")(lines=3).text().count("\n") == 3


def test_file_in_the_log_is_one_that_load_takes(tmp_path, no_parts_are_left):
    (body,) = blocks(DOCS / "log.md", "python")
    (tmp_path / "torch_dropout.py").write_text(body, encoding="utf-8")
    load_file(tmp_path / "torch_dropout.py")
    block = SLOTS["block"].find("torch_dropout")(dropout=0.5).build(16).train()
    assert isinstance(block.ffn_dropout, nn.Dropout) and block(torch.randn(2, 3, 16)).shape == (2, 3, 16)


def test_two_lines_that_test_a_part_are_a_test(tmp_path, monkeypatch, no_parts_are_left):
    monkeypatch.chdir(tmp_path)
    (body,) = blocks(DOCS / "laws.md", "py")  # `py`: a reader's file, not a program
    mine = next(source for source in blocks(DOCS / "extending.md", "python") if "value_residual" in source)
    (tmp_path / "mine.py").write_text(mine.replace('"value_residual"', '"mine"'), encoding="utf-8")
    names: dict[str, object] = {}
    exec(compile(body, "docs/laws.md", "exec"), names)
    assert callable(names["test_mine"])


RUN = {
    **dict.fromkeys(["README.md", "docs/looking.md"], "tests/house/test_readme.py"),
    **{f"docs/{name}.md": "tests/house/test_docs.py" for name in ("tour", "layers_alone")},
    "docs/induction.md": "tests/lens/test_induction_forms.py",
    "docs/chatting.md": "tests/cli/test_chat_command.py",
    "docs/serving.md": "tests/serve/test_openai_client.py",
    "docs/exporting.md": "tests/hub/test_harness.py",
    "docs/huggingface.md": "tests/hub/test_huggingface_export.py",
    **{
        f"docs/{name}.md": "here"
        for name in ("comparing", "extending", "fine_tuning", "laws", "log", "run_folder", "tokenizers")
    },
}
"""Where the Python of a page is run."""


def test_every_page_with_python_on_it_is_run_somewhere():
    results = [page for page in PAGES if blocks(page, "python", "py")]
    assert {page.relative_to(ROOT).as_posix() for page in results} == set(RUN)


# Commands: each exists, and so does each of its flags.


def commands(page):
    """The command lines of nanotx in the shell blocks of a page, without comments."""
    lines = "\n".join(blocks(page, "", "sh", "text")).replace("\\\n", " ").splitlines()
    results = [re.sub(r"^python -m nanotx\.recipes\.", "nanotx train ", line) for line in lines]
    return [shlex.split(line, comments=True) for line in results if re.match(r"nanotx [a-z]", line)]


@cache
def help_of(*command):
    """The help page of a command."""
    with pytest.MonkeyPatch.context() as patch:
        shown: list[str] = []
        patch.setattr(sys, "stdout", SimpleNamespace(write=shown.append, flush=lambda: None, isatty=lambda: False))
        try:
            code = nanotx_command([*command, "--help"])
        except SystemExit as end:
            code = end.code
    assert code == 0, command
    return "".join(shown)


def faults(argv):
    """The flags of a command line that its command does not have."""
    command = {"tokenizer": argv[:3] if argv[1:2] == ["train"] else argv[:2]}.get(argv[0], argv[:1])
    if command == ["train"]:
        command = ["train", argv[1] if argv[1].isidentifier() else "macbook"]
    foreign = "--load" in argv  # a part from a file that is on no disk
    if argv[0] in ("compare", "plan", "prove", "scaling", "sweep", "tune"):  # the flags of the recipe are theirs, too
        return [flag for flag in faults(["train", *argv[1:]]) if f" {flag} " not in help_of(argv[0])]
    known = help_of(*command, *([] if foreign else [word for flag in chosen(argv) for word in flag]))
    flags = [word.partition("=")[0] for word in argv if re.match(r"--[a-z]", word)]
    return [flag for flag in flags if not re.search(rf"{re.escape(flag)}(?![\w.-])", known)]


def chosen(argv):
    """The flags of a command line that choose a part by its name, with the name."""
    slots = {f"--{slot}" for slot in SLOTS}
    return [(flag, name) for flag, name in pairwise(argv) if flag in slots and name.isidentifier()]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_command_on_a_page_is_one_and_has_its_flags(page):
    assert {" ".join(argv): wrong for _, *argv in commands(page) if (wrong := faults(argv))} == {}


def test_unknown_flag_is_caught():
    assert faults(["sample", "RUN", "--top-k", "3", "--topk", "3"]) == ["--topk"]
    assert faults(["train", "macbook", "--ffn", "moe", "--ffn.experts", "2", "--ffn.export", "1"]) == ["--ffn.export"]


def test_page_from_nanogpt_has_the_table_of_the_code():
    table = other_names.nanogpt_table()
    assert table in (DOCS / "from_nanogpt.md").read_text(encoding="utf-8"), f"\n{table}"


def test_every_flag_beside_one_of_nanogpts_is_taken(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = (DOCS / "from_nanogpt.md").read_text(encoding="utf-8").partition("## Flags")[2]
    result = re.findall(r"^\| `(--[^`]*)` \| `(--[^`]*)` \|", page, re.MULTILINE)
    assert len(result) >= 20
    flags = [word for _, ours in result for word in ours.split()]
    at = flags.index("--schedule")
    for given in (flags[:at] + flags[at + 2 :], flags[at : at + 2]):
        assert nanotx_command(["train", "macbook", *given, "--print-config"]) == 0
    assert 'part = "constant"' in capsys.readouterr().out


# Tables.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run with an auxiliary loss."""
    path = tmp_path_factory.mktemp("documented")
    corpus = ["--corpus", "file", "--corpus.path", str(text(path / "t.txt"))]
    words = [*tiny(train_steps=None), "--train.seconds", "0.05", *corpus, "--ffn", "moe"]
    assert nanotx_command(["train", "macbook", *words, "--run", str(path / "run")]) == 0
    return path / "run"


PAGE = (DOCS / "run_folder.md").read_text(encoding="utf-8")


def named(section):
    """The names in ticks in the first column of the tables of a section of the page."""
    rows = re.findall(r"^\| (`[^|]*`) \|", PAGE.partition(section)[2].partition("\n## ")[0], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def columns(of):
    """The columns of an event that the page names."""
    rows = re.findall(r"^\| ([^|]*) \| (`[^|]*`) \|", PAGE, re.MULTILINE)
    return {name for events, names in rows if f"`{of}`" in events for name in re.findall(r"`([^`]+)`", names)}


def test_every_file_of_a_run_is_on_the_page_and_no_other(folder):
    written = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    written |= {file.name for file in next((folder / "checkpoints").iterdir()).iterdir()}
    assert written == named("## Files")


def test_every_column_of_the_metrics_log_is_on_the_page_and_no_other(folder):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    result: dict[str, set[str]] = {}
    for row in map(json.loads, lines):
        result.setdefault(row["event"], set()).update(key for key in row if "/" not in key)
    assert {"start", "step", "eval", "sample", "checkpoint", "end"} <= result.keys()
    for event, keys in result.items():
        assert keys - {"event", "step"} == columns(event), event


def test_every_key_of_the_summary_is_on_the_page_and_no_other(folder):
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary.keys() | {"floor_bits_per_byte"} == named("## Keys of `summary.json`")


def test_picture_of_the_layers_is_the_contract():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = table["tool"]["importlinter"]["contracts"][0]["layers"]
    picture = (DOCS / "pictures" / "layers.svg").read_text(encoding="utf-8")
    boxes = re.findall(r'y="([\d.]+)" text-anchor="middle"[^>]*>([^<]+)<', picture)
    heights = dict.fromkeys(sorted({float(y) for y, _ in boxes}))
    drawn = [sorted(name for y, name in boxes if float(y) == height) for height in heights]
    assert drawn == [sorted(re.findall(r"\w+", layer)) for layer in layers]  # a room that may be empty is in brackets


# Links, which the site's own code turns into links between pages.


@pytest.fixture
def repository(monkeypatch):
    """The extension that relinks pages; it needs no Sphinx."""
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    yield importlib.import_module("repository")
    sys.modules.pop("repository", None)


@pytest.mark.parametrize(
    ("docname", "link", "wanted"),
    [
        ("tour", "[x](seeds.md#a)", "[x](seeds.md#a)"),
        ("tour", "[x](../CONTRIBUTING.md)", "[x](contributing.md)"),
        ("decisions/site", "[x](../../CONTRIBUTING.md#check)", "[x](../contributing.md#check)"),
        ("tour", "[x](../recipes)", "[x](presets/recipes.md)"),
        ("tour", "[`x`](../nanotx/recipe.py)", "[`x`](files/nanotx/recipe.py.html){.external}"),
        ("decisions/site", "[x](../../nanotx/recipe.py)", "[x](../files/nanotx/recipe.py.html){.external}"),
        ("tour", "![x](tokenizers.svg)", "![x](tokenizers.svg)"),
        ("tour", "![x](../benchmarks/results/attn-cpu.svg)", "![x](../benchmarks/results/attn-cpu.svg)"),
        ("tour", "[x](../tests/mutants)", "x"),
        ("tour", "[x](https://a.b/c.md)", "[x](https://a.b/c.md)"),
        ("tour", "[x](gone.md)", "[x](gone.md)"),
        ("tour", "```sh\n[x](../CONTRIBUTING.md)\n```\n", "```sh\n[x](../CONTRIBUTING.md)\n```\n"),
    ],
)
def test_link_leads_to_the_same_page_on_the_site(repository, docname, link, wanted):
    text, files = repository.relink(link, (DOCS / docname).parent, docname)
    assert text == wanted and files == ({"nanotx/recipe.py"} if "files/" in wanted else set())


def test_every_page_from_outside_has_a_stub_that_leads_there(repository):
    for page, original in repository.MOUNTED.items():
        stub = DOCS / f"{page}.md"
        (target,) = re.findall(r"\]\(([^)]+)\)", stub.read_text(encoding="utf-8"))
        assert (stub.parent / target).resolve() == ROOT / original


def test_every_page_is_in_the_sites_table_of_contents_once():
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.*") if path.suffix in (".md", ".ipynb")]
    own = [path.with_suffix("").as_posix() for path in pages if path.parts[0] not in ("_build", "api", "decisions")]
    assert sorted(listed) == sorted({*own, "decisions/README"} - {"index"})


# Notebooks.

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs_and_its_links_lead_somewhere(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
        links = re.findall(r"\]\(([^)#\s]+)", "".join(cell["source"])) if cell["cell_type"] == "markdown" else []
        assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_its_first_cell_to_its_last(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [output.output_type for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "display_data" in kinds and "error" not in kinds
